/* TCP against a peer that the tests play, over a wire that loses, doubles and reorders what they want. */
// sources: tests/host/wire.c libos/lib/tcp/tcp.c libos/lib/tcp/output.c libos/lib/tcp/timer.c libos/lib/tcp/segment.c libos/lib/tcp/sum.c libos/lib/net/siphash.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tcp/internal.h"
#include "tcp/tcp.h"
#include "wire.h"

#define PEER 0x0a000207u
#define ISN 1000u

/* ---- the server: what it receives tells what it sends */

#define MOST (1u << 20)
static u8 file[MOST];
static u32 file_users;
static struct user {
    struct tcp *t;
    u8 input[4096];
    u32 used, acknowledged;
    bool ended, lost, hold; /* hold: consume nothing */
} users[NET_CONNECTIONS];
static u32 open_users, refuse;

void *tcp_user_open(struct tcp *t) {
    if (refuse)
        return NULL;
    for (u32 i = 0; i < NET_CONNECTIONS; i++)
        if (!users[i].t) {
            users[i] = (struct user){.t = t};
            open_users++;
            return &users[i];
        }
    return NULL;
}

void tcp_user_segment(void *user, u32 acknowledged, const void *data, u32 length) {
    struct user *u = user;

    assert_true(u->t && acknowledged + length && u->used + length <= sizeof u->input);
    u->acknowledged += acknowledged;
    if (length)
        memcpy(u->input + u->used, data, length);
    u->used += length;
    if (length && !u->hold)
        tcp_consumed(u->t, length);
}

void tcp_user_ended(void *user) { ((struct user *)user)->ended = true; }

void tcp_user_lost(void *user) {
    struct user *u = user;

    u->lost = true;
    u->t = NULL;
    open_users--;
}

static void gone(struct user *u) {
    u->t = NULL;
    open_users--;
}

static void start(bool checksum) {
    struct tcp_config config = {.address = WIRE_ADDRESS, .port = WIRE_PORT, .key = {1, 2}};

    wire_init(checksum);
    memset(users, 0, sizeof users);
    file_users = open_users = refuse = 0;
    for (u32 i = 0; i < MOST; i++)
        file[i] = (u8)(i * 2654435761u >> 13);
    tcp_init(&config);
}

/* ---- the peer */

static struct sent s; /* the last segment that was given, to be changed */

static const struct sent *reply(u32 seq, u32 ack, u8 flags, const char *data, u16 window) {
    s = (struct sent){.peer = PEER, .port = 4000, .seq = seq, .ack = ack, .flags = flags, .window = window,
                      .length = data ? (u32)strlen(data) : 0};
    if (data)
        memcpy(s.data, data, s.length);
    wire_give(&s);
    wire_turn();
    return wire_take();
}

static void nothing(void) { assert_null(wire_take()); }

/* Connects; gives the server's first sequence number. */
static u32 connect_from(u32 peer, u16 port, bool scale) {
    s = (struct sent){.peer = peer, .port = port, .seq = ISN, .flags = TCP_SYN, .window = 65535,
                      .options_length = scale ? 8 : 4, .options = {2, 4, 5, 0xb4, 1, 3, 3, 7}};
    wire_give(&s);
    wire_turn();
    const struct sent *a = wire_take();
    assert_non_null(a);
    assert_int_equal(a->flags, TCP_SYN | TCP_ACK);
    assert_int_equal(a->ack, ISN + 1);
    assert_int_equal(a->options_length, scale ? 8 : 4);
    u32 isn = a->seq;
    s.seq = ISN + 1;
    s.ack = isn + 1;
    s.flags = TCP_ACK;
    s.options_length = 0;
    wire_give(&s);
    wire_turn();
    assert_null(wire_take());
    return isn + 1;
}

static u32 connect(void) { return connect_from(PEER, 4000, false); }

static void pass(u32 ms) {
    for (; ms; ms--) {
        wire.now_ms++;
        wire_turn();
    }
}

static u32 count_out(void) {
    u32 n = 0;

    while (wire_take())
        n++;
    return n;
}

/* ---- sums */

static void sums(void **state) {
    u8 data[4096], copy[4096];
    u16 block[8];
    u32 seed = 1;

    (void)state;
    for (u32 i = 0; i < sizeof data; i++)
        data[i] = i < 1024 ? 0 : (u8)((seed = seed * 1664525 + 1013904223) >> 24);
    struct sums kept = {data, sizeof data, block};
    memset(block, 0, sizeof block);
    for (u32 i = 0; i < 3000; i++) {
        u32 from = (seed = seed * 1664525 + 1013904223) >> 20 & 4095;
        u32 length = (seed = seed * 1664525 + 1013904223) >> 20 & 2047;
        length = length > 4096 - from ? 4096 - from : length;
        u64 plain = 0;
        for (u32 k = 0; k < length; k++)
            plain += k & 1 ? (u64)data[from + k] << 8 : data[from + k];
        while (plain >> 16)
            plain = (plain & 0xffff) + (plain >> 16);
        u16 sum = sums_of(&kept, data + from, length);
        assert_int_equal(sum % 0xffff, plain % 0xffff);
        memcpy(copy, data + from, length);
        assert_int_equal(sums_of(&kept, copy, length) % 0xffff, plain % 0xffff);
    }
    for (u32 i = 0; i < 8; i++)
        assert_int_not_equal(block[i], 0);
}

/* The quick sum of a header says what the thorough one says. */
static void header_sums(void **state) {
    u8 header[20];
    u32 seed = 7, good = 0;

    (void)state;
    for (u32 i = 0; i < 200000; i++) {
        for (u32 k = 0; k < 20; k++) {
            seed = seed * 1664525 + 1013904223;
            u8 byte = (u8)(seed >> 24);
            header[k] = i % 4 == 0 ? byte : i % 4 == 1 ? 0xff : byte < 128 ? 0xff : 0; /* carries everywhere */
        }
        header[10] = header[11] = 0;
        if (i % 3) {
            u16 sum = (u16)(~sum_bytes(header, 20) + (i % 3 == 2 ? 0 : (int)(seed >> 28)));
            memcpy(header + 10, &sum, 2);
        }
        bool right = sum_bytes(header, 20) == 0xffff;
        assert_int_equal(sum_header_good(header), right);
        good += right;
    }
    assert_true(good > 50000 && good < 150000);
}

/* ---- connections begin and end */

static void request_and_answer(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    assert_int_equal(open_users, 1);
    /* the answer carries the acknowledgement: one frame in, one out */
    s = (struct sent){.peer = PEER, .port = 4000, .seq = ISN + 1, .ack = seq, .flags = TCP_ACK | TCP_PSH,
                      .window = 65535, .length = 3, .data = "GET"};
    wire_give(&s);
    tcp_clock();
    assert_int_equal(tcp_receive(64), 1);
    assert_int_equal(tcp_write(users[0].t, file, 400, &file_users), 400);
    assert_int_equal(tcp_write(users[0].t, file + 400, 100, &file_users), 100);
    assert_int_equal(file_users, 2);
    tcp_flush();
    const struct sent *a = wire_take();
    assert_int_equal(a->length, 500);
    assert_int_equal(a->ack, ISN + 4);
    assert_int_equal(a->seq, seq);
    assert_memory_equal(a->data, file, 500);
    nothing();
    assert_null(reply(ISN + 4, seq + 450, TCP_ACK, NULL, 65535));
    assert_int_equal(file_users, 1);
    assert_null(reply(ISN + 4, seq + 500, TCP_ACK, NULL, 65535));
    assert_int_equal(file_users, 0);
    assert_int_equal(users[0].acknowledged, 500);
    /* no timer is left but the one that finds that it is not needed */
    pass(2000);
    assert_int_equal(tcp_timers(), ~0u);
    nothing();
}

static void peer_closes(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    assert_null(reply(ISN + 1, seq, TCP_ACK, "x", 65535)); /* acknowledged later */
    s.seq++;
    s.length = 0;
    s.flags = TCP_ACK | TCP_FIN;
    wire_give(&s);
    tcp_clock();
    tcp_receive(64);
    assert_true(users[0].ended);
    tcp_close(users[0].t);
    gone(&users[0]);
    tcp_flush();
    const struct sent *a = wire_take(); /* FIN and ACK in one frame */
    assert_int_equal(a->flags, TCP_FIN | TCP_ACK);
    assert_int_equal(a->ack, ISN + 3);
    nothing();
    assert_null(reply(ISN + 3, seq + 1, TCP_ACK, NULL, 65535));
    a = reply(ISN + 3, seq + 1, TCP_ACK, NULL, 65535); /* it is no more */
    assert_int_equal(a->flags, TCP_RST);
    assert_int_equal(a->seq, seq + 1);
}

static void server_closes(void **state) {
    (void)state;
    start(false);
    u32 seq = connect();
    tcp_write(users[0].t, file, 10, NULL);
    tcp_finish(users[0].t);
    wire_turn();
    const struct sent *a = wire_take();
    assert_int_equal(a->flags, TCP_FIN | TCP_ACK | TCP_PSH);
    assert_int_equal(a->length, 10);
    /* the other half goes on */
    assert_null(reply(ISN + 1, seq + 11, TCP_ACK, "more", 65535));
    assert_int_equal(users[0].used, 4);
    a = reply(ISN + 5, seq + 11, TCP_ACK | TCP_FIN, NULL, 65535);
    assert_int_equal(a->flags, TCP_ACK);
    assert_int_equal(a->ack, ISN + 6);
    assert_true(users[0].ended);
    tcp_close(users[0].t);
    gone(&users[0]);
    /* TIME-WAIT: its FIN again is acknowledged again */
    a = reply(ISN + 5, seq + 11, TCP_ACK | TCP_FIN, NULL, 65535);
    assert_int_equal(a->ack, ISN + 6);
    /* an old SYN is not believed, a newer one is the next connection */
    s = (struct sent){.peer = PEER, .port = 4000, .seq = ISN - 7, .flags = TCP_SYN, .window = 1000};
    wire_give(&s);
    wire_turn();
    a = wire_take();
    assert_true(!a || a->flags == TCP_ACK);
    s.seq = ISN + 100;
    wire_give(&s);
    wire_turn();
    a = wire_take();
    assert_int_equal(a->flags, TCP_SYN | TCP_ACK);
    assert_int_equal(a->ack, ISN + 101);
}

static void simultaneous_close(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    tcp_finish(users[0].t);
    wire_turn();
    assert_int_equal(wire_take()->flags, TCP_FIN | TCP_ACK);
    const struct sent *a = reply(ISN + 1, seq, TCP_ACK | TCP_FIN, NULL, 65535); /* has not seen ours */
    assert_int_equal(a->ack, ISN + 2);
    tcp_close(users[0].t);
    gone(&users[0]);
    assert_null(reply(ISN + 2, seq + 1, TCP_ACK, NULL, 65535));
    a = reply(ISN + 1, seq + 1, TCP_ACK | TCP_FIN, NULL, 65535); /* in TIME-WAIT */
    assert_int_equal(a->flags, TCP_ACK);
    pass(TIME_WAIT_MS + 20);
    a = reply(ISN + 2, seq + 1, TCP_ACK, NULL, 65535);
    assert_int_equal(a->flags, TCP_RST);
}

static void abandoned(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    tcp_write(users[0].t, file, 3000, &file_users);
    tcp_close(users[0].t);
    gone(&users[0]);
    pass(10);
    assert_int_equal(count_out(), 3);
    /* data for nobody */
    assert_int_equal(reply(ISN + 1, seq, TCP_ACK, "?", 65535)->flags, TCP_RST | TCP_ACK);
    assert_int_equal(file_users, 0);
    /* a peer that never answers */
    seq = connect_from(PEER, 4001, true);
    tcp_write(users[0].t, file, 3000, &file_users);
    tcp_close(users[0].t);
    gone(&users[0]);
    pass(ORPHAN_MS + 5000);
    count_out();
    assert_int_equal(file_users, 0);
    assert_int_equal(tcp_timers(), ~0u);
    /* the user does it */
    connect_from(PEER, 4002, false);
    tcp_write(users[0].t, file, 3000, &file_users);
    tcp_abort(users[0].t);
    gone(&users[0]);
    wire_turn();
    assert_int_equal(wire_take()->flags, TCP_RST | TCP_ACK);
    assert_int_equal(file_users, 0);
    nothing();
}

static void refused(void **state) {
    (void)state;
    start(true);
    const struct sent *a = reply(5, 6, TCP_ACK, "abc", 100); /* no connection */
    assert_int_equal(a->flags, TCP_RST);
    assert_int_equal(a->seq, 6);
    a = reply(5, 6, TCP_FIN, "abc", 100);
    assert_int_equal(a->flags, TCP_RST | TCP_ACK);
    assert_int_equal(a->ack, 9);
    assert_null(reply(5, 6, TCP_RST, NULL, 100));
    /* segments too small to be worth it */
    s = (struct sent){.peer = PEER, .port = 4000, .seq = ISN, .flags = TCP_SYN, .window = 1, .options_length = 4,
                      .options = {2, 4, 0, 100}};
    wire_give(&s);
    wire_turn();
    nothing();
    refuse = 1;
    s.options[3] = 0;
    s.options[2] = 6;
    wire_give(&s);
    wire_turn();
    u32 seq = wire_take()->seq + 1;
    a = reply(ISN + 1, seq, TCP_ACK, NULL, 100);
    assert_int_equal(a->flags, TCP_RST | TCP_ACK);
    assert_int_equal(open_users, 0);
    /* a handshake that ends wrongly */
    refuse = 0;
    wire_give(&(struct sent){.peer = PEER, .port = 4000, .seq = ISN, .flags = TCP_SYN, .window = 9});
    wire_turn();
    seq = wire_take()->seq + 1;
    a = reply(ISN + 1, seq + 1, TCP_ACK, NULL, 100);
    assert_int_equal(a->flags, TCP_RST);
    assert_int_equal(a->seq, seq + 1);
    assert_null(reply(ISN + 1, seq, TCP_ACK, NULL, 100));
    assert_int_equal(open_users, 1);
}

/* Frames that are no segments, damaged in every bit: none changes anything. */
static void damaged(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    for (u32 bit = 96; bit < 59 * 8; bit++) {
        s = (struct sent){.peer = PEER, .port = 4000, .seq = ISN + 1, .ack = seq, .flags = TCP_ACK, .window = 9,
                          .length = 5, .data = "hello"};
        u8 *frame = wire_give(&s);
        frame[bit / 8] ^= (u8)(1 << bit % 8);
        wire_turn();
        assert_int_equal(users[0].used, 0);
    }
    for (u32 length = 0; length < 59; length++) {
        wire_give(&s);
        wire.in_length[(wire.in_last - 1) % WIRE_FRAMES] = length;
        wire_turn();
        assert_int_equal(users[0].used, 0);
    }
    nothing();
    assert_null(reply(ISN + 1, seq, TCP_ACK, "hello", 65535));
    assert_int_equal(users[0].used, 5);
}

/* IP options are passed over; a frame whose header says that it is longer than it is, is not read. */
static void ip_options(void **state) {
    (void)state;
    start(true);
    u32 seq = connect(), at = ISN + 1;
    for (u32 words = 0; words < 16; words++)
        for (u32 cut = 0; cut < 2; cut++) {
            u32 options = words > 5 ? (words - 5) * 4 : 0, before = users[0].used;
            s = (struct sent){.peer = PEER, .port = 4000, .seq = at, .ack = seq, .flags = TCP_ACK, .window = 65535,
                              .length = 5, .data = "hello"};
            u8 *frame = wire_give(&s);
            struct headers *h = (void *)frame;
            memmove(frame + HEADERS_TCP + options, frame + HEADERS_TCP, 25);
            memset(frame + HEADERS_TCP, 1, options); /* no operation */
            h->version = (u8)(0x40 | words);
            h->length = __builtin_bswap16((u16)(45 + options));
            h->ip_sum = 0;
            h->ip_sum = (u16)~sum_bytes(frame + HEADERS_IP, words < 5 ? 20 : words * 4);
            wire.in_length[(wire.in_last - 1) % WIRE_FRAMES] = 59 + options - cut;
            wire_turn();
            at += words >= 5 && !cut ? 5 : 0;
            assert_int_equal(users[0].used - before, words >= 5 && !cut ? 5 : 0);
        }
    assert_memory_equal(users[0].input, "hellohello", 10);
}

/* ---- RFC 5961 */

static void blind_attacks(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    const struct sent *a = reply(ISN + 2, seq, TCP_RST, NULL, 65535); /* in the window, not exact */
    assert_int_equal(a->flags, TCP_ACK);
    assert_int_equal(a->ack, ISN + 1);
    assert_null(reply(ISN + 3, seq, TCP_RST, NULL, 65535)); /* not more than so often */
    assert_null(reply(ISN + 1 + 70000, seq, TCP_RST, NULL, 65535));
    pass(CHALLENGE_MS + 1);
    assert_int_equal(reply(ISN + 1, seq, TCP_SYN, NULL, 65535)->flags, TCP_ACK);
    pass(CHALLENGE_MS + 1);
    assert_int_equal(reply(ISN + 1, seq + 1, TCP_ACK, "bad", 65535)->flags, TCP_ACK); /* never sent that */
    pass(CHALLENGE_MS + 1);
    assert_int_equal(reply(ISN + 1, seq - 100000, TCP_ACK, "bad", 65535)->flags, TCP_ACK);
    assert_int_equal(users[0].used, 0);
    assert_false(users[0].lost);
    assert_null(reply(ISN + 1, seq, TCP_RST, NULL, 65535));
    assert_true(users[0].lost);
}

static void flood(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    for (u32 i = 0; i < 3 * NET_CONNECTIONS; i++) {
        wire_give(&(struct sent){.peer = PEER + 1 + i, .port = 99, .seq = i, .flags = TCP_SYN, .window = 9});
        if (i % 100 == 0) {
            wire_turn();
            count_out();
        }
    }
    wire_turn();
    count_out();
    assert_null(reply(ISN + 1, seq, TCP_ACK, "still here", 65535));
    assert_int_equal(users[0].used, 10);
    connect_from(PEER - 1, 1, true); /* and others get in */
    for (u32 i = 0; i < 60000; i++) {
        pass(1);
        count_out();
    }
    assert_int_equal(tcp_timers(), ~0u); /* the half open ones are gone */
}

/* ---- loss, one at a time */

static void timeouts(void **state) {
    u64 at[12], began;
    u32 n = 0;

    (void)state;
    start(true);
    u32 seq = connect();
    tcp_write(users[0].t, file, 100, &file_users);
    wire_turn();
    began = wire.now_ms;
    assert_int_equal(count_out(), 1);
    while (!users[0].lost && wire.now_ms - began < 400000) {
        pass(1);
        for (const struct sent *a; (a = wire_take()); n++) {
            assert_int_equal(a->seq, seq);
            assert_int_equal(a->length, 100);
            assert_true(n < 12);
            at[n] = wire.now_ms;
        }
    }
    assert_int_equal(n, RETRIES);
    for (u32 i = 2; i < n; i++) /* each twice the one before, to the slots of the timer */
        assert_in_range(at[i] - at[i - 1], (at[i - 1] - at[i - 2]) * 2 - 40, (at[i - 1] - at[i - 2]) * 2 + 40);
    assert_in_range(at[0] - began, RTO_LEAST, RTO_LEAST + 20);
    assert_true(users[0].lost);
    assert_int_equal(file_users, 0);
}

static void lost_syn(void **state) {
    (void)state;
    start(true);
    s = (struct sent){.peer = PEER, .port = 4000, .seq = ISN, .flags = TCP_SYN, .window = 65535};
    wire_give(&s);
    wire_turn();
    u32 seq = wire_take()->seq;
    wire_give(&s); /* it did not get that */
    wire_turn();
    const struct sent *a = wire_take();
    assert_int_equal(a->flags, TCP_SYN | TCP_ACK);
    assert_int_equal(a->seq, seq);
    pass(RTO_FIRST + 20);
    a = wire_take();
    assert_int_equal(a->flags, TCP_SYN | TCP_ACK);
    nothing();
    /* the ACK is lost, data comes */
    reply(ISN + 1, seq + 1, TCP_ACK, "hi", 65535);
    assert_int_equal(users[0].used, 2);
}

/* What is sent again may reach beyond what was sent: what follows begins where it ends. */
static void resends_more_than_was_sent(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    reply(ISN + 1, seq, TCP_ACK, NULL, 1600);
    tcp_write(users[0].t, file, 1600, &file_users);
    wire_turn();
    assert_int_equal(count_out(), 2);
    tcp_write(users[0].t, file + 1600, 4400, &file_users); /* for which there is no room yet */
    for (u32 i = 0; i < 3; i++)
        reply(ISN + 1, seq, TCP_ACK, NULL, 1600);
    assert_int_equal(count_out(), 0); /* the first again, which the last reply gave */
    u32 end = 0, again = 0;
    for (const struct sent *a = reply(ISN + 1, seq + 1459, TCP_ACK, NULL, 65535); a; a = wire_take()) {
        u32 from = a->seq - seq;
        assert_true(from + a->length <= 6000);
        assert_memory_equal(a->data, file + from, a->length);
        again += from == 1459 && from + a->length > 1600;
        end = from + a->length > end ? from + a->length : end;
    }
    assert_int_equal(again, 1);
    assert_true(end > 2919);
    reply(ISN + 1, seq + end, TCP_ACK, NULL, 65535);
    count_out();
    tcp_abort(users[0].t);
    gone(&users[0]);
    count_out();
    assert_int_equal(file_users, 0);
}

static void fast_retransmit(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    tcp_write(users[0].t, file, 100000, &file_users);
    wire_turn();
    assert_int_equal(count_out(), 10); /* RFC 6928 */
    struct tcp *t = users[0].t;
    assert_null(reply(ISN + 1, seq, TCP_ACK, NULL, 65534)); /* another window: no duplicate */
    for (u32 i = 10; i < 12; i++) { /* RFC 3042: a new one for each */
        assert_int_equal(reply(ISN + 1, seq, TCP_ACK, NULL, 65534)->seq, seq + i * TCP_MSS);
        nothing();
    }
    const struct sent *a = reply(ISN + 1, seq, TCP_ACK, NULL, 65534);
    assert_int_equal(a->seq, seq);
    assert_int_equal(a->length, TCP_MSS);
    assert_memory_equal(a->data, file, TCP_MSS);
    assert_int_equal(t->ssthresh, 6 * TCP_MSS);
    count_out();
    /* a part of it: the next hole is filled at once (RFC 6582) */
    a = reply(ISN + 1, seq + 3 * TCP_MSS, TCP_ACK, NULL, 65534);
    assert_int_equal(a->seq, seq + 3 * TCP_MSS);
    count_out();
    assert_true(t->recovering);
    reply(ISN + 1, t->recover, TCP_ACK, NULL, 65534);
    assert_false(t->recovering);
    assert_true(t->cwnd <= 6 * TCP_MSS);
}

static void closed_window(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    assert_null(reply(ISN + 1, seq, TCP_ACK, "x", 0));
    tcp_write(users[0].t, file, 5000, &file_users);
    wire_turn();
    const struct sent *a = wire_take();
    assert_true(!a || !a->length);
    u32 probes = 0;
    for (u32 i = 0; i < 20000; i++) {
        pass(1);
        while ((a = wire_take()))
            if (a->length) {
                assert_int_equal(a->length, 1);
                assert_int_equal(a->seq, seq);
                probes++;
                wire_give(&(struct sent){.peer = PEER, .port = 4000, .seq = ISN + 2, .ack = seq, .flags = TCP_ACK});
            }
    }
    assert_in_range(probes, 4, 8);
    assert_false(users[0].lost);
    /* it takes the byte, then opens a little, then all */
    a = reply(ISN + 2, seq + 1, TCP_ACK, NULL, 1000);
    assert_int_equal(a->seq, seq + 1);
    assert_int_equal(a->length, 1000);
    assert_memory_equal(a->data, file + 1, 1000);
    nothing();
    a = reply(ISN + 2, seq + 1001, TCP_ACK, NULL, 65535);
    assert_int_equal(a->seq, seq + 1001);
    assert_int_equal(count_out(), 2);
    assert_null(reply(ISN + 2, seq + 5000, TCP_ACK, NULL, 65535));
    assert_int_equal(file_users, 0);
}

static void our_window(void **state) {
    static char data[1461];
    u32 at = ISN + 1;
    const struct sent *a = NULL;

    (void)state;
    memset(data, 'a', 1460);
    start(true);
    u32 seq = connect();
    users[0].hold = true;
    users[0].used = 0;
    for (u32 i = 0; i < 2; i++, at += 1460)
        a = reply(at, seq, TCP_ACK, data, 65535);
    assert_int_equal(a->ack, at); /* every second full one */
    assert_int_equal(a->window, TCP_WINDOW - 2 * 1460);
    a = reply(at + 10, seq, TCP_ACK, "early", 65535); /* too early: what is missing is asked for */
    assert_int_equal(a->ack, at);
    assert_int_equal(users[0].used, 2 * 1460);
    tcp_consumed(users[0].t, 2 * 1460); /* opens by two segments: told at once */
    wire_turn();
    a = wire_take();
    assert_int_equal(a->window, TCP_WINDOW);
    /* more than the window is cut */
    users[0].used = 0;
    struct tcp *t = users[0].t;
    t->unread = TCP_WINDOW - 100;
    wire_turn();
    t->ack_now = true;
    tcp_set_dirty(t);
    wire_turn();
    assert_int_equal(wire_take()->window, 100);
    a = reply(at, seq, TCP_ACK | TCP_FIN, data, 65535);
    assert_int_equal(users[0].used, 100);
    assert_int_equal(a->window, 0);
    assert_false(users[0].ended);
}

static void delayed_ack(void **state) {
    (void)state;
    start(true);
    u32 seq = connect();
    assert_null(reply(ISN + 1, seq, TCP_ACK, "half a request", 65535));
    pass(ACK_DELAY - 10);
    nothing();
    pass(30);
    assert_int_equal(wire_take()->ack, ISN + 15);
    nothing();
    assert_int_equal(reply(ISN + 1, seq, TCP_ACK, "half a request", 65535)->ack, ISN + 15); /* sent again */
}

/* A device that takes nothing for a while: nothing is lost, nobody is forgotten. */
static void full_device(void **state) {
    (void)state;
    start(true);
    u32 seq = connect(), seq2 = connect_from(PEER, 4001, true);
    wire.room = 3;
    wire.blocked = true;
    wire_turn();
    tcp_write(users[0].t, file, 14000, NULL);
    tcp_write(users[1].t, file, 14000, NULL);
    assert_false(tcp_flush());
    assert_int_equal(count_out(), 3);
    wire.blocked = false;
    assert_true(tcp_flush());
    u32 first = 3 * TCP_MSS, second = 0;
    for (const struct sent *a; (a = wire_take());) {
        u32 *got = a->port == 4000 ? &first : &second;
        assert_int_equal(a->seq, (a->port == 4000 ? seq : seq2) + *got);
        *got += a->length;
    }
    assert_int_equal(first, 14000);
    assert_int_equal(second, 14000);
}

/* ---- a bad wire: whole exchanges, many of them */

static u32 seed;

static u32 chance(void) { return (seed = seed * 1664525 + 1013904223) >> 16 & 0xff; }

#define DELAYED 512
static struct {
    struct sent s;
    u64 at;
    bool used;
} way[2][DELAYED]; /* to the server, to the peer */

static void put_on_way(u32 which, const struct sent *what, u32 badness) {
    u32 copies = chance() < badness ? chance() % 3 : 1; /* lost, once, twice */

    while (copies--)
        for (u32 i = 0; i < DELAYED; i++)
            if (!way[which][i].used) {
                way[which][i].s = *what;
                way[which][i].used = true;
                way[which][i].at = wire.now_ms + 1 + (chance() < badness ? chance() % 60 : 0);
                break;
            }
}

struct peer {
    u16 port;
    u32 state; /* 0: SYN sent, 1: connected, 2: done */
    u32 seq, una, ack; /* next to send, not acknowledged before, next expected */
    u32 base;          /* of the file in the server's numbers */
    u32 want, received; /* bytes */
    u8 early[200000]; /* which have arrived */
    u64 sent_at;
    bool finished;
    u16 window;
};

static void peer_send(struct peer *p, u8 flags, const char *data, u32 badness) {
    struct sent out = {.peer = PEER, .port = p->port, .seq = p->una, .ack = p->ack, .flags = flags,
                       .window = p->window, .length = data ? (u32)strlen(data) : 0};

    if (data)
        memcpy(out.data, data, out.length);
    if (flags & TCP_SYN) {
        out.options_length = 8;
        memcpy(out.options, (u8[]){2, 4, 5, 0xb4, 1, 3, 3, 0}, 8);
    }
    put_on_way(0, &out, badness);
    p->sent_at = wire.now_ms;
}

static void peer_speak(struct peer *p, u32 badness) {
    if (p->state == 0)
        peer_send(p, TCP_SYN, NULL, badness);
    else if (p->una == ISN + 1)
        peer_send(p, TCP_ACK | TCP_PSH, "GET", badness);
    else if (p->finished)
        peer_send(p, TCP_ACK | TCP_FIN, NULL, badness);
    else
        peer_send(p, TCP_ACK, NULL, badness);
}

static void peer_hear(struct peer *p, const struct sent *a, u32 badness) {
    assert_false(a->flags & TCP_RST);
    if (p->state == 0 && (a->flags & TCP_SYN)) {
        p->state = 1;
        p->una = ISN + 1;
        p->ack = p->base = a->seq + 1;
        peer_speak(p, badness);
        return;
    }
    if (p->state != 1)
        return;
    if (a->ack == ISN + 4 && p->una == ISN + 1)
        p->una = ISN + 4;
    if (p->finished && a->ack == ISN + 5)
        p->state = 2;
    u32 at = a->seq - p->base;
    assert_true((s32)(a->seq - p->base) < (s32)p->want + 2 || (a->flags & TCP_SYN));
    for (u32 i = 0; i < a->length; i++) {
        assert_int_equal(a->data[i], file[at + i]);
        p->early[at + i] = 1;
    }
    if ((a->flags & TCP_FIN))
        p->early[at + a->length] = 1;
    while (p->ack - p->base <= p->want && p->early[p->ack - p->base])
        p->ack++;
    if (p->ack - p->base == p->want + 1)
        p->finished = true;
    p->window = chance() < badness / 4 ? 0 : 20000;
    if (a->length || (a->flags & (TCP_FIN | TCP_SYN)) || p->finished)
        peer_speak(p, badness);
}

static void serve_users(u32 want) {
    for (u32 i = 0; i < NET_CONNECTIONS && open_users; i++) {
        struct user *u = &users[i];
        if (!u->t)
            continue;
        if (u->used == 3 && u->acknowledged == 0 && !u->hold) {
            u->hold = true; /* answered */
            for (u32 at = 0; at < want;) {
                u32 part = want - at < 7001 ? want - at : want > 100000 ? want - at : 7001;
                u32 taken = tcp_write(u->t, file + at, part, &file_users);
                if (!taken)
                    taken = tcp_write(u->t, file + at, part, &file_users);
                assert_int_equal(taken, part);
                at += taken;
            }
            tcp_finish(u->t);
        }
        if (u->ended) {
            tcp_close(u->t);
            gone(u);
        }
    }
}

static void exchange(u32 badness, u32 want, bool checksum) {
    static struct peer peers[3];
    u32 left = 3;

    start(checksum);
    memset(peers, 0, sizeof peers);
    memset(way, 0, sizeof way);
    for (u32 i = 0; i < 3; i++) {
        peers[i].port = (u16)(5000 + i);
        peers[i].want = want;
        peers[i].una = ISN;
        peers[i].window = 20000;
        peer_speak(&peers[i], badness);
    }
    for (u32 ms = 0; left; ms++) {
        assert_true(ms < 4000000);
        wire.now_ms++;
        for (u32 i = 0; i < DELAYED; i++) {
            if (way[0][i].used && way[0][i].at <= wire.now_ms) {
                way[0][i].used = false;
                wire_give(&way[0][i].s);
            }
            if (way[1][i].used && way[1][i].at <= wire.now_ms) {
                way[1][i].used = false;
                peer_hear(&peers[way[1][i].s.port - 5000], &way[1][i].s, badness);
            }
        }
        tcp_clock();
        while (tcp_receive(64))
            ;
        serve_users(want);
        tcp_timers();
        tcp_flush();
        for (const struct sent *a; (a = wire_take());)
            put_on_way(1, a, badness);
        left = 0;
        for (u32 i = 0; i < 3; i++)
            if (peers[i].state != 2) {
                left++;
                if (wire.now_ms - peers[i].sent_at > 300)
                    peer_speak(&peers[i], badness);
            }
    }
    for (u32 i = 0; i < 3; i++)
        assert_int_equal(peers[i].ack - peers[i].base, want + 1);
    assert_int_equal(open_users, 0);
    pass(ORPHAN_MS + 5000);
    count_out();
    assert_int_equal(file_users, 0);
    assert_int_equal(tcp_timers(), ~0u);
}

static void bad_wire(void **state) {
    (void)state;
    for (u32 round = 0; round < 40; round++) {
        seed = round + 1;
        exchange(round % 4 * 20, round % 3 == 0 ? 1 : round % 3 == 1 ? 50000 : 150000, round & 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums), cmocka_unit_test(header_sums), cmocka_unit_test(request_and_answer), cmocka_unit_test(peer_closes),
        cmocka_unit_test(server_closes), cmocka_unit_test(simultaneous_close), cmocka_unit_test(abandoned),
        cmocka_unit_test(refused), cmocka_unit_test(damaged), cmocka_unit_test(ip_options), cmocka_unit_test(blind_attacks),
        cmocka_unit_test(flood), cmocka_unit_test(timeouts), cmocka_unit_test(lost_syn),
        cmocka_unit_test(fast_retransmit), cmocka_unit_test(resends_more_than_was_sent), cmocka_unit_test(closed_window), cmocka_unit_test(our_window),
        cmocka_unit_test(delayed_ack), cmocka_unit_test(full_device), cmocka_unit_test(bad_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
