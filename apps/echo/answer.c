/* The handler of apps/echo, downloaded into the kernel: adds one to the counter with which a UDP datagram
 * begins, and sends it back. What it does not take goes to the library OS. */
#include "code/program.h"

/* In the memory that it shares with the library OS. */
struct memory {
    u64 answered; /* by the handler; published */
};

#define IP 14
#define ADDRESSES 26 /* from, to */
#define UDP 34
#define COUNTER 42
#define REST 50
#define MOST 192  /* bytes of a frame that is answered */
#define USUAL 60  /* bytes of data for which there is a shorter way */

#define INLINE static __attribute__((always_inline))
#define at(type, base, offset) (*(type *)((base) + (offset)))

/* Of a sum of 32-bit words: one's complement, 16 bits. */
INLINE u16 fold(u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (u16)((sum & 0xffff) + (sum >> 16));
}

/* Copies so many bytes of data and gives their sum. */
INLINE u64 copy_usual(u8 *to, const u8 *from, u64 size) {
    u64 sum = 0;
#pragma unroll
    for (u64 n = 0; n < size; n += 4) {
        u32 word = at(u32, from, n);
        at(u32, to, n) = word;
        sum += word;
    }
    return sum;
}

INLINE u64 halves(u64 word) { return (word & 0xffffffff) + (word >> 32); }

PROGRAM("handler") u64 answer(const struct handler_context *c) {
    const u8 *q = c->packet;
    u8 *a = c->reply;
    struct memory *memory = (struct memory *)c->memory;

    if (c->packet_length < REST || c->reply_length < MOST || c->memory_length < sizeof *memory)
        return HANDLER_ABORT;
    /* The flow's filter has looked at protocol, address, port and fragments. */
    u64 total = from_big16(at(u16, q, IP + 2)), size = total - 28;
    if (q[6] & 1 || q[IP] != 0x45 || total < 36 || total > MOST - IP || total > c->packet_length - IP ||
        from_big16(at(u16, q, UDP + 4)) != total - 20 || at(u16, q, UDP) == at(u16, q, UDP + 2))
        return HANDLER_ABORT;

    /* One pass over the data, which are then in the answer: it counts only if all is well. */
    u64 sum;
    if (size == USUAL && c->packet_length >= COUNTER + USUAL)
        sum = copy_usual(a + REST, q + REST, USUAL - 8);
    else
        sum = from_big16((u16)copy(a + REST, q + REST, size - 8, 0));
    sum += (u64)at(u32, q, ADDRESSES) + at(u32, q, ADDRESSES + 4) + at(u32, q, UDP) + 2ull * at(u16, q, UDP + 4) +
           from_big16(17);
    u64 counter = at(u64, q, COUNTER), next = from_big64(from_big64(counter) + 1);
    u16 check = at(u16, q, UDP + 6);
    if (!c->checked && check && fold(sum + halves(counter) + check) != 0xffff)
        return HANDLER_ABORT;

    at(u32, a, 0) = at(u32, q, 6);
    at(u16, a, 4) = at(u16, q, 10);
    at(u32, a, 6) = at(u32, q, 0);
    at(u16, a, 10) = at(u16, q, 4);
    at(u64, a, 12) = at(u64, q, 12);
    at(u32, a, 20) = at(u32, q, 20);
    at(u16, a, 24) = at(u16, q, 24);
    at(u32, a, ADDRESSES) = at(u32, q, ADDRESSES + 4); /* exchanged: the header's checksum stays right */
    at(u32, a, ADDRESSES + 4) = at(u32, q, ADDRESSES);
    at(u16, a, UDP) = at(u16, q, UDP + 2);
    at(u16, a, UDP + 2) = at(u16, q, UDP);
    check = (u16)~fold(sum + halves(next));
    at(u16, a, UDP + 4) = at(u16, q, UDP + 4);
    at(u16, a, UDP + 6) = check ? check : 0xffff;
    at(u64, a, COUNTER) = next;
    send(IP + total);
    publish(0, memory->answered + 1);
    return HANDLER_DONE;
}
