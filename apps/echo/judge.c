/* The predicate of apps/echo, downloaded into the kernel: the library OS is woken for nothing but a datagram with a
 * counter, from one whom an answer reaches. The flow's filter has looked at protocol, address, port and fragments. */
#include "code/program.h"

#define at(type, offset) (*(const type *)(packet + (offset)))

PROGRAM("predicate") u64 judge(const u8 *packet, u64 length) {
    if (length < 50)
        return 0;
    u64 total = from_big16(at(u16, 16));
    return !(packet[6] & 1) && packet[14] == 0x45 && total >= 36 && total <= length - 14 &&
           from_big16(at(u16, 38)) == total - 20 && at(u16, 34) != at(u16, 36);
}
