/* Event rings: what the kernel tells an environment. */
#pragma once
#include "lib/base.h"

/* Appends an event to an environment's ring, if it lives and has one, and wakes it. */
void event_post(u32 to, u32 type, u32 about, u64 a, u64 b);
/* Counts something put in one of an environment's rings (env.deliveries), after it is there, and
 * wakes the environment. */
void event_delivered(u32 to);
/* Takes an environment's ring out; its page is DATA again. env's lock held. */
void event_release(struct env *env);
