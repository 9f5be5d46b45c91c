/* Fuzzing of TCP, by libFuzzer: segments of four peers that mostly fit what was said before, frames that are anything, time,
 * and a user that writes, consumes, finishes, closes and aborts.
 *
 * Checked besides what the sanitizers and wire.c find: bytes are those that were written, in their places; nothing is sent
 * beyond any window that the peer told; the user hears nothing of connections that it gave up; and in the end nobody refers to
 * anything. */
#include <stdlib.h>
#include <string.h>

#include "../host/wire.h"
#include "tcp/internal.h"
#include "tcp/tcp.h"

#define PEERS 4
#define FILE_BYTES 65536
#define CHECK(condition) \
    do { \
        if (!(condition)) \
            abort(); \
    } while (0)

static u8 file[FILE_BYTES * 2];
static u32 file_users;
extern volatile u8 last_read;
volatile u8 last_read;

static struct peer {
    struct tcp *t; /* NULL: its user has it no more */
    u32 seq, ack;  /* what it would send next */
    u32 base;      /* the first byte of the server */
    u32 edge;      /* the end of the largest window that it told */
    u32 written, unread;
    u8 shift;
    bool known, writable;
} peers[PEERS];
static struct peer *opening;

void *tcp_user_open(struct tcp *t) {
    struct peer *p = opening;

    CHECK(p && !p->t);
    p->t = t;
    p->written = p->unread = 0;
    p->writable = true;
    return p;
}

void tcp_user_segment(void *user, u32 acknowledged, const void *data, u32 length) {
    struct peer *p = user;

    CHECK(p->t && acknowledged + length && acknowledged <= p->written);
    for (u32 i = 0; i < length; i++)
        last_read = ((const u8 *)data)[i]; /* the sanitizer sees that all can be read */
    p->unread += length;
    CHECK(p->unread <= TCP_WINDOW);
}

void tcp_user_ended(void *user) { CHECK(((struct peer *)user)->t); }

void tcp_user_lost(void *user) {
    struct peer *p = user;

    CHECK(p->t);
    p->t = NULL;
}

static void hear(void) {
    const struct sent *s;

    while ((s = wire_take())) {
        u32 i = s->port - 1000u;
        if (i >= PEERS || (s->flags & TCP_RST))
            continue;
        struct peer *p = &peers[i];
        if (s->flags & TCP_SYN) {
            p->known = true;
            p->base = s->seq + 1;
            if (seq_diff(p->edge, p->base) < 0 || p->edge - p->base > 1u << 30)
                p->edge = p->base + 65535;
            p->ack = p->base;
            continue;
        }
        if (!p->known || !s->length)
            continue;
        u32 at = s->seq - p->base;
        CHECK(at + s->length <= FILE_BYTES * 2);
        CHECK(!memcmp(s->data, file + at, s->length));
        CHECK(seq_diff(s->seq + s->length, p->edge) <= 1); /* a probe is beyond it */
        if (s->seq == p->ack)
            p->ack = s->seq + s->length;
    }
}

static void turn(void) {
    wire_turn();
    hear();
}

static void say(u32 i, const u8 *a, const u8 *data, u32 length) {
    static const u16 windows[8] = {65535, 65535, 20000, 0, 1, 1000, 3000, 65535};
    static const s32 steps[8] = {0, 0, 0, 0, -1, 1, -1460, 5000};
    struct peer *p = &peers[i];
    struct sent s = {.peer = 0x0a000200 + 7 + i, .port = (u16)(1000 + i), .flags = a[0] & 63,
                     .seq = p->seq + (u32)steps[a[1] & 7], .ack = p->ack + (u32)steps[a[1] >> 3 & 7],
                     .window = windows[a[2] & 7], .length = length};

    if (a[2] & 0x30) /* mostly what an honest peer says */
        s.flags = (u8)((s.flags & (TCP_FIN | TCP_PSH)) | TCP_ACK);
    if (p->known && s.flags & TCP_ACK) {
        u32 edge = s.ack + ((u32)s.window << p->shift);
        if (seq_diff(edge, p->edge) > 0)
            p->edge = edge;
    }
    if (length)
        memcpy(s.data, data, length);
    opening = p;
    wire_give(&s);
    turn();
    if (s.seq == p->seq)
        p->seq += length + (s.flags & TCP_FIN);
}

static void connect_peer(u32 i, u8 a) {
    struct peer *p = &peers[i];
    struct sent s = {.peer = 0x0a000200 + 7 + i, .port = (u16)(1000 + i), .flags = TCP_SYN, .window = 65535,
                     .options_length = 8, .options = {2, 4, 5, 0xb4, 1, 3, 3, 0}};

    if (p->t)
        return;
    p->seq += 100000;
    p->shift = a & 7;
    s.options[7] = p->shift;
    s.seq = p->seq++;
    p->known = false;
    opening = p;
    wire_give(&s);
    turn();
    if (!p->known)
        return;
    p->edge = p->base + 65535;
    say(i, (const u8[]){TCP_ACK, 0, 0x30}, NULL, 0);
}

static void use(u32 i, u8 what, u8 n) {
    struct peer *p = &peers[i];

    if (!p->t)
        return;
    if (what < 4 && p->writable && p->written + n * 64u < FILE_BYTES) {
        p->written += tcp_write(p->t, file + p->written, n * 64u, n & 1 ? &file_users : NULL);
    } else if (what < 6) {
        u32 part = p->unread < n * 50u ? p->unread : n * 50u;
        p->unread -= part;
        tcp_consumed(p->t, part);
    } else if (what == 6) {
        tcp_finish(p->t);
        p->writable = false;
    } else {
        struct tcp *t = p->t;
        p->t = NULL;
        (n & 1 ? tcp_close : tcp_abort)(t);
    }
    turn();
}

static void raw(const u8 *data, u32 length, u8 damage) {
    struct sent s = {.peer = 0x0a000207, .port = 1000, .seq = peers[0].seq, .ack = peers[0].ack, .flags = TCP_ACK,
                     .window = 100};
    u8 *frame = wire_give(&s);
    u32 *frame_length = &wire.in_length[(wire.in_last - 1) % WIRE_FRAMES];

    memcpy(frame + damage % 60, data, length);
    *frame_length = damage % 60 + length;
    opening = &peers[0];
    turn();
}

static void pass(u32 ms) {
    for (u32 i = 0; i < 8; i++) {
        wire.now_ms += ms;
        turn();
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    for (u32 i = 0; i < sizeof file; i++)
        file[i] = (u8)(i * 2654435761u >> 13);
    return 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    struct tcp_config config = {.address = WIRE_ADDRESS, .port = WIRE_PORT, .key = {1, 2}};

    if (!size)
        return 0;
    wire_init(data[0] & 1);
    memset(peers, 0, sizeof peers);
    file_users = 0;
    tcp_init(&config);
    for (u32 i = 0; i < PEERS; i++)
        connect_peer(i, (u8)(data[0] >> 1));
    for (size_t at = 1; at + 4 <= size;) {
        u32 i = data[at] % PEERS, action = data[at] / PEERS % 16;
        const u8 *a = data + at + 1;
        at += 4;
        if (action < 7) {
            u32 length = action < 3 ? 0 : a[2] * 6u;
            length = length > size - at ? (u32)(size - at) : length;
            length = length > 1460 ? 1460 : length;
            say(i, a, data + at, length);
            at += length;
        } else if (action < 11) {
            use(i, a[0] % 8, a[1]);
        } else if (action == 11) {
            pass(a[0]);
        } else if (action == 12) {
            pass(a[0] * 100u);
        } else if (action == 13) {
            connect_peer(i, a[0]);
        } else if (action == 14) {
            wire.room = a[0] % 8 + 1;
            wire.blocked = a[1] & 1;
        } else {
            u32 length = size - at < a[0] ? (u32)(size - at) : a[0];
            raw(data + at, length, a[1]);
            at += length;
        }
    }
    wire.blocked = false;
    for (u32 i = 0; i < PEERS; i++)
        use(i, 7, 1); /* close */
    pass(ORPHAN_MS / 4);
    CHECK(!file_users);
    CHECK(tcp_timers() == ~0u || tcp_timers() < 100000);
    return 0;
}
