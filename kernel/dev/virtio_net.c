/* The network device: virtio-net with one queue to receive and one to send.
 *
 * No two of these functions run at once: their callers in kernel/net hold one lock. Only
 * interrupt() runs outside it, and it touches nothing here. There is no heap: every buffer is
 * taken at boot.
 *
 * The device is not believed. An identifier that it was not given, or a length that cannot be,
 * is counted in net_device_nonsense and the entry is dropped; what it costs is the device's own
 * buffer or slot. Each call does a bounded amount of work, whatever the device claims. What the
 * kernel has to know later (which slots are in use, their cookies) is not in memory that the
 * device is told of.
 *
 * Receiving: descriptor n is for ever buffer n. Interrupts are off while net_device_receive()
 * works. When it finds the queue empty it asks for them again and then looks once more, so a
 * frame that came in between is found by the look, and one that comes later interrupts. If it
 * stops because its budget is used up, interrupts stay off: the caller must call again.
 *
 * Sending: a frame has a slot: a table of descriptors, the device's header and the copied
 * headers. Where the device has indirect descriptors each slot takes one of the ring's, else
 * 1 + SEND_PIECES. Interrupts are asked for when the last frame that was sent is done, so a
 * burst costs one and nothing stays uncollected for want of one. */
#include "core/info.h"
#include "core/memory.h"
#include "dev/dev.h"
#include "dev/virtio.h"

#define CHECKSUM (1ull << 0)
#define GUEST_CHECKSUM (1ull << 1)
#define MAC (1ull << 5)
#define STATUS (1ull << 16)

#define CLASS_ETHERNET 0x020000
#define BUFFER_BYTES 2048
#define FRAME_LEAST 14 /* an Ethernet header */
#define DESCRIPTORS (1 + SEND_PIECES)

/* What stands before each frame, received or sent. */
struct header {
    u8 flags, segmentation;
    u16 header_bytes, segment_bytes, checksum_start, checksum_offset, buffers;
};
#define NEEDS_CHECKSUM 1
#define CHECKSUM_VALID 2

struct send_slot {
    struct descriptor table[DESCRIPTORS];
    struct header header;
    u8 headers[SEND_HEADERS];
} ALIGNED(64);

void (*net_device_interrupt)(void);
u64 net_device_nonsense;

static bool present;
static struct virtio device;
static struct virtqueue receive_queue, send_queue;
static u8 *buffers;             /* of receive_queue.size */
static struct send_slot *slots; /* of slot_count */
static bool indirect;
static u32 slot_count;
static u32 cookies[QUEUE_SIZE];
static bool in_use[QUEUE_SIZE];
static u8 free_slot[QUEUE_SIZE]; /* a stack of free_slots numbers */
static u32 free_slots;

static void nonsense(const char *what) {
    if (net_device_nonsense++ == 0)
        print("network: the device is not to be trusted: %s\n", what);
}

static void interrupt(u32 unused) {
    (void)unused;
    virtio_acknowledge(&device);
    if (net_device_interrupt)
        net_device_interrupt();
}

/* ---------------------------------------------------------------- starting */
static void give_buffers(void) {
    u32 count = receive_queue.size;
    buffers = boot_pages(count * BUFFER_BYTES / PAGE_SIZE);
    for (u32 i = 0; i < count; i++) {
        receive_queue.descriptor[i] = (struct descriptor){
            ptr_phys(buffers + i * BUFFER_BYTES).v, BUFFER_BYTES, DESCRIPTOR_WRITE, 0};
        queue_post(&receive_queue, (u16)i);
    }
}

static void make_slots(void) {
    indirect = device.features & VIRTIO_INDIRECT;
    slot_count = indirect ? send_queue.size : send_queue.size / DESCRIPTORS;
    slots = boot_pages((u32)(round_up(slot_count * sizeof(*slots), PAGE_SIZE) / PAGE_SIZE));
    for (free_slots = 0; free_slots < slot_count; free_slots++) {
        free_slot[free_slots] = (u8)free_slots;
        in_use[free_slots] = false;
    }
}

static bool start(const char *command_line) {
    if (!virtio_find(&device, VIRTIO_NETWORK, CLASS_ETHERNET, command_line))
        return false;
    u64 wanted = CHECKSUM | GUEST_CHECKSUM | STATUS | VIRTIO_INDIRECT | VIRTIO_EVENT_INDEX |
                 VIRTIO_ACCESS_PLATFORM | VIRTIO_ORDER_PLATFORM;
    if (!virtio_negotiate(&device, VIRTIO_VERSION_1 | MAC, wanted) ||
        !virtio_interrupt(&device, interrupt) || !virtio_queue(&device, 0, &receive_queue) ||
        !virtio_queue(&device, 1, &send_queue)) {
        print("network: the device lacks what is needed\n");
        return false;
    }
    make_slots();
    give_buffers();
    virtio_start(&device);
    queue_notify(&receive_queue);
    return true;
}

void net_device_init(const char *command_line) {
    u16 link = 1;
    pci_init();
    present = start(command_line);
    if (!present) {
        print("network: no device\n");
        return;
    }
    virtio_config(&device, 0, info->mac, sizeof(info->mac));
    info->checksum = (device.features & CHECKSUM) != 0;
    if (device.features & STATUS)
        virtio_config(&device, 6, &link, sizeof(link));
    print("network: virtio by %s, link %s, checksums by %s\n", device.pci ? "PCI" : "MMIO",
          link & 1 ? "up" : "down", info->checksum ? "device" : "software");
}

/* ---------------------------------------------------------------- sending */
static void add(struct descriptor *table, u32 n, u32 first, phys at, u32 length, bool last) {
    table[n] = (struct descriptor){at.v, length, last ? 0 : DESCRIPTOR_NEXT,
                                   last ? 0 : (u16)(first + n + 1)};
}

s64 net_device_send(const void *headers, u32 length, const struct net_piece *piece, u32 pieces,
                    u32 checksum_start, u32 checksum_offset, u32 cookie) {
    ASSERT(length <= SEND_HEADERS && pieces <= SEND_PIECES);
    if (!present)
        return E_NO_DEVICE;
    if (free_slots == 0)
        return E_FULL;
    u32 n = free_slot[--free_slots];
    struct send_slot *slot = &slots[n];
    bool checksum = checksum_start != 0 || checksum_offset != 0;
    slot->header = (struct header){.flags = checksum ? NEEDS_CHECKSUM : 0,
                                   .checksum_start = (u16)checksum_start,
                                   .checksum_offset = (u16)checksum_offset};
    memcpy(slot->headers, headers, length);
    u32 head = indirect ? n : n * DESCRIPTORS, first = indirect ? 0 : head;
    struct descriptor *table = indirect ? slot->table : &send_queue.descriptor[head];
    add(table, 0, first, ptr_phys(&slot->header), sizeof(slot->header) + length, pieces == 0);
    for (u32 i = 0; i < pieces; i++)
        add(table, i + 1, first, piece[i].at, piece[i].length, i + 1 == pieces);
    if (indirect)
        send_queue.descriptor[head] = (struct descriptor){
            ptr_phys(table).v, (1 + pieces) * (u32)sizeof(*table), DESCRIPTOR_INDIRECT, 0};
    cookies[n] = cookie;
    in_use[n] = true;
    queue_interrupt_last(&send_queue);
    queue_post(&send_queue, (u16)head);
    return 0;
}

void net_device_kick(void) {
    if (present)
        queue_notify(&send_queue);
}

void net_device_reclaim(void (*done)(u32 cookie)) {
    u32 id, length;
    for (u32 i = 0; present && i < send_queue.size && queue_take(&send_queue, &id, &length); i++) {
        u32 n = indirect ? id : id / DESCRIPTORS;
        if (n >= slot_count || !in_use[n] || (!indirect && id % DESCRIPTORS)) {
            nonsense("it finished a frame that it did not have");
            continue;
        }
        in_use[n] = false;
        free_slot[free_slots++] = (u8)n;
        done(cookies[n]);
    }
}

/* ---------------------------------------------------------------- receiving */
static bool receive_one(void (*deliver)(const u8 *frame, u32 length, bool checked)) {
    u32 id, length;
    if (!queue_take(&receive_queue, &id, &length))
        return false;
    if (id >= receive_queue.size) {
        nonsense("it filled a buffer that there is not");
        return true;
    }
    const struct header *header = (const void *)(buffers + id * BUFFER_BYTES);
    if (length < sizeof(*header) + FRAME_LEAST || length > BUFFER_BYTES)
        nonsense("a frame's length cannot be");
    else
        deliver((const u8 *)(header + 1), length - (u32)sizeof(*header),
                header->flags & (NEEDS_CHECKSUM | CHECKSUM_VALID));
    queue_post(&receive_queue, (u16)id);
    return true;
}

u32 net_device_receive(u32 budget,
                       void (*deliver)(const u8 *frame, u32 length, bool checked)) {
    u32 count = 0;
    if (!present)
        return 0;
    do {
        queue_interrupts_off(&receive_queue);
        while (count < budget && receive_one(deliver))
            count++;
    } while (count < budget && queue_interrupts_on(&receive_queue));
    queue_notify(&receive_queue);
    return count;
}
