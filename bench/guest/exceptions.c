/* Entering and leaving the kernel, and exceptions that the library OS handles. */
#include "bench.h"

void exception_entry(void);
extern u64 exception_tsc, exception_skip;
u64 exception_tsc, exception_skip; /* when the handler began; how far it steps */

static void null_calls(u64 n) {
    while (n--)
        sys_null();
}
ROW(null_call, "call") { measure(10000, null_calls); }

static char page[RT_PAGE] __attribute__((aligned(4096)));

static void protect(u16 flags) {
    struct update u = {.op = UPDATE_PROTECT, .va = (u64)page, .count = 1, .flags = flags};

    CHECK(sys_space_update(0, &u, 1) == 0);
}

/* `name`_there takes the time with nothing between it and the fault: rax and rdx come back with
 * it. */
#define KIND(name, code)                                                                           \
    static void name##_back(u64 n) {                                                               \
        while (n--)                                                                                \
            __asm__ volatile(code : : "S"(page), "a"(0), "c"(0), "d"(0) : "memory", "cc");         \
    }                                                                                              \
    static void name##_there(u64 n, u64 *sum) {                                                    \
        while (n--) {                                                                              \
            u64 low, high;                                                                         \
            __asm__ volatile("rdtsc;" code                                                         \
                             : "=a"(low), "=d"(high)                                               \
                             : "S"(page), "c"(0)                                                   \
                             : "memory", "cc");                                                    \
            *sum += exception_tsc - (high << 32 | low);                                            \
        }                                                                                          \
    }
KIND(ud2, "ud2")
KIND(divide, "divl %%ecx")
KIND(int3, "int3")
KIND(gp, "hlt")
KIND(protection, "movb $1, (%%rsi)")

static void prepare(u64 skip) {
    exception_skip = skip;
    rt_context(0)->exception = (u64)exception_entry;
}

ROW(ud2_there, "fault to handler") {
    prepare(2);
    measure_sum(1000, ud2_there);
}
ROW(ud2_back, "fault and return") {
    prepare(2);
    measure(1000, ud2_back);
}
ROW(divide_there, "fault to handler") {
    prepare(2);
    measure_sum(1000, divide_there);
}
ROW(divide_back, "fault and return") {
    prepare(2);
    measure(1000, divide_back);
}
ROW(int3_there, "trap to handler") {
    prepare(0);
    measure_sum(1000, int3_there);
}
ROW(int3_back, "trap and return") {
    prepare(0);
    measure(1000, int3_back);
}
ROW(gp_there, "fault to handler") {
    prepare(1);
    measure_sum(1000, gp_there);
}
ROW(gp_back, "fault and return") {
    prepare(1);
    measure(1000, gp_back);
}
ROW(protection_there, "fault to handler") {
    prepare(3);
    protect(0);
    measure_sum(1000, protection_there);
    protect(MAP_WRITE);
}

/* By a handler in C, through libos/rt. */
static void step_over(struct frame *frame) { frame->rip += exception_skip; }
ROW(trap, "fault and return") {
    exception_skip = 3;
    rt_on_exception(step_over);
    protect(0);
    measure(1000, protection_back);
    protect(MAP_WRITE);
}
