#include "common.h"

#include "base/control.h"

const struct env *own(void) {
    static const struct env *env;

    if (!env)
        env = memory_map(rt_self(), 1, 0, 0);
    if (!env)
        rt_exit(1);
    return env;
}

u32 argument(const char *key, u32 otherwise) {
    size_t length = strlen(key);

    for (const char *at = start_arguments(); *at; at++)
        if (!strncmp(at, key, length) && at[length] == '=')
            return (u32)atoi(at + length + 1);
    return otherwise;
}

u32 creator_room(void) {
    const struct env *creator = machine_env(own()->creator);
    u32 limit = creator ? creator->page_limit : 0, pages = creator ? creator->pages : 0;

    machine_forget();
    return limit > pages ? limit - pages : 0;
}

/* The creator accepts an order only between two of its own affairs. */
static s64 order(u32 pages, u64 end) {
    s64 error;

    for (;;) {
        struct rt_message m = {.rdi = CONTROL_MEMORY, .rsi = pages};
        error = rt_transfer(own()->creator, TRANSFER_CALL, &m);
        if (!error)
            error = (s64)m.rdi;
        if (error != E_BUSY || rt_tsc() >= end)
            return error;
        sys_sleep(deadline_in(2), 0, 0);
    }
}

bool ask_for(u32 pages, u64 ms) {
    u64 end = deadline_in(ms);
    u32 before = own()->page_limit;

    if (order(pages, end))
        return false;
    while (own()->page_limit <= before && rt_tsc() < end)
        sys_sleep(deadline_in(2), 0, 0);
    return own()->page_limit > before;
}
