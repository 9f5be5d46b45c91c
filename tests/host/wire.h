/* A port without a device, and segments to and from it, for tests of TCP. */
#pragma once
#include "net/port.h"
#include "tcp/segment.h"

#define WIRE_FRAMES 4096
#define WIRE_ADDRESS 0x0f02000au /* 10.0.2.15 */
#define WIRE_PORT 80
#define WIRE_FRAME 1600

/* A segment in host byte order, as a test wants it or as the server sent it. */
struct sent {
    u32 peer; /* address, host byte order */
    u16 port; /* the peer's */
    u32 seq, ack;
    u16 window;
    u8 flags;
    u8 options_length;
    u8 options[40];
    u32 length;
    u8 data[1460];
};

struct wire {
    u64 now_ms;
    u32 room; /* so many frames can be begun until the next flush; the device takes all then */
    bool blocked; /* it takes none */
    u32 begun;
    /* what the server has sent and nobody has looked at */
    struct sent out[WIRE_FRAMES];
    u32 out_first, out_last;
    /* what it will receive */
    u8 in[WIRE_FRAMES][WIRE_FRAME];
    u32 in_length[WIRE_FRAMES];
    u32 in_first, in_last;
};
extern struct wire wire;

/* Sums are left to the device, or not. */
void wire_init(bool checksum);
/* The next segment that the server has sent, or NULL. Its sums have been checked. */
const struct sent *wire_take(void);
/* Puts a segment on the way to the server; returns the frame, which may be damaged. */
u8 *wire_give(const struct sent *s);
/* tcp_clock, tcp_receive, tcp_timers, tcp_flush. */
void wire_turn(void);
