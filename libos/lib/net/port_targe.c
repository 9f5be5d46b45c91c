/* A port on Targe, see port_targe.h.
 *
 * Receiving needs no call: the kernel fills posted entries of the ring, and an entry is posted
 * again, with the same buffer, as soon as its frame has been handled, or, when many wait, copied
 * into the backlog. Sending gathers frames and
 * hands them over together. The device reads what is not headers in place, page by page, so every
 * piece is cut at page ends. A frame that would have too many pieces is copied into a page of ours,
 * and that page is used again when the page array says that the device has let go of it. */
#include "net/port_targe.h"
#include "base/condition.h"
#include "base/memory.h"
#include "machine/machine.h"
#include "net/backlog.h"
#include "rt.h"

#define BATCH 32 /* frames in one flow_send */
#define SPARES 32 /* pages for frames that have to be copied */
#define BUFFER (RT_PAGE / 2)
#ifndef NET_CONNECTIONS /* lwIP is built with the same value */
#define NET_CONNECTIONS 2048
#endif
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
    u8 *spare;
    u32 spare_page; /* number of the first */
    u32 next_spare;
    struct backlog backlog;
} targe;

/* ---- sending */

static bool in_shared(const u8 *at) {
    return (u64)(at - targe.config.shared) < targe.config.shared_bytes;
}

/* Cuts bytes into pieces of one page each; false: there is no room for them. */
static bool add_pieces(struct send *s, const u8 *at, u32 length) {
    while (length) {
        u32 offset = (u32)((u64)at % RT_PAGE);
        u32 part = length < RT_PAGE - offset ? length : (u32)RT_PAGE - offset;
        if (s->pieces == SEND_PIECES)
            return false;
        bool shared = in_shared(at);
        u32 page = shared ? targe.config.shared_cap->name +
                                (u32)((u64)(at - targe.config.shared) / RT_PAGE)
                          : memory_page_of(at);
        s->piece[s->pieces++] =
            (struct piece){.page = page, .offset = (u16)offset, .length = (u16)part,
                           .cap = shared ? (u64)targe.config.shared_cap : 0};
        at += part;
        length -= part;
    }
    return true;
}

/* A page of ours that no device is reading, or NULL. */
static u8 *free_spare(void) {
    u32 i = targe.next_spare;
    const volatile struct page *page = &machine_pages()[targe.spare_page + i];

    if ((u16)(page->state >> 16))
        return NULL; /* pinned; those after it were used later still */
    targe.next_spare = (i + 1) % SPARES;
    return targe.spare + i * RT_PAGE;
}

static bool gather(struct send *s, const struct port_frame *frame) {
    u8 *page = free_spare();
    u32 used = 0;

    if (!page)
        return false;
    for (u32 i = 0; i < frame->pieces; i++) {
        if (frame->piece[i].length > RT_PAGE - used)
            return false;
        memcpy(page + used, frame->piece[i].data, frame->piece[i].length);
        used += frame->piece[i].length;
    }
    s->pieces = 0;
    return add_pieces(s, page, used);
}

static bool targe_send(struct port *port, const struct port_frame *frame) {
    u32 i = targe.queued;

    (void)port;
    if (i == BATCH)
        return false;
    struct send *s = &targe.batch[i];
    memcpy(targe.headers[i], frame->headers, frame->header_length);
    s->headers = (u64)targe.headers[i];
    s->length = frame->header_length;
    s->checksum_start = frame->checksum_start;
    s->checksum_offset = frame->checksum_offset;
    s->pieces = 0;
    bool fits = true;
    for (u32 k = 0; k < frame->pieces && fits; k++)
        fits = add_pieces(s, frame->piece[k].data, frame->piece[k].length);
    if (!fits && !gather(s, frame))
        return false;
    targe.queued++;
    return true;
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
    const struct ring_entry *entry = &targe.ring->entry[targe.consumed % RING_ENTRIES];

    *length = entry->length < BUFFER ? entry->length : (u32)BUFFER;
    *verified = entry->flags & 1;
    return targe.buffers + targe.consumed % RING_ENTRIES * BUFFER;
}

/* Gives its buffer back. */
static void post_oldest(void) {
    targe.consumed++;
    __atomic_store_n(&targe.ring->posted, targe.consumed + RING_ENTRIES, __ATOMIC_RELEASE);
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

    (void)port;
    for (; count < budget; count++) {
        if (waiting() > RING_ENTRIES / 8)
            empty_ring();
        u8 *frame = backlog_take(&targe.backlog, &length, &verified);
        if (frame) {
            receiver(context, frame, length, verified);
        } else if (waiting()) {
            frame = oldest(&length, &verified);
            receiver(context, frame, length, verified);
            post_oldest();
        } else {
            break;
        }
    }
    return count;
}

static u64 ticks_per_ms(void) {
    static u64 ticks; /* the clock's rate does not change; reading it once is cheaper */

    if (!ticks)
        ticks = machine_info()->tsc_hz / 1000;
    return ticks;
}

static u64 targe_now_ms(struct port *port) {
    (void)port;
    return (rt_tsc() - machine_info()->boot_tsc) / ticks_per_ms();
}

void port_targe_wait(u32 ms) {
    u64 deadline = ms == ~0u ? NEVER : rt_tsc() + ms * ticks_per_ms();

    sys_sleep(deadline, &targe.ring->filled, targe.consumed);
}

/* ---- binding */

static s64 bind_flow(const struct flow *flow, u32 ring_page, u32 first_buffer) {
    static struct flow_binding binding;
    static u32 pages[RING_PAGES];

    for (u32 i = 0; i < RING_PAGES; i++)
        pages[i] = first_buffer + i;
    condition_from(&binding.filter, &flow->receive);
    binding.pages = (u64)pages;
    binding.count = RING_PAGES;
    binding.ring = ring_page;
    binding.entries = RING_ENTRIES;
    return sys_flow_bind(targe.config.flow, &binding);
}

s64 port_targe_open(const struct port_targe_config *config, struct port **port) {
    const struct flow *flow = machine_flow(config->flow->name);
    u32 ring_page, first_buffer;

    static u8 backlog[BACKLOG] __attribute__((aligned(8)));

    targe.config = *config;
    targe.backlog = (struct backlog){.bytes = backlog, .size = BACKLOG};
    targe.ring = memory_alloc_run(1, &ring_page);
    targe.buffers = memory_alloc_run(RING_PAGES, &first_buffer);
    targe.spare = memory_alloc_run(SPARES, &targe.spare_page);
    if (!flow || !targe.ring || !targe.buffers || !targe.spare)
        return E_LIMIT;
    for (u32 i = 0; i < RING_ENTRIES; i++)
        targe.ring->entry[i].buffer = (u16)i;
    targe.ring->posted = RING_ENTRIES;
    s64 error = bind_flow(flow, ring_page, first_buffer);
    machine_forget();
    if (error)
        return error;
    targe.port = (struct port){.checksum = config->checksum, .send = targe_send,
                               .flush = targe_flush, .receive = targe_receive,
                               .now_ms = targe_now_ms};
    memcpy(targe.port.mac, config->mac, sizeof targe.port.mac);
    *port = &targe.port;
    return 0;
}
