/* Address spaces: page tables of pages that a libOS gave, changed in batches (docs/memory.md). */
#pragma once
#include "lib/base.h"

/* Begins the space of a new environment, whose root table is zero. */
void space_prepare(struct env *env);
/* Fills the kernel's half of a root table, three entries that are the same in all spaces, or clears it. */
void space_kernel_half(u32 root, bool there);
/* The entry that maps `at`, with the number of just its page if it is a large one; 0: none. */
u64 space_translate(u32 root, u64 at);
/* One element of a batch; takes no lock: env's lock is held. */
s64 space_apply(struct env *env, const struct update *u);
/* Removes, flushes and unbinds every mapping in a table of pages that are being taken; its environment's lock is held. */
void space_remove_taken(struct env *env, u32 table);
/* Takes a table out of its parent and empties it, after which it is DATA; its environment's lock is held. One that holds tables
 * is left where it is. */
void space_detach_table(struct env *env, u32 table);
/* Unbinds what a table maps or holds; for one that no CPU can walk any more. False if that are more
 * bindings than *work, which goes down: the rest is left. */
bool space_empty_table(u32 table, u32 *work);
