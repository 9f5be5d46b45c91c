/* The machine's state as JSON, read from the pages that the kernel exposes.
 *
 * The map of memory comes from a walk over the page array. A large machine has millions of
 * descriptors, so the walk is done in slices and its last complete result is shown; with up to
 * MAP_SLICE pages the map is always of now. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

#ifndef NET_CONNECTIONS
#define NET_CONNECTIONS 2048
#endif

#ifndef MAP_RUNS /* most runs of equal pages in the map; with more it gets coarser */
#define MAP_RUNS (NET_CONNECTIONS < 256 ? 1000 : 2000)
#endif
#define MAP_SLICE 131072 /* pages looked at in one go */
#define MAP_FRESH_MS 500

/* Walks the whole page array once. */
void machine_json_init(void);
/* Writes the document; returns its length, or 0 if it did not fit. */
u32 machine_json_write(char *out, u32 room, u64 now_ms);
/* Goes on with a walk that is under way; true while there is more to do. Call it when idle. */
bool machine_json_work(void);
