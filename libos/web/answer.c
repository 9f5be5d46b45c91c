/* Answers, see answer.h: RFC 9110 from method and target to conditions and ranges.
 *
 * The common case, a whole file on a connection that stays open, has its head prepared (site.c)
 * and only its date is looked at. All others are put together in one buffer. */
#include "web/answer.h"
#include "web/http.h"
#include "web/http_date.h"
#include "web/text.h"
#include <string.h>

static char buffer[8192]; /* longest: a redirection with its query, about 6,000 */
static char path[HTTP_TARGET_LIMIT + 16];
static char date[HTTP_DATE];
static u64 second = ~0ull;

void answer_set_time(u64 unix_seconds) {
    if (unix_seconds != second) {
        second = unix_seconds;
        http_date_write(date, second);
    }
}

static const char *reason(u16 status) {
    static const struct {
        u16 status;
        const char *text;
    } reasons[] = {
        {200, "OK"}, {206, "Partial Content"}, {301, "Moved Permanently"}, {304, "Not Modified"},
        {400, "Bad Request"}, {404, "Not Found"}, {405, "Method Not Allowed"},
        {408, "Request Timeout"}, {411, "Length Required"}, {412, "Precondition Failed"},
        {413, "Content Too Large"}, {414, "URI Too Long"}, {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"}, {431, "Request Header Fields Too Large"},
        {501, "Not Implemented"}, {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };

    for (u32 i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "Error";
}

/* ---- putting a head together: begin, any fields, end */

static struct text begin(u16 status) {
    struct text t = {buffer, sizeof buffer, 0, false};

    text_put(&t, "HTTP/1.1 ");
    text_number(&t, status);
    text_put(&t, " ");
    text_put(&t, reason(status));
    text_put(&t, "\r\nDate: ");
    text_bytes(&t, date, HTTP_DATE);
    text_put(&t, "\r\n");
    return t;
}

static void put_connection(struct text *t, const struct http_request *r, bool keep) {
    if (!keep)
        text_put(t, "Connection: close\r\n");
    else if (!r->minor)
        text_put(t, "Connection: keep-alive\r\n");
}

static void put_length(struct text *t, u64 length) {
    text_put(t, "Content-Length: ");
    text_number(t, length);
    text_put(t, "\r\n");
}

static void end(struct answer *a, struct text *t) {
    text_put(t, "\r\n");
    a->head = t->at;
    a->head_length = t->used;
}

/* The rest of an answer whose body is a short page that says its status. r: NULL if there
 * was no request to speak of. */
static void end_page(struct answer *a, struct text *t, const struct http_request *r, u16 status) {
    char page_bytes[160];
    struct text page = {page_bytes, sizeof page_bytes, 0, false};
    const char *why = reason(status);

    text_put(&page, "<!doctype html><html lang=\"en\"><title>");
    text_put(&page, why);
    text_put(&page, "</title><h1>");
    text_number(&page, status);
    text_put(&page, " ");
    text_put(&page, why);
    text_put(&page, "</h1></html>\n");
    text_put(t, "Content-Type: text/html; charset=utf-8\r\n");
    put_length(t, page.used);
    if (r)
        put_connection(t, r, a->keep);
    else
        text_put(t, "Connection: close\r\n");
    text_put(t, "\r\n");
    if (!r || r->method != HTTP_HEAD)
        text_bytes(t, page.at, page.used);
    a->error = status >= 400;
    a->head = t->at;
    a->head_length = t->used;
}

static void page_answer(struct answer *a, const struct http_request *r, u16 status,
                        const char *field) {
    struct text t = begin(status);

    text_put(&t, field);
    end_page(a, &t, r, status);
}

void answer_error(struct answer *a, u16 status) {
    *a = (struct answer){.keep = false};
    page_answer(a, NULL, status, "");
}

/* ---- conditions */

/* Is the file's tag in this list? Weak ones count only if `weak` says so. */
static bool tag_listed(const struct site_file *file, struct http_text list, bool weak) {
    const char *tag = file->head + file->tag_at, *end_of_list = list.at + list.length;

    if (list.length == 1 && list.at[0] == '*')
        return true;
    for (const char *at = list.at; at < end_of_list;) {
        bool is_weak = end_of_list - at > 2 && at[0] == 'W' && at[1] == '/';
        if (is_weak)
            at += 2;
        if (at == end_of_list || *at != '"') {
            at++;
            continue;
        }
        const char *close = text_find(at + 1, (u32)(end_of_list - at - 1), '"');
        if (!close)
            return false;
        u32 length = (u32)(close + 1 - at);
        if ((weak || !is_weak) && length == file->tag_length && memcmp(at, tag, length) == 0)
            return true;
        at = close + 1;
    }
    return false;
}

/* 0: go on; else 304 or 412 (RFC 9110 section 13.2.2). */
static u16 check_conditions(const struct site_file *file, const struct http_request *r) {
    u64 when;

    if (r->if_match.at) {
        if (!tag_listed(file, r->if_match, false))
            return 412;
    } else if (r->if_unmodified.at &&
               http_date_read(r->if_unmodified.at, r->if_unmodified.length, &when)) {
        if (file->modified > when)
            return 412;
    }
    if (r->if_none_match.at)
        return tag_listed(file, r->if_none_match, true) ? 304 : 0;
    if (r->if_modified.at && http_date_read(r->if_modified.at, r->if_modified.length, &when))
        return file->modified <= when ? 304 : 0;
    return 0;
}

/* Does If-Range, if there is one, name the file as it is? */
static bool range_holds(const struct site_file *file, const struct http_request *r) {
    u64 when;

    if (!r->if_range.at)
        return true;
    if (http_date_read(r->if_range.at, r->if_range.length, &when))
        return when == file->modified;
    return r->if_range.length > 1 && tag_listed(file, r->if_range, false);
}

/* ---- ranges */

struct range {
    u64 first, last; /* last included */
};

enum range_kind {
    RANGE_NONE, /* serve the whole */
    RANGE_ONE,
    RANGE_OUTSIDE, /* 416 */
};

static bool read_number(const char **at, const char *stop, u64 *n) {
    const char *start = *at;

    for (*n = 0; *at < stop && **at >= '0' && **at <= '9'; ++*at)
        if (*n < 1ull << 58)
            *n = *n * 10 + (u64)(**at - '0');
    return *at > start;
}

/* Several ranges, and whatever we do not understand, get the whole file: that is allowed. */
static enum range_kind read_range(struct http_text text, u64 size, struct range *range) {
    const char *at = text.at, *stop = at + text.length;
    u64 first, last;

    if (text.length < 6 || !text_same(at, 6, "bytes="))
        return RANGE_NONE;
    at += 6;
    bool has_first = read_number(&at, stop, &first);
    if (at == stop || *at++ != '-')
        return RANGE_NONE;
    bool has_last = read_number(&at, stop, &last);
    if (at != stop || (!has_first && !has_last) || (has_first && has_last && last < first))
        return RANGE_NONE;
    if (!has_first) { /* the last so many bytes */
        first = last < size ? size - last : 0;
        if (!last || !size)
            return RANGE_OUTSIDE;
        has_last = false;
    }
    if (first >= size)
        return RANGE_OUTSIDE;
    *range = (struct range){first, has_last && last < size ? last : size - 1};
    return RANGE_ONE;
}

/* ---- files */

static void put_part(struct text *t, const struct site_file *file, u16 from, u16 to) {
    text_bytes(t, file->head + from, (u32)(to - from));
}

static void set_body(struct answer *a, const struct http_request *r, const u8 *data, u64 length) {
    if (r->method == HTTP_GET) {
        a->body = data;
        a->body_length = length;
    }
}

static void range_answer(struct answer *a, struct site_file *file, const struct http_request *r,
                         struct range range) {
    struct text t = begin(206);
    u64 length = range.last - range.first + 1;

    put_part(&t, file, file->validators_at, file->type_end);
    text_put(&t, "Content-Range: bytes ");
    text_number(&t, range.first);
    text_put(&t, "-");
    text_number(&t, range.last);
    text_put(&t, "/");
    text_number(&t, file->size);
    text_put(&t, "\r\n");
    put_length(&t, length);
    put_connection(&t, r, a->keep);
    end(a, &t);
    set_body(a, r, file->data + range.first, length);
}

static void outside_answer(struct answer *a, const struct site_file *file,
                           const struct http_request *r) {
    struct text t = begin(416);

    text_put(&t, "Content-Range: bytes */");
    text_number(&t, file->size);
    text_put(&t, "\r\n");
    end_page(a, &t, r, 416);
}

static void unchanged_answer(struct answer *a, const struct site_file *file,
                             const struct http_request *r) {
    struct text t = begin(304);

    put_part(&t, file, file->validators_at, file->type_at);
    put_connection(&t, r, a->keep);
    end(a, &t);
}

/* Does the prepared head say what time it is? It is put in unless an answer under way says another. */
static bool dated(struct site_file *file) {
    if (file->dated != second && !file->users) {
        memcpy(file->head + SITE_DATE_AT, date, HTTP_DATE);
        file->dated = second;
    }
    return file->dated == second;
}

static void whole_answer(struct answer *a, struct site_file *file, const struct http_request *r) {
    if (a->keep && r->minor && dated(file)) {
        a->head = file->head;
        a->head_length = file->head_length;
        a->head_users = &file->users;
        set_body(a, r, file->near ? file->near : file->data, file->size);
        return;
    }
    set_body(a, r, file->data, file->size);
    struct text t = {buffer, sizeof buffer, 0, false};
    text_bytes(&t, file->head, file->head_length - 2u);
    memcpy(buffer + SITE_DATE_AT, date, HTTP_DATE); /* the file's may be under way with an older one */
    put_connection(&t, r, a->keep);
    end(a, &t);
}

static void file_answer(struct answer *a, struct site_file *file, const struct http_request *r) {
    u16 status = check_conditions(file, r);
    struct range range;
    enum range_kind kind = RANGE_NONE;

    if (status == 304) {
        unchanged_answer(a, file, r);
        return;
    }
    if (status) {
        page_answer(a, r, status, "");
        return;
    }
    if (r->range.at && r->method == HTTP_GET && range_holds(file, r))
        kind = read_range(r->range, file->size, &range);
    if (kind == RANGE_ONE)
        range_answer(a, file, r, range);
    else if (kind == RANGE_OUTSIDE)
        outside_answer(a, file, r);
    else
        whole_answer(a, file, r);
}

/* ---- the machine's state */

static void live_answer(struct answer *a, const struct http_request *r, u64 now_ms) {
    a->live = live_get(now_ms);
    if (!a->live) {
        page_answer(a, r, 503, "Retry-After: 1\r\n");
        return;
    }
    struct text t = begin(200);
    text_put(&t, "Content-Type: application/json\r\nCache-Control: no-store\r\n");
    put_length(&t, a->live->length);
    put_connection(&t, r, a->keep);
    end(a, &t);
    set_body(a, r, (const u8 *)a->live->text, a->live->length);
    if (!a->body)
        answer_end(a);
}

/* ---- targets */

static void put_encoded(struct text *t, const char *bytes, u32 length) {
    for (u32 i = 0; i < length; i++) {
        u8 c = (u8)bytes[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     (c && strchr("-._~/", c));
        if (plain) {
            text_bytes(t, &c, 1);
        } else {
            char code[3] = {'%', "0123456789ABCDEF"[c >> 4], "0123456789ABCDEF"[c & 15]};
            text_bytes(t, code, 3);
        }
    }
}

/* A folder was named without its final slash: relative links need it. */
static void redirect_answer(struct answer *a, const struct http_request *r,
                            struct http_text target, u32 length) {
    const char *query = text_find(target.at, target.length, '?');
    struct text t = begin(301);

    text_put(&t, "Location: /");
    put_encoded(&t, path, length);
    text_put(&t, "/");
    if (query)
        text_bytes(&t, query, (u32)(target.at + target.length - query));
    text_put(&t, "\r\n");
    end_page(a, &t, r, 301);
}

/* From "http://host/path" to "/path". */
static struct http_text without_authority(struct http_text target) {
    static const char root[] = "/";
    u32 i = 7;

    if (target.length < 7 || !text_same(target.at, 7, "http://"))
        return target;
    while (i < target.length && target.at[i] != '/' && target.at[i] != '?')
        i++;
    if (i == target.length || target.at[i] == '?')
        return (struct http_text){root, 1};
    return (struct http_text){target.at + i, target.length - i};
}

static void decoded_answer(struct answer *a, const struct site *site, const struct http_request *r, u64 now_ms) {
    struct http_text target = without_authority(r->target);
    s32 decoded = site_decode(path, target.at, target.length);

    if (decoded < 0) {
        answer_error(a, 400);
        return;
    }
    u32 length = (u32)decoded;
    if (length == 12 && memcmp(path, "machine.json", 12) == 0) {
        live_answer(a, r, now_ms);
        return;
    }
    struct site_file *file = site_find(site, path, length);
    bool folder = !length || path[length - 1] == '/';
    if (!file && !folder)
        path[length] = '/';
    if (file)
        file_answer(a, file, r);
    else if (!folder && site_find(site, path, length + 1))
        redirect_answer(a, r, target, length);
    else
        page_answer(a, r, 404, "");
}

/* The file of a target that is as it is stored, as most are; or NULL. */
static struct site_file *plain_file(const struct site *site, struct http_text target) {
    return *target.at == '/' ? site_find_plain(site, target.at + 1, target.length - 1) : NULL;
}

struct site_file *answer_ready(const struct site *site, struct http_text target) {
    struct site_file *file = plain_file(site, target);

    return file && dated(file) ? file : NULL;
}

static void target_answer(struct answer *a, const struct site *site, const struct http_request *r,
                          u64 now_ms) {
    struct site_file *file = plain_file(site, r->target);

    if (file)
        file_answer(a, file, r);
    else
        decoded_answer(a, site, r, now_ms);
}

void answer_request(struct answer *a, const struct site *site, const struct http_request *r,
                    u64 now_ms) {
    *a = (struct answer){.keep = r->keep};
    if (r->error) {
        answer_error(a, r->error);
        return;
    }
    if (r->chunked || r->body > HTTP_BODY_MOST)
        a->keep = false; /* we will not read it */
    if (r->expects && (r->chunked || r->body))
        a->keep = false; /* nor wait whether it comes */
    if (r->method == HTTP_KNOWN)
        page_answer(a, r, 405, "Allow: GET, HEAD\r\n");
    else if (r->chunked)
        page_answer(a, r, 411, "");
    else if (r->body > HTTP_BODY_MOST)
        page_answer(a, r, 413, "");
    else
        target_answer(a, site, r, now_ms);
}

void answer_end(struct answer *a) {
    if (a->live)
        live_put(a->live);
    a->live = NULL;
}
