/* Page tables of the kernel's own half, and the instructions on them. */
#pragma once
#include "lib/base.h"
#include "x86/registers.h"

extern u64 *kernel_root; /* top table with only the kernel's half */
extern bool pcid_present; /* the CPU tags translations, and forgets them by tag (INVPCID) */
#define PCIDS 256         /* so many are used, of 4096 */
extern u64 mmu_nx;       /* PTE_NX, or 0 where the CPU lacks it */

static inline void load_root(phys root) { __asm__ volatile("movq %0, %%cr3" : : "r"(root.v) : "memory"); }
static inline phys current_root(void) {
    phys p;
    __asm__ volatile("movq %%cr3, %0" : "=r"(p.v));
    return p;
}
