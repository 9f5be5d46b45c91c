/* Two environments that have nothing in common, on a CPU each: how much more they do in the same time than one of
 * them alone, in hundredths. One CPU's emulation may be faster than the other's (how code is laid out is chance), so one alone is
 * the mean of both alone. Whatever the two kernels' entries have to share shows here. The host is shared and noisy: its speed changes
 * by half for seconds. So there are many rounds, each of a window of one CPU, one of the other and one of both. Of a window the best while
 * counts, in which the host took least; of the rounds the middle one. */
#include "bench.h"

#define ROUNDS 60
#define INTERVALS 5000 /* a second */

void pct_loop(u64 n, u32 env);
void pct_entry(void);

static u32 server;
static void scale_server(void) {
    accept_by(pct_entry);
    serve();
}

static void calls(u64 n) {
    while (n--)
        sys_null();
}
/* A write to a protected page, which the handler makes writable, and protects again: as appel1. */
static char written[RT_PAGE] __attribute__((aligned(4096)));
static void protect(u16 flags) {
    struct update u = {.op = UPDATE_PROTECT, .va = (u64)written, .count = 1, .flags = flags};

    OK(sys_space_update(0, &u, 1));
}
static void unprotect(struct frame *frame) {
    (void)frame;
    protect(MAP_WRITE);
}
static void faults(u64 n) {
    while (n--) {
        protect(0);
        *(volatile char *)written = 1;
    }
}
static void allocations(u64 n) {
    while (n--) {
        u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, 0));
        OK(sys_page_free(0, page, 1));
    }
}
static void transfers(u64 n) { pct_loop(n, server); }

/* What a worker does: as often as it can until `end`, each time that it is asked. One watches both: what has been
 * done in a short while, by itself and by the other, if that works. */
static u64 watch(const struct work *other, u64 step, u64 end, void (*body)(u64 n)) {
    u64 second = machine_info()->tsc_hz, best = 0, done = 0, theirs = 0, from = 0;

    for (u64 now; (now = rt_tsc()) < end; done += step) {
        if (now - from >= second / INTERVALS) {
            u64 they = __atomic_load_n(&other->done, __ATOMIC_RELAXED);
            bool at_once = rt_tsc() - now < second / INTERVALS / 50; /* or what they did has no time that it took */
            if (at_once && from) {
                u64 rate = (done + they - theirs) * second / (now - from);
                best = rate > best ? rate : best;
            }
            done = 0;
            theirs = they;
            from = at_once ? now : 0;
        }
        body(step);
    }
    return best;
}
NORETURN static void work(u32 cpu, u64 step, void (*body)(u64 n)) {
    struct work *w = &shared->work[cpu];

    rt_on_exception(unprotect);
    server = (u32)shared->counter;
    shared->ready = 1;
    for (u64 asked = 0;; asked++) {
        while (__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST) == asked)
            sys_sleep(NEVER, &w->asked, asked);
        bool watches = w->watches;
        if (watches)
            __atomic_store_n(&w->best, watch(&shared->work[!cpu], step, w->end, body) + 1, __ATOMIC_SEQ_CST);
        for (; !watches && rt_tsc() < w->end; __atomic_fetch_add(&w->done, step, __ATOMIC_RELAXED))
            body(step);
    }
}

/* The most that was done in a while, by as many from the first on. */
static struct cap worker[2];
static u64 window(u32 first, u32 cpus) {
    u64 end = rt_tsc() + machine_info()->tsc_hz / 50;

    shared->work[first].best = 0;
    for (u32 n = first + cpus; n-- > first;) {
        shared->work[n].end = end;
        shared->work[n].watches = n == first;
        __atomic_fetch_add(&shared->work[n].asked, 1, __ATOMIC_SEQ_CST);
        sys_wake(worker[n].name);
    }
    while (!__atomic_load_n(&shared->work[first].best, __ATOMIC_SEQ_CST))
        sys_sleep(end, &shared->work[first].best, 0);
    return shared->work[first].best;
}

static void scale(const char *const roles[2], const char *const servers[2]) {
    struct cap server_env[2];
    static u64 share[ROUNDS];

    CHECK(machine_info()->cpus >= 2);
    memset(shared, 0, SHARED_PAGES * RT_PAGE);
    for (u32 n = 0; n < 2; n++) {
        server_env[n] = start_role_on(servers[n], n);
        shared->counter = server_env[n].name;
        worker[n] = start_role_on(roles[n], n);
    }
    for (u32 i = 0; i < ROUNDS; i++) {
        u64 alone = window(0, 1) + window(1, 1);
        share[i] = window(0, 2) * 20000 / alone;
    }
    report_share(median(share, ROUNDS), ROUNDS);
    for (u32 n = 0; n < 2; n++) {
        OK(rt_destroy(&worker[n]));
        OK(rt_destroy(&server_env[n]));
    }
}

ROLE(scale_server_0) { scale_server(); }
ROLE(scale_server_1) { scale_server(); }
static const char *const servers[2] = {"scale_server_0", "scale_server_1"};
#define SCALED(what, step)                                                                         \
    ROLE(what##_0) { work(0, step, what); }                                                        \
    ROLE(what##_1) { work(1, step, what); }                                                        \
    ROW(scale_##what, "% of one CPU's") {                                                          \
        static const char *const roles[2] = {#what "_0", #what "_1"};                              \
        scale(roles, servers);                                                                     \
    }
SCALED(calls, 50)
SCALED(faults, 5)
SCALED(allocations, 2)
SCALED(transfers, 2)
