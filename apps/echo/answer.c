/* The handler of apps/echo, downloaded into the kernel: adds one to the counter in a UDP datagram of 60
 * bytes, and sends it back. What is not such a datagram goes to the library OS. */
#include "code/program.h"

/* In the memory that it shares with the library OS. */
struct memory {
    u64 answered; /* by the handler; published */
};

#define ETHER_IP 14
#define UDP 34
#define COUNTER 42
#define FRAME 60

#define at(type, base, offset) (*(type *)((base) + (offset)))

/* Of a sum of 32-bit words: one's complement, 16 bits. */
static __attribute__((always_inline)) u16 fold(u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (u16)((sum & 0xffff) + (sum >> 16));
}

/* Addresses, ports, length, checksum and data lie side by side, which makes one sum of them. */
static __attribute__((always_inline)) u64 sum_datagram(const u8 *frame) {
    u64 sum = from_big16(17) + at(u16, frame, UDP + 4) + at(u16, frame, FRAME - 2);
#pragma unroll
    for (u64 i = 26; i < FRAME - 2; i += 4)
        sum += at(u32, frame, i);
    return sum;
}

PROGRAM("handler") u64 answer(const struct handler_context *c) {
    const u8 *q = c->packet;
    u8 *a = c->reply;
    struct memory *memory = (struct memory *)c->memory;

    if (c->packet_length != FRAME || c->reply_length < FRAME || c->memory_length < sizeof *memory)
        return HANDLER_ABORT;
    /* The flow's filter has looked at protocol, address, port and fragments. */
    if (q[6] & 1 || q[ETHER_IP] != 0x45 || at(u16, q, 16) != from_big16(FRAME - ETHER_IP) ||
        at(u16, q, UDP + 4) != from_big16(FRAME - UDP) || at(u16, q, UDP) == at(u16, q, UDP + 2))
        return HANDLER_ABORT;
    if (!c->checked && at(u16, q, UDP + 6) && fold(sum_datagram(q)) != 0xffff)
        return HANDLER_ABORT;

    at(u32, a, 0) = at(u32, q, 6);
    at(u16, a, 4) = at(u16, q, 10);
    at(u32, a, 6) = at(u32, q, 0);
    at(u16, a, 10) = at(u16, q, 4);
    at(u64, a, 12) = at(u64, q, 12);
    at(u32, a, 20) = at(u32, q, 20);
    at(u16, a, 24) = at(u16, q, 24);
    at(u32, a, 26) = at(u32, q, 30); /* exchanged, so that the checksum stays right */
    at(u32, a, 30) = at(u32, q, 26);
    at(u16, a, UDP) = at(u16, q, UDP + 2);
    at(u16, a, UDP + 2) = at(u16, q, UDP);
    at(u32, a, UDP + 4) = at(u16, q, UDP + 4); /* and 0 for the checksum */
    at(u64, a, COUNTER) = from_big64(from_big64(at(u64, q, COUNTER)) + 1);
    at(u64, a, 50) = at(u64, q, 50);
    at(u16, a, 58) = at(u16, q, 58);
    u16 sum = (u16)~fold(sum_datagram(a));
    at(u16, a, UDP + 6) = sum ? sum : 0xffff;

    send(FRAME);
    publish(0, memory->answered + 1);
    return HANDLER_DONE;
}
