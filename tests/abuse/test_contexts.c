/* Context pages that hold anything at all: the kernel goes on, and the libOS has nothing that it
 * should not have. Each case is a small environment whose context page was prepared. */
#include "abuse.h"

#define IOPL 0x3000
#define KERNEL 0xffffffff80100000ull
#define ODD 0x8000123412341234ull
#define ENDS 3000    /* milliseconds for what must end */
#define MAY_GO_ON 12 /* and for what need not */

extern const u8 tell_flags[], live[], compute[]; /* code.S */

static struct context good_context(void) {
    static const struct context empty;
    struct context c = empty;

    c.self = MINI_CONTEXT;
    c.depth = 1;
    c.frame[0].rip = MINI_CODE;
    c.frame[0].rsp = MINI_STACK + 2048;
    return c;
}

/* Runs it until it ends or is taken to go on for ever. True: it ended, and *event says how. */
static bool run(struct event_ring *ring, const struct context *c, const u8 *code, u64 ms,
                struct event *event) {
    struct peer p = mini_env(c, code, 0);
    u64 limit = rt_tsc() + milliseconds(ms);
    bool ended = false;

    while (!ended && rt_tsc() < limit) {
        u64 busy = rt_tsc() + milliseconds(1);
        while (rt_tsc() < busy)
            ; /* so that slices end */
        ended = next_event(ring, event, 1) && event->env == p.env;
    }
    end_peer(&p);
    return ended;
}

/* Whatever flags and selectors a frame has, none are privileged. */
TEST(context_flags) {
    static const u64 flags[] = {~0ull,
                                0,
                                IOPL,
                                0x4000,
                                0x20000,
                                0x180000,
                                0x3000 | 0x20000 | 0x4000 | 0x100200,
                                0x8000000000000000,
                                0xffffffff00000000,
                                0x7ffffeff};
    static const u64 selector[] = {0,    0x08, 0x10, 0x0b,   0x13,   0x23, 0x1b,
                                   0x28, 0x2b, 0x33, 0xffff, 0xfff8, ~0ull};
    struct event_ring *ring = bind_events();
    struct event event;

    for (u32 i = 0; i < ARRAY_SIZE(flags) * ARRAY_SIZE(selector); i++) {
        struct context c = good_context();
        c.frame[0].rflags = flags[i % ARRAY_SIZE(flags)] & ~0x100ull;
        c.frame[0].cs = selector[i / ARRAY_SIZE(flags)];
        c.frame[0].ss = selector[ARRAY_SIZE(selector) - 1 - i / ARRAY_SIZE(flags)];
        CHECK(run(ring, &c, tell_flags, ENDS, &event));
        EQUAL(event.a, END_STOPPED);
        EQUAL(event.b & (IOPL | 0x20000 | 0x4000 | 0x180000), 0);
        CHECK(event.b & 0x200);
    }
}

static const struct {
    u32 at, bytes;
} field[] = {
#define FIELD(name) \
    { offsetof(struct context, name), sizeof(((struct context *)0)->name) }
    FIELD(self),
    FIELD(exception),
    FIELD(start),
    FIELD(start_stack),
    FIELD(end),
    FIELD(transfer),
    FIELD(transfer_stack),
    FIELD(depth),
    FIELD(slice_end),
    FIELD(excess),
    FIELD(env),
    FIELD(cpu),
    FIELD(info),
    FIELD(frame[0].previous),
    FIELD(frame[0].rip),
    FIELD(frame[0].rsp),
    FIELD(frame[0].rflags),
    FIELD(frame[0].cause),
    FIELD(frame[0].rdi),
#undef FIELD
};

/* Every field that the kernel reads, with every kind of nonsense, through everything that uses it.
 */
TEST(context_fields, .seconds = 60) {
    static const u64 value[] = {0,
                                1,
                                7,
                                8,
                                9,
                                0x7fffffff,
                                0xffffffff,
                                ~0ull,
                                KERNEL,
                                0xffff800000000000,
                                ODD,
                                0x7ffffffff000,
                                0x7fffffffeff8,
                                MINI_CODE + 1,
                                MINI_CONTEXT + 992,
                                MINI_CONTEXT + 2504,
                                0x123456000};
    struct event_ring *ring = bind_events();
    struct event event;

    for (u32 f = 0; f < ARRAY_SIZE(field); f++)
        for (u32 v = 0; v < ARRAY_SIZE(value); v++) {
            struct context c = good_context();
            c.exception = v & 1 ? MINI_CODE : 0;
            memcpy((u8 *)&c + field[f].at, &value[v], field[f].bytes);
            run(ring, &c, live, MAY_GO_ON, &event);
        }
}

/* Entries that lead nowhere, all of them at once. */
TEST(context_entries) {
    static const u64 value[] = {KERNEL, ODD, 0x7ffffffff000, 0x123456000, 1, ~0ull};
    struct event_ring *ring = bind_events();
    struct event event;

    for (u32 v = 0; v < ARRAY_SIZE(value); v++) {
        struct context c = good_context();
        c.exception = c.end = c.transfer = c.start_stack = c.transfer_stack = value[v];
        c.start = v & 1 ? value[v] : 0;
        CHECK(run(ring, &c, live, ENDS, &event));
        EQUAL(event.a, END_FAULT);
    }
}

/* Extended state that no XSAVE wrote: it is refused, and the context gets the initial one. */
TEST(context_extended) {
    struct event_ring *ring = bind_events();
    struct event event;
    u64 seed = 4711;

    for (u32 i = 0; i < 40; i++) {
        struct context c = good_context();
        c.fpu = 1;
        u64 *word = (u64 *)c.extended;
        for (u32 k = 0; k < sizeof c.extended / 8; k++)
            word[k] = i < 8 ? ~0ull : random_number(&seed);
        if (i & 1) /* a header that lets the rest be looked at */
            memset(c.extended + 512, 0, 64);
        if (i & 2)
            c.extended[512] = 7;
        if (i & 4)
            *(u32 *)(c.extended + 24) = 0x1f80;
        c.fpu = i & 8 ? 0xffffffff : 1;
        CHECK(run(ring, &c, compute, ENDS, &event));
    }
}

/* Segment bases that no processor loads. */
TEST(context_bases) {
    static const u64 value[] = {0,
                                KERNEL,
                                0xffff800000000000,
                                ODD,
                                0x800000000000,
                                0x7fffffffffff,
                                ~0ull,
                                0x4000000000000000};
    struct event_ring *ring = bind_events();
    struct event event;

    for (u32 i = 0; i < ARRAY_SIZE(value) * ARRAY_SIZE(value); i++) {
        struct context c = good_context();
        c.bases = i & 1 ? 0xffffffff : 1;
        c.fs_base = value[i % ARRAY_SIZE(value)];
        c.gs_base = value[i / ARRAY_SIZE(value)];
        CHECK(run(ring, &c, tell_flags, ENDS, &event));
    }
}

/* ---- rewritten while it is used */
static void scribble(u64 at) {
    static const u64 value[] = {0,      1,   2,         8,     0xffffffff,
                                KERNEL, ODD, MINI_CODE, ~0ull, 0x7ffffffff000};
    volatile u64 *word = (volatile u64 *)at;
    u64 state = rt_tsc() | 1;

    for (;;) {
        u64 r = random_number(&state);
        if ((r & 15) == 0) /* entries and words before the frames, seldom: they end it soonest */
            word[r >> 8 & 15] = value[(r >> 32) % ARRAY_SIZE(value)];
        else if (r & 16)
            word[124 + (r >> 8) % 192] = value[(r >> 32) % ARRAY_SIZE(value)];
        else
            word[384 + (r >> 8) % 128] = r;
    }
}
static void skip(struct frame *f) { f->rip += 2; }
ROLE(scribbled) {
    rt_on_exception(skip);
    rt_context(0)->fpu = 1;
    rt_context(0)->bases = 1;
    start_thread(1, scribble, RT_CONTEXT);
    for (;;) {
        sys_yield();
        __asm__ volatile("ud2");
        sys_sleep(0, 0, 0);
        up->word[0]++;
    }
}

/* Another CPU writes into the context page of one that goes in and out of the kernel. */
TEST(context_rewritten, .cpus = 2, .seconds = 30) {
    struct event_ring *ring = bind_events();
    struct spawn_slices slices[] = {{0, 2}};
    struct event event;
    u64 end = rt_tsc() + milliseconds(1500);

    for (u32 i = 0; i < 40 && rt_tsc() < end; i++) {
        struct peer p;
        run_peer(&p, "scribbled", slices, 1, 512, 2);
        next_event(ring, &event, 50);
        end_peer(&p);
    }
}
