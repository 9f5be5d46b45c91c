/* The HTTP server without a network: requests go in as bytes, in pieces of any size, and what
 * comes out is compared. The stream below takes the place of TCP's; it can be made short of
 * room. */
#define _GNU_SOURCE
// sources: libos/web/answer.c libos/web/http.c libos/web/http_date.c libos/web/http_known.c libos/web/http_request.c libos/web/live.c libos/web/site.c libos/web/text.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "references.h"
#include "web/http.h"
#include "web/http_date.h"
#include "web/http_known.h"
#include "web/http_request.h"
#include "web/machine_json.h"

#define NOW 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define HELLO "<h1>hello</h1>"

/* ---- the stream */

static struct {
    char out[1 << 20];
    u32 used, room; /* room: bytes that may be unacknowledged */
    u32 consumed;
    u32 fail; /* so many times from now on there is no room */
    u32 acknowledged;
    bool finished, closed, aborted;
    struct references references;
} stream;

#define HEAD_ROOM 9000 /* of which any head is sure */

static u32 room_left(void) {
    u32 used = stream.used - stream.acknowledged;

    return used < stream.room ? stream.room - used : 0;
}

bool stream_room(struct http *h, u32 pieces) {
    (void)h;
    if (stream.fail && stream.used != stream.acknowledged) {
        stream.fail--;
        return false;
    }
    return references_room(&stream.references, pieces) && room_left() >= HEAD_ROOM;
}

u32 stream_write(struct http *h, const void *data, u32 length, u32 *users) {
    u32 room = room_left();

    (void)h;
    assert_false(stream.finished || stream.closed || stream.aborted);
    if (length > room)
        length = room;
    if (!length || !references_room(&stream.references, 1))
        return 0;
    assert_true(stream.used + length <= sizeof stream.out);
    memcpy(stream.out + stream.used, data, length);
    stream.used += length;
    references_add(&stream.references, stream.used, users);
    return length;
}

void stream_consumed(struct http *h, u32 length) {
    (void)h;
    stream.consumed += length;
}

void stream_finish(struct http *h) {
    (void)h;
    assert_false(stream.finished);
    stream.finished = true;
}

void stream_close(struct http *h) {
    (void)h;
    stream.closed = true;
}

void stream_abort(struct http *h) {
    (void)h;
    stream.aborted = true;
}

u32 machine_json_write(char *out, u32 room, u64 now_ms) {
    return (u32)snprintf(out, room, "{\"now\":%llu}\n", (unsigned long long)now_ms);
}

/* ---- a site */

static u8 archive[1 << 20];
static u64 archive_bytes;
static u8 big[300000];
static struct site site;
static u64 clock_ms;

static void add_member(const char *path, const void *data, u64 size, char type) {
    u8 *header = archive + archive_bytes;
    u32 sum = 0;

    memset(header, 0, 512);
    snprintf((char *)header, 100, "%s", path);
    snprintf((char *)header + 124, 12, "%011llo", (unsigned long long)size);
    snprintf((char *)header + 136, 12, "%011o", NOW);
    header[156] = (u8)type;
    memcpy(header + 257, "ustar\00000", 8);
    memset(header + 148, ' ', 8);
    for (u32 i = 0; i < 512; i++)
        sum += header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
    memcpy(header + 512, data, size);
    archive_bytes += 512 + (size + 511) / 512 * 512;
}

static int make_site(void **state) {
    (void)state;
    for (u32 i = 0; i < sizeof big; i++)
        big[i] = (u8)(i * 2654435761u >> 13);
    add_member("init", "x", 1, '0');
    add_member("site/index.html", HELLO, strlen(HELLO), '0');
    add_member("site/a b/c.txt", "c", 1, '0');
    add_member("site/sub/index.html", "sub", 3, '0');
    add_member("site/link", "", 0, '2');
    add_member("site/big.bin", big, sizeof big, '0');
    add_member("site/empty.css", "", 0, '0');
    add_member("sitemap", "x", 1, '0');
    void *memory = malloc(site_memory(archive, archive_bytes));
    site_build(&site, archive, archive_bytes, memory);
    *state = memory;
    return 0;
}

static int drop_site(void **state) {
    free(*state);
    return 0;
}

static struct http *connect(void) {
    references_drop(&stream.references, ~0ull);
    memset(&stream, 0, sizeof stream);
    stream.room = sizeof stream.out;
    http_init(&site);
    clock_ms = 1000;
    http_tick(clock_ms, NOW);
    struct http *h = http_open(&stream);
    assert_non_null(h);
    return h;
}

static void pass(u64 ms) {
    clock_ms += ms;
    http_tick(clock_ms, NOW);
}

static void acknowledge(struct http *h) {
    while (stream.acknowledged < stream.used && !stream.closed && !stream.aborted) {
        u32 part = stream.used - stream.acknowledged;
        part = part > 1460 ? 1460 : part;
        stream.acknowledged += part;
        references_drop(&stream.references, stream.acknowledged);
        http_segment(h, part, NULL, 0);
    }
}

static const char *output(void) {
    stream.out[stream.used] = 0;
    return stream.out;
}

/* What a request gets on a connection of its own. */
static const char *ask(const char *request) {
    struct http *h = connect();

    http_segment(h, 0, request, (u32)strlen(request));
    acknowledge(h); /* the rest of a long answer waits for it */
    return output();
}

static u32 status_of(const char *answer) {
    u32 status = 0;

    assert_int_equal(sscanf(answer, "HTTP/1.1 %u ", &status), 1);
    return status;
}

static const char *field(const char *answer, const char *name) {
    static char value[512];
    char line[64];

    snprintf(line, sizeof line, "\r\n%s: ", name);
    const char *at = strstr(answer, line), *end = strstr(answer, "\r\n\r\n");
    if (!at || !end || at > end)
        return NULL;
    at += strlen(line);
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r"), at);
    return value;
}

static const char *body(const char *answer) { return strstr(answer, "\r\n\r\n") + 4; }

static u32 ask_status(const char *request) { return status_of(ask(request)); }

static const char *get(const char *path, const char *fields) {
    char request[8192];

    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, fields);
    return ask(request);
}

/* ---- dates */

static void dates(void **state) {
    char text[HTTP_DATE + 1] = "";
    u64 seconds;

    (void)state;
    http_date_write(text, NOW);
    assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    for (u64 t = 0; t < 5000000000ull; t += 86400 * 13 + 12345) {
        http_date_write(text, t);
        assert_true(http_date_read(text, HTTP_DATE, &seconds));
        assert_true(seconds == t);
    }
    static const char *same[] = {"Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"};
    for (u32 i = 0; i < 2; i++) {
        assert_true(http_date_read(same[i], (u32)strlen(same[i]), &seconds));
        assert_true(seconds == NOW);
    }
    static const char *bad[] = {"", "x", "Sun, 06 Nov 1994 08:49:37",
                                "Sun, 00 Nov 1994 08:49:37 GMT",
                                "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nox 1994 08:49:37 GMT",
                                "Sun, 06 Nov 1994 08:49:37 GMTx", "0", ",", " ", "Sun Nov"};
    for (u32 i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(http_date_read(bad[i], (u32)strlen(bad[i]), &seconds));
}

/* ---- paths */

static void paths(void **state) {
    static const struct {
        const char *target, *path; /* NULL: malformed */
    } cases[] = {
        {"/", ""}, {"/a", "a"}, {"/a/b/", "a/b/"}, {"/a?b=/../c", "a"}, {"/a#b", "a"},
        {"/a/../b", "b"}, {"/a/./b/.", "a/b/"}, {"/../../etc", "etc"}, {"/..", ""}, {"/a/..", ""},
        {"/a/b/..", "a/"}, {"//a///b", "a/b"}, {"/%61%2fb", "a/b"}, {"/%2e%2e/%2E%2e/a", "a"},
        {"/a%20b", "a b"}, {"/a+b", "a+b"}, {"/%3f%23", "?#"}, {"/...", "..."}, {"/.a", ".a"},
        {"", NULL}, {"a", NULL}, {"*", NULL}, {"/%", NULL}, {"/%4", NULL}, {"/%4g", NULL},
        {"/%00", NULL}, {"/%ff", "\xff"}, {"/a%2F..%2fb", "b"}, {"/%25%34%31", "%41"},
    };
    char out[64];

    (void)state;
    for (u32 i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        s32 length = site_decode(out, cases[i].target, (u32)strlen(cases[i].target));
        if (!cases[i].path) {
            assert_int_equal(length, -1);
            continue;
        }
        assert_int_equal(length, strlen(cases[i].path));
        assert_memory_equal(out, cases[i].path, (size_t)length);
    }
}

static void archive_members(void **state) {
    (void)state;
    assert_int_equal(site.files, 5);
    assert_null(site_find(&site, "link", 4));
    assert_null(site_find(&site, "map", 3));
    struct site_file *f = site_find(&site, "big.bin", 7);
    assert_non_null(f);
    assert_int_equal(f->size, sizeof big);
    /* cut anywhere, damaged anywhere: never beyond its end */
    for (u64 n = 0; n < 4096; n++) {
        u8 *copy = malloc(n ? n : 1);
        memcpy(copy, archive, n);
        if (n > 512)
            copy[n / 2] ^= (u8)(1u << n % 8);
        void *memory = malloc(site_memory(copy, n));
        struct site other;
        site_build(&other, copy, n, memory);
        free(memory);
        free(copy);
    }
}

/* ---- answers */

static void whole_file(void **state) {
    (void)state;
    const char *a = get("/", "");
    assert_int_equal(status_of(a), 200);
    assert_string_equal(body(a), HELLO);
    assert_string_equal(field(a, "Content-Length"), "14");
    assert_string_equal(field(a, "Content-Type"), "text/html; charset=utf-8");
    assert_string_equal(field(a, "Date"), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_string_equal(field(a, "Last-Modified"), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_null(field(a, "Connection"));
    a = get("/big.bin", "");
    assert_memory_equal(body(a), big, sizeof big);
    assert_int_equal(stream.used, (u32)(body(a) - a) + sizeof big);
    a = get("/empty.css", "");
    assert_int_equal(status_of(a), 200);
    assert_string_equal(field(a, "Content-Length"), "0");
    assert_string_equal(field(a, "Content-Type"), "text/css; charset=utf-8");
    assert_string_equal(body(get("/a%20b/c.txt", "")), "c");
    assert_string_equal(body(get("http://x/a%20b/c.txt?q", "")), "c");
    assert_string_equal(body(get("http://x", "")), HELLO);
}

static void head(void **state) {
    (void)state;
    const char *a = ask("HEAD /big.bin HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(status_of(a), 200);
    assert_string_equal(field(a, "Content-Length"), "300000");
    assert_string_equal(body(a), "");
    assert_string_equal(body(ask("HEAD /none HTTP/1.1\r\nHost: x\r\n\r\n")), "");
    assert_string_equal(body(ask("HEAD /machine.json HTTP/1.1\r\nHost: x\r\n\r\n")), "");
}

static void folders(void **state) {
    (void)state;
    assert_string_equal(body(get("/sub/", "")), "sub");
    const char *a = get("/sub?x=%20", "");
    assert_int_equal(status_of(a), 301);
    assert_string_equal(field(a, "Location"), "/sub/?x=%20");
    assert_int_equal(status_of(get("/a%20b/", "")), 404);
    assert_int_equal(status_of(get("/a%20b", "")), 404);
    assert_int_equal(status_of(get("/sub/index.html/", "")), 404);
    assert_int_equal(status_of(get("/../init", "")), 404);
}

static void ranges(void **state) {
    static const struct {
        const char *range;
        u32 status, first, last;
    } cases[] = {
        {"bytes=0-0", 206, 0, 0}, {"bytes=10-19", 206, 10, 19}, {"bytes=-5", 206, 299995, 299999},
        {"bytes=299999-", 206, 299999, 299999}, {"bytes=5-99999999999999999999", 206, 5, 299999},
        {"bytes=-999999", 206, 0, 299999}, {"Bytes=1-1", 206, 1, 1},
        {"bytes=300000-", 416, 0, 0}, {"bytes=-0", 416, 0, 0}, {"bytes=5-4", 200, 0, 0},
        {"bytes=0-1,5-6", 200, 0, 0}, {"bytes=", 200, 0, 0}, {"bytes=-", 200, 0, 0},
        {"lines=1-2", 200, 0, 0}, {"bytes=a-b", 200, 0, 0}, {"", 200, 0, 0}, {"b", 200, 0, 0},
    };
    char line[64];

    (void)state;
    for (u32 i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(line, sizeof line, "Range: %s\r\n", cases[i].range);
        const char *a = get("/big.bin", line);
        assert_int_equal(status_of(a), cases[i].status);
        if (cases[i].status == 416)
            assert_string_equal(field(a, "Content-Range"), "bytes */300000");
        if (cases[i].status != 206)
            continue;
        u32 length = cases[i].last - cases[i].first + 1;
        snprintf(line, sizeof line, "bytes %u-%u/300000", cases[i].first, cases[i].last);
        assert_string_equal(field(a, "Content-Range"), line);
        assert_int_equal(stream.used - (u32)(body(a) - a), length);
        assert_memory_equal(body(a), big + cases[i].first, length);
    }
    assert_int_equal(status_of(get("/empty.css", "Range: bytes=0-\r\n")), 416);
}

static void conditions(void **state) {
    char tag[64], line[256];

    (void)state;
    snprintf(tag, sizeof tag, "%s", field(get("/", ""), "ETag"));
    const struct {
        const char *format;
        u32 status;
    } cases[] = {
        {"If-None-Match: %s\r\n", 304}, {"If-None-Match: W/%s\r\n", 304},
        {"If-None-Match: \"a,b\", %s\r\n", 304}, {"If-None-Match: *\r\n", 304},
        {"If-None-Match: \"x\"\r\n", 200}, {"If-None-Match: \"x\r\n", 200},
        {"If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 200},
        {"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 304},
        {"If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 200},
        {"If-Modified-Since: yesterday\r\n", 200},
        {"If-Match: %s\r\n", 200}, {"If-Match: W/%s\r\n", 412}, {"If-Match: \"x\"\r\n", 412},
        {"If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 412},
        {"If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 200},
        {"If-Range: %s\r\nRange: bytes=1-1\r\n", 206},
        {"If-Range: W/%s\r\nRange: bytes=1-1\r\n", 200},
        {"If-Range: \"x\"\r\nRange: bytes=1-1\r\n", 200},
        {"If-Range: *\r\nRange: bytes=1-1\r\n", 200},
        {"If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\nRange: bytes=1-1\r\n", 206},
        {"If-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\nRange: bytes=1-1\r\n", 200},
    };
    for (u32 i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(line, sizeof line, cases[i].format, tag);
        const char *a = get("/", line);
        assert_int_equal(status_of(a), cases[i].status);
        if (cases[i].status == 304) {
            assert_string_equal(body(a), "");
            assert_string_equal(field(a, "ETag"), tag);
        }
    }
}

static void refusals(void **state) {
    static const struct {
        const char *request;
        u32 status;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 400}, {"GET\r\n\r\n", 400}, {"GET /\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400}, {"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400},
        {"GET / http/1.1\r\nHost: x\r\n\r\n", 400}, {"GET / HTTP/11\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505}, {"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505},
        {"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400}, {"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400}, {"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 413},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 411},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 405},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
         400},
        {"GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", 417},
        {"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405}, {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405},
        {"get / HTTP/1.1\r\nHost: x\r\n\r\n", 501}, {"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501},
        {"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", 404}, {"\x16\x03\x01", 400}, {" ", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nRange: bytes=1-1\r\nRange: bytes=2-2\r\n\r\n", 400},
        /* odd, but fine */
        {"GET / HTTP/1.0\r\n\r\n", 200}, {"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 200},
        {"GET / HTTP/1.1\nhOsT:x\n\n", 200}, {"GET / HTTP/1.7\r\nHost:\r\n\r\n", 200},
        {"GET / HTTP/1.1\r\nHost: [::1]:80\r\nA:\r\n\r\n", 200},
        {"GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", 200},
    };

    (void)state;
    for (u32 i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (ask_status(cases[i].request) != cases[i].status)
            fail_msg("%s: not %u but %u", cases[i].request, cases[i].status,
                     ask_status(cases[i].request));
        if (cases[i].status == 405)
            assert_string_equal(field(stream.out, "Allow"), "GET, HEAD");
    }
}

static void long_heads(void **state) {
    static char request[20000];

    (void)state;
    memset(request, 'a', sizeof request - 1);
    memcpy(request, "GET /", 5);
    assert_int_equal(ask_status(request), 414);
    memcpy(request + 4200, " HTTP/1.1\r\nHost: x\r\n\r\n", 23);
    assert_int_equal(ask_status(request), 414);
    memset(request, 'a', sizeof request - 1);
    memcpy(request, "GET / HTTP/1.1\r\nHost: x\r\nA: ", 28);
    assert_int_equal(ask_status(request), 431);
    assert_true(stream.finished);
    memcpy(request + HTTP_HEAD_LIMIT - 4, "\r\n\r\n", 5);
    assert_int_equal(ask_status(request), 200);
}

/* ---- connections */

static void keeping_and_closing(void **state) {
    (void)state;
    ask("GET / HTTP/1.0\r\n\r\n");
    assert_true(stream.finished);
    const char *a = ask("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_false(stream.finished);
    assert_string_equal(field(a, "Connection"), "keep-alive");
    a = get("/", "Connection: x, close\r\n");
    assert_true(stream.finished);
    assert_string_equal(field(a, "Connection"), "close");
    /* what comes after the end is thrown away, and the connection ends with the peer's side */
    struct http *h = connect();
    http_segment(h, 0, "GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n", 36);
    http_segment(h, 0, "more", 4);
    assert_int_equal(stream.consumed, 40);
    acknowledge(h);
    assert_false(stream.closed);
    http_end(h);
    assert_true(stream.closed);
    assert_int_equal(http_counters.open, 0);
}

static void bodies(void **state) {
    struct http *h = connect();
    char request[200];

    (void)state;
    snprintf(request, sizeof request,
             "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789"
             "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    http_segment(h, 0, request, (u32)strlen(request));
    const char *second = strstr(output() + 10, "HTTP/1.1 200");
    assert_int_equal(status_of(output()), 405);
    assert_non_null(second);
    assert_int_equal(stream.consumed, strlen(request));
    /* the same in single bytes */
    h = connect();
    for (u32 i = 0; request[i]; i++)
        http_segment(h, 0, request + i, 1);
    assert_non_null(strstr(output() + 10, "HTTP/1.1 200"));
    /* a client that waits for "continue" is told no, and the connection ends */
    ask("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n");
    assert_true(stream.finished);
}

static bool is_known(const char *request, const char *path) {
    struct http_text target;
    bool known = http_known(request, (u32)strlen(request), &target);

    if (known)
        assert_true(target.length == strlen(path) && !memcmp(target.at, path, target.length));
    return known;
}

/* Fields that were read once are not read again, and nothing else is taken for them. */
static void known_fields(void **state) {
    static const char *const never[] = {
        "GET / HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n", "GET / HTTP/1.1\r\nHost: y\r\nRange: bytes=1-2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: y\r\nIf-None-Match: *\r\n\r\n", "GET / HTTP/1.1\r\nHost: y\r\nContent-Length: 0x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: y\r\nExpect: 100-continue\r\n\r\n", "GET / HTTP/1.0\r\nHost: y\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: y\r\n\r\n", "GET / HTTP/1.1\r\nHost: y\r\nContent-Length: 5\r\n\r\nabcde",
        "GET / HTTP/1.1\r\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: y\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"};
    char whole[2000], long_one[1200];

    (void)state;
    strcpy(whole, ask("GET / HTTP/1.1\r\nHost: y\r\nA: b\r\n\r\n"));
    assert_true(is_known("GET / HTTP/1.1\r\nHost: y\r\nA: b\r\n\r\n", "/"));
    assert_true(is_known("GET /big.bin HTTP/1.1\r\nHost: y\r\nA: b\r\n\r\n", "/big.bin"));
    assert_false(is_known("GET / HTTP/1.1\r\nHost: z\r\nA: b\r\n\r\n", "/"));
    assert_false(is_known("GET / HTTP/1.1\r\nHost: y\r\nA: c\r\n\r\n", "/"));
    assert_false(is_known("GET / HTTP/1.1\r\nHost: y\r\nA: b\r\n\r\nG", "/"));
    assert_false(is_known("HEAD / HTTP/1.1\r\nHost: y\r\nA: b\r\n\r\n", "/"));
    assert_false(is_known("GET  HTTP/1.1\r\nHost: y\r\nA: b\r\n\r\n", ""));
    for (u32 i = 0; i < sizeof never / sizeof never[0]; i++) {
        char first[2000];
        strcpy(first, ask(never[i]));
        struct http *h = connect();
        for (u32 j = 0; j < 2; j++) { /* the second time as the first */
            http_segment(h, 0, never[i], (u32)strlen(never[i]));
            assert_false(is_known(never[i], "/"));
            if (!stream.finished)
                assert_string_equal(output() + j * strlen(first), first);
        }
    }
    /* the same answer, by a connection that has asked before, with and without the acknowledgement in the same segment */
    struct http *h = connect();
    for (u32 i = 0; i < 4; i++) {
        u32 before = stream.used - stream.acknowledged, at = stream.used;
        stream.acknowledged += before;
        references_drop(&stream.references, stream.acknowledged);
        http_segment(h, before, "GET / HTTP/1.1\r\nHost: y\r\nA: b\r\n\r\n", 33);
        assert_string_equal(output() + at, whole);
        assert_int_equal(h->phase, HTTP_SENDING);
        assert_int_equal(stream.consumed, (i + 1) * 33);
    }
    acknowledge(h);
    assert_int_equal(h->phase, HTTP_IDLE);
    /* too long to be remembered, and answered all the same */
    snprintf(long_one, sizeof long_one, "GET / HTTP/1.1\r\nHost: y\r\nA: %0900d\r\n\r\n", 1);
    assert_string_equal(ask(long_one), whole);
    assert_string_equal(ask(long_one), whole);
    assert_false(is_known(long_one, "/"));
}

/* The same requests, cut in any way and with any amount of room, give the same bytes. */
static void any_pieces(void **state) {
    static const char requests[] =
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n"
        "HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        "GET /none HTTP/1.1\r\nHost: x\r\n\r\nGET /machine.json HTTP/1.1\r\nHost: x\r\n\r\n"
        "GET /machine.json HTTP/1.1\r\nHost: x\r\n\r\n"
        "GET /big.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=7-9999\r\nConnection: close\r\n\r\nxyz";
    static char expected[1 << 20];
    u32 expected_used = 0, seed = 1;

    (void)state;
    for (u32 round = 0; round < 200; round++) {
        struct http *h = connect();
        if (round) {
            seed = seed * 1664525 + 1013904223;
            stream.room = HEAD_ROOM + (seed >> 16) % 30000;
        }
        for (u32 at = 0; at < sizeof requests - 1;) {
            u32 part = sizeof requests - 1 - at;
            if (round) {
                seed = seed * 1664525 + 1013904223;
                part = (seed >> 16) % 40 + 1 < part ? (seed >> 16) % 40 + 1 : part;
                stream.fail = (seed >> 8) % 3;
            }
            http_segment(h, 0, requests + at, part);
            at += part;
            if (seed & 0x800000) {
                stream.fail = 0;
                acknowledge(h);
                pass(1);
            }
        }
        for (u32 i = 0; i < 50; i++) {
            stream.fail = 0;
            acknowledge(h);
            pass(1);
        }
        assert_true(stream.finished);
        assert_int_equal(stream.consumed, sizeof requests - 1);
        /* the document tells the time: take it out of the comparison */
        char *end = stream.out + stream.used;
        for (char *at = stream.out; (at = memmem(at, (size_t)(end - at), "\"now\":", 6)); at += 6)
            memset(at + 6, '0', 4);
        if (!round) {
            memcpy(expected, stream.out, expected_used = stream.used);
        } else {
            assert_int_equal(stream.used, expected_used);
            assert_memory_equal(stream.out, expected, expected_used);
        }
        http_end(h);
        assert_true(stream.closed);
        assert_int_equal(http_counters.open, 0);
    }
}

static void time_limits(void **state) {
    struct http *h = connect();

    (void)state;
    pass(HTTP_FIRST_MS - 1);
    assert_false(stream.closed);
    pass(1);
    assert_true(stream.closed);
    assert_int_equal(stream.used, 0);
    h = connect();
    http_segment(h, 0, "GET / HTT", 9);
    for (u32 i = 0; i < 9; i++) {
        pass(HTTP_HEAD_MS / 10);
        http_segment(h, 0, "x", 1); /* trickling does not help */
    }
    assert_int_equal(stream.used, 0);
    pass(HTTP_HEAD_MS / 10);
    assert_int_equal(status_of(output()), 408);
    assert_true(stream.finished);
    acknowledge(h);
    pass(HTTP_LINGER_MS);
    assert_true(stream.closed);
    h = connect();
    http_segment(h, 0, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    acknowledge(h);
    pass(60000);
    assert_false(stream.closed);
    http_segment(h, 0, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    acknowledge(h);
    pass(HTTP_IDLE_MS);
    assert_true(stream.closed);
    h = connect();
    http_segment(h, 0, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    pass(HTTP_SEND_MS);
    assert_true(stream.aborted);
}

static void shortage(void **state) {
    static struct http *all[HTTP_CONNECTIONS];

    (void)state;
    connect();
    for (u32 i = 1; i < HTTP_CONNECTIONS - HTTP_SPARE; i++) {
        all[i] = http_open(&stream);
        assert_non_null(all[i]);
    }
    assert_false(stream.closed);
    assert_non_null(http_open(&stream)); /* at the cost of the oldest */
    assert_true(stream.closed);
    assert_int_equal(http_counters.evicted, 1);
    /* more half heads than there are input buffers */
    for (u32 i = 1; i < HTTP_INPUTS + 1; i++)
        http_segment(all[i], 0, "GET", 3);
    assert_false(stream.aborted);
    http_segment(all[HTTP_INPUTS + 1], 0, "GET", 3);
    assert_true(stream.aborted);
    http_init(&site);
}

/* A tab at the end of a value means nothing but keeps a line from being read the quick way: both ways must agree, on good
 * fields and on bad ones. */
static void quick_and_thorough(void **state) {
    static const char *lines[] = {
        "Host: a", "host:b", "HOST:  c  ", "Host: a/b", "Host: \xff", "Range: bytes=1-2", "If-Range: \"x\"", "If-Match: *",
        "if-none-match: \"0123456789abcdef\"", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
        "If-Unmodified-Since: x", "Connection: close", "Connection: keep-alive, Upgrade", "Content-Length: 5",
        "Content-Length: 6", "Content-Length: x", "Transfer-Encoding: chunked", "Expect: 100-continue", "Expect: y",
        "X-Long: 0123456789012345678901234567890123456789", "X-Odd: a\x01" "b", "X-Del: aaaaaaaaa\x7f", "Bad Name: x", ": x",
        "None", "\x88ost: a", "HosT\x14: a", "(ost: a",
    };
    u32 seed = 7;

    (void)state;
    for (u32 round = 0; round < 20000; round++) {
        char text[2][1024] = {"GET /x HTTP/1.1\r\n", "GET /x HTTP/1.1\r\n"};
        struct http_request r[2];
        for (u32 i = 0; i < 1 + round % 5; i++) {
            seed = seed * 1664525 + 1013904223;
            const char *line = lines[(seed >> 16) % (sizeof lines / sizeof lines[0])], *end = seed & 0x8000 ? "\r\n" : "\n";
            sprintf(text[0] + strlen(text[0]), "%s%s", line, end);
            sprintf(text[1] + strlen(text[1]), "%s%s%s", line, strchr(line, ':') ? "\t" : "", end);
        }
        for (u32 i = 0; i < 2; i++) {
            strcat(text[i], "\r\n");
            assert_true(http_request_parse(&r[i], text[i], (u32)strlen(text[i])));
            assert_int_equal(r[i].length, strlen(text[i]));
        }
        assert_int_equal(r[0].error, r[1].error);
        if (r[0].error)
            continue;
        assert_int_equal(r[0].keep, r[1].keep);
        assert_int_equal(r[0].chunked, r[1].chunked);
        assert_int_equal(r[0].expects, r[1].expects);
        assert_int_equal(r[0].body, r[1].body);
        const struct http_text *a = &r[0].range, *b = &r[1].range;
        for (u32 i = 0; i < 6; i++) { /* range to if_unmodified */
            assert_int_equal(a[i].length, b[i].length);
            if (a[i].length)
                assert_memory_equal(a[i].at, b[i].at, a[i].length);
        }
    }
}

/* Peers that ask and acknowledge nothing keep nobody out for long. */
static void stalled(void **state) {
    (void)state;
    struct http *h = connect();
    for (u32 i = 0; i < HTTP_CONNECTIONS; i++) {
        http_segment(h, 0, "GET /empty.css HTTP/1.1\r\nHost: x\r\n\r\n", 36);
        stream.acknowledged = stream.used = 0; /* a stream of its own for each */
        references_drop(&stream.references, ~0ull);
        if (i + 1 < HTTP_CONNECTIONS) {
            h = http_open(&stream);
            assert_non_null(h);
        }
    }
    assert_null(http_open(&stream));
    pass(HTTP_STALLED_MS - 1);
    assert_null(http_open(&stream));
    pass(1);
    assert_non_null(http_open(&stream));
    assert_true(stream.aborted);
    http_init(&site);
}

static void documents_are_held(void **state) {
    struct http *h[LIVE_DOCUMENTS + 2];
    u32 first = 0;

    (void)state;
    connect();
    for (u32 i = 0; i < LIVE_DOCUMENTS + 2; i++) {
        h[i] = http_open(&stream);
        pass(LIVE_FRESH_MS);
        http_segment(h[i], 0, "GET /machine.json HTTP/1.1\r\nHost: x\r\n\r\n", 39);
        if (!i)
            first = stream.used;
    }
    pass(LIVE_STALE_MS);
    struct http *late = http_open(&stream);
    u32 at = stream.used;
    http_segment(late, 0, "GET /machine.json HTTP/1.1\r\nHost: x\r\n\r\n", 39);
    assert_int_equal(status_of(output() + at), 503);
    http_lost(h[0]);
    references_drop(&stream.references, first); /* as its stream does when it ends */
    at = stream.used;
    http_segment(late, 0, "GET /machine.json HTTP/1.1\r\nHost: x\r\n\r\n", 39);
    assert_int_equal(status_of(output() + at), 200);
    http_init(&site);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates), cmocka_unit_test(paths), cmocka_unit_test(archive_members),
        cmocka_unit_test(whole_file), cmocka_unit_test(head), cmocka_unit_test(folders),
        cmocka_unit_test(ranges), cmocka_unit_test(conditions), cmocka_unit_test(refusals),
        cmocka_unit_test(long_heads), cmocka_unit_test(keeping_and_closing),
        cmocka_unit_test(bodies), cmocka_unit_test(any_pieces), cmocka_unit_test(time_limits),
        cmocka_unit_test(shortage), cmocka_unit_test(stalled), cmocka_unit_test(quick_and_thorough),
        cmocka_unit_test(documents_are_held), cmocka_unit_test(known_fields),
    };
    return cmocka_run_group_tests(tests, make_site, drop_site);
}
