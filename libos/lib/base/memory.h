/* The simplest memory management: addresses only grow, table pages come as they are needed. A
 * libOS that wants more brings its own. Addresses from 4 GiB on belong to this part. */
#pragma once
#include "rt.h"

/* Maps count pages from number `page` on at va. Pages must be the caller's, exposed, or covered by cap.
 * Allocates table pages. 0 or an error. */
s64 memory_map_at(u64 va, u32 page, u32 count, u32 flags, const struct cap *cap);
/* The same at an address that nothing uses: NULL when it fails. */
void *memory_map(u32 page, u32 count, u32 flags, const struct cap *cap);
/* Removes mappings; addresses are not used again. */
void memory_unmap(void *at, u32 count);
/* Fresh zeroed memory, contiguous in addresses; NULL when there is none. */
void *memory_alloc(u32 pages);
/* The same, contiguous in physical pages too; *first: the number of the first. At most PAGES_A_CALL. */
void *memory_alloc_run(u32 pages, u32 *first);
/* The page number behind an address of memory_alloc, memory_map or the program itself; 0: none.
 * Asks the page tables, which are mapped read-only on first use. */
u32 memory_page_of(const void *at);
/* An address range of this many pages that nothing uses. */
u64 memory_reserve(u64 pages);

/* For another environment: the same as memory_map_at, with tables allocated to it. */
s64 memory_map_for(const struct cap *env, u64 va, u32 page, u32 count, u32 flags, const struct cap *cap);
/* A batch of any length, in as many calls as the kernel wants: how many elements failed, or an error. */
s64 memory_update(const struct cap *env, struct update *u, u32 count);
