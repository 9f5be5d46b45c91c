/* Edges of the address space that only some processors look at, and calls of two CPUs on one thing at once: what one of them has
 * checked, the other changes before it is used. */
#include "abuse.h"

#define NOT_CANONICAL (1ull << 47)

/* ---- edges */
/* A large page may not reach beyond the last address of a space: a `syscall` in the last two bytes below the hole would return to an
 * address at which some processors fault in the kernel, with the library OS's stack. */
TEST(space_large_beyond_top) {
    u64 last = NOT_CANONICAL - 0x200000;
    u32 run = (u32)OK(sys_page_alloc(0, PAGE_ANY, 512, 9, 0));

    for (u8 level = 3; level >= 2; level--) { /* MAPPED where there is one */
        s64 error = update(UPDATE_BIND_TABLE, level, last, page_alloc(1), 1, 0, 0);
        CHECK(!error || error == E_MAPPED);
    }
    EQUAL(update(UPDATE_MAP, 1, last, run, 1, MAP_WRITE | MAP_EXECUTE, 0), E_BAD_ARGUMENT);
    EQUAL(update(UPDATE_MAP, 0, USER_TOP, run, 1, 0, 0), E_BAD_ARGUMENT);
    EQUAL(update(UPDATE_MAP, 1, last - 0x200000, run, 1, MAP_WRITE, 0), 0); /* the one below is fit */
}

/* An entry for exceptions just beyond the lower half is none: the kernel does not try to go there, not even once. */
TEST(exception_entry_beyond) {
    static const u8 code[256] = {0x0f, 0x0b}; /* ud2 */
    static const struct context empty;
    struct event_ring *ring = bind_events();
    struct context c = empty;
    struct event event;

    c.self = MINI_CONTEXT;
    c.exception = NOT_CANONICAL;
    c.depth = 1;
    c.frame[0].rip = MINI_CODE;
    c.frame[0].rsp = MINI_STACK + 2048;
    u64 before = machine_trace(0)->exceptions;
    struct peer p = mini_env(&c, code, 0);
    CHECK(next_event(ring, &event, 3000));
    EQUAL(event.env, p.env);
    EQUAL(event.a, END_FAULT);
    EQUAL(machine_trace(0)->exceptions, before + 1);
    end_peer(&p);
}

/* ---- a frame that another CPU writes while the kernel uses it */
extern const char give_returns[];
static __attribute__((noinline)) s64 give(u64 env) {
    u64 result = env << 32 | TRANSFER_GIVE << 8 | CALL_TRANSFER;

    __asm__ volatile("syscall\n.globl give_returns\ngive_returns:" : "+a"(result) : :
                     "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    return (s64)result;
}

static void spoil_frames(u64 unused) {
    volatile struct context *c = rt_context(0);

    (void)unused;
    for (;;) {
        u32 depth = c->depth;
        if (depth < FRAMES)
            c->frame[depth].rip = NOT_CANONICAL | (u64)give_returns;
    }
}

static void close_door(u32 caller, u32 kind, struct rt_message *m) {
    (void)caller, (void)kind, (void)m;
    rt_context(0)->transfer = 0;
}
ROLE(shut_service) { /* answers one call, and then runs with its door shut */
    rt_on_transfer(close_door);
    for (up->word[0] = 1;;)
        sys_yield();
}
ROLE(frame_spoiler) {
    struct rt_message m = {0};

    rt_context(0)->exception = rt_context(0)->start = rt_context(0)->end = 0; /* the kernel alone resumes frames */
    start_thread(1, spoil_frames, 0);
    EQUAL(rt_transfer((u32)up->word[1], TRANSFER_CALL, &m), 0);
    for (up->word[2] = 0;; up->word[2]++)
        give(up->word[1]);
}

/* Whatever stands in the frame, a GIVE that is refused never returns outside the lower half. The spoiler may spoil its own frames: then it
 * ends, and begins again. */
TEST(give_spoiled_frame, .cpus = 2, .seconds = 60) {
    struct spawn_slices slices = {0, 2};
    struct event_ring *ring = bind_events();
    struct peer service, spoiler;
    struct event event;

    for (u32 round = 0; round < 3; round++) {
        down->word[0] = down->word[2] = 0;
        start_peer(&service, "shut_service", 0);
        wait_for(&down->word[0], 1);
        down->word[1] = service.env;
        run_peer(&spoiler, "frame_spoiler", &slices, 1, 512, 2);
        for (u64 end = rt_tsc() + milliseconds(1000); rt_tsc() < end;)
            if (next_event(ring, &event, 20) && event.env == spoiler.env) {
                if (down->failed)
                    FAIL("%s", down->text);
                EQUAL(event.a, END_FAULT);
                EQUAL(event.b >> 47, 0);
                break;
            }
        end_peer(&spoiler);
        end_peer(&service);
    }
}

/* ---- a page that is given away while it becomes the place of a predicate */
static struct {
    u32 page;
    volatile u64 stop, waits;
} giving;

static void wait_in_page(u64 unused) {
    static u64 word;
    struct predicate p = {.count = 1};

    (void)unused;
    p.term[0] = (struct term){.tag = 16, .count = 1, .factor[0] = {.word = (u64)&word, .value = 1, .how = IS}};
    while (!giving.stop) {
        p.deadline = rt_tsc() + 20000;
        giving.waits += sys_wait((u64)&p, giving.page) >= 0;
    }
}

/* A page that holds a sleeper's predicate is its own: it does not change hands. */
TEST(wait_page_given, .cpus = 2, .seconds = 60) {
    u32 first = page_alloc(PAGES_A_CALL), given = 0;
    struct peer taker = bare_env(PAGES_A_CALL + 8, 0);
    struct cap cap = {.type = CAP_PAGE, .rights = RIGHT_OWN, .name = first, .count = PAGES_A_CALL};

    OK(sys_cap_derive(0, &cap));
    giving.page = first + PAGES_A_CALL - 1;
    start_thread(1, wait_in_page, 0);
    wait_for((u64 *)&giving.waits, 1);
    for (u64 end = rt_tsc() + milliseconds(3000); rt_tsc() < end;) {
        s64 error = sys_page_give(0, first, PAGES_A_CALL, &taker.cap);
        CHECK(!error || error == E_WRONG_TYPE);
        if (error)
            continue;
        given++;
        CHECK(type_of(giving.page) == PAGE_DATA);
        EQUAL(sys_page_give(&cap, first, PAGES_A_CALL, 0), 0);
    }
    CHECK(given > 0 && giving.waits > 1);
    giving.stop = 1;
    end_peer(&taker);
}

/* ---- an environment that is destroyed while it is made */
static struct {
    u32 name;
    u64 view;
    volatile u64 stop, destroyed, survived;
} making;

static void destroy_at_once(u64 unused) {
    (void)unused;
    while (!making.stop) {
        struct cap cap = {.type = CAP_ENV, .rights = RIGHT_OWN | RIGHT_MANAGE, .name = making.name, .count = 1};
        if (sys_cap_derive(0, &cap))
            continue;
        update(UPDATE_MAP, 0, making.view, making.name, 1, 0, 0); /* so that it takes more than one call */
        for (s64 error; (error = sys_env_destroy(&cap)) != 0 && error != E_BAD_CAPABILITY && error != E_DEAD;)
            making.survived += sys_page_alloc(&cap, PAGE_ANY, 1, 0, 0) >= 0;
        update(UPDATE_UNMAP, 0, making.view, 0, 1, 0, 0);
        making.destroyed++;
    }
}

/* One that is being destroyed does not come to life again. */
TEST(env_destroyed_while_made, .cpus = 2, .seconds = 60) {
    struct env_spec spec = {.name = "brief", .page_limit = 8};
    u32 pages = page_alloc(2);
    u64 made = 0;

    making.view = address(1);
    making.name = pages;
    start_thread(1, destroy_at_once, 0);
    for (u64 end = rt_tsc() + milliseconds(5000); rt_tsc() < end && !making.survived;) {
        u64 before = making.destroyed;
        if (sys_env_create(pages, pages + 1, &spec, 0) >= 0)
            made++;
        while (making.destroyed == before && rt_tsc() < end)
            ;
        for (u32 i = 0; i < 2; i++)
            sys_page_alloc(0, pages + i, 1, 0, 0);
    }
    making.stop = 1;
    EQUAL(making.survived, 0);
    CHECK(made > 10 && making.destroyed > 10);
    end_children(0);
}

/* ---- limits */
/* Takes all it can by children whose limits it lowers again. word 0: done, 1: pages that it and they own, 2: slices */
ROLE(limit_pump) {
    u32 pages = 0, slices = 0;

    for (u32 i = 0; i < 8; i++) {
        struct env_spec spec = {.name = "pumped", .page_limit = 50, .slice_limit = self()->slice_limit - self()->slices};
        struct cap child;
        u32 own = (u32)sys_page_alloc(0, PAGE_ANY, 2, 0, 0);
        if ((s32)own < 0 || sys_env_create(own, own + 1, &spec, &child) < 0)
            break;
        pages += 2;
        while (sys_page_alloc(&child, PAGE_ANY, 1, 0, 0) >= 0)
            pages++;
        while (sys_slice_alloc(&child, 0, PAGE_ANY) >= 0)
            slices++;
        OK(sys_env_limit(&child, 0, 0));
    }
    up->word[1] = pages + self()->pages;
    up->word[2] = slices + self()->slices;
    up->word[0] = 1;
    sys_sleep(NEVER, 0, 0);
}

/* Nobody owns more than his limit by lending it, and taking it back from one who has used it. */
TEST(attack_limits, .seconds = 30) {
    struct spawn_slices slices = {0, 1};
    u32 pages = self()->page_limit, time = self()->slice_limit;
    struct peer p;

    run_peer(&p, "limit_pump", &slices, 1, 300, 3);
    wait_for(&down->word[0], 1);
    CHECK(down->word[1] <= 300 && down->word[2] <= 4);
    end_peer(&p);
    end_children(0);
    EQUAL(self()->page_limit, pages);
    EQUAL(self()->slice_limit, time);
}

/* ---- interrupts */
#define STORM 5000

/* Counts the times that it was interrupted. word 0: it runs, 1: so many */
ROLE(disturbed) {
    for (u64 last = rt_tsc(), now;; last = now) {
        now = rt_tsc();
        up->word[1] += now - last > machine_info()->tsc_hz / 1000000;
        up->word[0] = 1;
    }
}

/* Whoever changes slices, or asks his own child for pages, interrupts nobody who runs elsewhere and has nothing to do with it. */
TEST(attack_interrupts, .cpus = 2, .seconds = 60) {
    struct peer other, idle = bare_env(8, 1), asked = bare_env(8, 0); /* one has slices, the other a context, so neither runs */

    machine_slices(1);
    start_peer(&other, "disturbed", 1);
    wait_for(&down->word[0], 1);
    u32 context = (u32)OK(sys_page_alloc(&asked.cap, PAGE_ANY, 1, 0, 0));
    OK(sys_context_bind(&asked.cap, 1, context));
    u64 before = __atomic_load_n(&down->word[1], __ATOMIC_SEQ_CST);
    for (u32 i = 0; i < STORM; i++) {
        u32 slot = (u32)OK(sys_slice_alloc(&idle.cap, 1, PAGE_ANY));
        OK(sys_slice_free(&idle.cap, 1, slot));
        OK(sys_revoke(&asked.cap, RESOURCE_PAGES, 1, NEVER));
        OK(sys_revoke(&asked.cap, RESOURCE_PAGES, 0, NEVER));
    }
    u64 times = __atomic_load_n(&down->word[1], __ATOMIC_SEQ_CST) - before;
    if (times > STORM / 2)
        FAIL("it was interrupted %lu times in %u rounds", times, STORM);
    end_peer(&asked);
    end_peer(&idle);
    end_peer(&other);
}
