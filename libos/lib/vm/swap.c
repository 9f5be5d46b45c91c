/* The client's side of the swap protocol. */
#include "vm/swap.h"

#include "machine/machine.h"

#define PATIENCE 500 /* times 1 ms */

static s64 ask(u32 server, u64 order, u64 a, u64 b, struct cap *cap) {
    struct rt_message m;
    s64 error = E_BUSY;

    for (u32 tries = 0; error == E_BUSY && tries < PATIENCE; tries++) {
        m = (struct rt_message){.rdi = order, .rsi = a, .rdx = b};
        error = rt_transfer(server, TRANSFER_CALL, &m);
        if (error == E_BUSY)
            sys_sleep(rt_tsc() + machine_info()->tsc_hz / 1000, 0, 0);
    }
    if (error || m.rdi)
        return error ? error : (s64)m.rdi;
    if (cap) {
        u64 word[4] = {m.rsi, m.rdx, m.r8, m.r9};
        memcpy(cap, word, sizeof *cap);
    }
    return 0;
}

s64 swap_take(u32 server, u32 pages, struct cap *cap) {
    s64 error = ask(server, SWAP_TAKE, pages, 0, cap);

    return error || (cap->count && cap->count <= pages) ? error : E_BAD_CAPABILITY;
}

s64 swap_view(u32 server, u32 page, struct cap *cap) {
    return ask(server, SWAP_VIEW, page, 0, cap);
}

s64 swap_return(u32 server, u32 page, u32 pages) {
    return ask(server, SWAP_RETURN, page, pages, NULL);
}

u32 sibling(const char *name) {
    const struct env *self = machine_env(rt_self());
    u32 creator = self ? self->creator : 0, found = 0;

    for (u32 e = machine_info()->first_env; e && !found;) {
        const struct env *env = machine_env(e);
        if (!env)
            break;
        if (env->creator == creator && env->state == ENV_LIVE && e != rt_self() &&
            !strncmp((const char *)env->name, name, sizeof env->name))
            found = e;
        e = env->next;
    }
    machine_forget();
    return found;
}
