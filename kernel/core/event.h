/* Event rings: what the kernel tells an environment. */
#pragma once
#include "lib/base.h"

/* Appends an event to an environment's ring, if it lives and has one, and wakes it. */
void event_post(u32 to, u32 type, u32 about, u64 a, u64 b);
/* Counts something put in one of an environment's rings (env.deliveries), after it is there, and
 * wakes the environment. */
void event_delivered(struct env *to);
/* Whether half of an environment's ring is unread: what can wait should, so that other events find room. */
bool event_half_full(u32 to);
/* Takes an environment's event ring or loss page out of its place; the page is DATA again. env's lock held. */
void event_unbind(struct env *env, u32 *place);
