/* Slices, their upcalls, yielding and sleeping. */
#include "guest.h"

/* ---- slots */
TEST(slice_slots) {
    u32 n = 0, slot;

    for (slot = 0; slot < SLOTS && machine_slices(0)->slot[slot].owner; slot++)
        ;
    EQUAL(sys_slice_alloc(0, 0, slot), slot);
    EQUAL(machine_slices(0)->slot[slot].owner, rt_self());
    EQUAL(sys_slice_alloc(0, 0, slot), E_NOT_FREE);
    EQUAL(sys_slice_free(0, 0, slot), 0);
    EQUAL(sys_slice_free(0, 0, slot), E_NO_RIGHT);
    for (u32 i = 0; i < SLOTS; i++)
        if (machine_slices(0)->slot[i].owner != rt_self() && machine_slices(0)->slot[i].owner)
            EQUAL(sys_slice_free(0, 0, i), E_NO_RIGHT);
    while (self()->slices < self()->slice_limit && n++ < SLOTS)
        if (sys_slice_alloc(0, 0, PAGE_ANY) < 0)
            break;
    if (self()->slices == self()->slice_limit)
        EQUAL(sys_slice_alloc(0, 0, PAGE_ANY), E_LIMIT);
    else
        EQUAL(sys_slice_alloc(0, 0, PAGE_ANY), E_NOT_FREE);
}

/* Slices are owned only on CPUs that the creator has allowed, whoever allocates or gives them. */
TEST(slice_cpus, .cpus = 2) {
    struct env_spec spec = {.name = "tied", .page_limit = 4, .slice_limit = 4, .cpus = 1};
    struct cap cap;

    OK(sys_env_create(page_alloc(1), page_alloc(1), &spec, &cap));
    EQUAL(machine_env(cap.name)->cpus, 1);
    EQUAL(machine_env(rt_self())->cpus, ~0ull);
    s64 slot = OK(sys_slice_alloc(0, 1, PAGE_ANY));
    EQUAL(sys_slice_alloc(&cap, 1, PAGE_ANY), E_LIMIT);
    EQUAL(sys_slice_give(1, (u32)slot, &cap), E_LIMIT);
    EQUAL(machine_slices(1)->slot[slot].owner, rt_self());
    OK(sys_slice_free(&cap, 0, (u32)OK(sys_slice_alloc(&cap, 0, PAGE_ANY))));
    machine_forget();
    OK(rt_destroy(&cap));
}

/* ---- upcalls */
static u64 started, start_cause, start_self;
void note_start(u64 context, u64 cause);
void note_start(u64 context, u64 cause) {
    started++;
    start_self = context;
    start_cause = cause;
}
void start_entry(void); /* stubs.S: note_start, and back to the frame of a yield */

/* The start of a slice is an upcall, on the stack that was named for it. */
TEST(slice_start_upcall) {
    static u8 stack[4096] __attribute__((aligned(16)));

    rt_context(0)->start_stack = (u64)stack + sizeof stack;
    rt_context(0)->start = (u64)start_entry;
    for (u32 i = 1; i <= 5; i++) {
        EQUAL(sys_yield(), 0);
        CHECK(started >= i);
    }
    rt_context(0)->start = 0;
    EQUAL(start_cause, CAUSE_SLICE_START);
    EQUAL(start_self, RT_CONTEXT);
}

static volatile u64 ends;
static void count_end(struct frame *f) { ends += f->cause == CAUSE_SLICE_END; }

ROLE(spinner) {
    rt_on_slice_end(NULL);
    for (;;)
        __atomic_fetch_add(&up->word[0], 1, __ATOMIC_SEQ_CST);
}

/* The end of a slice is an upcall; who gives the CPU back in time is not charged. */
TEST(slice_end_upcall) {
    struct peer p;

    start_peer(&p, "spinner", 0);
    wait_for(&down->word[0], 1);
    rt_on_slice_end(count_end);
    for (u64 end = rt_tsc() + milliseconds(1000); ends < 5 && rt_tsc() < end;)
        ;
    CHECK(ends >= 5);
    EQUAL(rt_context(0)->depth, 0);
    end_peer(&p);
}

/* A context without an end upcall is saved by the kernel and goes on as it was. */
TEST(slice_end_saved) {
    struct peer p;
    u64 sum = 0, before = machine_slices(0)->switches;

    start_peer(&p, "spinner", 0);
    wait_for(&down->word[0], 1);
    rt_context(0)->end = 0;
    for (u64 i = 0; i < 1000000 || machine_slices(0)->switches < before + 10; i++)
        sum += i ^ sum >> 3;
    EQUAL(rt_context(0)->depth, 0);
    CHECK(sum);
    end_peer(&p);
}

/* Keeps the CPU, and sees to it that frames never run out. */
static void forget_frames(struct frame *f) {
    (void)f;
    for (;;) {
        __atomic_fetch_add(&up->word[0], 1, __ATOMIC_SEQ_CST);
        rt_context(0)->depth = 0;
    }
}
ROLE(stubborn) {
    rt_on_slice_end(forget_frames);
    for (;;)
        __atomic_fetch_add(&up->word[0], 1, __ATOMIC_SEQ_CST);
}

/* Who keeps the CPU beyond the allowance is cut off, charged, and stopped when it does so for ever.
 */
TEST(slice_overrun, .seconds = 30) {
    struct event_ring *ring = bind_events();
    struct event event;
    struct peer p;
    u64 before = machine_trace(0)->overruns;

    start_peer(&p, "stubborn", 0);
    bool charged = false;
    while (!next_event(ring, &event, 1)) {
        for (u64 end = rt_tsc() + milliseconds(1); rt_tsc() < end;)
            ; /* competes for the CPU, or nobody's slice would end */
        charged |= ((const volatile struct env *)machine_env(p.env))->context[0].excess > 0;
        machine_forget();
    }
    CHECK(event.type == EVENT_ENDED && event.env == p.env);
    EQUAL(event.a, END_OVERRUN);
    CHECK(machine_trace(0)->overruns >= before + 64 && charged);
    end_peer(&p);
}

ROLE(yielder) {
    for (u32 i = 0; i < 8; i++) {
        u64 at = __atomic_fetch_add(&up->word[0], 1, __ATOMIC_SEQ_CST);
        if (at < ARRAY_SIZE(up->order))
            up->order[at] = rt_self();
        sys_yield();
    }
    __atomic_fetch_add(&up->word[1], 1, __ATOMIC_SEQ_CST);
    sys_sleep(NEVER, 0, 0);
}

/* Those who yield take turns in the order of their slots. */
TEST(yield_order) {
    struct peer p[3];

    for (u32 i = 0; i < 3; i++)
        start_peer(&p[i], "yielder", 0);
    wait_for(&down->word[1], 3);
    u32 repeated = 0, total = (u32)down->word[0];
    for (u32 i = 1; i < total; i++)
        repeated += down->order[i] == down->order[i - 1];
    EQUAL(total, 24);
    CHECK(repeated <= 14); /* before and after all three are at it */
    for (u32 i = 0; i < 3; i++)
        end_peer(&p[i]);
}

/* ---- sleeping */
TEST(sleep_deadline) {
    u64 begin = rt_tsc();

    EQUAL(sys_sleep(begin + milliseconds(20), 0, 0), 1);
    CHECK(rt_tsc() >= begin + milliseconds(20));
    CHECK(rt_tsc() < begin + milliseconds(2000));
    EQUAL(sys_sleep(0, 0, 0), 1);
    EQUAL(rt_context(0)->depth, 0);
}

/* When nobody wants a CPU it halts, and no tick wakes it: the time is counted as idle, in the vector that everybody may read. */
TEST(sleep_idle) {
    const volatile struct slices *vector = machine_slices(0);
    const volatile struct trace *trace = machine_trace(0);
    u64 timer = trace->timer, idle = vector->idle, begin = rt_tsc();

    EQUAL(sys_sleep(begin + milliseconds(100), 0, 0), 1);
    CHECK((vector->idle - idle) * 2 > rt_tsc() - begin);
    if (trace->timer - timer > 4)
        FAIL("%lu timer interrupts", trace->timer - timer);
}

/* A word that differs already is not waited for; a page that is slept on is held. */
TEST(sleep_word) {
    u32 page = page_alloc(1);
    u64 *word = (u64 *)mapped(page, 1, MAP_WRITE);

    *word = 5;
    EQUAL(sys_sleep(NEVER, word, 4), 0);
    EQUAL(bindings_of(page), 1);
    EQUAL(sys_sleep(rt_tsc() + milliseconds(5), word, 5), 1);
    EQUAL(bindings_of(page), 1);
    EQUAL(sys_sleep(NEVER, (u64 *)((u64)word + 4), 5), E_BAD_ARGUMENT);
    EQUAL(sys_sleep(NEVER, (u64 *)0x700000000000, 5), E_BAD_ADDRESS);
    EQUAL(sys_sleep(NEVER, (u64 *)0xffff800000000000, 5), E_BAD_ADDRESS);
    EQUAL(sys_sleep(NEVER, (u64 *)0xffffffff80100000, 5), E_BAD_ADDRESS);
}

ROLE(ends_soon) { pause_for(20); }

/* Its own deliveries can be waited for without a word's page being held. */
TEST(sleep_deliveries) {
    struct event_ring *ring = bind_events();
    const u64 *count = (const u64 *)DELIVERIES;
    u64 seen = self()->deliveries;
    u32 held = bindings_of(rt_self());
    struct event event;
    struct peer p;

    EQUAL(sys_sleep(NEVER, count, seen + 1), 0);
    EQUAL(sys_sleep(rt_tsc() + milliseconds(2), count, seen), 1);
    start_peer(&p, "ends_soon", 0);
    EQUAL(sys_sleep(rt_tsc() + milliseconds(5000), count, seen), 0); /* its creator is told */
    CHECK(next_event(ring, &event, 0));
    CHECK(self()->deliveries > seen);
    end_peer(&p);
    EQUAL(bindings_of(rt_self()), held);
    EQUAL(sys_sleep(0, &self()->deliveries, self()->deliveries), 1); /* and by its address */
    EQUAL(bindings_of(rt_self()), held);
}

ROLE(changer) {
    pause_for(20);
    __atomic_store_n(&up->word[0], 1, __ATOMIC_SEQ_CST);
    sys_wake(atoi((const char *)up->text));
    sys_sleep(NEVER, 0, 0);
}

/* A store by another environment wakes the sleeper. */
TEST(sleep_changed) {
    struct peer p;

    start_peer(&p, "changer", 0);
    EQUAL(sys_sleep(rt_tsc() + milliseconds(5000), &down->word[0], 0), 0);
    EQUAL(down->word[0], 1);
    end_peer(&p);
}

/* The same from another CPU, which has to wake this one. */
TEST(sleep_changed_remote, .cpus = 2) {
    struct peer p;

    for (u32 i = 0; i < 3; i++) {
        down->word[0] = 0;
        start_peer(&p, "changer", 1);
        format(down->text, sizeof down->text, "%u", rt_self());
        u64 begin = rt_tsc();
        EQUAL(sys_sleep(begin + milliseconds(5000), &down->word[0], 0), 0);
        CHECK(rt_tsc() - begin < milliseconds(2000));
        end_peer(&p);
    }
}

/* Nobody is woken who does not exist. */
TEST(wake_nobody) {
    EQUAL(sys_wake(0), E_DEAD);
    EQUAL(sys_wake(self()->root), E_DEAD);
    EQUAL(sys_wake(0xffffffff), E_DEAD);
    EQUAL(sys_wake(rt_self()), 0);
}

/* With every frame in use a call that needs one says so. */
TEST(frames_full_calls) {
    rt_context(0)->end = 0;
    rt_context(0)->depth = FRAMES;
    s64 yielded = sys_yield(), slept = sys_sleep(NEVER, 0, 0);
    rt_context(0)->depth = 0;
    EQUAL(yielded, E_FULL);
    EQUAL(slept, E_FULL);
}

/* What the kernel takes where the CPU has it, and QEMU's emulation has not: under Bochs all of it (`./targe test --bochs`). Of
 * the PCID an environment sees what is loaded into CR3; the others are chosen by these bits alone. */
TEST(cpu_paths) {
    bool pcid = cpu_has(1, 2, 17) && cpu_has(7, 1, 10), x2apic = cpu_has(1, 2, 21), by_deadline = cpu_has(1, 2, 24);
    u64 root = self()->context[0].root;

    EQUAL(root >> 63, pcid);
    EQUAL((root & 0xfff) != 0, pcid);
    if (number_argument("everything", 0))
        CHECK(pcid && x2apic && by_deadline);
}
