/* Fuzzing of the HTTP server, by libFuzzer:
 *     tests/fuzz/run 60 fuzz_http
 *
 * The input says what happens: each step has a byte that chooses between received bytes (cut to any
 * length), acknowledgements, time, shortage of room, and the peer's end; connections are opened
 * as they go. Checked besides what the sanitizers find: no call on a stream that has ended, not
 * more consumed than was received, and never more than a window unconsumed. */
#include <stdlib.h>
#include <string.h>

#include "web/host/fake_machine.h"
#include "../host/references.h"
#include "web/http.h"
#include "web/http_known.h"

#define CONNECTIONS 4
#define CHECK(condition) \
    do { \
        if (!(condition)) \
            abort(); \
    } while (0)

struct stream {
    struct http *h; /* NULL: ended */
    u64 received, consumed, sent, acknowledged;
    bool finished;
    struct references references;
};
static struct stream streams[CONNECTIONS];
static u32 room, failures;
static u8 sum; /* of all bytes sent: makes the sanitizer read them */

static struct stream *of(struct http *h) {
    struct stream *s = h->stream;

    CHECK(s->h == h || !s->h); /* not set yet while http_open runs */
    return s;
}

#define HEAD_ROOM 9000 /* of which any head is sure */

bool stream_room(struct http *h, u32 pieces) {
    struct stream *s = of(h);

    CHECK(s->h && !s->finished);
    if (failures && s->sent != s->acknowledged) {
        failures--;
        return false;
    }
    return references_room(&s->references, pieces) && s->sent - s->acknowledged < room;
}

u32 stream_write(struct http *h, const void *data, u32 length, u32 *users) {
    struct stream *s = of(h);
    const u8 *bytes = data;
    u64 used = s->sent - s->acknowledged, free = used < room + HEAD_ROOM ? room + HEAD_ROOM - used : 0;

    CHECK(s->h && !s->finished && length);
    if (!references_room(&s->references, 1))
        return 0;
    if (length > free)
        length = (u32)free;
    for (u32 i = 0; i < length; i++)
        sum += bytes[i];
    s->sent += length;
    if (length)
        references_add(&s->references, s->sent, users);
    return length;
}

void stream_consumed(struct http *h, u32 length) {
    struct stream *s = of(h);

    s->consumed += length;
    CHECK(s->h && s->consumed <= s->received);
}

void stream_finish(struct http *h) {
    CHECK(of(h)->h && !of(h)->finished);
    of(h)->finished = true;
}

void stream_close(struct http *h) {
    CHECK(of(h)->h);
    of(h)->h = NULL;
    references_drop(&of(h)->references, ~0ull);
}

void stream_abort(struct http *h) {
    stream_close(h);
}

/* ---- the site: three files in a hand-made archive */

static u8 archive[8192];
static struct site site;

static void add(u32 at, const char *path, u32 size) {
    u8 *header = archive + at;
    u32 total = 0;

    strcpy((char *)header, path);
    for (u32 i = 0, n = size; i < 11; i++, n /= 8)
        header[124 + 10 - i] = (u8)('0' + n % 8);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    memset(header + 148, ' ', 8);
    for (u32 i = 0; i < 512; i++)
        total += header[i];
    for (u32 i = 0; i < 6; i++, total /= 8)
        header[148 + 5 - i] = (u8)('0' + total % 8);
    header[154] = 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    add(0, "site/index.html", 100);
    add(1024, "site/a/index.html", 1);
    add(2048, "site/b.bin", 5000);
    site_build(&site, archive, sizeof archive, malloc(site_memory(archive, sizeof archive)));
    fake_machine_start(4);
    return 0;
}

/* What is taken to be known without being read must read as a plain request of the same target. */
static void compare_known(const char *data, u32 length) {
    struct http_text target;
    struct http_request r;

    if (!http_known(data, length, &target))
        return;
    CHECK(http_request_parse(&r, data, length) && r.length == length && !r.error && r.method == HTTP_GET);
    CHECK(r.minor == 1 && r.keep && !r.body && !r.chunked && !r.expects);
    CHECK(!r.range.at && !r.if_match.at && !r.if_none_match.at && !r.if_modified.at && !r.if_unmodified.at);
    CHECK(r.target.at == target.at && r.target.length == target.length);
}

static u32 next_acknowledged(struct stream *s, u32 most) {
    u64 part = s->sent - s->acknowledged;

    part = part > most ? most : part;
    s->acknowledged += part;
    references_drop(&s->references, s->acknowledged);
    return (u32)part;
}

static void receive(struct stream *s, u32 acknowledged, const u8 *data, u32 length) {
    u64 window = HTTP_INPUT_SIZE - (s->received - s->consumed);

    if (length > window)
        length = (u32)window;
    if (!length && !acknowledged)
        return;
    u8 *copy = malloc(length); /* so that reading beyond it is noticed */
    memcpy(copy, data, length);
    s->received += length;
    compare_known((const char *)copy, length);
    http_segment(s->h, acknowledged, copy, length);
    free(copy);
}

static void acknowledge(struct stream *s, u32 most) {
    u32 part = next_acknowledged(s, most);

    if (part)
        http_segment(s->h, part, NULL, 0);
}

static void open_stream(struct stream *s) {
    *s = (struct stream){0};
    s->h = http_open(s);
    CHECK(s->h);
}

static void drop_all(void) {
    for (u32 i = 0; i < CONNECTIONS; i++)
        if (streams[i].h) {
            references_drop(&streams[i].references, ~0ull);
            http_lost(streams[i].h);
            streams[i].h = NULL;
        }
    CHECK(http_counters.open == 0);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    u64 now = 1000;

    http_init(&site);
    http_tick(now, 784111777);
    room = 100000;
    failures = 0;
    for (size_t at = 0; at + 2 <= size;) {
        struct stream *s = &streams[data[at] % CONNECTIONS];
        u8 action = data[at] / CONNECTIONS % 16, argument = data[at + 1];
        at += 2;
        if (!s->h)
            open_stream(s);
        if (action < 8) {
            size_t length = action < 4 ? argument : size - at;
            length = length > size - at ? size - at : length;
            receive(s, action & 1 ? next_acknowledged(s, ~0u) : 0, data + at, (u32)length);
            at += length;
        } else if (action < 11) {
            acknowledge(s, argument * 100u + 1);
        } else if (action == 11) {
            now += argument * 200u;
            http_tick(now, 784111777 + now / 1000);
        } else if (action == 12) {
            room = argument * 50u;
        } else if (action == 13) {
            failures = argument % 8;
        } else if (action == 14) {
            http_end(s->h);
        } else {
            references_drop(&s->references, ~0ull);
            http_lost(s->h);
            s->h = NULL;
        }
    }
    drop_all();
    return 0;
}
