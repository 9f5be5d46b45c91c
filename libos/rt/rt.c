/* Start-up and upcalls in C. */
#include "rt.h"

NORETURN void rt_start(struct context *context);
void rt_slice_end(struct frame *frame, u64 cause);
void rt_transferred(u32 caller, u32 kind, struct rt_message *message);
extern char rt_exception_entry[], rt_end_entry[], rt_revoke_entry[], rt_transfer_entry[], rt_transfer_stack_top[];

struct context *rt_first;
extern rt_exception_handler rt_exception_function; /* called by start.S */
extern rt_revoke_handler rt_revoke_function;
rt_exception_handler rt_exception_function;
rt_revoke_handler rt_revoke_function;
static rt_end_handler on_end;
static rt_transfer_handler on_transfer;

void rt_start(struct context *context) {
    rt_first = context;
    context->self = (u64)context;
    context->end = (u64)rt_end_entry;
    context->transfer_stack = (u64)rt_transfer_stack_top;
    rt_exit((u64)main());
}

void rt_exit(u64 code) {
    for (;;)
        sys_env_stop(0, code);
}

void rt_on_exception(rt_exception_handler handler) {
    rt_exception_function = handler;
    rt_first->exception = handler ? (u64)rt_exception_entry : 0;
}

void rt_on_slice_end(rt_end_handler handler) { on_end = handler; }

/* The interrupted state is in the frame and on the stack; giving the processor back is all
 * that is left to do. */
void rt_slice_end(struct frame *frame, u64 cause) {
    (void)cause;
    if (on_end)
        on_end(frame);
    sys_yield();
}

void rt_on_revoke(rt_revoke_handler handler) {
    rt_revoke_function = handler;
    rt_first->revoke = handler ? (u64)rt_revoke_entry : 0;
}

void rt_on_transfer(rt_transfer_handler handler) {
    on_transfer = handler;
    rt_first->transfer = handler ? (u64)rt_transfer_entry : 0;
}

void rt_transferred(u32 caller, u32 kind, struct rt_message *message) { on_transfer(caller, kind, message); }

s64 rt_destroy(const struct cap *env) {
    s64 result;

    do
        result = sys_env_destroy(env);
    while (result == E_AGAIN);
    return result;
}
