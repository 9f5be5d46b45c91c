/* The ENV page is this environment's own and is mapped once, for ever: the mapping goes with the
 * environment's tables, before the page does. */
#include "base/wait.h"

#include "base/memory.h"
#include "machine/machine.h"

static const struct env *self(void) {
    static const struct env *env;

    if (!env)
        env = memory_map(rt_self(), 1, 0, 0);
    if (!env)
        rt_exit((u64)E_LIMIT);
    return env;
}

u64 deliveries(void) { return __atomic_load_n(&self()->deliveries, __ATOMIC_ACQUIRE); }

void wait_for_more(u64 seen, u64 deadline) { sys_sleep(deadline, (const u64 *)DELIVERIES, seen); }

u64 deadline_in(u64 ms) {
    static u64 ticks_per_ms; /* which does not change */

    if (!ticks_per_ms)
        ticks_per_ms = machine_info()->tsc_hz / 1000;
    return rt_tsc() + ticks_per_ms * ms;
}
