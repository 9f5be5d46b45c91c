/* PCI configuration space, by memory where the ACPI tables say so and by ports elsewhere.
 *
 * Everything here runs once, at boot, on one CPU. A device's registers are not trusted: lists
 * end after a bounded number of steps, and nothing is mapped that lies outside a BAR. */
#include "dev/pci.h"

#include "core/info.h"
#include "core/memory.h"
#include "core/page.h"
#include "dev/dev.h"
#include "x86/interrupt.h"
#include "x86/io.h"

#define COMMAND 0x04
#define HEADER_TYPE 0x0e
#define BAR0 0x10
#define SECONDARY_BUS 0x19
#define CAPABILITIES 0x34
#define ADDRESS_PORT 0xcf8
#define DATA_PORT 0xcfc

static struct pci_device devices[128];
static u32 found; /* how many */
static volatile u8 *ecam_bus[256]; /* each bus is mapped when it is first looked at */

/* ---------------------------------------------------------------- registers */
static volatile u8 *ecam(const struct pci_device *d, u32 offset) {
    if (!tables.ecam || d->bus < tables.ecam_first_bus || d->bus > tables.ecam_last_bus)
        return NULL;
    if (!ecam_bus[d->bus]) /* the base address is that of bus 0, even if bus 0 is not there */
        ecam_bus[d->bus] = map_device((phys){tables.ecam + ((u64)d->bus << 20)}, 1 << 20);
    return ecam_bus[d->bus] + (d->slot << 15 | d->function << 12 | offset);
}

static void select(const struct pci_device *d, u32 offset) {
    outl(ADDRESS_PORT, 1u << 31 | (u32)d->bus << 16 | (u32)d->slot << 11 |
                           (u32)d->function << 8 | (offset & 0xfc));
}

u32 pci_read32(const struct pci_device *d, u32 offset) {
    volatile u8 *at = ecam(d, offset);
    if (at)
        return *(volatile u32 *)at;
    select(d, offset);
    return inl(DATA_PORT);
}

u16 pci_read16(const struct pci_device *d, u32 offset) {
    return (u16)(pci_read32(d, offset & ~3u) >> (8 * (offset & 2)));
}

u8 pci_read8(const struct pci_device *d, u32 offset) {
    return (u8)(pci_read32(d, offset & ~3u) >> (8 * (offset & 3)));
}

static void write32(const struct pci_device *d, u32 offset, u32 value) {
    volatile u8 *at = ecam(d, offset);
    if (at) {
        *(volatile u32 *)at = value;
        return;
    }
    select(d, offset);
    outl(DATA_PORT, value);
}

static void write16(const struct pci_device *d, u32 offset, u16 value) {
    volatile u8 *at = ecam(d, offset);
    if (at) {
        *(volatile u16 *)at = value;
        return;
    }
    select(d, offset);
    outw((u16)(DATA_PORT + (offset & 2)), value);
}

/* ---------------------------------------------------------------- finding */
static void scan_bus(u32 bus);

/* A bridge leads to a bus of a higher number than its own, and nothing is looked at once the
 * array is full: so the recursion ends, whatever the bridges claim. */
static void scan_function(struct pci_device d) {
    if (found == ARRAY_SIZE(devices))
        return;
    d.device = pci_read16(&d, 2);
    d.class = pci_read32(&d, 8) >> 8;
    devices[found++] = d;
    u32 bus = pci_read8(&d, SECONDARY_BUS);
    if ((pci_read8(&d, HEADER_TYPE) & 0x7f) == 1 && bus > d.bus)
        scan_bus(bus);
}

static void scan_bus(u32 bus) {
    for (u32 slot = 0; slot < 32; slot++) {
        struct pci_device first = {.bus = (u8)bus, .slot = (u8)slot};
        u32 functions = pci_read8(&first, HEADER_TYPE) & 0x80 ? 8 : 1;
        for (u32 function = 0; function < functions; function++) {
            struct pci_device d = first;
            d.function = (u8)function;
            d.vendor = pci_read16(&d, 0);
            if (d.vendor != 0xffff)
                scan_function(d);
            else if (function == 0)
                break;
        }
    }
}

/* Without the tables, the ports are there if the address register keeps what is written. */
void pci_init(void) {
    found = 0;
    if (tables.ecam || (outl(ADDRESS_PORT, 1u << 31), inl(ADDRESS_PORT) == 1u << 31))
        scan_bus(tables.ecam ? tables.ecam_first_bus : 0);
}

const struct pci_device *pci_find(const struct pci_device *after, u16 vendor, u32 class) {
    for (u32 i = after ? (u32)(after - devices) + 1 : 0; i < found; i++)
        if (devices[i].vendor == vendor && devices[i].class == class)
            return &devices[i];
    return NULL;
}

/* ---------------------------------------------------------------- using */
u32 pci_capability(const struct pci_device *d, u32 after, u8 kind) {
    u32 at = 0;
    if (after)
        at = pci_read8(d, after + 1);
    else if (pci_read16(d, COMMAND + 2) & 0x10)
        at = pci_read8(d, CAPABILITIES);
    for (u32 steps = 0; steps < 48 && at >= 0x40; steps++) {
        at &= 0xfc;
        if (pci_read8(d, at) == kind)
            return at;
        at = pci_read8(d, at + 1);
    }
    return 0;
}

/* Where a memory BAR lies and how large it is: the address bits that cannot be set tell. The
 * device decodes nothing meanwhile, and gets its address back. */
static bool bar_extent(const struct pci_device *d, u32 bar, u64 *address, u64 *bytes) {
    u32 offset = BAR0 + 4 * bar;
    if (bar >= 6)
        return false;
    u32 low = pci_read32(d, offset), high = 0;
    bool wide = (low & 6) == 4;
    if ((low & 1) || (wide && bar == 5))
        return false;
    u16 command = pci_read16(d, COMMAND);
    write16(d, COMMAND, command & ~3u);
    write32(d, offset, ~0u);
    u64 bits = 0xffffffff00000000 | (pci_read32(d, offset) & ~0xfu);
    write32(d, offset, low);
    if (wide) {
        high = pci_read32(d, offset + 4);
        write32(d, offset + 4, ~0u);
        bits = (u64)pci_read32(d, offset + 4) << 32 | (u32)bits;
        write32(d, offset + 4, high);
    }
    write16(d, COMMAND, command);
    *address = (u64)high << 32 | (low & ~0xfu);
    *bytes = bits & -bits;
    return *address != 0 && *bytes != 0 && *address + *bytes > *address;
}

volatile void *pci_map(const struct pci_device *d, u32 bar, u64 offset, u64 bytes) {
    u64 address, size;
    if (!bar_extent(d, bar, &address, &size) || offset > size || bytes > size - offset)
        return NULL;
    return map_device((phys){address + offset}, bytes);
}

enum { MEMORY = 2, MASTER = 4, NO_LINE = 1 << 10 };

void pci_enable(const struct pci_device *d) {
    devices[d - devices].driven = true;
    write16(d, COMMAND, pci_read16(d, COMMAND) | MEMORY | MASTER | NO_LINE);
}

bool pci_msix(const struct pci_device *d, void (*handler)(u32 entry), u32 count) {
    enum { ENABLE = 1 << 15, MASK_ALL = 1 << 14, MASKED = 1 };
    u32 at = pci_capability(d, 0, PCI_CAPABILITY_MSIX);
    if (!at)
        return false;
    u16 control = pci_read16(d, at + 2);
    u32 entries = (control & 0x7ff) + 1u, table = pci_read32(d, at + 4);
    volatile u32 *entry = count > entries ? NULL : pci_map(d, table & 7, table & ~7u, entries * 16ull);
    if (!entry)
        return false;
    write16(d, at + 2, control | ENABLE | MASK_ALL);
    for (u32 i = 0; i < entries; i++) {
        u64 address;
        u32 data;
        entry[4 * i + 3] |= MASKED;
        if (i >= count)
            continue;
        interrupt_message(interrupt_vector(handler, i), i, &address, &data);
        entry[4 * i] = (u32)address;
        entry[4 * i + 1] = (u32)(address >> 32);
        entry[4 * i + 2] = data;
        entry[4 * i + 3] &= ~(u32)MASKED;
    }
    write16(d, at + 2, (u16)((control | ENABLE) & ~MASK_ALL));
    return true;
}

/* ---------------------------------------------------------------- what the kernel does not drive */
#define FIXED 0xfec00000u /* from here to 4 GiB: interrupt controllers and firmware, whatever a device claims */

/* The registers of a device that may be BARs. A bridge has two; the others are something else. */
static u32 bars_of(const struct pci_device *d) { return (pci_read8(d, HEADER_TYPE) & 0x7f) == 1 ? 2 : 6; }
static bool is_wide(const struct pci_device *d, u32 bar) { return (pci_read32(d, BAR0 + 4 * bar) & 7) == 4; }

/* How many BARs have some of these bytes, of any device. */
static u32 claims(u64 address, u64 bytes) {
    u64 other, size;
    u32 count = 0;

    for (const struct pci_device *d = devices; d < devices + found; d++)
        for (u32 bar = 0; bar < bars_of(d); bar += 1 + is_wide(d, bar)) /* the next register is its upper half */
            count += bar_extent(d, bar, &other, &size) && other < address + bytes && address < other + size;
    return count;
}

/* Whether nothing else that is known lies in these pages. */
static bool is_alone(u64 address, u64 bytes) {
    u64 ecam_end = tables.ecam + ((tables.ecam_last_bus + 1ull) << 20);

    if ((address < 1ull << 32 && address + bytes > FIXED) || (address < ecam_end && address + bytes > tables.ecam))
        return false;
    for (u64 at = address; at < address + bytes; at += PAGE_SIZE) {
        struct page *p = page_get(page_of_phys((phys){at}));
        if (at >> PAGE_SHIFT > UINT32_MAX || (p && page_type(p) != PAGE_ABSENT))
            return false;
    }
    return claims(address, bytes) == 1;
}

/* Returns how many pages of the BAR are exposed. */
static u32 expose_bar(const struct pci_device *d, u32 bar, u32 index) {
    u64 address, bytes;

    if (info->devices == DEVICES || !bar_extent(d, bar, &address, &bytes) || (address | bytes) % PAGE_SIZE ||
        bytes / PAGE_SIZE > DEVICE_PAGES - index || !is_alone(address, bytes))
        return 0;
    info->device[info->devices++] = (struct device){
        .first = page_of_phys((phys){address}), .pages = (u32)(bytes / PAGE_SIZE), .index = index,
        .vendor = d->vendor, .device = d->device, .class = d->class, .bar = (u8)bar,
        .place = (u16)(d->bus << 8 | d->slot << 3 | d->function)};
    return (u32)(bytes / PAGE_SIZE);
}

void pci_expose(void) {
    enum { BRIDGE = 6 };
    u32 pages = 0;

    for (const struct pci_device *d = devices; d < devices + found; d++) {
        if (d->driven || d->class >> 16 == BRIDGE)
            continue;
        write16(d, COMMAND, (u16)((pci_read16(d, COMMAND) | MEMORY | NO_LINE) & ~MASTER));
        for (u32 bar = 0; bar < bars_of(d); bar += 1 + is_wide(d, bar))
            pages += expose_bar(d, bar, pages);
    }
    if (!pages)
        return;
    u32 array = (u32)(round_up(pages * sizeof(struct page), PAGE_SIZE) / PAGE_SIZE);
    device_array = expose(boot_pages(array), array);
    device_count = pages;
    info->device_array = page_of_phys(ptr_phys(device_array));
}
