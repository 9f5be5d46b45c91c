/* Starting the other CPUs, one after another (Intel SDM vol. 3, 9.4). */
#include "boot/boot.h"
#include "core/info.h"
#include "core/memory.h"
#include "core/schedule.h"
#include "dev/dev.h"
#include "x86/apic.h"
#include "x86/clock.h"
#include "x86/cpu.h"
#include "x86/io.h"
#include "x86/mmu.h"

#define PATIENCE 10000000 /* microseconds in which a CPU must come; emulated ones may be slow */

NORETURN void smp_enter(void);
extern char trampoline[], trampoline_end[];
u64 smp_stack, smp_root;
u32 smp_efer;
static struct cpu *starting;

void smp_enter(void) {
    struct cpu *cpu = starting;

    cpu_init(cpu);
    apic_init_cpu();
    cpu->apic = cpu->slices->apic = apic_id();
    __atomic_store_n(&cpu_count, cpu->number + 1, __ATOMIC_SEQ_CST);
    schedule();
}

void smp_start(void) {
    smp_root = ptr_phys(kernel_root).v;
    smp_efer = (u32)rdmsr(MSR_EFER);
    memcpy(page_ptr(TRAMPOLINE_PAGE), trampoline, (u64)(trampoline_end - trampoline));
    for (u32 i = 0; i < tables.cpus && cpu_count < MAX_CPUS; i++) {
        u32 number = cpu_count;
        if (tables.apic_id[i] == cpus[0]->apic)
            continue;
        struct cpu *cpu = starting = cpu_make(number);
        cpu->slices->length = cpus[0]->slices->length;
        cpu->slices->allowance = cpus[0]->slices->allowance;
        info->slices[number] = page_of_phys(ptr_phys(cpu->slices));
        info->trace[number] = page_of_phys(ptr_phys(cpu->trace));
        smp_stack = cpu->kernel_rsp;
        apic_start(tables.apic_id[i], TRAMPOLINE_PAGE);
        u64 end = rdtsc() + tsc_hz / 1000000 * PATIENCE;
        while (__atomic_load_n(&cpu_count, __ATOMIC_SEQ_CST) == number && rdtsc() < end)
            cpu_relax();
        if (cpu_count == number)
            panic("CPU with APIC identifier %u does not start", tables.apic_id[i]);
    }
    info->cpus = cpu_count;
}
