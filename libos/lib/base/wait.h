/* Sleeping until any of this environment's rings has something new.
 *
 * A sleep watches one word. The kernel counts in the ENV page all that it puts in an environment's
 * rings, frames and events alike, so this one word stands for all of them:
 *
 *     for (;;) {
 *         u64 seen = deliveries();       before looking into the rings,
 *         handle all that is in them;
 *         wait_for_more(seen, deadline); so that what came meanwhile ends the sleep at once
 *     } */
#pragma once
#include "rt.h"

/* Frames and events ever put in this environment's rings. Ends the program if it has no memory
 * left to map the word on first use. */
u64 deliveries(void);
/* Sleeps until deliveries() is no longer `seen`, or until the TSC reaches the deadline (NEVER:
 * none). May return early: look again. */
void wait_for_more(u64 seen, u64 deadline);
/* The TSC in so many milliseconds from now, for a deadline. */
u64 deadline_in(u64 ms);
