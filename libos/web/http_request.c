/* Parsing of request heads: RFC 9112. A line may end in a bare LF. Anything that two readers
 * could understand differently is refused: folded lines, blanks before a colon, repeated or odd
 * lengths, a length together with a transfer coding. */
#include "web/http_request.h"
#include "web/text.h"
#include <string.h>

#define BODY_MOST (1ull << 53)

static bool is_token(u8 c) {
    static const u32 set[8] = {
        /* ! # $ % & ' * + - . 0-9 A-Z ^ _ ` a-z | ~ */
        0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff,
    };
    return set[c >> 5] >> (c & 31) & 1;
}

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
    for (u32 i = 0; i < value.length; i++) {
        char c = value.at[i];
        if (c <= ' ' || c == '/' || c == '?' || c == '#' || c == '@' || c == ',' || c == '\\')
            return 400;
    }
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
        return is(name, "host") ? on_host(r, value) : 0;
    case 5:
        return is(name, "range") ? keep_one(&r->range, value) : 0;
    case 6:
        return is(name, "expect") ? on_expect(r, value) : 0;
    case 8:
        if (is(name, "if-range"))
            return keep_one(&r->if_range, value);
        return is(name, "if-match") ? keep_one(&r->if_match, value) : 0;
    case 10:
        return is(name, "connection") ? on_connection(r, value) : 0;
    case 13:
        return is(name, "if-none-match") ? keep_one(&r->if_none_match, value) : 0;
    case 14:
        return is(name, "content-length") ? on_length(r, value) : 0;
    case 17:
        if (is(name, "if-modified-since"))
            return keep_one(&r->if_modified, value);
        return is(name, "transfer-encoding") ? on_coding(r, value) : 0;
    case 19:
        return is(name, "if-unmodified-since") ? keep_one(&r->if_unmodified, value) : 0;
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

bool http_request_parse(struct http_request *r, const char *data, u32 length) {
    u32 most = length < HTTP_HEAD_LIMIT ? length : HTTP_HEAD_LIMIT;
    const char *at = data, *end = data + most, *stop, *lf;
    bool first = true;

    *r = (struct http_request){.body = ~0ull};
    while ((lf = line_end(at, end, &stop))) {
        if (stop == at && !first) {
            r->length = (u32)(lf + 1 - data);
            if (!r->error)
                r->error = check_whole(r);
            return true;
        }
        if (stop != at && !r->error) /* empty lines before the request line are passed over */
            r->error = first ? parse_request_line(r, at, stop) : parse_field(r, at, stop);
        first = first && stop == at;
        at = lf + 1;
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
