/* The memcached text protocol (protocol.txt of memcached), all of its commands but those with `m` and those for a connection:
 * get, gets, gat, gats, set, add, replace, append, prepend, cas, incr, decr, touch, delete, flush_all, version, verbosity, stats.
 * A request is one datagram's text; nothing in it is believed. */
#include "base/print.h"
#include "base/wait.h"
#include "kvcache/store.h"
#include "machine/machine.h"

#define WORDS 740 /* as many as fit into a datagram */
#define MONTH (30 * 24 * 3600)

struct word {
    const u8 *at;
    u32 length;
};
struct line {
    struct word word[WORDS];
    u32 words;
    bool too_many;
    const u8 *rest; /* behind the line */
    u32 rest_bytes;
};

static u8 *out;
static u32 used, room_left;
static bool overflow;

static void put(const void *bytes, u32 size) {
    if (size > room_left - used) {
        overflow = true;
        return;
    }
    memcpy(out + used, bytes, size);
    used += size;
}

static void say(const char *text) { put(text, (u32)strlen(text)); }

/* Divides the first line into words; false: there is no whole line. */
static bool split(const u8 *text, u32 size, struct line *l) {
    u32 at = 0;

    *l = (struct line){.words = 0};
    while (at < size && text[at] != '\n') {
        if (text[at] == ' ' || text[at] == '\r') {
            at++;
            continue;
        }
        u32 begin = at;
        while (at < size && text[at] != ' ' && text[at] != '\r' && text[at] != '\n')
            at++;
        if (l->words == WORDS)
            l->too_many = true;
        else
            l->word[l->words++] = (struct word){text + begin, at - begin};
    }
    if (at == size)
        return false;
    l->rest = text + at + 1;
    l->rest_bytes = size - at - 1;
    return true;
}

static bool is(const struct word *w, const char *text) {
    return w->length == strlen(text) && !memcmp(w->at, text, w->length);
}

static bool is_key(const struct word *w) {
    bool good = w->length <= KEY_MOST;

    for (u32 i = 0; i < w->length; i++)
        good &= w->at[i] > ' ' && w->at[i] != 127;
    return good;
}

/* A decimal number that is at most `most`. */
static bool number(const struct word *w, u64 most, u64 *value) {
    *value = 0;
    for (u32 i = 0; i < w->length; i++) {
        u64 digit = (u64)w->at[i] - '0';
        if (digit > 9 || *value > (most - digit) / 10)
            return false;
        *value = *value * 10 + digit;
    }
    return w->length;
}

static void wrong(const char *text) {
    counted.bad++;
    say(text);
}

/* A request whose form is wrong. */
static void bad_format(void) { wrong("CLIENT_ERROR bad command line format\r\n"); }

/* The last word is `noreply`, and there are more than so many. */
static bool is_quiet(const struct line *l, u32 least) {
    return l->words > least && is(&l->word[l->words - 1], "noreply");
}

static bool are_keys(const struct line *l, u32 first) {
    for (u32 i = first; i < l->words; i++)
        if (!is_key(&l->word[i]))
            return false;
    return true;
}

static void say_value(const struct entry *e, bool unique) {
    char text[32];

    put(e->text, e->value_at - 2); /* VALUE key flags bytes */
    if (unique) {
        format(text, sizeof text, " %lu", e->unique);
        say(text);
    }
    say("\r\n");
    put(e->text + e->value_at, e->value_length);
    say("\r\n");
}

/* When an entry ends: seconds from now, or since 1970 if they are many; a negative number is over already. */
static bool expiry(const struct word *w, u64 *tsc) {
    const struct info *info = machine_info();
    u64 hz = info->tsc_hz, now = info->boot_time + (rt_tsc() - info->boot_tsc) / hz, seconds;

    *tsc = 1;
    if (w->length && w->at[0] == '-')
        return number(&(struct word){w->at + 1, w->length - 1}, UINT32_MAX, &seconds);
    if (!number(w, UINT32_MAX, &seconds))
        return false;
    if (seconds > MONTH)
        seconds = seconds > now ? seconds - now : 0;
    else if (!seconds)
        *tsc = 0;
    if (*tsc && seconds)
        *tsc = rt_tsc() + seconds * hz;
    return true;
}

/* get, gets KEY ...; gat, gats EXPIRES KEY ... */
static void get(const struct line *l, bool unique, bool touch) {
    u32 first = 1 + touch;
    u64 expires;

    if (l->words <= first || l->too_many) {
        wrong("ERROR\r\n");
    } else if (!are_keys(l, first)) {
        bad_format();
    } else if (touch && !expiry(&l->word[1], &expires)) {
        wrong("CLIENT_ERROR invalid exptime argument\r\n");
    } else {
        for (u32 i = first; i < l->words; i++) {
            struct entry *e = store_find(l->word[i].at, l->word[i].length);
            counted.gets++;
            if (!e)
                continue;
            counted.hits++;
            if (touch)
                store_touch(e, expires);
            say_value(e, unique);
        }
        say("END\r\n");
    }
}

/* Puts the bytes before or behind what there is. */
static void extend(struct entry *e, const struct word *key, const u8 *bytes, u32 size, bool before) {
    static u8 value[VALUE_MOST];
    u32 old = e->value_length;

    if (old + size > VALUE_MOST) {
        wrong("SERVER_ERROR object too large for cache\r\n");
        return;
    }
    memcpy(value + (before ? size : 0), e->text + e->value_at, old);
    memcpy(value + (before ? 0 : old), bytes, size);
    bool stored = store_put(key->at, key->length, e->flags, e->expires, value, old + size);
    say(stored ? "STORED\r\n" : "SERVER_ERROR out of memory storing object\r\n");
}

/* What stores, and whether it may: a line that was found to be right. */
static void store_line(const struct line *l, u32 flags, u64 expires, u32 bytes, u64 unique) {
    const struct word *command = &l->word[0], *key = &l->word[1];
    struct entry *e = store_find(key->at, key->length);

    if (is(command, "cas") && !e)
        say("NOT_FOUND\r\n");
    else if (is(command, "cas") && e->unique != unique)
        say("EXISTS\r\n");
    else if (is(command, "add") ? e != NULL : !e && !is(command, "set"))
        say("NOT_STORED\r\n");
    else if (is(command, "append") || is(command, "prepend"))
        extend(e, key, l->rest, bytes, is(command, "prepend"));
    else if (store_put(key->at, key->length, flags, expires, l->rest, bytes))
        say("STORED\r\n");
    else
        say("SERVER_ERROR out of memory storing object\r\n");
}

/* set, add, replace, append, prepend KEY FLAGS EXPIRES BYTES, and of cas the entry's number; [noreply]: then a line of
 * so many bytes. */
static void store(const struct line *l) {
    u64 flags, expires, bytes, unique = 0;
    const struct word *w = l->word;
    u32 words = is(&w[0], "cas") ? 6 : 5;
    bool quiet = is_quiet(l, words);

    if (l->words != words + quiet) {
        wrong("ERROR\r\n");
    } else if (!is_key(&w[1]) || !number(&w[2], UINT32_MAX, &flags) || !expiry(&w[3], &expires) ||
               !number(&w[4], UINT32_MAX, &bytes) || (words == 6 && !number(&w[5], UINT64_MAX, &unique))) {
        bad_format();
    } else if (bytes > VALUE_MOST) {
        wrong("SERVER_ERROR object too large for cache\r\n");
    } else if (l->rest_bytes < bytes + 2 || l->rest[bytes] != '\r' || l->rest[bytes + 1] != '\n') {
        wrong("CLIENT_ERROR bad data chunk\r\n");
    } else {
        store_line(l, (u32)flags, expires, (u32)bytes, unique);
    }
    if (quiet)
        used = 0;
}

static void delete(const struct line *l) {
    bool quiet = is_quiet(l, 2);
    u32 words = l->words - quiet;

    if (words < 2 || words > 3)
        wrong("ERROR\r\n");
    else if (!is_key(&l->word[1]) || (words == 3 && !is(&l->word[2], "0")))
        wrong("CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n");
    else
        say(store_delete(l->word[1].at, l->word[1].length) ? "DELETED\r\n" : "NOT_FOUND\r\n");
    if (quiet)
        used = 0;
}

/* incr, decr KEY NUMBER [noreply]: the sum wraps round, the difference is not below 0. */
static void count(const struct line *l, bool up) {
    bool quiet = is_quiet(l, 3);
    const struct word *key = &l->word[1];
    char text[32];
    u64 by, value;

    if (l->words != 3u + quiet) {
        wrong("ERROR\r\n");
    } else if (!is_key(key)) {
        bad_format();
    } else if (!number(&l->word[2], UINT64_MAX, &by)) {
        wrong("CLIENT_ERROR invalid numeric delta argument\r\n");
    } else {
        struct entry *e = store_find(key->at, key->length);
        if (!e) {
            say("NOT_FOUND\r\n");
        } else if (!number(&(struct word){e->text + e->value_at, e->value_length}, UINT64_MAX, &value)) {
            wrong("CLIENT_ERROR cannot increment or decrement non-numeric value\r\n");
        } else {
            value = up ? value + by : value > by ? value - by : 0;
            u32 size = (u32)format(text, sizeof text, "%lu", value);
            if (store_put(key->at, key->length, e->flags, e->expires, (u8 *)text, size)) {
                put(text, size);
                say("\r\n");
            } else {
                say("SERVER_ERROR out of memory storing object\r\n");
            }
        }
    }
    if (quiet)
        used = 0;
}

/* touch KEY EXPIRES [noreply] */
static void touch(const struct line *l) {
    bool quiet = is_quiet(l, 3);
    u64 expires;

    if (l->words != 3u + quiet) {
        wrong("ERROR\r\n");
    } else if (!is_key(&l->word[1])) {
        bad_format();
    } else if (!expiry(&l->word[2], &expires)) {
        wrong("CLIENT_ERROR invalid exptime argument\r\n");
    } else {
        struct entry *e = store_find(l->word[1].at, l->word[1].length);
        if (e)
            store_touch(e, expires);
        say(e ? "TOUCHED\r\n" : "NOT_FOUND\r\n");
    }
    if (quiet)
        used = 0;
}

/* flush_all [SECONDS] [noreply]: what is there, or is put in until then, ends. */
static void flush_all(const struct line *l) {
    bool quiet = is_quiet(l, 1);
    u64 at = 0;

    if (l->words > 2u + quiet) {
        wrong("ERROR\r\n");
    } else if (l->words == 2u + quiet && (l->word[1].at[0] == '-' || !expiry(&l->word[1], &at))) {
        bad_format();
    } else {
        store_flush(at ? at : rt_tsc());
        say("OK\r\n");
    }
    if (quiet)
        used = 0;
}

static void stat(const char *name, u64 value) {
    char text[64];

    format(text, sizeof text, "STAT %s %lu\r\n", name, value);
    say(text);
}

static void stats(void) {
    const struct info *info = machine_info();
    u64 hits = table->hits, misses = table->misses;

    stat("uptime", (rt_tsc() - info->boot_tsc) / info->tsc_hz);
    stat("cmd_get", counted.gets + hits + misses);
    stat("cmd_set", counted.sets);
    stat("cmd_touch", counted.touches);
    stat("cmd_flush", counted.flushes);
    stat("get_hits", counted.hits + hits);
    stat("get_misses", counted.gets - counted.hits + misses);
    stat("curr_items", counted.items);
    stat("evictions", counted.evictions);
    stat("handler_hits", hits);
    stat("handler_misses", misses);
    stat("bad_requests", counted.bad);
    say("END\r\n");
}

u32 protocol_answer(const u8 *request, u32 size, u8 *answer, u32 room) {
    static struct line l;

    out = answer;
    used = 0;
    room_left = room;
    overflow = false;
    if (!split(request, size, &l) || !l.words)
        wrong("ERROR\r\n");
    else if (is(&l.word[0], "get") || is(&l.word[0], "gets"))
        get(&l, l.word[0].length == 4, false);
    else if (is(&l.word[0], "gat") || is(&l.word[0], "gats"))
        get(&l, l.word[0].length == 4, true);
    else if (is(&l.word[0], "set") || is(&l.word[0], "add") || is(&l.word[0], "replace") || is(&l.word[0], "append") ||
             is(&l.word[0], "prepend") || is(&l.word[0], "cas"))
        store(&l);
    else if (is(&l.word[0], "incr") || is(&l.word[0], "decr"))
        count(&l, is(&l.word[0], "incr"));
    else if (is(&l.word[0], "touch"))
        touch(&l);
    else if (is(&l.word[0], "delete"))
        delete(&l);
    else if (is(&l.word[0], "flush_all"))
        flush_all(&l);
    else if (is(&l.word[0], "version"))
        say("VERSION targe-kvcache\r\n");
    else if (is(&l.word[0], "verbosity") && l.words > 1)
        say(is_quiet(&l, 1) ? "" : "OK\r\n"); /* there is nothing to be told */
    else if (is(&l.word[0], "stats"))
        stats();
    else
        wrong("ERROR\r\n");
    if (overflow) {
        used = 0;
        say("SERVER_ERROR out of memory writing get response\r\n");
    }
    return used;
}
