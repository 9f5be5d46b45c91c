/* What of ipc.h need not be inlined. */
#include "ipc/ipc.h"

#include "base/memory.h"

#define STACK_PAGES 4

/* One that is only given slices answers calls with an error. */
static u64 refuse(u64 a, u64 b, u64 c, u64 d, u32 caller) {
    (void)a, (void)b, (void)c, (void)d, (void)caller;
    return (u64)E_BUSY;
}

void ipc_entry(void);
extern ipc_function ipc_called;

/* The stack's top word says which context it belongs to: entries have nothing else to tell by. */
s64 ipc_accept(u32 cpu, ipc_function function) {
    struct context *context = rt_context(cpu);
    static u64 *top[MAX_CPUS];

    if (!top[cpu]) {
        char *stack = memory_alloc(STACK_PAGES);
        if (!stack)
            return E_LIMIT;
        top[cpu] = (u64 *)(stack + STACK_PAGES * RT_PAGE) - 2;
        *top[cpu] = (u64)context;
    }
    ipc_called = function ? function : refuse;
    context->transfer_stack = (u64)top[cpu];
    __atomic_store_n(&context->transfer, (u64)ipc_entry, __ATOMIC_RELEASE);
    return 0;
}

/* One that cannot take the slice (it waits for a reply, or has no context here) may do so later. */
s64 pipe_wait(u32 other) {
    s64 error = ipc_give(other);

    if (error == E_DEAD || error == E_BAD_ARGUMENT)
        return E_DEAD;
    if (error)
        sys_yield();
    return 0;
}

s64 pipe_write(struct pipe *p, u32 other, const void *from, u64 bytes) {
    const u64 *word = from;

    if (bytes % sizeof *word)
        return E_BAD_ARGUMENT;
    for (u64 n = bytes / sizeof *word; n; n--) {
        s64 error = pipe_put(p, *word++, other);
        if (error)
            return error;
    }
    return (s64)bytes;
}

s64 pipe_read(struct pipe *p, u32 other, void *to, u64 bytes) {
    u64 *word = to;

    if (bytes % sizeof *word)
        return E_BAD_ARGUMENT;
    for (u64 n = bytes / sizeof *word; n; n--) {
        s64 error = pipe_get(p, word++, other);
        if (error)
            return error;
    }
    return (s64)bytes;
}
