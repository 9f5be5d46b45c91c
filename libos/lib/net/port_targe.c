/* A port on Targe, see port_targe.h.
 *
 * Receiving needs no call: the kernel fills posted entries of the ring, and an entry is posted
 * again, with the same buffer, as soon as its frame has been handled, or, when many wait, copied
 * into the backlog. Sending gathers frames and
 * hands them over together. The device reads what is not headers in place, page by page, so every
 * piece is cut at page ends. */
#include "net/port_targe.h"
#include "base/ring.h"
#include "base/memory.h"
#include "machine/machine.h"
#include "net/backlog.h"
#include "rt.h"

#define BATCH 32 /* frames in one flow_send */
#define KNOWN 256 /* pages of which the number is remembered */
#ifndef NET_CONNECTIONS /* the TCP above is built with the same value */
#define NET_CONNECTIONS 2048
#endif
#define ENTRIES (NET_CONNECTIONS < RING_ENTRIES ? NET_CONNECTIONS : RING_ENTRIES) /* of the ring */
_Static_assert((ENTRIES & (ENTRIES - 1)) == 0, "a power of two");
#define BACKLOG (NET_CONNECTIONS * 512u) /* bytes: a request of each connection */

static struct {
    struct port_targe_config config;
    struct ring *ring;
    u64 consumed; /* entries handled */
    u8 *buffers;
    struct send batch[BATCH];
    u8 headers[BATCH][SEND_HEADERS];
    struct send *first, *next; /* what waits to be sent, from first to before next */
    struct known {
        u64 va; /* in pages */
        u32 page;
    } known[KNOWN];
    struct backlog backlog;
    u64 boot_tsc, ticks_per_ms; /* they do not change */
} targe;
struct port net_port;

/* ---- sending */

/* The number of the page behind an address of ours. Asking the page tables is slow, and what is sent lies in the
 * same few pages again and again; our mappings do not change. */
static __attribute__((noinline)) u32 ask_page_of(const u8 *at) {
    u64 va = (u64)at / RT_PAGE;
    struct known *k = &targe.known[va % KNOWN];

    *k = (struct known){va, memory_page_of(at)};
    return k->page;
}

static u32 page_of(const u8 *at) {
    u64 va = (u64)at / RT_PAGE;
    const struct known *k = &targe.known[va % KNOWN];

    return k->va == va ? k->page : ask_page_of(at);
}

bool port_begin(void) {
    struct send *s = targe.next;

    if (s == targe.batch + BATCH)
        return false;
    net_port.headers = (u8 *)s->headers;
    s->pieces = 0;
    return true;
}

/* Bytes of one page, as a piece. */
static void add_piece(struct piece *p, const u8 *at, u32 length) {
    u64 in_shared = (u64)(at - targe.config.shared);
    bool shared = in_shared < targe.config.shared_bytes;

    p->page = shared ? targe.config.shared_cap->name + (u32)(in_shared / RT_PAGE) : page_of(at);
    p->offset = (u16)((u64)at % RT_PAGE);
    p->length = (u16)length;
    p->cap = shared ? (u64)targe.config.shared_cap : 0;
}

/* Bytes of several pages, or more than there is room for. */
static __attribute__((noinline)) u32 add_pages(struct send *s, const u8 *at, u32 length) {
    u32 left = length;

    while (left && s->pieces < SEND_PIECES) {
        u32 room = (u32)(RT_PAGE - (u64)at % RT_PAGE), part = left < room ? left : room;
        add_piece(&s->piece[s->pieces++], at, part);
        at += part;
        left -= part;
    }
    return length - left;
}

u32 port_add(const void *data, u32 length) {
    struct send *s = targe.next;

    if (s->pieces == SEND_PIECES || length > RT_PAGE - (u64)data % RT_PAGE)
        return add_pages(s, data, length);
    add_piece(&s->piece[s->pieces++], data, length);
    return length;
}

void port_end(u32 header_length, u32 sum_start, u32 sum_offset) {
    struct send *s = targe.next++;

    s->length = (u16)header_length;
    s->checksum_start = (u16)sum_start;
    s->checksum_offset = (u16)sum_offset;
}

bool port_flush(void) {
    while (targe.first != targe.next) {
        s64 sent = sys_flow_send(targe.config.flow, targe.first, (u32)(targe.next - targe.first));
        if (sent == E_FULL || sent == 0)
            return false;
        /* any other error concerns the first frame alone: it is lost, as on any network */
        targe.first += sent > 0 ? sent : 1;
    }
    targe.first = targe.next = targe.batch;
    return true;
}

/* ---- receiving */

static u64 waiting(void) {
    return __atomic_load_n(&targe.ring->filled, __ATOMIC_ACQUIRE) - targe.consumed;
}

/* The oldest frame of the ring. The slot says which buffer it is: the one posted in it, always. */
static u8 *oldest(u32 *length, bool *verified) {
    const struct ring_entry *entry = &targe.ring->entry[targe.consumed % ENTRIES];

    *length = entry->length < RING_BUFFER ? entry->length : (u32)RING_BUFFER;
    *verified = entry->flags & 1;
    return targe.buffers + targe.consumed % ENTRIES * RING_BUFFER;
}

/* Gives its buffer back. */
static void post_oldest(void) {
    targe.consumed++;
    __atomic_store_n(&targe.ring->posted, targe.consumed + ENTRIES, __ATOMIC_RELEASE);
}

static void empty_ring(void) {
    u32 length;
    bool verified;

    while (waiting()) {
        const u8 *frame = oldest(&length, &verified);
        if (!backlog_put(&targe.backlog, frame, length, verified))
            return;
        post_oldest();
    }
}

/* The frame to be handled next, or NULL. It is handled where the kernel put it (*in_ring), unless so many wait
 * that the ring could run full before they have been handled: then they go into the backlog, and those after
 * them too until it is empty again, so that all stay in order. */
static u8 *next_frame(u32 *length, bool *verified, bool *in_ring) {
    u64 ready = waiting();

    *in_ring = ready <= ENTRIES / 8 && backlog_empty(&targe.backlog); /* as it mostly is */
    if (*in_ring)
        return ready ? oldest(length, verified) : NULL;
    if (ready > ENTRIES / 8)
        empty_ring();
    return backlog_take(&targe.backlog, length, verified);
}

u32 port_receive(u32 budget) {
    u32 count = 0, length;
    bool verified, in_ring;
    u8 *frame;

    for (; count < budget && (frame = next_frame(&length, &verified, &in_ring)); count++) {
        port_received(frame, length, verified);
        if (in_ring)
            post_oldest();
    }
    return count;
}

u64 port_now_ms(void) { return (rt_tsc() - targe.boot_tsc) / targe.ticks_per_ms; }

/* ---- binding */

s64 port_targe_open(const struct port_targe_config *config) {
    static u8 backlog[BACKLOG] __attribute__((aligned(8)));

    targe.config = *config;
    targe.boot_tsc = machine_info()->boot_tsc;
    targe.ticks_per_ms = machine_info()->tsc_hz / 1000;
    targe.first = targe.next = targe.batch;
    for (u32 i = 0; i < BATCH; i++)
        targe.batch[i].headers = (u64)targe.headers[i];
    targe.backlog = (struct backlog){.bytes = backlog, .size = BACKLOG};
    s64 error = ring_open(config->flow, ENTRIES, &targe.ring, &targe.buffers);
    machine_forget();
    if (error)
        return error;
    net_port.checksum = config->checksum;
    memcpy(net_port.mac, config->mac, sizeof net_port.mac);
    return 0;
}
