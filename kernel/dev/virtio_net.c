/* The network device: virtio-net, with a queue to receive and one to send for each CPU, as far as it has so many
 * (those that have none of their own send through the first).
 *
 * Receiving is each CPU's own, in what it runs with interrupts off. Of the functions that send and
 * reclaim no two run at once: their callers in kernel/net hold one lock. There is no heap: every
 * buffer is taken at boot.
 *
 * The device is not believed. An identifier that it was not given, or a length that cannot be,
 * is counted in the trace and the entry is dropped; what it costs is the device's own
 * buffer or slot. Each call does a bounded amount of work, whatever the device claims. What the
 * kernel has to know later (which slots are in use) is not in memory that the device is told of.
 *
 * Receiving: descriptor n is for ever buffer n. When net_device_receive() has taken what there was, it asks for the
 * next interrupt and then looks once more: so a frame that came in between is found by the look, and one that
 * comes later interrupts.
 *
 * Sending: a frame has a slot: a table of descriptors, the device's header and the copied
 * headers. Where the device has indirect descriptors each of the ring's has a slot, else each that begins a row of
 * 1 + SEND_PIECES; a frame's number is that descriptor's. Nobody is interrupted when a frame has been sent: the next
 * that is sent or received collects it, or a tick of the clock, or who wants its pages back. */
#include "core/cpu.h"
#include "core/info.h"
#include "core/memory.h"
#include "dev/dev.h"
#include "dev/virtio.h"
#include "x86/io.h"

#define CHECKSUM (1ull << 0)
#define GUEST_CHECKSUM (1ull << 1)
#define MAC (1ull << 5)
#define STATUS (1ull << 16)
#define CONTROL (1ull << 17)
#define PAIRS (1ull << 22)

#define CLASS_ETHERNET 0x020000
#define BUFFER_BYTES 2048
#define FRAME_LEAST 14 /* an Ethernet header */
#define DESCRIPTORS (1 + SEND_PIECES)
#define MANY 16 /* frames that the device has to send: those that it has read are collected */

/* What stands before each frame, received or sent. */
struct header {
    u8 flags, segmentation;
    u16 header_bytes, segment_bytes, checksum_start, checksum_offset, buffers;
};
#define NEEDS_CHECKSUM 1
#define CHECKSUM_VALID 2

struct send_slot {
    struct descriptor table[DESCRIPTORS];
    u32 pad; /* the device reads the header and the headers as one */
    struct header header;
    struct net_room room;
} ALIGNED(64);

void (*net_device_interrupt)(u32 unused);
u32 net_device_pairs;

static struct virtio device;
static bool indirect;
static struct pair {
    struct virtqueue receive, send;
    struct cpu *own;         /* that it interrupts; NULL: it does not exist */
    u8 *buffers;             /* of receive.size */
    struct send_slot *slots; /* of send.size */
    u32 free_slots, plenty, first_frame; /* its frames' numbers begin there; while `plenty` are free, none are collected */
    u32 free_slot[QUEUE_SIZE]; /* a stack of free_slots numbers */
    bool in_use[QUEUE_SIZE];
} pairs[NET_PAIRS];

static struct pair *own(void) { return this_cpu()->net; }
static bool is_own(const struct pair *p) { return p->own == this_cpu(); }

static NOINLINE void nonsense(const char *what) {
    static bool said;
    this_cpu()->trace->nonsense++;
    if (!__atomic_exchange_n(&said, true, __ATOMIC_RELAXED))
        print("network: the device is not to be trusted: %s\n", what);
}

static void interrupt(u32 unused) {
    virtio_acknowledge(&device);
    net_device_interrupt(0);
}

/* ---------------------------------------------------------------- starting */
static void give_buffers(struct pair *p) {
    u32 count = p->receive.mask + 1;
    p->buffers = boot_pages(count * BUFFER_BYTES / PAGE_SIZE);
    for (u32 i = 0; i < count; i++) {
        p->receive.descriptor[i] = (struct descriptor){
            ptr_phys(p->buffers + i * BUFFER_BYTES).v, BUFFER_BYTES, DESCRIPTOR_WRITE, 0};
        queue_post(&p->receive, (u16)i);
    }
}

static void make_slots(struct pair *p) {
    u32 size = p->send.mask + 1, each = indirect ? 1 : DESCRIPTORS;
    p->slots = boot_pages((u32)(round_up(size * sizeof(*p->slots), PAGE_SIZE) / PAGE_SIZE));
    p->free_slots = 0;
    for (u32 head = 0; head + each <= size; head += each)
        p->free_slot[p->free_slots++] = head;
    p->plenty = p->free_slots - MANY + 1;
    memset(p->in_use, 0, sizeof(p->in_use));
    queue_interrupts(&p->send, false); /* once in 65536 frames the event is passed all the same: on MMIO that interrupts */
}

static bool make_pair(u32 n) {
    struct pair *p = &pairs[n];
    if (!virtio_queue(&device, 2 * n, &p->receive, (u16)n) ||
        !virtio_queue(&device, 2 * n + 1, &p->send, VIRTIO_QUIET))
        return false;
    make_slots(p);
    p->first_frame = n * QUEUE_SIZE;
    give_buffers(p);
    p->own = cpus[n];
    return true;
}

/* How many pairs there are for the CPUs; *most: the device has. */
static u32 count_pairs(u32 *most) {
    u16 there = 1;
    if (device.pci && (device.features & PAIRS) && (device.features & CONTROL))
        virtio_config(&device, 8, &there, sizeof(there));
    *most = there;
    u32 count = (u32)min_u64(min_u64(cpu_count, there), NET_PAIRS);
    return count ? count : 1;
}

/* Tells the device how many pairs to use: until it says yes, that is one. Asked once, so the queue is used no more. */
static bool use_pairs(struct virtqueue *control, u16 count) {
    struct { u8 class, command; u16 count; u8 answer; } *ask = boot_pages(1);
    *ask = (typeof(*ask)){.class = 4, .count = count, .answer = 0xff};
    phys at = ptr_phys(ask);
    control->descriptor[0] = (struct descriptor){at.v, 2, DESCRIPTOR_NEXT, 1};
    control->descriptor[1] = (struct descriptor){at.v + 2, 2, DESCRIPTOR_NEXT, 2};
    control->descriptor[2] = (struct descriptor){at.v + 4, 1, DESCRIPTOR_WRITE, 0};
    queue_post(control, 0);
    queue_notify(control);
    for (u32 i = 0; i < 100000000; i++) {
        if (queue_used(control, 1))
            return __atomic_load_n(&ask->answer, __ATOMIC_RELAXED) == 0;
        cpu_relax();
    }
    return false;
}

static u32 start(void) {
    static struct virtqueue control;
    u32 most;
    if (!virtio_find(&device, VIRTIO_NETWORK, CLASS_ETHERNET))
        return 0;
    u64 wanted = CHECKSUM | GUEST_CHECKSUM | STATUS | CONTROL | PAIRS | VIRTIO_INDIRECT |
                 VIRTIO_EVENT_INDEX | VIRTIO_ACCESS_PLATFORM | VIRTIO_ORDER_PLATFORM;
    bool good = virtio_negotiate(&device, VIRTIO_VERSION_1 | MAC, wanted);
    indirect = device.features & VIRTIO_INDIRECT;
    u32 count = good ? count_pairs(&most) : 0;
    void (*handler)(u32) = device.pci ? net_device_interrupt : interrupt;
    if (count > 1 && !virtio_interrupts(&device, handler, count))
        count = 1;
    good = good && (count > 1 || virtio_interrupts(&device, handler, 1));
    for (u32 i = 0; good && i < count; i++)
        good = make_pair(i);
    if (good && count > 1)
        good = virtio_queue(&device, 2 * most, &control, VIRTIO_QUIET);
    if (!good) {
        memset(pairs, 0, sizeof(pairs)); /* nobody sends by one that is not used */
        print("network: the device lacks what is needed\n");
        return 0;
    }
    virtio_start(&device);
    return count > 1 && !use_pairs(&control, (u16)count) ? 1 : count;
}

void net_device_init(void) {
    u16 link = 1;
    pci_init();
    net_device_pairs = start();
    for (u32 i = 0; i < cpu_count; i++)
        cpus[i]->net = &pairs[i < net_device_pairs ? i : 0];
    if (!net_device_pairs) {
        print("network: no device\n");
        return;
    }
    for (u32 i = 0; i < net_device_pairs; i++)
        queue_notify(&pairs[i].receive);
    virtio_config(&device, 0, info->mac, sizeof(info->mac));
    info->checksum = (device.features & CHECKSUM) != 0;
    if (device.features & STATUS)
        virtio_config(&device, 6, &link, sizeof(link));
    print("network: virtio by %s, link %s, checksums by %s, pairs of queues: %u\n", device.pci ? "PCI" : "MMIO",
          link & 1 ? "up" : "down", info->checksum ? "device" : "software", net_device_pairs);
}

/* ---------------------------------------------------------------- sending */
struct net_room *net_device_room(void) {
    struct pair *p = own();
    return p->free_slots ? &p->slots[p->free_slot[p->free_slots - 1]].room : NULL;
}

/* What follows the headers: behind their descriptor, or with a copy of it in the slot's own table. */
static NOINLINE void add_pieces(struct descriptor *table, u32 first, struct send_slot *slot, const struct piece *piece,
                                u32 pieces) {
    if (indirect) {
        slot->table[0] = *table;
        *table = (struct descriptor){ptr_phys(slot->table).v, (1 + pieces) * (u32)sizeof(*table), DESCRIPTOR_INDIRECT, 0};
        table = slot->table;
        first = 0;
    }
    for (u32 i = 0; i < pieces; i++) {
        table[i].flags = DESCRIPTOR_NEXT;
        table[i].next = (u16)(first + i + 1);
        table[i + 1] = (struct descriptor){.address = phys_of_page(piece[i].page).v + piece[i].offset,
                                           .length = piece[i].length};
    }
}

ALWAYS_INLINE u32 net_device_send(u32 length, const struct piece *piece, u32 pieces, u32 checksum_start, u32 checksum_offset) {
    struct pair *p = own();
    ASSERT(length <= SEND_HEADERS && pieces <= SEND_PIECES && p->free_slots);
    u32 n = p->free_slot[--p->free_slots];
    struct send_slot *slot = &p->slots[n];
    struct descriptor *head = &p->send.descriptor[n];
    slot->header.flags = checksum_start | checksum_offset ? NEEDS_CHECKSUM : 0;
    slot->header.checksum_start = (u16)checksum_start; /* the other fields are 0 for ever */
    slot->header.checksum_offset = (u16)checksum_offset;
    *head = (struct descriptor){ptr_phys(&slot->header).v, (u32)sizeof(slot->header) + length, 0, 0};
    if (pieces)
        add_pieces(head, n, slot, piece, pieces);
    p->in_use[n] = true;
    queue_post(&p->send, (u16)n);
    return p->first_frame + n;
}

void net_device_kick(void) { queue_notify(&own()->send); }

static void reclaim(struct pair *p, void (*done)(u32 frame)) {
    for (u32 left = queue_used(&p->send, p->send.mask + 1); left; left--) {
        u32 id = __atomic_load_n(&queue_take(&p->send)->id, __ATOMIC_RELAXED);
        if (id > p->send.mask || !p->in_use[id]) {
            nonsense("it finished a frame that it did not have");
            continue;
        }
        p->in_use[id] = false;
        p->free_slot[p->free_slots++] = id;
        if (done)
            done(p->first_frame + id);
    }
}

void net_device_reclaim(bool all, void (*done)(u32 frame)) {
    struct pair *p = own();
    if (all || p->free_slots < p->plenty)
        reclaim(p, done);
}

void net_device_reclaim_all(void (*done)(u32 frame)) {
    for (u32 i = 0; i < net_device_pairs; i++)
        reclaim(&pairs[i], done);
}

/* ---------------------------------------------------------------- receiving */
/* By these two flags: what libOSes are told. */
static const u8 vouched[] = {0, RING_CHECKED | RING_PARTIAL, RING_CHECKED, RING_CHECKED | RING_PARTIAL};

static void receive_one(struct pair *p, void (*deliver)(const u8 *frame, u32 length, u32 checked)) {
    const struct used_entry *e = queue_take(&p->receive);
    u32 id = __atomic_load_n(&e->id, __ATOMIC_RELAXED), length = __atomic_load_n(&e->length, __ATOMIC_RELAXED);
    if (id > p->receive.mask) {
        nonsense("it filled a buffer that there is not");
        return;
    }
    const struct header *header = (const void *)(p->buffers + id * BUFFER_BYTES);
    if (length < sizeof(*header) + FRAME_LEAST || length > BUFFER_BYTES)
        nonsense("a frame's length cannot be");
    else
        deliver((const u8 *)(header + 1), length - (u32)sizeof(*header),
                vouched[header->flags & (NEEDS_CHECKSUM | CHECKSUM_VALID)]);
    queue_post(&p->receive, (u16)id);
}

bool net_device_receive(u32 budget, void (*deliver)(const u8 *frame, u32 length, u32 checked)) {
    struct pair *p = own();
    if (unlikely(!is_own(p)))
        return false;
    for (u32 left = queue_used(&p->receive, budget); left; left--)
        receive_one(p, deliver);
    /* One fence serves both queues. */
    queue_give(&p->receive);
    queue_give(&p->send);
    queue_interrupts(&p->receive, true);
    queue_fence();
    /* Only a device that ran out of buffers waits to be told of some, and then it has that many to get back. */
    if (p->receive.posted - p->receive.notified > p->receive.mask / 8)
        queue_tell(&p->receive);
    queue_tell(&p->send);
    return queue_used(&p->receive, 1);
}

void net_device_hush(void) {
    struct pair *p = own();
    if (is_own(p))
        queue_interrupts(&p->receive, false);
}
