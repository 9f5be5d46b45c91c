/* Tests that run in the machine. The program `testinit` takes init's place and runs them one by
 * one, each in an environment of its own (testinit.c); this is what a test is written with.
 *
 *     TEST(name, .needs = .., ..) { body }    a test; it passes when it returns
 *     ROLE(name) { body }                     a part in a test that another environment plays
 *
 * A failed CHECK ends the test, and its text is what the runner reports. A test leaves nothing
 * behind but what is its environment's own: the runner counts free pages and runs the kernel's
 * checker. */
#pragma once
#include "base/memory.h"
#include "base/print.h"
#include "base/start.h"
#include "machine/machine.h"
#include "spawn/spawn.h"

enum need {
    NEED_MACHINE = 1, /* a MACHINE capability with TRACE */
    NEED_CONSOLE = 2, /* a CONSOLE capability with WRITE */
    NEED_FLOW = 4,    /* the device's flow, to be split */
    NEED_DEVICE = 8,  /* PAGE capabilities for the memory of edu and pci-testdev; without these devices the test is skipped */
    NEED_ANY_DEVICE = 16, /* the same, of whatever devices there are */
};

struct test {
    const char *name;
    void (*run)(void);
    bool role;
    u32 needs;   /* bits of need */
    u32 cpus;    /* the machine has so many, or the test is skipped */
    u32 ends;    /* the end_reason with which it must stop; 0: it returns */
    u32 seconds; /* until it is taken to hang; 0: TEST_SECONDS */
};
#define TEST_SECONDS 15

#define ENTRY(n, ...) \
    static void n(void); \
    static const struct test entry_##n = {.name = #n, .run = (n), __VA_ARGS__}; \
    static const struct test *const pointer_##n __attribute__((used, section("tests"))) = \
        &entry_##n; \
    static void n(void)
#define TEST(n, ...) ENTRY(n, __VA_ARGS__)
#define ROLE(n) ENTRY(n, .role = true)

extern const struct test *const __start_tests[], *const __stop_tests[];

/* A page shared by an environment and those that it starts. */
struct shared {
    char text[512]; /* why a test failed */
    u64 failed;     /* 1: text says why */
    u64 word[64];   /* free for the test */
    u64 order[112];
    struct cap cap[64]; /* capabilities to be passed on, or of environments to be destroyed */
};
_Static_assert(sizeof(struct shared) <= 4096, "one page");
extern struct shared *const up;   /* with whoever started this environment */
extern struct shared *const down; /* with the environments that this one starts */

/* ---- saying what must hold */
NORETURN void fail(const char *file, int line, const char *text, ...)
    __attribute__((format(printf, 3, 4)));
#define FAIL(...) fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(x) \
    do { \
        if (!(x)) \
            FAIL("%s", #x); \
    } while (0)
#define EQUAL(is, should) \
    do { \
        s64 is_ = (s64)(is), should_ = (s64)(should); \
        if (is_ != should_) \
            FAIL("%s is %lx (%s), not %lx (%s)", #is, is_, error_name(is_), should_, \
                 error_name(should_)); \
    } while (0)
/* The result of a call that must not fail. */
static inline s64 succeeded(s64 result, const char *call, const char *file, int line) {
    if (result < 0)
        fail(file, line, "%s: %s", call, error_name(result));
    return result;
}
#define OK(call) succeeded((s64)(call), #call, __FILE__, __LINE__)

/* ---- what a test may want to know */
struct cap item(const char *name);    /* a capability of the start page; none: fails */
const struct page *page_of(u32 page); /* its element of the page array */
static inline u8 type_of(u32 page) { return (u8)page_of(page)->state; }
static inline u32 bindings_of(u32 page) { return (u32)(page_of(page)->state >> 32); }
const struct env *self(void); /* this environment's page, mapped for good */
u32 free_pages(void);
u64 milliseconds(u64 n);                             /* in TSC ticks */
u64 calls_made(void);                                /* by all CPUs, of every kind */
void pause_for(u64 ms);                              /* sleeps */
bool cpu_has(u32 leaf, u32 word, u32 bit); /* a bit of CPUID; word: 0 to 3 for eax to edx */
u64 number_argument(const char *key, u64 otherwise); /* key=N on the kernel's command line */
u32 page_alloc(u32 count);                           /* fails the test if there is none */
u64 address(u32 pages); /* addresses that nothing uses, with table pages bound */
u64 mapped(u32 page, u32 count, u32 flags); /* own pages, mapped at such addresses */
s64 update(u8 op, u8 level, u64 va, u32 page, u32 count, u16 flags, const struct cap *cap);

/* ---- exceptions that are expected */
struct caught {
    u64 cause, error, address, rip;
};
/* Runs code(argument): 0 when it returns, or 1 when it is broken off by an exception, which *caught
 * tells. */
bool attempt(void (*code)(u64), u64 argument, struct caught *caught);
/* The exception that reading, writing or executing at an address causes; 32: none. */
u32 try_read(u64 at);
u32 try_write(u64 at);
u32 try_execute(u64 at);

/* ---- calls with any registers */
struct raw {
    u64 rax, rdi, rsi, rdx, r10, r8, r9;        /* before, and after */
    u64 r11, rcx, rbx, rbp, r12, r13, r14, r15; /* after */
};
void raw_call(struct raw *r);
s64 checked_call(struct raw *r,
                 const char *name); /* fails if the registers hold anything of the kernel's */

/* ---- other environments and other CPUs */
struct peer {
    struct cap cap;
    u32 env;
};
/* `spare`: slices more that it may allocate, or give to environments of its own. */
void run_peer(struct peer *p, const char *role, const struct spawn_slices *slices, u32 kinds,
              u32 pages, u32 spare);
extern u32 peer_page; /* own page, to be the next peer's ENV page; 0: any */
extern u64 peer_cpus; /* on which the next peer may own slices, a bit each; 0: all */
void start_peer(struct peer *p, const char *role, u32 cpu); /* 512 pages, 4 slices */
void end_peer(struct peer *p);                              /* destroys it */
u32 find_child(u32 but);        /* an environment whose creator is this one, but not `but`; 0: there is none */
struct cap cap_of_child(u32 env);  /* by ownership */
void end_children(u32 but);     /* and their children, down to the last */
void wait_for(const u64 *word, u64 value); /* until *word >= value; fails after 5 s */
/* A capability to be derived, for this environment alone. */
static inline struct cap tied_to(struct cap cap, u32 env) {
    cap.holder = env;
    cap.generation = page_of(env)->generation;
    return cap;
}
/* An environment with nothing but its two pages. */
struct peer bare_env(u32 page_limit, u32 slice_limit);
/* Binds a page as this environment's context on another CPU, which runs code(argument) and then
 * sleeps for ever. Returns the context, mapped. */
struct context *start_thread(u32 cpu, void (*code)(u64), u64 argument);
struct event_ring *bind_events(void);
/* Waits for the next event; false after so many milliseconds. */
bool next_event(struct event_ring *ring, struct event *event, u64 ms);

int run_tests(void); /* testinit.c */
