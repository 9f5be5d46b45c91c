/* Parsing of request heads: RFC 9112. A line may end in a bare LF. Anything that two readers
 * could understand differently is refused: folded lines, blanks before a colon, repeated or odd
 * lengths, a length together with a transfer coding.
 *
 * Lines as most clients write them are read in one pass, eight bytes at a time where it is only to be seen
 * where a text ends (quick_line, quick_field). Whatever they do not take is left to those that come first
 * here, which look for the line's end and then at each byte. */
#include "web/http_request.h"
#include "web/text.h"
#include <string.h>

#define BODY_MOST (1ull << 53)

enum { TOKEN = 1, NO_HOST = 2 }; /* what a byte may be part of, and what not */
static const u8 kind[256] = {
    ['0' ... '9'] = TOKEN, ['A' ... 'Z'] = TOKEN, ['a' ... 'z'] = TOKEN, ['!'] = TOKEN,
    ['$' ... '\''] = TOKEN, ['*' ... '+'] = TOKEN, ['-' ... '.'] = TOKEN, ['^' ... '`'] = TOKEN,
    ['|'] = TOKEN, ['~'] = TOKEN, [0 ... ' '] = NO_HOST, ['/'] = NO_HOST, ['?'] = NO_HOST,
    ['@'] = NO_HOST, [','] = NO_HOST, ['\\'] = NO_HOST, ['#'] = TOKEN | NO_HOST,
};

static bool is_token(u8 c) { return kind[c] & TOKEN; }

/* The name of a field, in any case. `word` is a constant of small letters and dashes; no other byte of a
 * token becomes one of these by setting the bit that makes letters small. */
static inline __attribute__((always_inline)) bool is_name(const char *name, const char *word, u32 length) {
    u64 a, b, difference = 0;
    u32 at = 0;

    for (; at + 8 <= length; at += 8) {
        memcpy(&a, name + at, 8);
        memcpy(&b, word + at, 8);
        difference |= (a | 0x2020202020202020) ^ b;
    }
    if (at + 4 <= length) {
        u32 c, d;
        memcpy(&c, name + at, 4);
        memcpy(&d, word + at, 4);
        difference |= (c | 0x20202020) ^ d;
        at += 4;
    }
    for (; at < length; at++)
        difference |= (u64)((name[at] | 0x20) ^ word[at]);
    return !difference;
}
#define IS_NAME(text, word) is_name((text).at, word, sizeof word - 1)

static bool is(struct http_text text, const char *word) {
    return text_same(text.at, text.length, word);
}

static struct http_text trimmed(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (struct http_text){at, (u32)(end - at)};
}

/* ---- the request line */

static u8 method_of(struct http_text name) {
    static const char known[][8] = {"POST",  "PUT",   "DELETE", "OPTIONS",
                                    "PATCH", "TRACE", "CONNECT"};

    if (name.length == 3 && memcmp(name.at, "GET", 3) == 0)
        return HTTP_GET;
    if (name.length == 4 && memcmp(name.at, "HEAD", 4) == 0)
        return HTTP_HEAD;
    for (u32 i = 0; i < sizeof known / sizeof known[0]; i++)
        if (name.length == strlen(known[i]) && memcmp(name.at, known[i], name.length) == 0)
            return HTTP_KNOWN;
    return HTTP_UNKNOWN;
}

static u16 parse_version(struct http_request *r, struct http_text v) {
    if (v.length != 8 || memcmp(v.at, "HTTP/", 5) != 0 || v.at[6] != '.' || v.at[5] < '0' ||
        v.at[5] > '9' || v.at[7] < '0' || v.at[7] > '9')
        return 400;
    if (v.at[5] != '1')
        return 505;
    r->minor = v.at[7] != '0';
    r->keep = r->minor;
    return 0;
}

static u16 parse_request_line(struct http_request *r, const char *at, const char *end) {
    const char *start = at;

    while (at < end && is_token((u8)*at))
        at++;
    if (at == start || at == end || *at != ' ')
        return 400;
    r->method = method_of((struct http_text){start, (u32)(at - start)});
    start = ++at;
    while (at < end && (u8)*at > ' ' && *at != 0x7f)
        at++;
    if (at == start || at == end || *at != ' ')
        return 400;
    r->target = (struct http_text){start, (u32)(at - start)};
    if (r->target.length > HTTP_TARGET_LIMIT)
        return 414;
    return parse_version(r, (struct http_text){at + 1, (u32)(end - at - 1)});
}

/* ---- header fields */

static u16 on_connection(struct http_request *r, struct http_text value) {
    const char *end = value.at + value.length;

    for (const char *at = value.at; at <= end;) {
        const char *stop = at;
        while (stop < end && *stop != ',')
            stop++;
        struct http_text option = trimmed(at, stop);
        if (is(option, "close"))
            r->keep = false;
        else if (is(option, "keep-alive") && !r->minor)
            r->keep = true;
        at = stop + 1;
    }
    return 0;
}

static u16 on_length(struct http_request *r, struct http_text value) {
    u64 n = 0;

    if (!value.length)
        return 400;
    for (u32 i = 0; i < value.length; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return 400;
        n = n * 10 + (u64)(value.at[i] - '0');
        if (n > BODY_MOST)
            return 413;
    }
    if (r->body != ~0ull && r->body != n)
        return 400;
    r->body = n;
    return 0;
}

static u16 on_host(struct http_request *r, struct http_text value) {
    if (r->has_host)
        return 400;
    r->has_host = true;
    for (u32 i = 0; i < value.length; i++)
        if ((u8)value.at[i] >= 0x80 || (kind[(u8)value.at[i]] & NO_HOST))
            return 400;
    return 0;
}

static u16 on_coding(struct http_request *r, struct http_text value) {
    if (!value.length || !r->minor)
        return 400;
    r->chunked = true;
    return 0;
}

static u16 on_expect(struct http_request *r, struct http_text value) {
    if (!is(value, "100-continue"))
        return 417;
    r->expects = true;
    return 0;
}

/* Fields of which the first counts; a second one makes the condition ambiguous. */
static u16 keep_one(struct http_text *place, struct http_text value) {
    if (place->at)
        return 400;
    *place = value;
    return 0;
}

static u16 on_field(struct http_request *r, struct http_text name, struct http_text value) {
    switch (name.length) {
    case 4:
        return IS_NAME(name, "host") ? on_host(r, value) : 0;
    case 5:
        return IS_NAME(name, "range") ? keep_one(&r->range, value) : 0;
    case 6:
        return IS_NAME(name, "expect") ? on_expect(r, value) : 0;
    case 8:
        if (IS_NAME(name, "if-range"))
            return keep_one(&r->if_range, value);
        return IS_NAME(name, "if-match") ? keep_one(&r->if_match, value) : 0;
    case 10:
        return IS_NAME(name, "connection") ? on_connection(r, value) : 0;
    case 13:
        return IS_NAME(name, "if-none-match") ? keep_one(&r->if_none_match, value) : 0;
    case 14:
        return IS_NAME(name, "content-length") ? on_length(r, value) : 0;
    case 17:
        if (IS_NAME(name, "if-modified-since"))
            return keep_one(&r->if_modified, value);
        return IS_NAME(name, "transfer-encoding") ? on_coding(r, value) : 0;
    case 19:
        return IS_NAME(name, "if-unmodified-since") ? keep_one(&r->if_unmodified, value) : 0;
    default:
        return 0;
    }
}

static u16 parse_field(struct http_request *r, const char *at, const char *end) {
    const char *start = at;

    while (at < end && is_token((u8)*at))
        at++;
    if (at == start || at == end || *at != ':')
        return 400;
    struct http_text name = {start, (u32)(at - start)};
    for (const char *c = ++at; c < end; c++)
        if (((u8)*c < ' ' && *c != '\t') || *c == 0x7f)
            return 400;
    return on_field(r, name, trimmed(at, end));
}

/* What can only be judged when all fields are known. */
static u16 check_whole(struct http_request *r) {
    if (r->minor && !r->has_host)
        return 400;
    if (r->chunked && r->body != ~0ull)
        return 400;
    if (r->body == ~0ull)
        r->body = 0;
    if (r->method == HTTP_UNKNOWN)
        return 501;
    return 0;
}

/* The end of the line that begins at `at` (its LF), or NULL; *stop is where its text ends. */
static const char *line_end(const char *at, const char *end, const char **stop) {
    const char *lf = text_find(at, (u32)(end - at), '\n');

    if (lf)
        *stop = lf > at && lf[-1] == '\r' ? lf - 1 : lf;
    return lf;
}

/* ---- the same in one pass, for lines as they mostly are */

/* What follows a line's end that begins at `at`, or NULL if it is none. */
static const char *after_line(const char *at, const char *end) {
    if (end - at >= 2 && at[0] == '\r' && at[1] == '\n')
        return at + 2;
    return end > at && *at == '\n' ? at + 1 : NULL;
}

/* A request line "GET target HTTP/1.1": what follows it, or NULL if it is not quite so. */
static const char *quick_line(struct http_request *r, const char *at, const char *end) {
    if (end - at < 16 || memcmp(at, "GET ", 4) != 0)
        return NULL;
    const char *target = at + 4, *stop = text_plain_end(target, end, ' ' + 1);
    if (end - stop < 10 || *stop != ' ' || stop == target || memcmp(stop + 1, "HTTP/1.1", 8) != 0 ||
        stop - target > HTTP_TARGET_LIMIT)
        return NULL;
    r->method = HTTP_GET;
    r->minor = 1;
    r->keep = true;
    r->target = (struct http_text){target, (u32)(stop - target)};
    return after_line(stop + 9, end);
}

static const char *quick_field(struct http_request *r, const char *at, const char *end) {
    struct http_text name = {at, 0};

    while (at < end && is_token((u8)*at))
        at++;
    name.length = (u32)(at - name.at);
    if (at == end || *at != ':' || !name.length)
        return NULL;
    const char *stop = text_plain_end(++at, end, ' '), *next = after_line(stop, end);
    if (next)
        r->error = on_field(r, name, trimmed(at, stop));
    return next;
}

/* Reads the line at `at`, which is not the last; returns what follows it, or NULL if it is not complete. */
static const char *read_line(struct http_request *r, const char *at, const char *end, bool first) {
    const char *stop, *next = NULL;

    if (!r->error)
        next = first ? quick_line(r, at, end) : quick_field(r, at, end);
    if (next)
        return next;
    const char *lf = line_end(at, end, &stop);
    if (!lf)
        return NULL;
    if (!r->error)
        r->error = first ? parse_request_line(r, at, stop) : parse_field(r, at, stop);
    return lf + 1;
}

bool http_request_parse(struct http_request *r, const char *data, u32 length) {
    u32 most = length < HTTP_HEAD_LIMIT ? length : HTTP_HEAD_LIMIT;
    const char *at = data, *end = data + most, *next;
    bool first = true;

    *r = (struct http_request){.body = ~0ull};
    while ((next = after_line(at, end))) { /* empty lines before the request line are passed over */
        at = next;
    }
    for (; (next = read_line(r, at, end, first)); at = next) {
        first = false;
        const char *last = after_line(next, end);
        if (last) {
            r->length = (u32)(last - data);
            if (!r->error)
                r->error = check_whole(r);
            return true;
        }
    }
    if (first && at < end && *at != '\r' && !is_token((u8)*at))
        r->error = 400; /* not HTTP, TLS perhaps: say so at once */
    else if (length < HTTP_HEAD_LIMIT)
        return false;
    if (!r->error)
        r->error = first ? 414 : 431;
    r->length = length;
    return true;
}

bool http_request_complete(const char *data, u32 length, u32 *scanned) {
    if (length >= HTTP_HEAD_LIMIT)
        return true;
    for (u32 i = *scanned; i < length; i++) {
        if (data[i] != '\n' || i == 0)
            continue;
        if (data[i - 1] == '\n' || (data[i - 1] == '\r' && i > 1 && data[i - 2] == '\n')) {
            *scanned = i + 1;
            return true;
        }
    }
    *scanned = length;
    return false;
}
