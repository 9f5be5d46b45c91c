/* What the interpreter and translated code share while a program runs: helpers and their checks. */
#include "code/code.h"

void code_run_start(struct code_run *run, const struct code_profile *profile) {
    memset(run, 0, offsetof(struct code_run, stack));
    run->profile = profile;
    run->call = code_call_helper;
}

bool code_in_window(const struct code_run *run, u64 address, u64 size, bool write) {
    const struct code_profile *profile = run->profile;
    for (u32 w = 0; w < profile->windows; w++) {
        u64 distance = address - (u64)run->window[w].base, length = run->window[w].length;
        bool allowed = !write || (profile->stores && profile->window[w].writable);
        if (allowed && size <= length && distance <= length - size)
            return true;
    }
    return false;
}

static bool in_stack(const struct code_run *run, u64 address, u64 size) {
    u64 distance = address - (u64)run->stack;
    return size <= sizeof(run->stack) && distance <= sizeof(run->stack) - size;
}

/* Whether the memory that a helper is given lies in one piece of the run's; *cost grows with it. */
static bool check_memory(const struct code_helper *helper, const u64 *argument, const struct code_run *run, u64 *cost) {
    u64 size = 0;
    for (u32 n = CODE_ARGUMENTS; n-- > 0;) {
        u8 want = helper->argument[n];
        if (want == CODE_SIZE) {
            size = argument[n];
            *cost += size / 8;
        }
        /* A pointer to a window, wherever it was moved, never reaches the stack, of which the verifier knows the contents. */
        if ((want == CODE_READ || want == CODE_WRITE) &&
            !(run->helper >> 8 >> n & 1 ? in_stack(run, argument[n], size)
                                        : code_in_window(run, argument[n], size, want == CODE_WRITE)))
            return false;
    }
    return true;
}

u64 code_call_helper(u64 a, u64 b, u64 c, u64 d, u64 e, struct code_run *run) {
    const struct code_helper *helper = &run->profile->helper[(run->helper & 0xff) - 1];
    u64 cost = helper->cost;
    if (code_takes_memory(helper) && !check_memory(helper, (u64[]){a, b, c, d, e}, run, &cost)) {
        run->status = CODE_ACCESS;
        return 0;
    }
    /* Without a limit to cost the subtraction below could overflow. */
    run->budget -= cost < UINT32_MAX ? (s64)cost : UINT32_MAX;
    if (run->budget < 0) {
        run->status = CODE_BUDGET;
        return 0;
    }
    return helper->function(a, b, c, d, e, run);
}
