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
};
extern struct machine_tables tables;
/* Reads the tables from the RSDP at physical address rsdp; 0: search the BIOS area, and if
 * there is none, fill in what every PC has. Never trusts a length or checksum. */
void acpi_init(u64 rsdp);
/* Ends the machine: how is a power of the ABI. Tries the test device (isa-debug-exit at 0xf4, only
 * if the command line has "testexit"), ACPI (PM1a, or the reduced-hardware sleep register), then a reset. */
NORETURN void machine_end(u32 how);

/* ---- network (virtio_net.c; pci.c and virtio.c below it) */
/* Finds a virtio-net device, on PCI or as MMIO named by `virtio_mmio.device=SIZE@ADDRESS:GSI` in
 * the command line; sets info's mac and checksum. Without a device the calls below do nothing. */
void net_device_init(const char *command_line);
/* One piece of a frame to be sent. */
struct net_piece { phys at; u32 length; };
/* Queues a frame: headers are copied (at most SEND_HEADERS bytes), pieces are read in place.
 * When the device has read them, done(cookie) is called for the frame from net_device_reclaim, in order of
 * completion. checksum_start/offset as in struct send. Returns 0, E_FULL or E_NO_DEVICE. Does not notify the device. */
s64 net_device_send(const void *headers, u32 length, const struct net_piece *piece, u32 pieces,
                    u32 checksum_start, u32 checksum_offset, u32 cookie);
void net_device_kick(void);                             /* tells the device about queued frames */
void net_device_reclaim(void (*done)(u32 cookie));      /* collects finished sends */
/* Hands up to budget received frames to deliver (the frame is only valid during the call) and gives the
 * buffers back; returns how many. `checked`: the device says that the checksums are right. */
u32 net_device_receive(u32 budget, void (*deliver)(const u8 *frame, u32 length, bool checked));
