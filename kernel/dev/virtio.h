/* Virtio 1.x: finding a device, agreeing on features, and split virtqueues.
 *
 * Order of use: virtio_find(), virtio_negotiate(), virtio_interrupts(), virtio_queue() for each
 * queue, virtio_start(); all at boot. Afterwards only the queue functions, one caller for a queue at
 * a time, and virtio_acknowledge() are used.
 *
 * The device writes two things that a driver reads: the used ring and the buffers. Of the used
 * ring nothing is believed: queue_used() bounds how much there is to take, and who takes an entry checks that this
 * buffer was really given and that the length fits. */
#pragma once
#include "dev/pci.h"

#define VIRTIO_NETWORK 1

#define VIRTIO_INDIRECT (1ull << 28)
#define VIRTIO_EVENT_INDEX (1ull << 29)
#define VIRTIO_VERSION_1 (1ull << 32)
#define VIRTIO_ACCESS_PLATFORM (1ull << 33)
#define VIRTIO_ORDER_PLATFORM (1ull << 36)

struct virtio {
    const struct pci_device *pci; /* NULL: the device is on MMIO */
    volatile u8 *common;          /* PCI: the common structure; MMIO: all registers */
    volatile u8 *config;          /* the device's own structure, */
    u32 config_bytes;             /* and its length */
    volatile u8 *notify;          /* where queues are notified */
    u32 notify_bytes, notify_scale;
    u32 gsi;                      /* MMIO: its interrupt */
    u64 features;                 /* agreed on */
};

#define DESCRIPTOR_NEXT 1     /* goes on at .next */
#define DESCRIPTOR_WRITE 2    /* the device writes */
#define DESCRIPTOR_INDIRECT 4 /* points to a table of descriptors */
struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

#define QUEUE_SIZE 256 /* most descriptors of a queue */
struct virtqueue {
    u32 mask;               /* one less than the number of descriptors, a power of two */
    bool event_index;       /* how interrupts and notifications are held back */
    struct descriptor *descriptor;
    struct available {
        u16 flags, index, ring[QUEUE_SIZE + 1]; /* behind the last: used_event */
    } *available;
    struct used {
        u16 flags, index;
        struct used_entry { u32 id, length; } ring[QUEUE_SIZE]; /* behind the last: available_event */
    } *used;
    u16 *used_event, *available_event;
    volatile void *bell;    /* where it is notified, */
    u32 bell_value;         /* and with what */
    bool bell_wide;         /* a 32-bit register, not a 16-bit one */
    u32 posted;             /* buffers ever given: what the available index is, or is going to be */
    u32 seen;               /* used entries ever taken */
    u32 notified;           /* `posted` when the device was last told or needed no telling */
};

/* Finds a device of this kind on PCI (class says which to look at), or by ACPI, and resets it. */
bool virtio_find(struct virtio *v, u32 kind, u32 class);
/* Agrees on all offered features out of wanted; false if the device lacks one of needed. */
bool virtio_negotiate(struct virtio *v, u64 needed, u64 wanted);
#define VIRTIO_QUIET 0xffff /* no vector: the queue interrupts nobody */
/* Has entries 0 to count - 1 of the device's table interrupt the CPU of that number, which runs the handler
 * with it. Over MMIO there is one interrupt for all queues. False if it cannot. */
bool virtio_interrupts(struct virtio *v, void (*handler)(u32 entry), u32 count);
/* Sets up queue `index`, which interrupts by `entry` or is QUIET; false if the device does not have it. */
bool virtio_queue(struct virtio *v, u32 index, struct virtqueue *q, u16 entry);
/* To be called first in the handler of a device on MMIO. */
void virtio_acknowledge(struct virtio *v);
void virtio_start(struct virtio *v);
/* Reads from the device's own structure; beyond its end there are zeros. */
void virtio_config(struct virtio *v, u32 offset, void *to, u32 bytes);

/* ---------------------------------------------------------------- queues
 * used_event and available_event say, where the feature is agreed on, at which index the other side wants to be
 * told; they stand behind the rings. Elsewhere a flag of 1 says "do not".
 *
 * Order of memory accesses: the device must see a descriptor before the index that publishes it (release), and this
 * side must see an index before the entry that it publishes (acquire). Both sides also write one word and then read
 * another's: "I have posted; do you want to be told?" and "I want to be told; have you posted?". At least one of the
 * two must see the other's write, which takes a full fence between the write and the read.
 *
 * QEMU translates no fence, nor the lock of an instruction, for a machine of one CPU, although its devices run in a
 * thread of their own (MFENCE it does since 8.1). Reading the clock takes a lock there, which no translation leaves out. */
static inline u16 queue_load(const u16 *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void queue_store(u16 *p, u16 value) { __atomic_store_n(p, value, __ATOMIC_RELEASE); }
static inline void queue_fence(void) { __asm__ volatile("mfence; rdtsc" ::: "rax", "rdx", "memory"); }

/* Puts the chain that begins at descriptor `head` among those that queue_notify() gives to the device. */
static inline void queue_post(struct virtqueue *q, u16 head) {
    q->available->ring[q->posted++ & q->mask] = head;
}

/* Gives the device what was posted; a fence, and then queue_tell, follow. */
static inline void queue_give(struct virtqueue *q) { queue_store(&q->available->index, (u16)q->posted); }

/* Tells the device of what it was given, if it wants to be told. */
static inline void queue_tell(struct virtqueue *q) {
    u32 fresh = q->posted - q->notified;
    if (fresh == 0)
        return;
    q->notified = q->posted;
    if (likely(q->event_index) ? (u16)(q->posted - queue_load(q->available_event) - 1) >= fresh : queue_load(&q->used->flags) & 1)
        return;
    if (unlikely(q->bell_wide))
        *(volatile u32 *)q->bell = q->bell_value;
    else
        *(volatile u16 *)q->bell = (u16)q->bell_value;
}

static inline void queue_notify(struct virtqueue *q) {
    queue_give(q);
    queue_fence();
    queue_tell(q);
}

/* How many used entries can be taken, at most so many. However far the device's index has run, `seen` goes through the ring
 * entry by entry. */
static inline u32 queue_used(const struct virtqueue *q, u32 most) {
    u32 there = (u16)(queue_load(&q->used->index) - q->seen);
    return there < most ? there : most;
}

/* Where the next one is; each of its words is to be loaded once, and may be anything. */
static inline const struct used_entry *queue_take(struct virtqueue *q) { return &q->used->ring[q->seen++ & q->mask]; }

/* Asks for an interrupt when the next entry is used (where there is one already, after a fence, none may come for it), or for none,
 * when one may come all the same. An event that is just behind is not passed again before the index has gone round. */
static inline void queue_interrupts(struct virtqueue *q, bool wanted) {
    if (likely(q->event_index))
        queue_store(q->used_event, (u16)(q->seen - !wanted));
    else
        queue_store(&q->available->flags, !wanted);
}
