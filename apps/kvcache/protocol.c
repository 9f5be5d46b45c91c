/* The memcached text protocol (protocol.txt of memcached): get, gets, set, add, replace, delete, version, stats.
 * A request is one datagram's text; nothing in it is believed. */
#include "base/print.h"
#include "base/wait.h"
#include "kvcache/store.h"
#include "machine/machine.h"

#define WORDS 40
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
        if (w->at[i] < '0' || w->at[i] > '9' || *value > most)
            return false;
        *value = *value * 10 + (u64)(w->at[i] - '0');
    }
    return w->length && w->length <= 20 && *value <= most;
}

static void wrong(const char *text) {
    counted.bad++;
    say(text);
}

static void get(const struct line *l, bool unique) {
    char text[32];

    if (l->words < 2 || l->too_many) {
        wrong("ERROR\r\n");
        return;
    }
    for (u32 i = 1; i < l->words; i++)
        if (!is_key(&l->word[i])) {
            wrong("CLIENT_ERROR bad command line format\r\n");
            return;
        }
    for (u32 i = 1; i < l->words; i++) {
        const struct entry *e = store_find(l->word[i].at, l->word[i].length);
        counted.gets++;
        if (!e)
            continue;
        counted.hits++;
        put(e->text, e->value_at - 2); /* VALUE key flags bytes */
        if (unique) {
            format(text, sizeof text, " %lu", e->unique);
            say(text);
        }
        say("\r\n");
        put(e->text + e->value_at, e->value_length);
        say("\r\n");
    }
    say("END\r\n");
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

/* set, add, replace KEY FLAGS EXPIRES BYTES [noreply]: then a line of so many bytes. */
static void store(const struct line *l) {
    u64 flags, expires, bytes;
    const struct word *w = l->word;
    bool quiet = l->words == 6 && is(&w[5], "noreply");

    if (l->words != 5 && !quiet) {
        wrong("ERROR\r\n");
        return;
    }
    if (!is_key(&w[1]) || !number(&w[2], UINT32_MAX, &flags) || !expiry(&w[3], &expires) ||
        !number(&w[4], UINT32_MAX, &bytes)) {
        wrong("CLIENT_ERROR bad command line format\r\n");
    } else if (bytes > VALUE_MOST) {
        wrong("SERVER_ERROR object too large for cache\r\n");
    } else if (l->rest_bytes < bytes + 2 || l->rest[bytes] != '\r' || l->rest[bytes + 1] != '\n') {
        wrong("CLIENT_ERROR bad data chunk\r\n");
    } else {
        bool there = store_find(w[1].at, w[1].length) != NULL;
        if ((is(&w[0], "add") && there) || (is(&w[0], "replace") && !there))
            say("NOT_STORED\r\n");
        else if (store_put(w[1].at, w[1].length, (u32)flags, expires, l->rest, (u32)bytes))
            say("STORED\r\n");
        else
            say("SERVER_ERROR out of memory storing object\r\n");
    }
    if (quiet)
        used = 0;
}

static void delete(const struct line *l) {
    bool quiet = l->words > 2 && is(&l->word[l->words - 1], "noreply");
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
    struct line l;

    out = answer;
    used = 0;
    room_left = room;
    overflow = false;
    if (!split(request, size, &l) || !l.words)
        wrong("ERROR\r\n");
    else if (is(&l.word[0], "get") || is(&l.word[0], "gets"))
        get(&l, l.word[0].length == 4);
    else if (is(&l.word[0], "set") || is(&l.word[0], "add") || is(&l.word[0], "replace"))
        store(&l);
    else if (is(&l.word[0], "delete"))
        delete(&l);
    else if (is(&l.word[0], "version"))
        say("VERSION targe-kvcache\r\n");
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
