/* Bases of fs and gs, which a libOS sets by itself (CR4.FSGSBASE). A context that wants to keep them
 * says so in its `bases` word; for the others they are wiped when they leave the CPU, so that
 * nobody reads another's. In the kernel the libOS's gs base is the one that swapgs hides. */
#pragma once
#include "core/cpu.h"
#include "x86/registers.h"

extern bool bases_present; /* the CPU has the instructions */

static inline void bases_write(u64 fs, u64 gs) {
    __asm__ volatile("wrfsbase %0; swapgs; wrgsbase %1; swapgs" : : "r"(fs), "r"(gs) : "memory");
}

static inline void bases_save(struct cpu *cpu) {
    if (unlikely(cpu->context->bases) && bases_present) {
        u64 fs, gs;
        __asm__ volatile("rdfsbase %0; swapgs; rdgsbase %1; swapgs" : "=r"(fs), "=r"(gs) : : "memory");
        cpu->context->fs_base = fs;
        cpu->context->gs_base = gs;
    }
}

static inline void bases_wipe(void) {
    if (bases_present)
        bases_write(0, 0);
}

static inline void bases_enter(struct cpu *cpu) {
    if (likely(!cpu->context->bases) || !bases_present)
        return;
    u64 fs = __atomic_load_n(&cpu->context->fs_base, __ATOMIC_RELAXED);
    u64 gs = __atomic_load_n(&cpu->context->gs_base, __ATOMIC_RELAXED);
    bases_write(fs < USER_TOP ? fs : 0, gs < USER_TOP ? gs : 0);
}
