/* Frames that wait: a ring of bytes into which a port copies what its device's ring cannot hold.
 *
 * A device's ring is small, and what does not fit into it is lost, to be sent again by TCP after a
 * time that doubles with each loss. Copying a frame costs a hundredth of handling it, so a busy
 * server empties the ring first. Frames come out in the order in which they went in. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

struct backlog {
    u8 *bytes; /* aligned to 8 */
    u32 size;  /* a multiple of 8 */
    u32 first; /* where the oldest record begins */
    u32 end;   /* where the next one goes; first == end: none */
};

static inline bool backlog_empty(const struct backlog *b) { return b->first == b->end; }
/* False: no room. */
bool backlog_put(struct backlog *b, const u8 *frame, u32 length, bool verified);
/* The oldest frame, or NULL; it stays where it is until the next put. */
u8 *backlog_take(struct backlog *b, u32 *length, bool *verified);
