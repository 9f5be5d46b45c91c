/* Local APIC by MMIO or, where the CPU has it, x2APIC; I/O APICs; vectors for devices.
 * Intel SDM vol. 3, chapter 11; Intel 82093AA. */
#include "x86/apic.h"

#include "core/cpu.h"
#include "core/memory.h"
#include "dev/dev.h"
#include "x86/clock.h"
#include "x86/interrupt.h"
#include "x86/io.h"
#include "x86/registers.h"

#define ID 0x20
#define EOI 0xb0
#define SPURIOUS 0xf0
#define ICR 0x300
#define TIMER 0x320
#define TIMER_COUNT 0x380
#define TIMER_LEFT 0x390
#define TIMER_DIVIDE 0x3e0
#define MASKED (1 << 16)
#define TSC_DEADLINE (2 << 17)

#define VECTORS 32
static struct { void (*handler)(u32); u32 argument; } device[VECTORS];
static u32 devices;

static volatile u32 *registers; /* NULL: x2APIC */
static bool by_deadline;        /* the timer takes a TSC value */
static u64 timer_scale;         /* timer ticks for a TSC tick, times 2^32 */
static struct { volatile u32 *at; u32 first, count; } ioapic[8];

static u32 read(u32 reg) { return registers ? registers[reg / 4] : (u32)rdmsr(MSR_X2APIC + reg / 16); }

static void write(u32 reg, u32 v) {
    if (registers)
        registers[reg / 4] = v;
    else
        wrmsr(MSR_X2APIC + reg / 16, v);
}

void apic_init(void) {
    struct cpuid id = cpuid(1, 0);

    outb(0x21, 0xff); /* the PICs stay silent */
    outb(0xa1, 0xff);
    if (!(id.c >> 21 & 1))
        registers = map_device((phys){tables.lapic}, PAGE_SIZE);
    by_deadline = id.c >> 24 & 1;
    for (u32 i = 0; i < tables.ioapics; i++) {
        volatile u32 *at = map_device((phys){tables.ioapic[i].address}, PAGE_SIZE);
        at[0] = 1; /* version: how many entries */
        ioapic[i] = (typeof(ioapic[0])){at, tables.ioapic[i].first_gsi, (at[4] >> 16 & 0xff) + 1};
        for (u32 n = 0; n < ioapic[i].count; n++) {
            at[0] = 0x10 + 2 * n;
            at[4] = MASKED;
        }
    }
}

void apic_init_cpu(void) {
    if (!registers)
        wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 3 << 10);
    write(SPURIOUS, 0x100 | VECTOR_SPURIOUS);
    write(TIMER_DIVIDE, 0xb); /* by 1 */
    write(TIMER, VECTOR_TIMER | (by_deadline ? TSC_DEADLINE : 0));
}

void apic_timer_run(void) {
    write(TIMER, MASKED);
    write(TIMER_COUNT, UINT32_MAX);
}

u32 apic_timer_ran(void) {
    u32 ran = UINT32_MAX - read(TIMER_LEFT);

    write(TIMER_COUNT, 0);
    write(TIMER, VECTOR_TIMER | (by_deadline ? TSC_DEADLINE : 0));
    return ran;
}

u32 apic_id(void) { return registers ? read(ID) >> 24 : read(ID); }
void apic_end(void) { write(EOI, 0); }

static void command(u32 apic, u32 low) {
    if (!registers) {
        __asm__ volatile("mfence" ::: "memory");
        wrmsr(MSR_X2APIC + ICR / 16, (u64)apic << 32 | low);
        return;
    }
    while (read(ICR) & 1 << 12)
        cpu_relax();
    write(ICR + 0x10, apic << 24);
    write(ICR, low);
}

void apic_send(u32 apic, u32 vector) { command(apic, 0x4000 | vector); }

void apic_start(u32 apic, u32 page) {
    command(apic, 0x4500);
    clock_wait(200);
    command(apic, 0x4600 | page);
    clock_wait(200);
    command(apic, 0x4600 | page);
}

void timer_set(u64 tsc) {
    if (by_deadline) {
        __asm__ volatile("mfence" ::: "memory");
        wrmsr(MSR_TSC_DEADLINE, tsc == NEVER ? 0 : tsc);
        return;
    }
    if (!timer_scale)
        timer_scale = (apic_timer_hz << 32) / tsc_hz; /* both below 2^32 ticks a second */
    u64 now = rdtsc(), count = 0;
    if (tsc != NEVER) {
        u64 ticks = tsc > now ? tsc - now : 0;
        count = ticks >> 40 ? UINT32_MAX : (u64)((unsigned __int128)ticks * timer_scale >> 32);
        count = min_u64(count + 1, UINT32_MAX);
    }
    write(TIMER_COUNT, (u32)count);
}

void apic_device(u32 vector) {
    apic_end();
    if (vector - VECTOR_DEVICE < devices)
        device[vector - VECTOR_DEVICE].handler(device[vector - VECTOR_DEVICE].argument);
}

u32 interrupt_vector(void (*handler)(u32), u32 argument) {
    CHECK(devices < VECTORS);
    device[devices] = (typeof(device[0])){handler, argument};
    return VECTOR_DEVICE + devices++;
}

void interrupt_route(u32 gsi, u32 vector, bool level, bool active_low) {
    for (u32 i = 0; i < tables.ioapics; i++) {
        if (gsi < ioapic[i].first || gsi - ioapic[i].first >= ioapic[i].count)
            continue;
        u32 n = gsi - ioapic[i].first;
        ioapic[i].at[0] = 0x11 + 2 * n;
        ioapic[i].at[4] = cpus[0]->apic << 24;
        ioapic[i].at[0] = 0x10 + 2 * n;
        ioapic[i].at[4] = vector | (u32)active_low << 13 | (u32)level << 15;
    }
}

void interrupt_message(u32 vector, u32 cpu, u64 *address, u32 *data) {
    *address = 0xfee00000 | cpus[cpu]->apic << 12;
    *data = vector;
}
