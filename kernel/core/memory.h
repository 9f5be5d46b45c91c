/* How the kernel reaches memory: the direct map, pages taken at boot, device registers. */
#pragma once
#include "lib/base.h"

/* All RAM is mapped at DIRECT_BASE, writable and not executable, or, sealed, the other way round. */
#ifdef HOST_TEST
#define DIRECT_BASE 0x200000000000ull /* where a test maps what stands for memory */
#else
#define DIRECT_BASE 0xffff800000000000ull
#endif
#define KERNEL_BASE 0xffffffff80000000ull /* the kernel image: virtual = physical + this */
#define DEVICE_BASE 0xffffc00000000000ull /* device registers, uncached */

static inline void *phys_ptr(phys p) { return (void *)(DIRECT_BASE + p.v); }
static inline void *page_ptr(u32 page) { return phys_ptr(phys_of_page(page)); }
static inline phys ptr_phys(const void *p) { return (phys){(u64)p - DIRECT_BASE}; }

/* Contiguous zeroed pages for the kernel itself; boot time only, never given back.
 * Panics when memory does not suffice. */
void *boot_pages(u32 count);

/* Lets everybody map such pages read-only; gives p. */
void *expose(void *p, u32 count);

/* Seals a page that is among info's code pages: from now on the kernel may execute it and not write
 * to it. Or undoes that. Other CPUs must be made to forget the old translation (shootdown_all). */
void memory_seal(u32 page, bool sealed);
/* PTE_WRITE and PTE_NX of such a page, as the kernel has it mapped. For the checker. */
u64 memory_bits(u32 page);

/* Maps any physical memory read-only, for tables of the firmware; boot time only. */
const void *map_table(phys p, u64 bytes);

/* Maps `bytes` of device registers at p, uncached; boot time only. */
volatile void *map_device(phys p, u64 bytes);
