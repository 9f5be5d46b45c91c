/* What the programs of this demonstration share. */
#pragma once
#include "base/memory.h"
#include "base/print.h"
#include "base/start.h"
#include "base/wait.h"
#include "machine/machine.h"

const struct env *own(void);               /* this environment's page, mapped for good */
u32 argument(const char *key, u32 otherwise); /* key=N in the manifest's arg= */
/* Pages that the creator could still give room for, as its exposed page says. */
u32 creator_room(void);
/* Asks the creator by control transfer for room for so many pages more, and waits up to `ms` until
 * its limit has risen. */
bool ask_for(u32 pages, u64 ms);
