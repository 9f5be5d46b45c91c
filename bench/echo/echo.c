/* echo: a library OS that sends each UDP datagram back (RFC 862), for `./targe bench network`.
 *
 * The answer is made where the request lies: addresses and ports change places, which leaves
 * checksums as they are. A frame of up to SEND_HEADERS bytes goes to the kernel as headers,
 * which it copies and checks, so the buffer is free again at once; longer ones are not answered. */
#include "base/ring.h"
#include "base/start.h"
#include "net/udp.h"

#define ENTRIES 32
#define BATCH 16

static struct send batch[BATCH];

/* Makes the answer of a request in its place; false: it deserves none. The flow's filter has
 * looked at protocol, address, port and fragmentation already. */
static bool answer(struct udp_frame *f, u32 length) {
    u32 total = __builtin_bswap16(f->length);

    if (length < sizeof *f || length > SEND_HEADERS || f->version_length != 0x45 ||
        total < sizeof *f - 14 || total > length - 14 || (f->from[0] & 1) ||
        f->from_port == f->to_port)
        return false;
    struct __attribute__((packed)) {
        u32 high;
        u16 low;
    } asker;
    u32 address = f->source;
    u16 port = f->from_port;
    __builtin_memcpy(&asker, f->from, 6);
    __builtin_memcpy(f->from, f->to, 6);
    __builtin_memcpy(f->to, &asker, 6);
    f->source = f->destination;
    f->destination = address;
    f->from_port = f->to_port;
    f->to_port = port;
    return true;
}

/* What the checksum begins with: addresses, protocol and length; RFC 768. */
static u16 pseudo_header(const struct udp_frame *f) {
    u64 sum = (u64)f->source + f->destination + ((u32)f->protocol << 8) + f->bytes;
    u32 half = (u32)sum + (u32)(sum >> 32); /* a carry comes in again at the other end */

    half += half < (u32)sum;
    return (u16)((half + (half << 16 | half >> 16)) >> 16);
}

/* A frame that the device has checked may have come with no full checksum, as between two
 * machines of one host: then the device makes it anew. */
static void fill(struct send *s, struct udp_frame *f, u16 length, bool checked) {
    s->headers = (u64)f;
    s->length = length;
    s->checksum_start = s->checksum_offset = 0;
    if (checked && f->sum) {
        f->sum = pseudo_header(f);
        s->checksum_start = offsetof(struct udp_frame, from_port);
        s->checksum_offset = offsetof(struct udp_frame, sum) - offsetof(struct udp_frame, from_port);
    }
}

static void serve(const struct cap *flow, struct ring *ring, u8 *buffers) {
    for (u64 consumed = 0;;) {
        u64 filled = __atomic_load_n(&ring->filled, __ATOMIC_ACQUIRE);
        struct send *next = batch;
        if (consumed == filled)
            sys_sleep(NEVER, (const u64 *)DELIVERIES, filled); /* this ring has all of them */
        for (; consumed != filled && next != batch + BATCH; consumed++) {
            u32 entry = consumed % ENTRIES, length = ring->entry[entry].length;
            u8 *at = buffers + entry * RING_BUFFER;
            if (answer((struct udp_frame *)at, length))
                fill(next++, (struct udp_frame *)at, (u16)length,
                     ring->entry[entry].flags & 1);
        }
        if (next != batch)
            sys_flow_send(flow, batch, (u32)(next - batch));
        __atomic_store_n(&ring->posted, consumed + ENTRIES, __ATOMIC_RELEASE);
    }
}

int main(void) {
    const struct start_item *item = start_item("flow", 0);
    struct ring *ring;
    u8 *buffers;

    if (!item)
        return 1;
    if (ring_open(&item->cap, ENTRIES, &ring, &buffers))
        return 2;
    serve(&item->cap, ring, buffers);
    return 0;
}
