/* Extended state of contexts (Intel SDM vol. 1, chapter 13). The area lies in the libOS's own context
 * page: XRSTOR faults on a bad one, and then it gets the initial state. */
#include "x86/fpu.h"

#include "x86/io.h"
#include "x86/registers.h"

s64 fpu_load(const void *area);

#define MXCSR_AT 6 /* in words */

static bool present;
/* Every component in its initial state. MXCSR alone is always read: all exceptions masked. */
static u32 initial[256] ALIGNED(64) = {[MXCSR_AT] = 0x1f80};

static void switch_off(bool off) {
    u64 cr0;
    __asm__ volatile("movq %%cr0, %0" : "=r"(cr0));
    cr0 = off ? cr0 | CR0_TS : cr0 & ~(u64)CR0_TS;
    __asm__ volatile("movq %0, %%cr0" : : "r"(cr0));
}

void fpu_init_cpu(void) {
    struct cpuid id = cpuid(1, 0);

    present = id.c >> 26 & 1;
    if (present) {
        u32 mask = 3 | (id.c >> 28 & 1 ? 4 : 0);
        u64 cr4;
        __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
        __asm__ volatile("movq %0, %%cr4" : : "r"(cr4 | CR4_OSXSAVE | CR4_OSFXSR | CR4_OSXMMEXCPT));
        __asm__ volatile("xsetbv" : : "c"(0), "a"(mask), "d"(0));
        present = cpuid(13, 0).b <= sizeof initial;
    }
    switch_off(true);
}

void fpu_reset(struct context *context) { memcpy(context->extended, initial, sizeof initial); }

void fpu_leave(struct cpu *cpu) {
    if (likely(!cpu->fpu))
        return;
    __asm__ volatile("xsave64 %0" : "=m"(cpu->context->extended) : "a"(7), "d"(0) : "memory");
    fpu_load(initial);
    switch_off(true);
    cpu->fpu = false;
}

bool fpu_wanted(struct cpu *cpu) {
    if (cpu->fpu || !present || !cpu->context->fpu)
        return false;
    switch_off(false);
    cpu->fpu = true;
    if (fpu_load(cpu->context->extended))
        fpu_load(initial);
    return true;
}
