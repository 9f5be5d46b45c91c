/* Devices, as the rest of the kernel sees them. */
#pragma once
#include "lib/base.h"

/* ---- ACPI (acpi.c): what the tables say, read once at boot. */
struct machine_tables {
    u32 cpus;
    u32 apic_id[MAX_CPUS]; /* of the enabled CPUs, in the tables' order */
    u64 lapic;             /* physical address of the local APICs' registers */
    struct { u64 address; u32 first_gsi; } ioapic[8];
    u32 ioapics;
    struct { u32 gsi; u16 flags; } isa[16]; /* where ISA interrupt n goes; flags as in the MADT */
    u64 ecam;              /* PCI configuration space by memory; 0: none */
    u8 ecam_first_bus, ecam_last_bus;
    struct { u64 address; u32 gsi; } virtio_mmio[32]; /* places for virtio MMIO devices */
    u32 virtio_mmios;
};
extern struct machine_tables tables;
/* Reads the tables from the RSDP at physical address rsdp; 0: search the BIOS area, and if
 * there is none, fill in what every PC has. Never trusts a length or checksum. */
void acpi_init(u64 rsdp);
/* Ends the machine: how is a power of the ABI. Tries the test device (isa-debug-exit at 0xf4, only
 * if the command line has "testexit"), ACPI, then a reset. */
NORETURN void machine_end(u32 how);
/* What the test device is told; QEMU then exits with (value << 1) | 1: 33 or 35. */
#define TEST_PASSED 16
#define TEST_FAILED 17

/* ---- network (virtio_net.c; pci.c and virtio.c below it)
 * The device has pairs of queues, one to receive and one to send, for as many CPUs as it can. What a pair receives
 * interrupts its CPU and is taken there. Of the functions about sending no two run at once: the caller
 * holds one lock around all of them. */
#define NET_PAIRS 8                 /* most pairs */
#define NET_FRAMES (NET_PAIRS * 256) /* most frames that the device can have to send */
extern u32 net_device_pairs; /* of the CPUs below this number; 0: there is no device */
/* Finds a virtio-net device on PCI, or as MMIO in the ACPI tables; sets info's mac and checksum. After
 * all CPUs have started, boot only. Without a device the calls below do nothing. */
void net_device_init(void);
/* Called on the CPU of a pair, with interrupts off, when frames were received; it should receive them. Set
 * before net_device_init. */
extern void (*net_device_interrupt)(u32 unused);
/* Where the headers of the next frame go, to be filled before net_device_send. NULL: there is no room. */
struct net_room {
    u8 headers[SEND_HEADERS];
    u64 binding; /* of the handler whose runs alone have filled it since it was cleared; 0: something else has */
};
struct net_room *net_device_room(void);
/* Queues a frame: so many bytes of headers (14 to SEND_HEADERS) that are in net_device_room(), and pieces (none of
 * them empty, their pages pinned), which are read in place. checksum_start/offset as in struct send: the device writes two bytes at
 * start + offset, so the caller checks that they lie in the frame and are none that the flow's condition
 * looks at, and that info->checksum is set. Returns the frame's number, below NET_FRAMES. Does not notify
 * the device. */
u32 net_device_send(u32 length, const struct piece *piece, u32 pieces, u32 checksum_start, u32 checksum_offset);
/* Tells the device about queued frames, of which there are some. */
void net_device_kick(void);
/* Collects the frames given to it by this CPU that it has read, and calls done (NULL: nobody) with the number of
 * each, which is then free again; or, without `all`, lets them lie while they are few. It does not interrupt for them: call this before sending and when
 * receiving. */
void net_device_reclaim(bool all, void (*done)(u32 frame));
/* The same on all CPUs, however few they are. */
void net_device_reclaim_all(void (*done)(u32 frame));
/* Hands up to budget received frames to deliver (the frame is only valid during the call) and gives the buffers
 * back, tells the device about frames queued meanwhile, and lets the next frame interrupt. True: more are there
 * already, for which none may come.
 * `checked` is as in the flags of struct ring_entry. */
bool net_device_receive(u32 budget, void (*deliver)(const u8 *frame, u32 length, u32 checked));
/* No interrupts until then: who calls this will receive by himself. */
void net_device_hush(void);
