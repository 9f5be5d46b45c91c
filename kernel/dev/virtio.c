/* Virtio 1.x devices over PCI capabilities or MMIO (version 2), with split virtqueues.
 *
 * See virtio.h for the order of use, and for the queues. Their memory is shared with a device that may
 * write anything at any time: each word of it is read once, by an atomic load, and checked. */
#include "dev/virtio.h"

#include "core/memory.h"
#include "dev/dev.h"
#include "x86/interrupt.h"

enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, FAILED = 128 };

/* Registers of the two transports. A 64-bit one is written as two halves. */
enum {
    PCI_DEVICE_SELECT = 0, PCI_DEVICE_FEATURES = 4, PCI_DRIVER_SELECT = 8,
    PCI_DRIVER_FEATURES = 12, PCI_CONFIG_VECTOR = 16, PCI_STATUS = 20, PCI_GENERATION = 21,
    PCI_QUEUE_SELECT = 22, PCI_QUEUE_SIZE = 24, PCI_QUEUE_VECTOR = 26, PCI_QUEUE_ENABLE = 28,
    PCI_QUEUE_BELL = 30, PCI_QUEUE_RINGS = 32, PCI_COMMON_BYTES = 56,
};
enum {
    MMIO_MAGIC = 0x00, MMIO_VERSION = 0x04, MMIO_KIND = 0x08, MMIO_DEVICE_FEATURES = 0x10,
    MMIO_DEVICE_SELECT = 0x14, MMIO_DRIVER_FEATURES = 0x20, MMIO_DRIVER_SELECT = 0x24,
    MMIO_QUEUE_SELECT = 0x30, MMIO_QUEUE_MOST = 0x34, MMIO_QUEUE_SIZE = 0x38,
    MMIO_QUEUE_READY = 0x44, MMIO_BELL = 0x50, MMIO_INTERRUPT = 0x60, MMIO_ACKNOWLEDGE = 0x64,
    MMIO_STATUS = 0x70, MMIO_QUEUE_RINGS = 0x80, MMIO_GENERATION = 0xfc, MMIO_CONFIG = 0x100,
    MMIO_BYTES = 0x200,
};

static u8 get8(struct virtio *v, u32 at) { return v->common[at]; }
static u16 get16(struct virtio *v, u32 at) { return *(volatile u16 *)(v->common + at); }
static u32 get32(struct virtio *v, u32 at) { return *(volatile u32 *)(v->common + at); }
static void put8(struct virtio *v, u32 at, u8 x) { v->common[at] = x; }
static void put16(struct virtio *v, u32 at, u16 x) { *(volatile u16 *)(v->common + at) = x; }
static void put32(struct virtio *v, u32 at, u32 x) { *(volatile u32 *)(v->common + at) = x; }

static u8 status(struct virtio *v) {
    return v->pci ? get8(v, PCI_STATUS) : (u8)get32(v, MMIO_STATUS);
}

static void set_status(struct virtio *v, u8 bits) {
    if (v->pci)
        put8(v, PCI_STATUS, bits);
    else
        put32(v, MMIO_STATUS, bits);
}

static void add_status(struct virtio *v, u8 bits) { set_status(v, status(v) | bits); }

static bool reset(struct virtio *v) {
    set_status(v, 0);
    for (u32 i = 0; i < 1000000; i++)
        if (status(v) == 0)
            return true;
    return false;
}

/* ---------------------------------------------------------------- finding */
enum { STRUCTURE_COMMON = 1, STRUCTURE_NOTIFY = 2, STRUCTURE_CONFIG = 4 };

/* Maps the first structure of this type that the device's capabilities describe. */
static volatile u8 *map_structure(const struct pci_device *d, u8 type, u32 *at, u32 *bytes) {
    *at = 0;
    for (u32 steps = 0; steps < 48; steps++) {
        *at = pci_capability(d, *at, PCI_CAPABILITY_VENDOR);
        if (!*at)
            return NULL;
        if (pci_read8(d, *at + 3) != type)
            continue;
        *bytes = pci_read32(d, *at + 12);
        return pci_map(d, pci_read8(d, *at + 4), pci_read32(d, *at + 8), *bytes);
    }
    return NULL;
}

static bool open_pci(struct virtio *v, const struct pci_device *d) {
    u32 at, bytes = 0;
    *v = (struct virtio){.pci = d};
    pci_enable(d);
    v->common = map_structure(d, STRUCTURE_COMMON, &at, &bytes);
    if (!v->common || bytes < PCI_COMMON_BYTES)
        return false;
    v->config = map_structure(d, STRUCTURE_CONFIG, &at, &v->config_bytes);
    v->notify = map_structure(d, STRUCTURE_NOTIFY, &at, &v->notify_bytes);
    if (!v->config || !v->notify)
        return false;
    v->notify_scale = pci_read32(d, at + 16);
    return reset(v);
}

/* A place for a device, with nothing in it, has device number 0. */
static bool open_mmio(struct virtio *v, u32 kind, u64 address, u32 gsi) {
    volatile u8 *registers = map_device((phys){address}, MMIO_BYTES);
    *v = (struct virtio){.common = registers, .config = registers + MMIO_CONFIG, .config_bytes = MMIO_BYTES - MMIO_CONFIG,
                         .notify = registers, .notify_bytes = MMIO_BYTES, .gsi = gsi};
    if (get32(v, MMIO_MAGIC) != 0x74726976 /* "virt" */ || get32(v, MMIO_KIND) != kind)
        return false;
    if (get32(v, MMIO_VERSION) == 2)
        return reset(v);
    print("virtio: the device at %lx is a legacy one (QEMU: -global "
          "virtio-mmio.force-legacy=false)\n", address);
    return false;
}

bool virtio_find(struct virtio *v, u32 kind, u32 class) {
    enum { VENDOR = 0x1af4, MODERN = 0x1040, TRANSITIONAL = 0x1000, TRANSITIONAL_END = 0x1040 };
    const struct pci_device *d = NULL;
    while ((d = pci_find(d, VENDOR, class)))
        if ((d->device == MODERN + kind ||
             (d->device >= TRANSITIONAL && d->device < TRANSITIONAL_END)) && open_pci(v, d))
            return true;
    for (u32 i = 0; i < tables.virtio_mmios; i++)
        if (open_mmio(v, kind, tables.virtio_mmio[i].address, tables.virtio_mmio[i].gsi))
            return true;
    return false;
}

/* ---------------------------------------------------------------- starting */
static u32 offered_half(struct virtio *v, u32 half) {
    put32(v, v->pci ? PCI_DEVICE_SELECT : MMIO_DEVICE_SELECT, half);
    return get32(v, v->pci ? PCI_DEVICE_FEATURES : MMIO_DEVICE_FEATURES);
}

static void accept_half(struct virtio *v, u32 half, u32 bits) {
    put32(v, v->pci ? PCI_DRIVER_SELECT : MMIO_DRIVER_SELECT, half);
    put32(v, v->pci ? PCI_DRIVER_FEATURES : MMIO_DRIVER_FEATURES, bits);
}

bool virtio_negotiate(struct virtio *v, u64 needed, u64 wanted) {
    add_status(v, ACKNOWLEDGE);
    add_status(v, DRIVER);
    u64 offered = (u64)offered_half(v, 1) << 32 | offered_half(v, 0);
    v->features = offered & (needed | wanted);
    accept_half(v, 0, (u32)v->features);
    accept_half(v, 1, (u32)(v->features >> 32));
    add_status(v, FEATURES_OK);
    if ((offered & needed) == needed && (status(v) & FEATURES_OK))
        return true;
    add_status(v, FAILED);
    return false;
}

bool virtio_interrupts(struct virtio *v, void (*handler)(u32 entry), u32 count) {
    if (v->pci)
        return pci_msix(v->pci, handler, count);
    /* The line follows the status register, which is acknowledged before the queues are looked
     * at: what happens later raises it anew, so an edge is never missed. */
    interrupt_route(v->gsi, interrupt_vector(handler, 0), false, false);
    return true;
}

void virtio_acknowledge(struct virtio *v) { put32(v, MMIO_ACKNOWLEDGE, get32(v, MMIO_INTERRUPT)); }

static void put_ring(struct virtio *v, u32 n, const void *memory) {
    u64 at = ptr_phys(memory).v;
    u32 reg = v->pci ? PCI_QUEUE_RINGS + 8 * n : MMIO_QUEUE_RINGS + 16 * n;
    put32(v, reg, (u32)at);
    put32(v, reg + 4, (u32)(at >> 32));
}

static bool set_bell(struct virtio *v, struct virtqueue *q) {
    u64 offset = v->pci ? (u64)get16(v, PCI_QUEUE_BELL) * v->notify_scale : MMIO_BELL;
    q->bell = v->notify + offset;
    return offset + 2 <= v->notify_bytes;
}

bool virtio_queue(struct virtio *v, u32 index, struct virtqueue *q, u16 entry) {
    _Static_assert(sizeof(struct descriptor) * QUEUE_SIZE == PAGE_SIZE, "one page");
    _Static_assert(sizeof(struct used) + 2 <= PAGE_SIZE, "one page each");
    if (v->pci)
        put16(v, PCI_QUEUE_SELECT, (u16)index);
    else
        put32(v, MMIO_QUEUE_SELECT, index);
    u32 most = v->pci ? get16(v, PCI_QUEUE_SIZE) : get32(v, MMIO_QUEUE_MOST);
    u16 size = QUEUE_SIZE;
    while (size > most)
        size /= 2;
    *q = (struct virtqueue){.mask = size - 1u, .event_index = v->features & VIRTIO_EVENT_INDEX,
                            .bell_value = index, .bell_wide = !v->pci};
    if (size < 16 || !set_bell(v, q))
        return false;
    q->descriptor = boot_pages(1);
    q->available = boot_pages(1);
    q->used = boot_pages(1);
    q->used_event = &q->available->ring[size];
    q->available_event = (u16 *)&q->used->ring[size];
    put_ring(v, 0, q->descriptor);
    put_ring(v, 1, q->available);
    put_ring(v, 2, q->used);
    if (v->pci) {
        put16(v, PCI_QUEUE_SIZE, size);
        put16(v, PCI_CONFIG_VECTOR, VIRTIO_QUIET);
        put16(v, PCI_QUEUE_VECTOR, entry);
        if (get16(v, PCI_QUEUE_VECTOR) != entry)
            return false;
        put16(v, PCI_QUEUE_ENABLE, 1);
    } else {
        put32(v, MMIO_QUEUE_SIZE, size);
        put32(v, MMIO_QUEUE_READY, 1);
    }
    return true;
}

void virtio_start(struct virtio *v) { add_status(v, DRIVER_OK); }

/* The generation changes when the structure does; a device that never lets it rest is believed
 * after some tries. */
void virtio_config(struct virtio *v, u32 offset, void *to, u32 bytes) {
    for (u32 tries = 0; tries < 100; tries++) {
        u32 before = v->pci ? get8(v, PCI_GENERATION) : get32(v, MMIO_GENERATION);
        for (u32 i = 0; i < bytes; i++)
            ((u8 *)to)[i] = offset + i < v->config_bytes ? v->config[offset + i] : 0;
        if (before == (v->pci ? get8(v, PCI_GENERATION) : get32(v, MMIO_GENERATION)))
            return;
    }
}
