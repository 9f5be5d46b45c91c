/* The reader of the ACPI tables, on tables as QEMU's machines have them, on damaged ones and on
 * ones that claim nonsense. Every piece of memory that it maps is a copy of just that size, so
 * that the address sanitizer sees each byte read beyond it. */
// sources: kernel/dev/acpi.c
#include "core/info.h"
#include "core/memory.h"
#include "dev/dev.h"

#include <string.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- the fake machine: some pieces of memory, all else reads as ones */
static struct piece_of_memory {
    u64 at;
    u32 bytes;
    u8 data[8192];
} memory[16];
static u32 pieces;
static void *mapped[65536];
static u32 mappings;
static u64 devices[16];
static u32 device_mappings;

struct info *info;

static void *remember(void *p) {
    assert_true(mappings < ARRAY_SIZE(mapped));
    return mapped[mappings++] = p;
}

const void *map_table(phys p, u64 bytes) {
    u8 *copy = remember(malloc(bytes));
    memset(copy, 0xff, bytes);
    for (u32 i = 0; i < pieces; i++)
        for (u32 k = 0; k < memory[i].bytes; k++)
            if (memory[i].at + k - p.v < bytes)
                copy[memory[i].at + k - p.v] = memory[i].data[k];
    return copy;
}

volatile void *map_device(phys p, u64 bytes) {
    devices[device_mappings++ % ARRAY_SIZE(devices)] = p.v;
    return remember(malloc(bytes));
}

static void forget_mappings(void) {
    while (mappings)
        free(mapped[--mappings]);
    device_mappings = 0;
}

static int clear(void **state) {
    (void)state;
    forget_mappings();
    pieces = 0;
    return 0;
}

static bool device_mapped(u64 at) {
    for (u32 i = 0; i < device_mappings && i < ARRAY_SIZE(devices); i++)
        if (devices[i] == at)
            return true;
    return false;
}

/* ---- making tables */
static void put(u8 *p, u64 value, u32 bytes) {
    for (u32 i = 0; i < bytes; i++)
        p[i] = (u8)(value >> (8 * i));
}

static void fix_sum(u8 *p, u32 bytes, u32 at) {
    u8 sum = 0;
    p[at] = 0;
    for (u32 i = 0; i < bytes; i++)
        sum += p[i];
    p[at] = (u8)-sum;
}

static struct piece_of_memory *add_piece(u64 at, u32 bytes) {
    struct piece_of_memory *m = &memory[pieces++];
    m->at = at;
    m->bytes = bytes;
    memset(m->data, 0, sizeof(m->data));
    return m;
}

/* A table of this signature with what follows the header given in hexadecimal. */
static struct piece_of_memory *add_table(u64 at, const char *signature, const char *hex) {
    u32 bytes = 36 + (u32)strlen(hex) / 2;
    struct piece_of_memory *m = add_piece(at, bytes);
    memcpy(m->data, signature, 4);
    put(m->data + 4, bytes, 4);
    for (u32 i = 36; i < bytes; i++, hex += 2)
        m->data[i] = (u8)strtoul((char[]){hex[0], hex[1], 0}, NULL, 16);
    fix_sum(m->data, bytes, 9);
    return m;
}

static void seal(struct piece_of_memory *m) { fix_sum(m->data, m->bytes, 9); }

/* The root pointer, and a root table of the tables added before it. */
static void add_root(u64 at, bool wide) {
    u32 tables_before = pieces, width = wide ? 8 : 4;
    struct piece_of_memory *root = add_table(0x7f000, wide ? "XSDT" : "RSDT", "");
    for (u32 i = 0; i < tables_before; i++, root->bytes += width)
        put(root->data + root->bytes, memory[i].at, width);
    put(root->data + 4, root->bytes, 4);
    seal(root);
    struct piece_of_memory *m = add_piece(at, 36);
    memcpy(m->data, "RSD PTR ", 8);
    if (wide) {
        m->data[15] = 2;
        put(m->data + 20, 36, 4);
        put(m->data + 24, root->at, 8);
    } else {
        put(m->data + 16, root->at, 4);
    }
    fix_sum(m->data, 20, 8);
    fix_sum(m->data, 36, 32);
}

#define RSDP 0xf59e0

/* What QEMU 7.2 gives, with 3 CPUs: q35, */
static const char q35_madt[] =
    "0000e0fe01000000000800000100000000080101010000000008020201000000010c00000000c0fe00000000"
    "020a0000020000000000020a0005050000000d00020a0009090000000d00020a000a0a0000000d00"
    "020a000b0b0000000d000406ff000001";
static const char q35_mcfg[] = "0000000000000000000000b000000000000000ff00000000";
static const char q35_fadt[] =
    "0000fe034000fe0301000900b20000000203000000060000000000000406000000000000000000000000000000"
    "0600002006000000000000040200041000000000000000000000000000000000000000000000000084000001"
    "080000f90c0000000000000f0000";
/* and microvm, whose code names two virtio devices. */
static const char microvm_code[] =
    "104e165f53425f5b822e46574346085f4849440d51454d553030303200085f5354410a0b085f435253110d0a0a"
    "470110051005010c79005b82255254435f085f4849440c41d00b00085f43525311100a0d4701700070000108"
    "22000179005b824c064745445f085f4849440d414350493030313300085f5549440d47454400085f43525311"
    "0e0a0b89060003010900000079005b8045524547000c0000a0fe0a045b810b45524547434553454c20141d5f"
    "45565409704553454c60a010937b600a02000a0286505752420a805b821950575242085f4849440d504e5030"
    "43304300085f554944005b82420456523233085f4849440d4c4e524f3030303500085f5549440a17085f4343"
    "4101085f435253111a0a1786090001002eb0fe0002000089060001012f00000079005b82420456523232085f"
    "4849440d4c4e524f3030303500085f5549440a16085f43434101085f435253111a0a1786090001002cb0fe00"
    "02000089060001012e000000790010105c00085f53355f1207040a05000000";

static struct piece_of_memory *add_fadt(u64 at, u32 bytes, u32 flags, u64 code) {
    struct piece_of_memory *m = add_table(at, "FACP", "");
    m->bytes = bytes;
    put(m->data + 4, bytes, 4);
    put(m->data + 112, flags, 4);
    put(m->data + 140, code, 8);
    seal(m);
    return m;
}

static void q35(void) {
    add_table(0x3000, "FACP", q35_fadt);
    add_table(0x2000, "APIC", q35_madt);
    add_table(0x4000, "MCFG", q35_mcfg);
    add_root(RSDP, false);
}

static void microvm(bool wide) {
    add_table(0x2000, "APIC", q35_madt);
    struct piece_of_memory *fadt = add_fadt(0x3000, 268, 1 << 20 | 1 << 10, 0x5000);
    put(fadt->data + 116 + 4, 0xfea00202, 8); /* reset */
    put(fadt->data + 244 + 4, 0xfea00200, 8); /* sleep control */
    seal(fadt);
    add_root(RSDP, wide);
    add_table(0x5000, "DSDT", microvm_code);
}

static void init(u64 rsdp) {
    forget_mappings();
    acpi_init(rsdp);
    assert_in_range(tables.cpus, 1, MAX_CPUS);
    assert_in_range(tables.ioapics, 1, ARRAY_SIZE(tables.ioapic));
    assert_true(tables.virtio_mmios <= ARRAY_SIZE(tables.virtio_mmio));
    assert_true(tables.ecam_first_bus <= tables.ecam_last_bus);
}

/* ---- what they say */
static void expect_q35(void) {
    assert_int_equal(tables.cpus, 3);
    for (u32 i = 0; i < 3; i++)
        assert_int_equal(tables.apic_id[i], i);
    assert_int_equal(tables.lapic, 0xfee00000);
    assert_int_equal(tables.ioapics, 1);
    assert_int_equal(tables.ioapic[0].address, 0xfec00000);
    assert_int_equal(tables.isa[0].gsi, 2);
    assert_int_equal(tables.isa[4].gsi, 4);
    assert_int_equal(tables.isa[4].flags, 0);
    assert_int_equal(tables.isa[9].flags, 0xd);
    assert_int_equal(tables.ecam, 0xb0000000);
    assert_int_equal(tables.ecam_last_bus, 255);
    assert_int_equal(tables.virtio_mmios, 0);
}

static void test_q35(void **state) {
    (void)state;
    q35();
    init(RSDP);
    expect_q35();
}

static void test_microvm(void **state) {
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        pieces = 0;
        microvm(wide);
        init(RSDP);
        assert_int_equal(tables.cpus, 3);
        assert_int_equal(tables.ecam, 0);
        assert_int_equal(tables.virtio_mmios, 2);
        assert_int_equal(tables.virtio_mmio[0].address, 0xfeb02e00);
        assert_int_equal(tables.virtio_mmio[0].gsi, 0x2f);
        assert_int_equal(tables.virtio_mmio[1].address, 0xfeb02c00);
        assert_int_equal(tables.virtio_mmio[1].gsi, 0x2e);
        assert_true(device_mapped(0xfea00200));
        assert_true(device_mapped(0xfea00202));
    }
}

static void expect_defaults(void) {
    assert_int_equal(tables.cpus, 1);
    assert_int_equal(tables.lapic, 0xfee00000);
    assert_int_equal(tables.ioapic[0].address, 0xfec00000);
    assert_int_equal(tables.isa[0].gsi, 2);
    assert_int_equal(tables.isa[15].gsi, 15);
    assert_int_equal(tables.ecam, 0);
    assert_int_equal(device_mappings, 0);
}

static void test_no_tables(void **state) {
    (void)state;
    init(0);
    expect_defaults();
    init(RSDP);
    expect_defaults();
    init(~0ull);
    expect_defaults();
    init(~0ull >> 1);
    expect_defaults();
}

static void test_x2apic(void **state) {
    (void)state;
    add_table(0x2000, "APIC",
              "0000e0fe01000000" /* local APICs at 0xfee00000 */
              "0910000000010000" "0100000000000000" /* 0x100, enabled */
              "0910000001010000" "0200000000000000" /* only could be */
              "0008000501000000"                    /* 5 */
              "0910000005000000" "0100000000000000" /* 5 again */
              "000800ff01000000"                    /* none */
              "050c0000000000e001000000"            /* local APICs at 0x1e0000000 */
              "010c0000000000000000000000");        /* an I/O APIC nowhere, one byte too many */
    add_root(RSDP, true);
    init(RSDP);
    assert_int_equal(tables.cpus, 2);
    assert_int_equal(tables.apic_id[0], 0x100);
    assert_int_equal(tables.apic_id[1], 5);
    assert_int_equal(tables.lapic, 0x1e0000000);
    assert_int_equal(tables.ioapic[0].address, 0xfec00000);
}

static void test_too_many(void **state) {
    (void)state;
    struct piece_of_memory *m = add_table(0x2000, "APIC", "0000e0fe01000000");
    for (u32 i = 0; i < 200; i++, m->bytes += 8)
        put(m->data + m->bytes, 0x0000000100000800 | (u64)i << 24, 8);
    for (u32 i = 0; i < 20; i++, m->bytes += 12) {
        put(m->data + m->bytes, 0x0c01, 2);
        put(m->data + m->bytes + 4, 0xfec00000 + i * 4096, 4);
    }
    m->data[m->bytes] = 2; /* an interrupt that no ISA bus has */
    m->data[m->bytes + 1] = 10;
    m->data[m->bytes + 3] = 200;
    m->bytes += 10;
    put(m->data + 4, m->bytes, 4);
    seal(m);
    add_root(RSDP, false);
    init(RSDP);
    assert_int_equal(tables.cpus, MAX_CPUS);
    assert_int_equal(tables.ioapics, ARRAY_SIZE(tables.ioapic));
}

/* ---- damage */
static void test_bad_sum(void **state) {
    (void)state;
    q35();
    for (u32 i = 0; i < pieces; i++) {
        memory[i].data[8] ^= 1; /* in the root pointer the sum itself, in tables the revision */
        init(RSDP);
        if (memory[i].at == 0x2000 || i >= 3)
            assert_int_equal(tables.cpus, 1);
        if (memory[i].at == 0x4000)
            assert_int_equal(tables.ecam, 0);
        memory[i].data[8] ^= 1;
    }
    init(RSDP);
    expect_q35();
}

static void test_lengths(void **state) {
    (void)state;
    static const u32 lengths[] = {0, 1, 8, 35, 36, 37, 44, 45, 52, 116, 5u << 20, 0x7fffffff, ~0u};
    microvm(true);
    add_table(0x4000, "MCFG", q35_mcfg);
    for (u32 i = 0; i < pieces; i++)
        for (u32 k = 0; k < ARRAY_SIZE(lengths); k++) {
            struct piece_of_memory before = memory[i];
            put(memory[i].data + 4, lengths[k], 4);
            if (lengths[k] > 9 && lengths[k] < sizeof(before.data)) {
                memory[i].bytes = lengths[k];
                seal(&memory[i]);
            }
            init(RSDP);
            memory[i] = before;
        }
}

static void test_entries_that_do_not_move_on(void **state) {
    (void)state;
    add_table(0x2000, "APIC", "0000e0fe01000000" "0000000000000000" "0008000501000000");
    add_root(RSDP, false);
    init(RSDP);
    assert_int_equal(tables.cpus, 1);
}

static void test_root_that_lists_itself(void **state) {
    (void)state;
    q35();
    put(memory[3].data + 36, memory[3].at, 4);
    put(memory[3].data + 40, 0xfffff000, 4);
    seal(&memory[3]);
    init(RSDP);
    assert_int_equal(tables.ecam, 0xb0000000);
}

/* Random bytes anywhere, with sums that are right again. */
static void test_random_damage(void **state) {
    (void)state;
    srandom(1);
    for (u32 round = 0; round < 20000; round++) {
        pieces = 0;
        if (round & 1)
            microvm(round & 2);
        else
            q35();
        for (u32 hits = 1 + (u32)random() % 4; hits; hits--) {
            struct piece_of_memory *m = &memory[(u32)random() % pieces];
            m->data[(u32)random() % m->bytes] = (u8)random();
            if (m->at != RSDP) {
                seal(m);
            } else {
                fix_sum(m->data, 20, 8);
                fix_sum(m->data, 36, 32);
            }
        }
        init(RSDP);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_q35, clear, clear),
        cmocka_unit_test_setup_teardown(test_microvm, clear, clear),
        cmocka_unit_test_setup_teardown(test_no_tables, clear, clear),
        cmocka_unit_test_setup_teardown(test_x2apic, clear, clear),
        cmocka_unit_test_setup_teardown(test_too_many, clear, clear),
        cmocka_unit_test_setup_teardown(test_bad_sum, clear, clear),
        cmocka_unit_test_setup_teardown(test_lengths, clear, clear),
        cmocka_unit_test_setup_teardown(test_entries_that_do_not_move_on, clear, clear),
        cmocka_unit_test_setup_teardown(test_root_that_lists_itself, clear, clear),
        cmocka_unit_test_setup_teardown(test_random_damage, clear, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
