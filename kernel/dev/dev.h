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
 * No two of these run at once: the caller holds one lock around all of them, on whatever CPU. */
/* Finds a virtio-net device on PCI, as MMIO in the ACPI tables, or as MMIO named in the command
 * line by `virtio_mmio.device=SIZE@ADDRESS:GSI`; sets info's mac and checksum. After acpi_init,
 * boot only. Without a device the calls below do nothing. */
void net_device_init(const char *command_line);
/* Called on CPU 0, with interrupts off, when frames were received or sends are finished; it should
 * call net_device_reclaim and net_device_receive. NULL until kernel/net sets it, which must then
 * call both once: what arrived before does not interrupt again. */
extern void (*net_device_interrupt)(void);
/* Entries of the device's that made no sense and were dropped. */
extern u64 net_device_nonsense;
/* One piece of a frame to be sent. */
struct net_piece { phys at; u32 length; };
/* Queues a frame: headers are copied (14 to SEND_HEADERS bytes), pieces (none of them empty) are
 * read in place. When the device has read them, net_device_reclaim calls done(cookie), in order
 * of completion. checksum_start/offset as in struct send: the device writes two bytes at start +
 * offset, so the caller checks that they lie in the frame and are none that the flow's condition
 * looks at, and that info->checksum is set. Returns 0, E_FULL or E_NO_DEVICE. Does not notify the
 * device. */
s64 net_device_send(const void *headers, u32 length, const struct net_piece *piece, u32 pieces,
                    u32 checksum_start, u32 checksum_offset, u32 cookie);
/* Tells the device about queued frames. */
void net_device_kick(void);
/* Collects finished sends. Call it before sending too: it makes room, and under steady sending no
 * interrupt comes before the last frame is done. */
void net_device_reclaim(void (*done)(u32 cookie));
/* Hands up to budget received frames to deliver (the frame is only valid during the call) and
 * gives the buffers back; returns how many it took. Less than budget: there are no more, and the
 * next one interrupts. Budget: interrupts are off, and it must be called again, soon.
 * `checked`: the device vouches for the checksums. The field itself may then hold only the sum of
 * the pseudo-header (a frame from the same host, never on a wire), so it must not be checked
 * again. */
u32 net_device_receive(u32 budget,
                       void (*deliver)(const u8 *frame, u32 length, bool checked));
