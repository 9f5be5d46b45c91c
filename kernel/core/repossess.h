/* The abort protocol's way of making everybody let go of a page. */
#pragma once
#include "lib/base.h"

/* For a page with FLAG_TAKEN: removes its mappings from the table in which it was mapped last. No lock may be held. */
void repossess_last_mapping(u32 page);
/* One piece of the search for everybody who holds pages with FLAG_TAKEN: goes from the cursor on through the parts of the page
 * array that have tables, flows or environments, looks into these, and makes them let go; true when it has come to the end. Who wants a page free repeats this until
 * it has no binding, which takes two rounds at most. With `dying`, its children get another creator. No lock may be held; environments other than
 * the current one must be looked up anew afterwards. */
bool repossess_sweep(u32 *cursor, const struct env *dying);
