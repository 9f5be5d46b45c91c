/* Who gives memory back when somebody needs it: init's policy, and the only place where it is. */
#pragma once
#include "init/child.h"

/* An order CONTROL_MEMORY of a child: it wants to own `pages` more. 0, E_LIMIT when its `limit` or the
 * guarantees of others stand against it, or E_BUSY while another's wish is being fulfilled. */
s64 memory_want(u32 which, u32 pages);
/* Goes on with what is under way. Returns the TSC at which to look again; NEVER: nothing to wait for. */
u64 memory_step(void);
