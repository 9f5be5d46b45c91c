/* Clocks. The TSC's rate comes from the hypervisor (KVM's leaf 0x40000010) or CPUID leaf 0x15
 * where they say it; otherwise both rates are measured against the PIT's channel 0,
 * whose output is read through the PIT itself: microvm has no port 0x61. */
#include "x86/clock.h"

#include "x86/apic.h"
#include "x86/io.h"

#define PIT_HZ 1193182
#define SAMPLE (PIT_HZ / 800) /* 1.25 ms */
#define SAMPLES 4 /* the least of which counts */

u64 tsc_hz;
u64 apic_timer_hz;

static bool pit_is_high(void) {
    outb(0x43, 0xe2); /* latch the status of channel 0 */
    return inb(0x40) & 0x80;
}

/* TSC and APIC timer ticks while the PIT counts down SAMPLE. Both clocks are read just before it starts
 * and just after it ends, so whatever comes in between (a hypervisor that runs somebody else) only adds to them. */
static void sample(u64 *tsc, u64 *apic) {
    outb(0x43, 0x30); /* channel 0, mode 0: its output rises when it has counted down */
    outb(0x40, (u8)SAMPLE);
    apic_timer_run();
    u64 begin = rdtsc();
    outb(0x40, (u8)(SAMPLE >> 8));
    while (!pit_is_high())
        if (rdtsc() - begin > 1ull << 36)
            panic("the PIT does not count");
    *tsc = rdtsc() - begin;
    *apic = apic_timer_ran();
}

static u64 known_rate(void) {
    struct cpuid id;

    if (cpuid(1, 0).c >> 31 && cpuid(0x40000000, 0).a >= 0x40000010) {
        id = cpuid(0x40000010, 0);
        if (id.a)
            return id.a * 1000ull;
    }
    if (cpuid(0, 0).a >= 0x15) {
        id = cpuid(0x15, 0);
        if (id.a && id.b && id.c)
            return (u64)id.c * id.b / id.a;
    }
    return 0;
}

void clock_init(void) {
    u64 least_tsc = UINT64_MAX, least_apic = UINT64_MAX;

    for (u32 i = 0; i < SAMPLES; i++) {
        u64 tsc, apic;
        sample(&tsc, &apic);
        least_tsc = min_u64(least_tsc, tsc);
        least_apic = min_u64(least_apic, apic);
    }
    apic_timer_hz = least_apic * PIT_HZ / SAMPLE;
    tsc_hz = known_rate();
    if (!tsc_hz)
        tsc_hz = least_tsc * PIT_HZ / SAMPLE;
}

void clock_wait(u64 microseconds) {
    u64 end = rdtsc() + tsc_hz / 1000000 * microseconds;

    while (rdtsc() < end)
        cpu_relax();
}

static u8 cmos(u8 reg) {
    outb(0x70, reg);
    return inb(0x71);
}

static u32 decimal(u8 v, bool binary) { return binary ? v : (v >> 4) * 10u + (v & 15); }

u64 clock_date(void) {
    static const u16 before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    u8 raw[6], again[6];
    static const u8 reg[6] = {0, 2, 4, 7, 8, 9};
    bool binary = cmos(0xb) & 4;

    do { /* twice the same: no update came in between */
        for (u32 i = 0; i < 6; i++)
            raw[i] = cmos(reg[i]);
        for (u32 i = 0; i < 6; i++)
            again[i] = cmos(reg[i]);
    } while (memcmp(raw, again, 6));
    u32 hour = decimal(raw[2] & 0x7f, binary);
    if (!(cmos(0xb) & 2)) /* 12-hour form */
        hour = hour % 12 + (raw[2] & 0x80 ? 12 : 0);
    u32 day = decimal(raw[3], binary), month = decimal(raw[4], binary);
    u64 year = 2000 + decimal(raw[5], binary);
    if (month < 1 || month > 12)
        return 0;
    u64 days = (year - 1970) * 365 + (year - 1969) / 4 + before[month - 1] + day - 1;
    if (month > 2 && year % 4 == 0)
        days++;
    return ((days * 24 + hour) * 60 + decimal(raw[1], binary)) * 60 + decimal(raw[0], binary);
}
