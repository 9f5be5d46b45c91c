/* What the firmware's ACPI tables say: the CPUs, the I/O APICs, where PCI configuration space
 * lies, virtio devices that are only described there, and how the machine is switched off.
 *
 * acpi_init() runs once at boot, on one CPU; machine_end() may be called from anywhere, a panic
 * too. There is no interpreter for ACPI's byte code: the two things that only it tells (`_S5_`
 * and the MMIO devices of QEMU's microvm) are found by a search for their well-known bytes.
 *
 * No table is trusted. A table is read through field(), which gives 0 beyond its end; a table
 * with a bad length or checksum is left out; every array that is filled has a bound. What stays
 * unsaid has the value that every PC has. */
#include "core/info.h"
#include "core/memory.h"
#include "dev/dev.h"
#include "x86/io.h"

#define HEADER_BYTES 36
#define TABLE_BYTES_MOST (4u << 20)
#define TABLES_MOST 256

#define SIGNATURE(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)

/* Where ACPI puts a register: address space 0 is memory, 1 is I/O ports. */
struct reg {
    u16 port; /* 0: by memory */
    volatile u8 *memory; /* NULL: by port, or it is not there */
};

struct view {
    const u8 *at;
    u32 length;
};

struct machine_tables tables;
static u64 address_end; /* beyond it the CPU has no physical memory, and would fault */

/* What machine_end() needs: nothing is read or mapped any more when it runs. */
static struct {
    u16 smi_port, pm1a, pm1b;
    u8 smi_enable;
    bool s5_known;
    u8 s5_a, s5_b;
    struct reg sleep, reset;
    u8 reset_value;
} power;

/* The little-endian number of `width` bytes at offset; 0 if it is not all inside. */
static u64 field(const struct view *t, u64 offset, u32 width) {
    if (offset > t->length || width > t->length - offset)
        return 0;
    u64 value = 0;
    for (u32 i = 0; i < width; i++)
        value |= (u64)t->at[offset + i] << (8 * i);
    return value;
}

static bool view_open(struct view *t, u64 address, u32 length) {
    *t = (struct view){NULL, 0};
    if (address == 0 || address >= address_end || length > address_end - address)
        return false;
    t->at = map_table((phys){address}, length);
    t->length = length;
    return true;
}

static bool sums_to_zero(const struct view *t, u32 length) {
    u8 sum = 0;
    for (u32 i = 0; i < length; i++)
        sum += (u8)field(t, i, 1);
    return sum == 0;
}

static bool table_open(struct view *t, u64 address) {
    if (!view_open(t, address, HEADER_BYTES))
        return false;
    u32 signature = (u32)field(t, 0, 4), length = (u32)field(t, 4, 4);
    if (length >= HEADER_BYTES && length <= TABLE_BYTES_MOST && view_open(t, address, length) &&
        field(t, 0, 4) == signature && sums_to_zero(t, length))
        return true;
    print("acpi: the table at %lx is damaged\n", address);
    return false;
}

/* ---------------------------------------------------------------- MADT */
/* A CPU may be named twice, by an entry of either kind; only enabled ones count. */
static void add_cpu(u32 apic_id, u32 flags) {
    if (!(flags & 1) || tables.cpus == MAX_CPUS)
        return;
    for (u32 i = 0; i < tables.cpus; i++)
        if (tables.apic_id[i] == apic_id)
            return;
    tables.apic_id[tables.cpus++] = apic_id;
}

static void add_ioapic(u64 address, u32 first_gsi) {
    if (address == 0 || tables.ioapics == ARRAY_SIZE(tables.ioapic))
        return;
    tables.ioapic[tables.ioapics].address = address;
    tables.ioapic[tables.ioapics++].first_gsi = first_gsi;
}

static void set_isa(u32 irq, u32 gsi, u16 flags) {
    if (irq >= ARRAY_SIZE(tables.isa))
        return;
    tables.isa[irq].gsi = gsi;
    tables.isa[irq].flags = flags;
}

static void read_madt(const struct view *t) {
    if (field(t, 36, 4))
        tables.lapic = field(t, 36, 4);
    for (u64 at = 44; at + 2 <= t->length; at += field(t, at + 1, 1)) {
        /* The entry is seen through a view of its own, so one that is cut short reads as 0. */
        struct view e = {t->at + at, (u32)field(t, at + 1, 1)};
        if (e.length < 2 || e.length > t->length - at)
            return;
        switch (field(&e, 0, 1)) {
        case 0: /* local APIC; 255 means none */
            if (field(&e, 3, 1) != 255)
                add_cpu((u32)field(&e, 3, 1), (u32)field(&e, 4, 4));
            break;
        case 1: add_ioapic(field(&e, 4, 4), (u32)field(&e, 8, 4)); break;
        case 2: /* an ISA interrupt that is wired differently */
            if (e.length >= 10)
                set_isa((u32)field(&e, 3, 1), (u32)field(&e, 4, 4), (u16)field(&e, 8, 2));
            break;
        case 5:
            if (field(&e, 4, 8))
                tables.lapic = field(&e, 4, 8);
            break;
        case 9: add_cpu((u32)field(&e, 4, 4), (u32)field(&e, 8, 4)); break; /* local x2APIC */
        }
    }
}

/* ---------------------------------------------------------------- MCFG */
static void read_mcfg(const struct view *t) {
    for (u64 at = 44; at + 16 <= t->length; at += 16) {
        u64 base = field(t, at, 8);
        u8 first = (u8)field(t, at + 10, 1), last = (u8)field(t, at + 11, 1);
        if (field(t, at + 8, 2) != 0 || base == 0 || base >= address_end || first > last)
            continue; /* another segment, or nonsense */
        tables.ecam = base;
        tables.ecam_first_bus = first;
        tables.ecam_last_bus = last;
        return;
    }
}

/* ---------------------------------------------------------------- DSDT, SSDT */
/* A small constant of the byte code; moves on past it. */
static u8 aml_constant(const struct view *t, u64 *at) {
    u8 op = (u8)field(t, (*at)++, 1);
    if (op != 0x0a)
        return op == 1; /* ZeroOp and OneOp */
    return (u8)field(t, (*at)++, 1);
}

/* Name (_S5_, Package () { PM1a's sleep type, PM1b's, ... }) */
static void find_s5(const struct view *t) {
    for (u64 i = HEADER_BYTES; i + 8 < t->length && !power.s5_known; i++) {
        if (field(t, i, 4) != SIGNATURE('_', 'S', '5', '_') || field(t, i + 4, 1) != 0x12)
            continue;
        u64 at = i + 6 + (field(t, i + 5, 1) >> 6) + 1; /* over the length and the count */
        power.s5_a = aml_constant(t, &at) & 7;
        power.s5_b = aml_constant(t, &at) & 7;
        power.s5_known = true;
    }
}

/* A virtio MMIO device has the _HID "LNRO0005" and, close behind, a resource template with one
 * Memory32Fixed (86 09 00) and one Extended Interrupt (89 06 00) of one interrupt. */
static void find_virtio_mmio(const struct view *t) {
    enum { NEAR = 128 };
    u64 hid = SIGNATURE('L', 'N', 'R', 'O') | (u64)SIGNATURE('0', '0', '0', '5') << 32;
    for (u64 i = HEADER_BYTES; i + 8 < t->length; i++) {
        if (field(t, i, 8) != hid)
            continue;
        u64 address = 0, interrupt = 0;
        for (u64 at = i + 8; at < i + NEAR && field(t, at, 8) != hid; at++) {
            if (!address && field(t, at, 3) == 0x000986)
                address = field(t, at + 4, 4);
            if (!interrupt && field(t, at, 3) == 0x000689)
                interrupt = at;
        }
        if (!address || !interrupt || tables.virtio_mmios == ARRAY_SIZE(tables.virtio_mmio))
            continue;
        tables.virtio_mmio[tables.virtio_mmios].address = address;
        tables.virtio_mmio[tables.virtio_mmios++].gsi = (u32)field(t, interrupt + 5, 4);
    }
}

static void read_byte_code(const struct view *t) {
    find_s5(t);
    find_virtio_mmio(t);
}

/* ---------------------------------------------------------------- FADT */
/* A generic address structure: space, width, offset, access size, address. */
static struct reg read_reg(const struct view *t, u64 offset) {
    struct reg r = {0};
    u64 address = field(t, offset + 4, 8);
    u8 space = (u8)field(t, offset, 1);
    if (address == 0 || space > 1 || address >= (space ? 0x10000 : address_end))
        return r;
    if (space == 1)
        r.port = (u16)address;
    else
        r.memory = map_device((phys){address}, 1);
    return r;
}

static void read_fadt(const struct view *t) {
    u32 flags = (u32)field(t, 112, 4);
    bool reduced = flags & 1u << 20;
    if (flags & 1u << 10) {
        power.reset = read_reg(t, 116);
        power.reset_value = (u8)field(t, 128, 1);
    }
    if (reduced) {
        power.sleep = read_reg(t, 244);
    } else {
        power.smi_port = (u16)field(t, 48, 4);
        power.smi_enable = (u8)field(t, 52, 1);
        power.pm1a = (u16)field(t, 64, 4);
        power.pm1b = (u16)field(t, 68, 4);
    }
    u64 dsdt = field(t, 140, 8) ? field(t, 140, 8) : field(t, 40, 4);
    struct view code;
    if (table_open(&code, dsdt))
        read_byte_code(&code);
}

/* ---------------------------------------------------------------- the root */
static void read_table(u64 address) {
    struct view t;
    if (!table_open(&t, address))
        return;
    switch (field(&t, 0, 4)) {
    case SIGNATURE('A', 'P', 'I', 'C'): read_madt(&t); break;
    case SIGNATURE('M', 'C', 'F', 'G'): read_mcfg(&t); break;
    case SIGNATURE('F', 'A', 'C', 'P'): read_fadt(&t); break;
    case SIGNATURE('S', 'S', 'D', 'T'): read_byte_code(&t); break;
    }
}

static void read_all(u64 rsdp) {
    struct view t, root;
    if (!view_open(&t, rsdp, 20) || field(&t, 0, 8) != 0x2052545020445352 /* "RSD PTR " */ || !sums_to_zero(&t, 20)) {
        print("acpi: no root pointer\n");
        return;
    }
    u32 width = 4;
    u64 address = field(&t, 16, 4);
    if (field(&t, 15, 1) >= 2 && view_open(&t, rsdp, 36) && sums_to_zero(&t, 36) &&
        field(&t, 24, 8)) {
        width = 8;
        address = field(&t, 24, 8);
    }
    if (!table_open(&root, address))
        return;
    u64 end = min_u64(root.length, HEADER_BYTES + TABLES_MOST * width);
    for (u64 at = HEADER_BYTES; at + width <= end; at += width)
        read_table(field(&root, at, width));
}

void acpi_init(u64 rsdp) {
    address_end = 1ull << (cpuid(0x80000000, 0).a >= 0x80000008 ? cpuid(0x80000008, 0).a & 0x3f : 36);
    tables = (struct machine_tables){.lapic = 0xfee00000};
    power = (typeof(power)){0};
    for (u32 i = 0; i < ARRAY_SIZE(tables.isa); i++)
        set_isa(i, i == 0 ? 2 : i, 0); /* the timer is on pin 2 of every PC's I/O APIC */
    read_all(rsdp);
    if (tables.cpus == 0)
        add_cpu(cpuid(1, 0).b >> 24, 1);
    if (tables.ioapics == 0)
        add_ioapic(0xfec00000, 0);
}

/* ---------------------------------------------------------------- the end */
static void reg_write(const struct reg *r, u8 value) {
    if (r->port)
        outb(r->port, value);
    else if (r->memory)
        *r->memory = value;
}

static void pm1_write(u16 port, u8 type) {
    enum { SLEEP_TYPE = 7 << 10, SLEEP_ENABLE = 1 << 13 };
    if (port)
        outw(port, (u16)((inw(port) & ~SLEEP_TYPE) | type << 10 | SLEEP_ENABLE));
}

/* The fixed registers answer only after firmware has been asked to hand them over. */
static void pm1_claim(void) {
    if (!power.pm1a || !power.smi_port || !power.smi_enable || (inw(power.pm1a) & 1))
        return;
    outb(power.smi_port, power.smi_enable);
    for (u32 i = 0; i < 1000000 && !(inw(power.pm1a) & 1); i++)
        cpu_relax();
}

static void acpi_off(void) {
    if (!power.s5_known)
        return;
    reg_write(&power.sleep, (u8)(power.s5_a << 2 | 1 << 5));
    pm1_claim();
    pm1_write(power.pm1a, power.s5_a);
    pm1_write(power.pm1b, power.s5_b);
}

static void settle(void) {
    for (u32 i = 0; i < 100000; i++)
        cpu_relax();
}

/* The register that the tables name, the chipset's, a triple fault. */
NORETURN static void reset(void) {
    static const u8 no_idt[10]; /* limit and base */
    reg_write(&power.reset, power.reset_value);
    settle();
    outb(0xcf9, 2);
    outb(0xcf9, 6);
    settle();
    __asm__ volatile("lidt %0; int3" : : "m"(no_idt));
    __builtin_unreachable();
}

static bool test_machine(void) {
    static const char word[] = "testexit";
    const char *text = info ? (const char *)info->command_line : "";
    u32 n = sizeof(word) - 1;
    for (u32 i = 0; i + n < sizeof(info->command_line) && text[i]; i++)
        if ((i == 0 || text[i - 1] == ' ') && memcmp(text + i, word, n) == 0 &&
            (text[i + n] == ' ' || text[i + n] == 0))
            return true;
    return false;
}

NORETURN void machine_end(u32 how) {
    if (how != POWER_RESET) {
        if (test_machine()) {
            outb(0xf4, how == POWER_OFF ? TEST_PASSED : TEST_FAILED);
            settle();
        }
        acpi_off();
        settle();
    }
    reset();
}
