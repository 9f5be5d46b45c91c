/* PCI's configuration space, played by memory: what is found, and that hostile registers neither
 * lead astray nor round in circles. */
// sources: kernel/dev/pci.c
#define _GNU_SOURCE /* registers in signal contexts */
#include "dev/pci.h"

#include "core/info.h"
#include "core/memory.h"
#include "core/page.h"
#include "dev/dev.h"
#include "x86/interrupt.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmocka.h>

#define ECAM 0xb0000000

struct machine_tables tables = {.ecam = ECAM, .ecam_last_bus = 255};
static u8 *bus[256];
static u64 mapped_at, mapped_bytes;

/* No page of memory is where a device could claim one. */
static struct info the_info;
struct info *info = &the_info;
static struct page the_pages[2];
struct page *page_array = the_pages;
u32 page_count;
struct page *page_get_device(u32 page) {
    (void)page;
    return NULL;
}
struct page *device_array;
u32 device_count;
void *boot_pages(u32 pages) { return page_array + pages; }
void *expose(void *p, u32 pages) { return p && pages ? p : NULL; }

/* A bus nobody has put a device on reads as ones. */
static u8 *bus_memory(u32 n) {
    if (!bus[n]) {
        bus[n] = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(bus[n] != MAP_FAILED);
        memset(bus[n], 0xff, 1 << 20);
    }
    return bus[n];
}

volatile void *map_device(phys p, u64 bytes) {
    if (p.v >= ECAM && p.v < ECAM + (256 << 20))
        return bus_memory((u32)(p.v - ECAM) >> 20);
    mapped_at = p.v;
    mapped_bytes = bytes;
    return bus_memory(255);
}
void interrupt_message(u32 vector, u32 cpu, u64 *address, u32 *data) {
    *address = 0xfee00000 | cpu << 12;
    *data = vector;
}
static u32 vectors; /* ever allotted */
static void handler(u32 argument) { fail_msg("interrupt %u", argument); }
u32 interrupt_vector(void (*h)(u32 argument), u32 argument) {
    assert_true(h == handler);
    vectors++;
    return 0x40 + argument;
}

/* A function of this class, with all else zero. */
static u8 *add(u32 b, u32 slot, u32 function, u16 vendor, u32 class, u8 header) {
    u8 *f = memset(bus_memory(b) + (slot << 15 | function << 12), 0, 4096);
    memcpy(f, &vendor, 2);
    class <<= 8;
    memcpy(f + 8, &class, 4);
    f[0x0e] = header;
    return f;
}

static void put32(u8 *f, u32 offset, u32 value) { memcpy(f + offset, &value, 4); }

static u32 count(u16 vendor, u32 class) {
    u32 n = 0;
    for (const struct pci_device *d = NULL; (d = pci_find(d, vendor, class)); n++)
        ;
    return n;
}

static int clear(void **state) {
    (void)state;
    for (u32 i = 0; i < 256; i++)
        if (bus[i])
            memset(bus[i], 0xff, 1 << 20);
    return 0;
}

static void test_finds(void **state) {
    (void)state;
    add(0, 0, 0, 0x8086, 0x060000, 0);
    add(0, 3, 0, 0x1af4, 0x020000, 0);
    add(0, 3, 1, 0x1af4, 0x020000, 0); /* not there: function 0 says that it is alone */
    add(0, 31, 0, 0x8086, 0x060100, 0x80);
    add(0, 31, 7, 0x1af4, 0x020000, 0);
    pci_init();
    assert_int_equal(count(0x1af4, 0x020000), 2);
    assert_int_equal(count(0x8086, 0x060100), 1);
    assert_int_equal(count(0x8086, 0x020000), 0);
    const struct pci_device *d = pci_find(pci_find(NULL, 0x1af4, 0x020000), 0x1af4, 0x020000);
    assert_int_equal(d->slot, 31);
    assert_int_equal(d->function, 7);
}

static void test_behind_bridges(void **state) {
    (void)state;
    add(0, 1, 0, 0x8086, 0x060400, 1)[0x19] = 5;
    add(5, 2, 0, 0x8086, 0x060400, 1)[0x19] = 9;
    add(9, 0, 0, 0x1af4, 0x020000, 0);
    pci_init();
    assert_int_equal(count(0x1af4, 0x020000), 1);
    assert_int_equal(pci_find(NULL, 0x1af4, 0x020000)->bus, 9);
}

/* Every slot of every bus is a bridge to the next bus, or back. */
static void test_bridges_in_circles(void **state) {
    (void)state;
    for (u32 b = 0; b < 254; b++)
        for (u32 slot = 0; slot < 32; slot++)
            add(b, slot, 0, 0x8086, 0x060400, 1)[0x19] = (u8)(slot % 2 ? b + 1 : b / 2);
    pci_init();
    assert_in_range(count(0x8086, 0x060400), 1, 128);
}

static const struct pci_device *one(u8 **registers) {
    *registers = add(0, 4, 0, 0x1af4, 0x020000, 0);
    (*registers)[6] = 0x10; /* it has capabilities */
    pci_init();
    return pci_find(NULL, 0x1af4, 0x020000);
}

static void test_capabilities(void **state) {
    (void)state;
    u8 *f;
    const struct pci_device *d = one(&f);
    f[0x34] = 0x41; /* the low bits do not count */
    f[0x40] = 9, f[0x41] = 0x60;
    f[0x60] = 0x11, f[0x61] = 0xf8;
    f[0xf8] = 9, f[0xf9] = 0;
    assert_int_equal(pci_capability(d, 0, 9), 0x40);
    assert_int_equal(pci_capability(d, 0x40, 9), 0xf8);
    assert_int_equal(pci_capability(d, 0xf8, 9), 0);
    assert_int_equal(pci_capability(d, 0, 0x11), 0x60);
    assert_int_equal(pci_capability(d, 0, 0x05), 0);
    f[0xf9] = 0x40; /* in circles */
    assert_int_equal(pci_capability(d, 0, 0x05), 0);
    f[0x34] = 0x3c; /* into the header */
    assert_int_equal(pci_capability(d, 0, 9), 0);
    f[0x34] = 0xff;
    assert_int_equal(pci_capability(d, 0, 0x05), 0);
}

/* This memory keeps every bit that is written, so a 32-bit BAR seems to be 16 bytes large. */
static void test_bars(void **state) {
    (void)state;
    u8 *f;
    const struct pci_device *d = one(&f);
    put32(f, 0x10, 0xfebf0000);
    put32(f, 0x14, 0xc001);     /* ports */
    put32(f, 0x18, 0xfebe0004); /* 64 bits */
    put32(f, 0x1c, 0x8);
    put32(f, 0x24, 0xfebd0004); /* 64 bits, with no room for them */
    put32(f, 4, 0x100003);
    assert_non_null(pci_map(d, 0, 4, 12));
    assert_int_equal(mapped_at, 0xfebf0004);
    assert_int_equal(mapped_bytes, 12);
    assert_null(pci_map(d, 0, 4, 13));
    assert_null(pci_map(d, 0, 17, 0));
    assert_null(pci_map(d, 0, ~0ull, 2));
    assert_null(pci_map(d, 1, 0, 4));
    assert_non_null(pci_map(d, 2, 0, 16));
    assert_int_equal(mapped_at, 0x8febe0000);
    assert_null(pci_map(d, 4, 0, 4)); /* not assigned */
    assert_null(pci_map(d, 5, 0, 4));
    assert_null(pci_map(d, 6, 0, 4));
    assert_null(pci_map(d, 255, 0, 4));
    assert_int_equal(pci_read32(d, 0x10), 0xfebf0000); /* what the firmware assigned is back */
    assert_int_equal(pci_read32(d, 0x1c), 0x8);
    assert_int_equal(pci_read32(d, 4), 0x100003);
}

static void test_msix(void **state) {
    (void)state;
    u8 *f;
    const struct pci_device *d = one(&f);
    assert_false(pci_msix(d, handler, 1)); /* it has none */
    f[0x34] = 0x40;
    f[0x40] = 0x11;
    assert_false(pci_msix(d, handler, 1)); /* its table is nowhere */
    put32(f, 0x10, 0xfebf0000);
    assert_false(pci_msix(d, handler, 2)); /* it has one entry */
    assert_int_equal(vectors, 0);
    assert_true(pci_msix(d, handler, 1));
    const u32 *entry = (const u32 *)bus[255];
    assert_int_equal(mapped_at, 0xfebf0000);
    assert_int_equal(entry[0], 0xfee00000);
    assert_int_equal(entry[2], 0x40);
    assert_false(entry[3] & 1);
    assert_int_equal(pci_read16(d, 0x42) & 0xc000, 0x8000);
    put32(f, 0x40, 0x00010011); /* two entries do not fit the BAR */
    assert_false(pci_msix(d, handler, 1));
    assert_int_equal(vectors, 1);
}

/* What the kernel does not drive cannot reach memory any more; bridges and what is driven can. Memory that is no whole pages, as
 * all is here, goes to nobody. */
static void test_expose(void **state) {
    (void)state;
    u8 *driven, *other = add(0, 5, 0, 0x1234, 0x030000, 0), *bridge = add(0, 6, 0, 0x8086, 0x060400, 1);
    const struct pci_device *d = one(&driven);
    pci_enable(d);
    put32(other, 4, 0x5);
    put32(other, 0x10, 0xfd000000);
    put32(other, 0x14, 0xfc000004);
    put32(bridge, 4, 0x7);
    pci_expose();
    assert_int_equal(other[4], 0x2 | 0x1);
    assert_int_equal(other[5], 0x4); /* no interrupt line */
    assert_int_equal(driven[4] & 4, 4);
    assert_int_equal(bridge[4], 0x7);
    assert_int_equal(the_info.devices, 0);
}

/* BARs with a size, on bus 0: writing to it traps, and after each write the address bits that no BAR of its size
 * has are 0 again, as are those that are no address. */
#define FUNCTIONS 8
static struct { u8 *registers; u32 bytes; } sized[FUNCTIONS];
static void after_write(void) {
    for (u32 i = 0; i < FUNCTIONS && sized[i].registers; i++) {
        u32 value;
        memcpy(&value, sized[i].registers + 0x10, 4);
        put32(sized[i].registers, 0x10, value & -sized[i].bytes);
    }
}
static void on_write(int number, siginfo_t *about, void *context) {
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
    (void)about;
    if (number == SIGTRAP)
        after_write();
    mprotect(bus[0], 1 << 20, number == SIGTRAP ? PROT_READ : PROT_READ | PROT_WRITE);
    *flags = number == SIGTRAP ? *flags & ~0x100ll : *flags | 0x100; /* one instruction goes on, and traps */
}

static u8 *memory_device(u32 slot, u32 class, u8 header, u32 address, u32 bytes) {
    u8 *f = add(0, slot, 0, 0x1234, class, header);
    put32(f, 0x10, address);
    sized[slot - 1].registers = f;
    sized[slot - 1].bytes = bytes;
    return f;
}

/* Firmware that gave two devices the same place: neither is given to anybody. */
static void test_overlapping(void **state) {
    (void)state;
    struct sigaction action = {.sa_sigaction = on_write, .sa_flags = SA_SIGINFO}, before[2];
    the_info = (struct info){0};
    memory_device(1, 0x030000, 0, 0xd0000000, 0x2000);
    memory_device(2, 0x030000, 0, 0xd0000000, 0x4000); /* around the first */
    memory_device(3, 0x030000, 0, 0xd0100000, 0x1000); /* alone */
    memory_device(4, 0x020000, 0, 0xd0200000, 0x1000); /* driven by the kernel ... */
    memory_device(5, 0x030000, 0, 0xd0200000, 0x2000); /* ... which this one claims as well */
    u8 *bridge = memory_device(6, 0x060400, 1, 0xd0300000, 0x10000);
    memory_device(7, 0x030000, 0, 0xd0304000, 0x4000); /* within the bridge's own registers */
    memory_device(8, 0x030000, 0, 0xd0308000, 0x8000); /* and this one behind it, within them too */
    put32(bridge, 0x18, 0x00050500); /* a bridge's buses are no BAR */
    pci_init();
    pci_enable(pci_find(NULL, 0x1234, 0x020000));
    mprotect(bus[0], 1 << 20, PROT_READ);
    sigaction(SIGSEGV, &action, &before[0]);
    sigaction(SIGTRAP, &action, &before[1]);
    pci_expose();
    sigaction(SIGSEGV, &before[0], NULL);
    sigaction(SIGTRAP, &before[1], NULL);
    mprotect(bus[0], 1 << 20, PROT_READ | PROT_WRITE);
    memset(sized, 0, sizeof(sized));
    assert_int_equal(the_info.devices, 1);
    assert_int_equal(the_info.device[0].first, 0xd0100000 >> 12);
    assert_int_equal(the_info.device[0].pages, 1);
    assert_int_equal(device_count, 1);
    u32 buses;
    memcpy(&buses, bridge + 0x18, 4);
    assert_int_equal(buses, 0x00050500);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_finds, clear),
        cmocka_unit_test_setup(test_behind_bridges, clear),
        cmocka_unit_test_setup(test_bridges_in_circles, clear),
        cmocka_unit_test_setup(test_capabilities, clear),
        cmocka_unit_test_setup(test_bars, clear),
        cmocka_unit_test_setup(test_msix, clear),
        cmocka_unit_test_setup(test_expose, clear),
        cmocka_unit_test_setup(test_overlapping, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
