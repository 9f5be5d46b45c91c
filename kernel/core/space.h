/* Address spaces: page tables of pages that a libOS gave, changed in batches (docs/memory.md). */
#pragma once
#include "lib/base.h"

void space_init(void);
/* Fills the kernel's half of a new root table. */
void space_prepare_root(u32 root);
/* The number of the page that maps `at`, or E_BAD_ADDRESS. */
s64 space_lookup(u32 root, u64 at);
/* The entry that maps `at`, with the number of just its page if it is a large one; 0: none. */
u64 space_translate(u32 root, u64 at);
/* Removes, flushes and unbinds every large mapping with this page in a level 2 table of env, whose lock is held. */
void space_remove_large(struct env *env, u32 table, u32 page);
/* The address of the entry that maps `at`, or NULL where there is no table. */
u64 *space_entry(u32 root, u64 at);
/* One element of a batch; takes no lock: env's lock is held. */
s64 space_apply(struct env *env, const struct update *u);
/* Takes every mapping of `page` out of a level 1 table: how many. They are still to be flushed and unbound. */
u32 space_remove_page(u32 table, u32 page);
/* Takes a table out of its parent and empties it, after which it is DATA; its environment's lock is held. One that holds tables
 * is left where it is. */
void space_detach_table(struct env *env, u32 table);
/* Unbinds what the first entries of a table map or hold; for one that no CPU can walk any more. */
void space_empty_table(u32 table, u32 entries);
