/* Making other CPUs forget: translations of a space, and pointers to kernel objects. */
#pragma once
#include "core/cpu.h"
#include "x86/mmu.h"

#define FEW 16 /* up to this many pages are flushed one by one */

/* When this returns no CPU holds a translation of env's pages from va on that was changed before.
 * May be called with locks held: a CPU that spins for a lock answers. */
void shootdown(struct env *env, u64 va, u32 count);
/* Its two halves: this CPU, if it has env's space loaded, and the others, if there are any. */
#ifdef HOST_TEST
void flush_local(u64 va, u64 count);
#else
static inline void flush_local(u64 va, u64 count) {
    if (likely(count == 1))
        __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
    else if (count > FEW)
        load_root(current_root());
    else
        for (u64 end = va + count * PAGE_SIZE; va < end; va += PAGE_SIZE)
            __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
#endif
void shootdown_others(struct env *env);
/* The same for the kernel's own half, on all CPUs. */
void shootdown_all(u64 va, u32 count);
/* Answers what other CPUs asked for; called while spinning and from the interrupt. */
void shootdown_answer(void);
/* When this returns every kernel entry that had begun on another CPU is over. No lock may be held. */
void quiesce(void);
/* Between the two no other CPU is inside the kernel, but for waiting. No lock may be held, and as with
 * quiesce, environments other than the current one must be looked up anew afterwards. */
void stop_others(void);
void start_others(void);
void stand_still(void); /* waits as long as another CPU wants all others stopped */
