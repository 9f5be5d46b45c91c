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
    struct port port; /* what the users of this file see */
    struct port_targe_config config;
    struct ring *ring;
    u64 consumed; /* entries handled */
    u8 *buffers;
    struct send batch[BATCH];
    u8 headers[BATCH][SEND_HEADERS];
    u32 first, queued; /* batch[first .. queued] waits to be sent */
    struct known {
        u64 va; /* in pages */
        u32 page;
    } known[KNOWN];
    struct backlog backlog;
    u64 boot_tsc, ticks_per_ms; /* they do not change */
} targe;

/* ---- sending */

/* The number of the page behind an address of ours. Asking the page tables is slow, and what is sent lies in the
 * same few pages again and again; our mappings do not change. */
static u32 page_of(const u8 *at) {
    u64 va = (u64)at / RT_PAGE;
    struct known *k = &targe.known[va % KNOWN];

    if (k->va != va)
        *k = (struct known){va, memory_page_of(at)};
    return k->page;
}

static bool targe_begin(struct port *port) {
    struct send *s = &targe.batch[targe.queued];

    if (targe.queued == BATCH)
        return false;
    port->headers = targe.headers[targe.queued];
    s->pieces = 0;
    return true;
}

/* Cuts bytes into pieces of one page each. */
static u32 targe_add(struct port *port, const void *data, u32 length) {
    struct send *s = &targe.batch[targe.queued];
    u32 done = 0;

    (void)port;
    while (done < length && s->pieces < SEND_PIECES) {
        const u8 *at = (const u8 *)data + done;
        u32 offset = (u32)((u64)at % RT_PAGE), left = (u32)RT_PAGE - offset;
        u32 part = length - done < left ? length - done : left;
        struct piece *p = &s->piece[s->pieces++];
        u64 in_shared = (u64)(at - targe.config.shared);
        bool shared = in_shared < targe.config.shared_bytes;
        p->page = shared ? targe.config.shared_cap->name + (u32)(in_shared / RT_PAGE) : page_of(at);
        p->offset = (u16)offset;
        p->length = (u16)part;
        p->cap = shared ? (u64)targe.config.shared_cap : 0;
        done += part;
    }
    return done;
}

static void targe_end(struct port *port, u32 header_length, u32 sum_start, u32 sum_offset) {
    struct send *s = &targe.batch[targe.queued];

    (void)port;
    s->headers = (u64)targe.headers[targe.queued++];
    s->length = (u16)header_length;
    s->checksum_start = (u16)sum_start;
    s->checksum_offset = (u16)sum_offset;
}

static bool targe_flush(struct port *port) {
    (void)port;
    while (targe.first < targe.queued) {
        s64 sent = sys_flow_send(targe.config.flow, &targe.batch[targe.first],
                                 targe.queued - targe.first);
        if (sent == E_FULL || sent == 0)
            return false;
        /* any other error concerns the first frame alone: it is lost, as on any network */
        targe.first += sent > 0 ? (u32)sent : 1;
    }
    targe.first = targe.queued = 0;
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

/* A frame is handled where the kernel put it, unless so many wait that the ring could run full
 * before they have been handled: then they go into the backlog, and those after them too until it is empty
 * again, so that all stay in order. */
static u32 targe_receive(struct port *port, port_receiver *receiver, void *context, u32 budget) {
    u32 count = 0, length;
    bool verified;
    u8 *frame;

    (void)port;
    for (; count < budget; count++) {
        u64 ready = waiting();
        if (ready <= ENTRIES / 8 && backlog_empty(&targe.backlog)) { /* as it mostly is */
            if (!ready)
                break;
            frame = oldest(&length, &verified);
            receiver(context, frame, length, verified);
            post_oldest();
            continue;
        }
        if (ready > ENTRIES / 8)
            empty_ring();
        frame = backlog_take(&targe.backlog, &length, &verified);
        if (frame)
            receiver(context, frame, length, verified);
    }
    return count;
}

static u64 targe_now_ms(struct port *port) {
    (void)port;
    return (rt_tsc() - targe.boot_tsc) / targe.ticks_per_ms;
}

/* ---- binding */

s64 port_targe_open(const struct port_targe_config *config, struct port **port) {
    static u8 backlog[BACKLOG] __attribute__((aligned(8)));

    targe.config = *config;
    targe.boot_tsc = machine_info()->boot_tsc;
    targe.ticks_per_ms = machine_info()->tsc_hz / 1000;
    targe.backlog = (struct backlog){.bytes = backlog, .size = BACKLOG};
    s64 error = ring_open(config->flow, ENTRIES, &targe.ring, &targe.buffers);
    machine_forget();
    if (error)
        return error;
    targe.port = (struct port){.checksum = config->checksum, .begin = targe_begin,
                               .add = targe_add, .end = targe_end, .flush = targe_flush,
                               .receive = targe_receive, .now_ms = targe_now_ms};
    memcpy(targe.port.mac, config->mac, sizeof targe.port.mac);
    *port = &targe.port;
    return 0;
}
