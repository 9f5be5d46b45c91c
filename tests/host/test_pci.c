/* PCI's configuration space, played by memory: what is found, and that hostile registers neither
 * lead astray nor round in circles. */
// sources: kernel/dev/pci.c
#include "dev/pci.h"

#include "core/info.h"
#include "core/memory.h"
#include "core/page.h"
#include "dev/dev.h"
#include "x86/interrupt.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#define ECAM 0xb0000000

struct machine_tables tables = {.ecam = ECAM, .ecam_last_bus = 255};
static u8 *bus[256];
static u64 mapped_at, mapped_bytes;

/* No page of memory is where a device could claim one. */
static struct info the_info;
struct info *info = &the_info;
struct page *page_array;
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
    if (!bus[n])
        bus[n] = memset(malloc(1 << 20), 0xff, 1 << 20);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_finds, clear),
        cmocka_unit_test_setup(test_behind_bridges, clear),
        cmocka_unit_test_setup(test_bridges_in_circles, clear),
        cmocka_unit_test_setup(test_capabilities, clear),
        cmocka_unit_test_setup(test_bars, clear),
        cmocka_unit_test_setup(test_msix, clear),
        cmocka_unit_test_setup(test_expose, clear),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (u32 i = 0; i < 256; i++)
        free(bus[i]);
    return failed;
}
