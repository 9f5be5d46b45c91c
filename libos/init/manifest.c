/* Parsing the manifest. Every word is checked: the host's check is a courtesy, this one counts. */
#include "init/manifest.h"

struct text {
    const char *at, *end;
};

/* The next word of the line, or an empty one at its end or before a comment. */
static struct text next_word(struct text *line) {
    while (line->at < line->end && (*line->at == ' ' || *line->at == '\t' || *line->at == '\r'))
        line->at++;
    struct text word = {line->at, line->at};
    while (word.end < line->end && *word.end != ' ' && *word.end != '\t' && *word.end != '\r' && *word.end != '#')
        word.end++;
    line->at = word.end < line->end && *word.end == '#' ? line->end : word.end;
    return word;
}

static bool is(struct text word, const char *name) {
    size_t length = strlen(name);

    return (size_t)(word.end - word.at) == length && !memcmp(word.at, name, length);
}

/* Whether the word begins with `key`; then only the value is left of it. */
static bool take_key(struct text *word, const char *key) {
    size_t length = strlen(key);

    if ((size_t)(word->end - word->at) < length || memcmp(word->at, key, length))
        return false;
    word->at += length;
    return true;
}

static bool take_number(struct text *t, u32 most, u32 *n) {
    u64 value = 0;
    const char *begin = t->at;

    for (; t->at < t->end && *t->at >= '0' && *t->at <= '9' && value <= most; t->at++)
        value = value * 10 + (u64)(*t->at - '0');
    *n = (u32)value;
    return t->at > begin && value <= most;
}

static bool take_char(struct text *t, char c) {
    if (t->at == t->end || *t->at != c)
        return false;
    t->at++;
    return true;
}

static bool take_address(struct text *t, u32 *address) {
    *address = 0;
    for (u32 i = 0; i < 4; i++) {
        u32 byte;
        if ((i && !take_char(t, '.')) || !take_number(t, 255, &byte))
            return false;
        *address = *address << 8 | byte;
    }
    return true;
}

static bool copy(struct text t, char *to, size_t size) {
    size_t length = (size_t)(t.end - t.at);

    if (!length || length >= size)
        return false;
    memcpy(to, t.at, length);
    to[length] = 0;
    return true;
}

static const char *parse_slices(struct text v, struct manifest_env *e) {
    do {
        if (e->slice_kinds == MANIFEST_CPUS)
            return "too many CPUs";
        struct spawn_slices *s = &e->slices[e->slice_kinds++];
        if (!take_number(&v, MAX_CPUS - 1, &s->cpu) || !take_char(&v, ':') ||
            !take_number(&v, SLOTS, &s->count) || !s->count)
            return "slices= needs CPU:COUNT[,CPU:COUNT]";
        for (struct spawn_slices *other = e->slices; other < s; other++)
            if (other->cpu == s->cpu)
                return "slices= names a CPU twice";
    } while (take_char(&v, ','));
    return v.at == v.end ? NULL : "slices= needs CPU:COUNT[,CPU:COUNT]";
}

/* PORT or PORT-PORT. */
static const char *parse_ports(struct text v, struct manifest_flow *f) {
    bool good = take_number(&v, 65535, &f->port) && f->port;

    f->last = f->port;
    if (good && take_char(&v, '-'))
        good = take_number(&v, 65535, &f->last) && f->last > f->port;
    return good && v.at == v.end ? NULL : "a port is a number from 1 to 65535, and PORT-PORT goes upwards";
}

static const char *parse_flow(struct text v, struct manifest_env *e) {
    struct manifest_flow *f = &e->flow[e->flows];

    if (e->flows == MANIFEST_FLOWS)
        return "too many flows";
    if (is(v, "arp"))
        f->protocol = START_ARP;
    else if (is(v, "icmp"))
        f->protocol = START_ICMP;
    else if (take_key(&v, "tcp:"))
        f->protocol = START_TCP;
    else if (take_key(&v, "udp:"))
        f->protocol = START_UDP;
    else
        return "flow= needs tcp:PORT, udp:PORT, arp or icmp";
    e->flows++;
    return f->protocol == START_TCP || f->protocol == START_UDP ? parse_ports(v, f) : NULL;
}

/* Four hexadecimal digits. */
static bool take_hex(struct text *t, u32 *n) {
    *n = 0;
    for (u32 i = 0; i < 4; i++, t->at++) {
        char c = t->at < t->end ? *t->at : 0;
        u32 digit = c >= '0' && c <= '9' ? (u32)(c - '0') : c >= 'a' && c <= 'f' ? (u32)(c - 'a') + 10 : 16;
        if (digit == 16)
            return false;
        *n = *n << 4 | digit;
    }
    return true;
}

static const char *parse_device(struct text v, struct manifest_env *e) {
    u32 vendor, device;

    if (e->devices == MANIFEST_DEVICES)
        return "too many devices";
    if (!take_hex(&v, &vendor) || !take_char(&v, ':') || !take_hex(&v, &device) || v.at != v.end)
        return "device= needs VENDOR:DEVICE, four hexadecimal digits each";
    e->device[e->devices++] = vendor << 16 | device;
    return NULL;
}

static const char *parse_option(struct text w, struct manifest_env *e) {
    if (take_key(&w, "program="))
        return copy(w, e->program, sizeof e->program) ? NULL : "program= needs a file name";
    if (take_key(&w, "pages="))
        return take_number(&w, 1 << 24, &e->pages) && w.at == w.end ? NULL : "pages= needs a number";
    if (take_key(&w, "limit="))
        return take_number(&w, 1 << 24, &e->limit) && w.at == w.end ? NULL : "limit= needs a number";
    if (take_key(&w, "slices="))
        return parse_slices(w, e);
    if (take_key(&w, "flow="))
        return parse_flow(w, e);
    if (take_key(&w, "device="))
        return parse_device(w, e);
    if (take_key(&w, "console=")) {
        e->console = is(w, "read") ? RIGHT_READ : is(w, "write") ? RIGHT_WRITE
                     : is(w, "both") ? RIGHT_READ | RIGHT_WRITE : 0;
        return e->console ? NULL : "console= needs read, write or both";
    }
    if (take_key(&w, "arg=")) {
        size_t used = strlen(e->arguments);
        if (used)
            e->arguments[used++] = ' ';
        return used < sizeof e->arguments && copy(w, e->arguments + used, sizeof e->arguments - used)
                   ? NULL : "the arguments are too long";
    }
    bool *flag = is(w, "site") ? &e->site : is(w, "power") ? &e->power : is(w, "trace") ? &e->trace
                 : is(w, "control") ? &e->control : is(w, "restart") ? &e->restart : NULL;
    if (!flag)
        return "unknown option";
    *flag = true;
    return NULL;
}

static const char *parse_env(struct text line, struct manifest *m) {
    if (m->envs == MANIFEST_ENVS)
        return "too many environments";
    struct manifest_env *e = &m->env[m->envs];
    if (!copy(next_word(&line), e->name, sizeof e->name))
        return "an environment needs a name of 1 to 15 characters";
    for (u32 i = 0; i < m->envs; i++)
        if (!strcmp(m->env[i].name, e->name))
            return "a second environment has this name";
    for (struct text w = next_word(&line); w.at < w.end; w = next_word(&line)) {
        const char *wrong = parse_option(w, e);
        if (wrong)
            return wrong;
    }
    if (!e->program[0] || !e->pages || !e->slice_kinds)
        return "program=, pages= and slices= are needed";
    if (e->limit && e->limit < e->pages)
        return "limit= is what it may be given at most, and cannot be below pages=";
    if (!e->limit)
        e->limit = e->pages;
    m->envs++;
    return NULL;
}

static const char *parse_net(struct text line, struct manifest *m) {
    for (struct text w = next_word(&line); w.at < w.end; w = next_word(&line)) {
        bool good;
        if (take_key(&w, "address="))
            good = take_address(&w, &m->address) && take_char(&w, '/') && take_number(&w, 32, &m->prefix);
        else
            good = take_key(&w, "gateway=") && take_address(&w, &m->gateway);
        if (!good || w.at != w.end)
            return "net takes address=IP/PREFIX and gateway=IP";
    }
    return NULL;
}

static const char *parse_memory(struct text line, struct manifest *m) {
    for (struct text w = next_word(&line); w.at < w.end; w = next_word(&line)) {
        if (take_key(&w, "ask=")) {
            m->ask = is(w, "furthest") ? ASK_FURTHEST : is(w, "largest") ? ASK_LARGEST : ASK_NOBODY;
            if (m->ask == ASK_NOBODY && !is(w, "nobody"))
                return "ask= needs furthest, largest or nobody";
        } else if (!take_key(&w, "deadline=") || !take_number(&w, 60000, &m->deadline_ms) || w.at != w.end) {
            return "memory takes ask=furthest|largest|nobody and deadline=MILLISECONDS";
        }
    }
    return NULL;
}

const char *manifest_parse(const char *text, u64 bytes, struct manifest *to, u32 *line_number) {
    const char *end = text + bytes;

    *to = (struct manifest){.deadline_ms = 100, .address = 0x0a00020f, .prefix = 24, .gateway = 0x0a000202};
    *line_number = 1;
    for (const char *at = text; at < end; at++, ++*line_number) {
        struct text line = {at, at};
        while (line.end < end && *line.end != '\n')
            line.end++;
        at = line.end;
        struct text word = next_word(&line);
        const char *wrong = is(word, "env")      ? parse_env(line, to)
                            : is(word, "net")    ? parse_net(line, to)
                            : is(word, "memory") ? parse_memory(line, to)
                            : word.at < word.end ? "a line begins with env, net or memory"
                                                 : NULL;
        if (wrong)
            return wrong;
    }
    return to->envs ? NULL : "no environment";
}
