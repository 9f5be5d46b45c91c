/* Virtio 1.x: finding a device, agreeing on features, and split virtqueues.
 *
 * Order of use: virtio_find(), virtio_negotiate(), virtio_queue() for each queue,
 * virtio_interrupt(), virtio_start(); all at boot. Afterwards only the queue functions and
 * virtio_acknowledge() are used, one caller at a time.
 *
 * The device writes two things that a driver reads: the used ring and the buffers. Of the used
 * ring nothing is believed: queue_take() bounds the identifier, and its user checks that this
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
    volatile u8 *notify;          /* PCI: where queues are notified */
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
    u16 size;               /* a power of two */
    bool event_index;       /* how interrupts and notifications are held back */
    struct descriptor *descriptor;
    struct available {
        u16 flags, index, ring[QUEUE_SIZE + 1]; /* ring[size]: used_event */
    } *available;
    struct used {
        u16 flags, index;
        struct { u32 id, length; } ring[QUEUE_SIZE]; /* after ring[size]: available_event */
    } *used;
    volatile void *bell;    /* where it is notified, */
    u32 bell_value;         /* and with what */
    bool bell_wide;         /* a 32-bit register, not a 16-bit one */
    u16 posted;             /* buffers ever given: what the available index is */
    u16 seen;               /* used entries ever taken */
    u16 notified;           /* `posted` when the device was last told or needed no telling */
};

/* Finds a device of this kind on PCI (class says which to look at), by ACPI, or in the command
 * line, and resets it. */
bool virtio_find(struct virtio *v, u32 kind, u32 class, const char *command_line);
/* Agrees on all offered features out of wanted; false if the device lacks one of needed. */
bool virtio_negotiate(struct virtio *v, u64 needed, u64 wanted);
/* Sets up queue `index`; false if the device does not have it. */
bool virtio_queue(struct virtio *v, u32 index, struct virtqueue *q);
/* Has all queues of the device interrupt through one handler; false if it cannot. Call it before
 * virtio_queue(). */
bool virtio_interrupt(struct virtio *v, void (*handler)(u32 argument));
/* To be called first in the handler. */
void virtio_acknowledge(struct virtio *v);
void virtio_start(struct virtio *v);
/* Reads from the device's own structure; beyond its end there are zeros. */
void virtio_config(struct virtio *v, u32 offset, void *to, u32 bytes);

/* Gives the device the chain that begins at descriptor `head`. */
void queue_post(struct virtqueue *q, u16 head);
/* Tells the device about what was posted, if it wants to be told. */
void queue_notify(struct virtqueue *q);
/* Takes the next used entry. False: there is none. */
bool queue_take(struct virtqueue *q, u32 *id, u32 *length);
/* Asks for no interrupts; one may come all the same. */
void queue_interrupts_off(struct virtqueue *q);
/* Asks for an interrupt when the next entry is used. True: there is one already, for which no
 * interrupt may come; take it and ask again. */
bool queue_interrupts_on(struct virtqueue *q);
/* Asks for an interrupt when everything posted so far, and one more, has been used. Call it
 * before the queue_post() of that one: then it cannot come too late. */
void queue_interrupt_last(struct virtqueue *q);
