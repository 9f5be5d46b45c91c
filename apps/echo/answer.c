/* The handler of apps/echo, downloaded into the kernel: adds one to the counter with which a UDP datagram
 * begins, and sends it back. What it does not take goes to the library OS. */
#include "code/program.h"

#define IP 14
#define ADDRESSES 26 /* from, to */
#define UDP 34
#define COUNTER 42
#define REST 50
#define MOST 192  /* bytes of a frame that is answered */
#define USUAL 102 /* bytes of one with 60 bytes of data, which goes a shorter way */

#define INLINE static __attribute__((always_inline))
#define at(type, base, offset) (*(type *)((base) + (offset)))
#define big16(x) ((u64)((x) >> 8 | ((x) & 0xff) << 8)) /* of a constant */

/* Version, length of the header and of the packet, where they stand in the eight bytes from the type on. */
#define FORM(version, total) ((u64)(version) << 16 | big16(total) << 32)

/* Of a sum of 32-bit words: the checksum, which is never 0. One's complement is arithmetic modulo 0xffff. */
INLINE u16 checksum_of(u64 sum) { return (u16)(0xffff - sum % 0xffff); }

/* Copies the usual data, so many bytes at a time, and gives the sum of what was copied if these are 4. */
INLINE u64 copy_usual(u8 *a, const u8 *q, u64 step) {
    u64 sum = at(u32, a, REST) = at(u32, q, REST);
#pragma unroll
    for (u64 n = REST + 4; n < USUAL; n += step) {
        if (step == 8)
            at(u64, a, n) = at(u64, q, n);
        else
            sum += at(u32, a, n) = at(u32, q, n);
        __asm__ volatile("" : "+r"(sum) : : "memory"); /* one after the other: there are not so many registers */
    }
    return sum;
}

PROGRAM("handler") u64 answer(const struct handler_context *c) {
    const u8 *q = c->packet;
    u8 *a = c->reply;
    u64 length = c->packet_length, total = USUAL - IP;

    if (length < REST || c->reply_length < MOST || q[6] & 1)
        return HANDLER_ABORT;
    /* The flow's filter has looked at protocol, address, port and fragments. */
    u64 form = at(u64, q, 12);
    u64 bytes = at(u16, q, UDP + 4), sum;
    u64 whole = at(u16, q, UDP + 6) ? c->checked : 0; /* the device vouches for a checksum that need not be there */
    if (length >= USUAL && (form & FORM(0xff, 0xffff)) == FORM(0x45, USUAL - IP) && bytes == big16(USUAL - UDP)) {
        if (whole)
            sum = copy_usual(a, q, 4);
        else
            copy_usual(a, q, 8);
    } else {
        total = from_big16(at(u16, q, IP + 2));
        if (q[IP] != 0x45 || total < 36 || total > MOST - IP || total > length - IP || from_big16((u16)bytes) != total - 20)
            return HANDLER_ABORT;
        sum = from_big16((u16)copy(a + REST, q + REST, total - 36, 0));
    }

    u64 from = at(u16, q, UDP), to = at(u16, q, UDP + 2), counter = from_big64(at(u64, q, COUNTER)) + 1;
    if (from == to || !counter)
        return HANDLER_ABORT;
    at(u32, a, 0) = at(u32, q, 6);
    at(u16, a, 4) = at(u16, q, 10);
    at(u32, a, 6) = at(u32, q, 0);
    at(u16, a, 10) = at(u16, q, 4);
    at(u64, a, 12) = form;
    at(u32, a, 20) = at(u32, q, 20);
    at(u16, a, 24) = at(u16, q, 24);
    at(u32, a, ADDRESSES) = at(u32, q, ADDRESSES + 4); /* exchanged: checksums stay right */
    at(u32, a, ADDRESSES + 4) = at(u32, q, ADDRESSES);
    at(u16, a, UDP) = (u16)to;
    at(u16, a, UDP + 2) = (u16)from;
    at(u16, a, UDP + 4) = (u16)bytes;
    at(u64, a, COUNTER) = from_big64(counter);

    /* Else one more in the data is one less in the checksum: in one's complement a carry from one word to the next
     * changes nothing. So a datagram that came damaged goes back damaged, and one without a checksum (0) without. */
    if (whole) {
        sum += (u64)at(u32, q, ADDRESSES) + at(u32, q, ADDRESSES + 4) + at(u32, q, UDP) + 2 * bytes + big16(17);
        at(u16, a, UDP + 6) = checksum_of(sum + at(u32, a, COUNTER) + at(u32, a, COUNTER + 4));
    } else {
        u64 check = from_big16(at(u16, q, UDP + 6));
        at(u16, a, UDP + 6) = from_big16((u16)(check > 1 ? check - 1 : check ? 0xffff : 0));
    }
    send(IP + total);
    return HANDLER_DONE;
}
