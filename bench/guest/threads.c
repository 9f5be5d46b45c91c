/* Threads of libos/lib/thread. It owns the ends of slices of its environment, so each row has one of its own. */
#include "bench.h"
#include "thread/thread.h"

static u64 nothing(u64 argument) { return argument; }
static void live(u64 n) {
    for (u64 i = 0; i < n; i++)
        if (thread_join(thread_create(nothing, i)) != i)
            fail(__FILE__, __LINE__, "join", 0);
}
static u64 measure_life(u64 n) {
    measure(n, live);
    return 0;
}
ROW(thread_life, "create and join") {
    if (alone()) {
        thread_run(measure_life, 500);
        serve();
    }
}

static bool over;
static u64 give_way(u64 unused) {
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED))
        thread_yield();
    return unused;
}
static void yield(u64 n) {
    while (n--)
        thread_yield();
}
/* Two threads take turns, so each yield of this one is one of the other's too. */
static u64 measure_yield(u64 n) {
    struct thread *other = thread_create(give_way, 0);

    measure_parts(n, 2, yield);
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    return thread_join(other);
}
ROW(thread_yield, "yield") {
    if (alone()) {
        thread_run(measure_yield, 1000);
        serve();
    }
}
