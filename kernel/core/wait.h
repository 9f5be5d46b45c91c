/* Wakeup predicates: sums of products over words in pages that they bind (docs/processor.md). */
#pragma once
#include "lib/base.h"

/* Puts a predicate of the current environment, already copied, into a page of it and binds every word's page.
 * 0, or an error and then nothing is changed. */
s64 wait_begin(const struct predicate *p, u32 page);
/* The tag of the first term that holds, or 0. */
u64 wait_evaluate(u32 page);
/* Lets go of the words; the page is its owner's DATA again. */
void wait_end(u32 page);
/* Whether one of its words lies in a page that is being taken; of a sleeper on any CPU. */
bool wait_uses_taken(u32 wait);
/* For the checker: calls with each page that the predicate binds. */
void wait_pages(u32 page, void (*bound)(u32 page, bool pin));
/* The physical address of the word at a user address whose page is now bound, or an error. */
s64 wait_bind_word(u64 at);
