/* A receive ring for a flow (docs/filters.md). */
#pragma once
#include "rt.h"

#define RING_BUFFER (RT_PAGE / 2) /* bytes; buffer n begins at n times so many */

/* Binds the flow, with all that it may receive, to a new ring with so many entries (a power of 2, up to RING_ENTRIES), all
 * posted; entry n has buffer n. Gives the ring and where its buffers begin; 0 or an error, after
 * which the program ends: pages that it took are not given back. */
s64 ring_open(const struct cap *flow, u32 entries, struct ring **ring, u8 **buffers);
