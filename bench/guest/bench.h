/* Measurements that run in the machine. The program `bench` takes init's place and starts itself
 * again as an ordinary environment, in which the rows run (main.c); this is what a row is
 * written with.
 *
 *     ROW(name, "unit") { measure(n, body); }      a row; prints one line when it is measured
 *     ROLE(name) { ... }                           what another environment does for a row
 *
 * Under `-icount shift=0` a tick is an instruction, and the same boot gives the same numbers.
 * Two ways of timing, the same as in bench/linux/bench.c: `measure` times n operations in a row,
 * so it includes the loop around them; `measure_sum` adds up intervals that the body takes
 * itself, each tightly around the operation, so set-up is not timed. Nothing is subtracted on
 * either system. */
#pragma once
#include "base/memory.h"
#include "base/print.h"
#include "base/start.h"
#include "ipc/ipc.h"
#include "machine/machine.h"
#include "spawn/spawn.h"

struct row {
    const char *name, *unit; /* unit NULL: a role */
    void (*run)(void);
};
#define ENTRY(n, u)                                                                                \
    static void row_##n(void);                                                                     \
    static const struct row entry_##n = {#n, u, row_##n};                                          \
    static const struct row *const pointer_##n __attribute__((used, section("rows"))) =            \
        &entry_##n;                                                                                \
    static void row_##n(void)
#define ROW(n, u) ENTRY(n, u)
#define ROLE(n) ENTRY(n, NULL)
extern const struct row *const __start_rows[], *const __stop_rows[];

/* body(n) does n operations; body of measure_sum adds the timed ticks to *sum. */
void measure(u64 n, void (*body)(u64 n));
void measure_sum(u64 n, void (*body)(u64 n, u64 *sum));
/* The same, where an operation of the body counts as so many: pages a call, ways of a round
 * trip. */
void measure_parts(u64 n, u64 parts, void (*body)(u64 n));

NORETURN void fail(const char *file, int line, const char *what, s64 result);
#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            fail(__FILE__, __LINE__, #x, 0);                                                       \
    } while (0)
#define OK(call)                                                                                   \
    ({                                                                                             \
        s64 ok_ = (s64)(call);                                                                     \
        if (ok_ < 0)                                                                               \
            fail(__FILE__, __LINE__, #call, ok_);                                                  \
        ok_;                                                                                       \
    })

/* Pseudo-random numbers, the same as in bench/linux/bench.c. */
extern u32 random_state;
static inline u32 random_next(void) {
    return (random_state = random_state * 1664525u + 1013904223u) >> 8;
}

/* Pages shared by the environment of the rows and one that plays a role. */
#define SHARED_PAGES 2
struct shared {
    u64 ready; /* the role waits to be given the processor */
    u32 env;   /* the rows' environment */
    u32 zero;
    u64 counter;
    struct pipe there, back;
    struct work {
        u64 end;   /* TSC until when it works */
        u64 done;  /* operations ever */
        u64 best;  /* most of them in a second, plus one; 0: not over yet */
        u64 asked; /* rises with each time that it shall work */
        u64 watches; /* not 0: it watches both, and says `best` */
        u64 zero[3];
    } work[2];
};
_Static_assert(sizeof(struct shared) <= SHARED_PAGES * RT_PAGE, "shared");
extern struct shared *const shared;

/* Starts the environment for a role, and waits until it is ready; the one before is destroyed.
 * Returns its name. */
u32 start_role(const char *role);
/* The same on any CPU, beside others; it is the caller's to destroy. */
struct cap start_role_on(const char *role, u32 cpu);
/* In a role: transfers arrive at this entry. */
void accept_by(void (*entry)(void));
/* A row that measures something else than a time: a share, in hundredths of a hundredth. */
void report_share(u64 hundredths, u64 n);
/* Sorts n values: the middle one. */
u64 median(u64 *v, u64 n);
/* Runs the row that is being measured in an environment of its own: its function calls this first, and goes on
 * if it is in that environment by now; in the other it returns false when all is done. */
bool alone(void);
/* In a role: is ready, and sleeps for ever; what is left to do happens in its transfer entry. */
NORETURN void serve(void);

/* Splits the device's flow into `count`, each with a filter for a UDP port of its own from
 * 10,000 on, says so, and waits for ever while the kernel classifies what comes. */
NORETURN void bind_filters(const struct cap *parent, u32 count);
