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

#define at(type, base, offset) (*(type *)((base) + (offset)))
#define big16(x) ((u64)((x) >> 8 | ((x) & 0xff) << 8)) /* of a constant */

/* Version, length of the header and of the packet, where they stand in the eight bytes from the type on. */
#define FORM(version, total) ((u64)(version) << 16 | big16(total) << 32)

PROGRAM("handler") u64 answer(const struct handler_context *c) {
    const u8 *q = c->packet;
    u8 *a = c->reply;
    u64 length = c->packet_length, total = USUAL - IP;

    if (length < REST || c->reply_length < MOST || q[6] & 1)
        return HANDLER_ABORT;
    /* The flow's filter has looked at protocol, address, port and fragments. What is stored of a frame that is not answered
     * nobody sees. */
    at(u64, a, 0) = at(u64, q, 6); /* and two bytes too many, here and at 6 and 20, before what belongs there */
    at(u64, a, 6) = at(u64, q, 0);
    at(u64, a, 20) = at(u64, q, 20);
    at(u32, a, ADDRESSES) = at(u32, q, ADDRESSES + 4); /* exchanged: checksums stay right */
    at(u32, a, ADDRESSES + 4) = at(u32, q, ADDRESSES);
    u64 from = at(u16, q, UDP), to = at(u16, q, UDP + 2), counter = from_big64(at(u64, q, COUNTER)) + 1;
    at(u16, a, UDP) = (u16)to;
    at(u16, a, UDP + 2) = (u16)from;
    at(u32, a, UDP + 4) = at(u32, q, UDP + 4);
    at(u64, a, COUNTER) = from_big64(counter);
    if (from == to || !counter)
        return HANDLER_ABORT;

    u64 form = at(u64, a, 12) = at(u64, q, 12), bytes = at(u16, q, UDP + 4);
    if (length >= USUAL && (form & FORM(0xff, 0xffff)) == FORM(0x45, USUAL - IP) && bytes == big16(USUAL - UDP)) {
#pragma unroll
        for (u64 n = REST; n < USUAL; n += 8) {
            u64 left = USUAL - n < 8 ? USUAL - 8 : n; /* the last eight begin earlier */
            at(u64, a, left) = at(u64, q, left);
            __asm__ volatile("" : : : "memory"); /* one after the other: there are not so many registers */
        }
    } else {
        total = from_big16(at(u16, q, IP + 2));
        if (q[IP] != 0x45 || total < 36 || total > MOST - IP || total > length - IP || from_big16((u16)bytes) != total - 20)
            return HANDLER_ABORT;
        copy(a + REST, q + REST, total - 36, 0);
    }

    /* The sum of the pseudo-header is the answer's too, and the device completes it again. */
    if (c->checked & PARTIAL) {
        send(IP + total, UDP, 6);
        return HANDLER_DONE;
    }
    /* Else one more in the data is one less in the checksum: in one's complement a carry from one word to the next
     * changes nothing. So a datagram that came damaged goes back damaged, and one without a checksum (0) without. */
    u64 check = from_big16(at(u16, a, UDP + 6));
    at(u16, a, UDP + 6) = from_big16((u16)(check > 1 ? check - 1 : check ? 0xffff : 0));
    send(IP + total, 0, 0);
    return HANDLER_DONE;
}
