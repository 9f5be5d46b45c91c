/* Hostile programs, and hostile ways to load and use them. */
#include "abuse.h"
#include "handler.h"

#define EXIT 0x95ull
#define MOV(register, number) (0xb7ull | (u64)(register) << 8 | (u64)(u32)(number) << 32)
#define COPY(to, from) (0xbfull | (u64)(to) << 8 | (u64)(from) << 12)
#define LOAD(to, from, at) (0x79ull | (u64)(to) << 8 | (u64)(from) << 12 | (u64)(at) << 16)
#define CALL(helper) (0x85ull | (u64)(helper) << 32)
#define WIDE(register, low, high) (0x18ull | (u64)(register) << 8 | (u64)(low) << 32), ((u64)(high) << 32)

static u32 code_page(void) {
    u32 page = machine_info()->code_first;

    while (sys_page_alloc(0, page, 1, 0, 0) < 0)
        CHECK(++page < machine_info()->code_first + machine_info()->code_pages);
    return page;
}

static s64 load(struct code_spec *s) {
    s64 error;

    do
        error = sys_code_load(s);
    while (error == E_AGAIN);
    return error;
}

struct bad {
    const u64 *program;
    u32 slots;
};

static void none_is_loaded(struct code_spec *s, const struct bad *bad, u32 count) {
    for (u32 i = 0; i < count; i++) {
        s->program = (u64)bad[i].program;
        s->slots = bad[i].slots;
        if (load(s) != E_REFUSED)
            FAIL("program %u is not refused", i);
    }
}

/* Programs that want to read the kernel, or to learn or tell where something lies: none is loaded. */
TEST(code_hostile) {
    static const u64 reads[] = {WIDE(1, 0x80100000, 0xffffffff), LOAD(0, 1, 0), EXIT};
    static const u64 direct[] = {WIDE(1, 0, 0xffff8000), LOAD(0, 1, 0), EXIT};
    static const u64 beyond[] = {LOAD(0, 1, 200), EXIT}; /* behind the context: the budget, the stack pointer */
    static const u64 before[] = {0x79ull | 1 << 12 | 0xfff8ull << 16, EXIT};
    static const u64 tells[] = {COPY(2, 1), MOV(1, 0), CALL(7), EXIT}; /* publish(0, the context) */
    static const u64 event[] = {LOAD(2, 1, 16), MOV(1, 0), CALL(6), EXIT};
    static const u64 stores[] = {LOAD(2, 1, 16), 0x7bull | 2 << 8 | 1 << 12, MOV(0, 0), EXIT};
    static const u64 writes[] = {LOAD(2, 1, 0), 0x7bull | 2 << 8 | 2 << 12, MOV(0, 0), EXIT};
    static const u64 helper[] = {CALL(8), EXIT};
    static const u64 zero[] = {CALL(0), EXIT};
    static const u64 few[] = {MOV(1, 60), CALL(3), EXIT}; /* send(60, and what was in two registers) */
    static const u64 out[] = {0x05ull | 0x7fffull << 16, EXIT};
    static const struct bad bad[] = {{reads, 4}, {direct, 4}, {beyond, 2}, {before, 2}, {tells, 4}, {event, 4},
               {stores, 4}, {writes, 4}, {helper, 2}, {zero, 2}, {few, 3}, {out, 2}};
    struct code_spec s = {.kind = KIND_HANDLER, .page = code_page(), .pages = 1, .work_pages = 8};

    s.work = page_alloc(8);
    none_is_loaded(&s, bad, ARRAY_SIZE(bad));
}

/* A predicate is pure: it can store to nothing but its stack, call nothing, give away no address, and has no memory. */
TEST(predicate_hostile, .needs = NEED_FLOW) {
    static const u64 stores[] = {0x72ull | 1 << 8, MOV(0, 0), EXIT}; /* to the packet */
    static const u64 adds[] = {MOV(2, 1), 0xdbull | 1 << 8 | 2 << 12, MOV(0, 0), EXIT};
    static const u64 helper[] = {CALL(1), EXIT};
    static const u64 tells[] = {COPY(0, 1), EXIT};
    static const u64 context[] = {LOAD(3, 2, 0), MOV(0, 0), EXIT}; /* its length is no pointer */
    static const u64 more[] = {COPY(0, 3), EXIT};                  /* a third argument, which there is not */
    static const u64 good[] = {MOV(0, 1), EXIT};
    static const struct bad bad[] = {{stores, 3}, {adds, 4}, {helper, 2}, {tells, 2}, {context, 3}, {more, 2}};
    struct code_spec s = {.kind = KIND_PREDICATE, .page = code_page(), .pages = 1, .work_pages = 8};
    struct handled h = handled(item("flow"));
    struct handler_binding b = {.code = 0};

    s.work = page_alloc(8);
    none_is_loaded(&s, bad, ARRAY_SIZE(bad));
    EQUAL(sys_handler_bind(&h.flow, &b), 0);
    s.program = (u64)good;
    s.slots = ARRAY_SIZE(good);
    EQUAL(load(&s), 0);
    b = (struct handler_binding){.code = s.page, .memory = h.memory_page, .pages = 1};
    EQUAL(sys_handler_bind(&h.flow, &b), E_WRONG_TYPE);
    EQUAL(flow_page(&h)->handler, 0);
    machine_forget();
    b.pages = b.memory = 0;
    EQUAL(sys_handler_bind(&h.flow, &b), 0);
    EQUAL(sys_handler_bind(&h.flow, &b), E_BUSY);
    handled_end(&h); /* with the flow ends the binding */
    EQUAL(sys_code_unload(s.page), 0);
}

/* A program that another CPU changes while it is being loaded: what is verified is what was read. */
static u64 changing[4];
static u64 stop;

static void change(u64 unused) {
    (void)unused;
    for (u64 turn = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); turn++) {
        __atomic_store_n(&changing[1], turn & 1 ? LOAD(0, 1, 0) : MOV(0, 1), __ATOMIC_RELAXED);
        __atomic_store_n(&changing[0], turn & 2 ? MOV(1, 4096) : LOAD(1, 1, 0), __ATOMIC_RELAXED);
    }
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

TEST(code_changes, .needs = NEED_MACHINE, .cpus = 2) {
    struct code_spec s = {.program = (u64)changing, .slots = 3, .kind = KIND_HANDLER, .pages = 1, .work_pages = 8};
    struct cap machine = item("machine");
    u32 loaded = 0, refused = 0;

    s.page = code_page();
    s.work = page_alloc(8);
    changing[0] = MOV(1, 0);
    changing[1] = MOV(0, 1);
    changing[2] = EXIT;
    start_thread(1, change, 0);
    for (u32 i = 0; i < 2000 && (i < 300 || !loaded || !refused); i++) {
        s64 error = load(&s);
        if (error == E_REFUSED) {
            refused++;
            continue;
        }
        EQUAL(error, 0);
        loaded++;
        if (i % 64 == 0)
            EQUAL(sys_check(&machine), 0);
        EQUAL(sys_code_unload(s.page), 0);
    }
    CHECK(loaded && refused);
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
}

/* Two CPUs load and unload with the same pages: the one or the other succeeds, and nothing is left. */
static struct code_spec both[2];

static void load_other(u64 which) {
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        load(&both[which]);
        sys_code_unload(both[which].page);
        for (u32 i = 0; i < 20000; i++)
            __asm__ volatile("pause");
    }
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

TEST(code_two_loaders, .needs = NEED_MACHINE, .cpus = 2) {
    static const u64 program[] = {MOV(0, 1), EXIT};
    struct cap machine = item("machine");

    both[0] = (struct code_spec){
        .program = (u64)program, .slots = 2, .kind = KIND_HANDLER, .pages = 1, .work_pages = 8, .page = code_page()};
    both[0].work = page_alloc(9);
    both[1] = both[0];
    both[1].work++; /* overlaps */
    start_thread(1, load_other, 1);
    for (u32 i = 0; i < 150; i++) {
        load(&both[0]);
        s64 error = sys_code_unload(both[0].page);
        CHECK(error == 0 || error == E_WRONG_TYPE);
        if (i % 32 == 0)
            EQUAL(sys_check(&machine), 0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
}

/* A handler has the device store a checksum where the condition looks, or outside of its headers: nothing is sent. */
TEST(handler_sums, .needs = NEED_FLOW) {
    static const struct { u64 start, offset; } bad[] = {
        {0, 12}, {12, 0}, {11, 0}, {0, 11}, {10, 3}, {41, 0}, {0, 41}, {20, 21}, {42, 0}, {0, 191}, {0xffff, 0}, {0, 0xffff},
        {0xffff, 0xffff}, {1, 0xffff}, {0x10000, 0}, {0, 0x10000}, {~0ull, 1}, {30, ~0ull - 9}};
    struct handled h = handled(item("flow"));
    struct puppet_orders *o = h.orders;
    u64 aborted = 0, stopped = 0, sent = 0, runs;

    o->result = HANDLER_DONE;
    do { /* what answers earlier tests has come */
        runs = o->runs;
        pause_for(20);
    } while (o->runs != runs);
    o->orders = PUPPET_SEND | PUPPET_PUBLISH;
    o->length = 42;
    o->at = offsetof(struct puppet_orders, pad);
    o->value = 77;
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        o->sum_start = bad[i].start;
        o->sum_offset = bad[i].offset;
        for (; o->runs == runs + i; sent++) { /* it is not run while we owe a slice */
            u64 filled = h.ring->filled;
            __atomic_store_n(&h.ring->posted, filled + 2, __ATOMIC_SEQ_CST);
            if (!provoke(&h))
                return;
            wait_for(&h.ring->filled, filled + 1);
        }
        bool too_large = bad[i].start > 0xffff || bad[i].offset > 0xffff;
        aborted += !too_large;
        stopped += too_large;
        EQUAL(o->pad[0], 0);
        EQUAL(flow_page(&h)->aborted, aborted);
        EQUAL(flow_page(&h)->stopped, stopped);
        EQUAL(flow_page(&h)->sent, sent); /* ours */
    }
    if (!machine_info()->checksum)
        EQUAL(flow_page(&h)->refused, 0); /* it can store none, wherever */
    handled_end(&h);
}

/* ---- a storm */

/* Provokes as many frames as it can, each of which keeps the kernel busy until its budget is exhausted. */
ROLE(storm) {
    struct handled h = handled(up->cap[0]);
    u8 frame[42];
    struct send s[32];

    h.orders->orders = PUPPET_LOOP;
    arp_request(frame);
    for (u32 i = 0; i < ARRAY_SIZE(s); i++)
        s[i] = (struct send){.headers = (u64)frame, .length = sizeof frame};
    up->word[1] = h.flow.name;
    __atomic_store_n(&up->word[0], 1, __ATOMIC_SEQ_CST);
    for (;;)
        sys_flow_send(&h.flow, s, ARRAY_SIZE(s));
}

ROLE(greedy) {
    for (;;) {
    }
}

/* What handlers take is forfeited by their owner, slice by slice, and what he cannot pay is not run: with all its
 * handlers he gets no more of the processor than one with as many slices and none. */
TEST(handler_storm, .needs = NEED_FLOW, .seconds = 30) {
    static const struct spawn_slices slices = {.cpu = 0, .count = 8};
    struct peer stormy, greedy;

    if (!has_device())
        return;
    down->cap[0] = item("flow");
    run_peer(&stormy, "storm", &slices, 1, 512, 0);
    run_peer(&greedy, "greedy", &slices, 1, 512, 0);
    wait_for(&down->word[0], 1);
    u64 storm_ran = machine_env(stormy.env)->runtime, greedy_ran = machine_env(greedy.env)->runtime;
    machine_forget();
    pause_for(1500);
    storm_ran = machine_env(stormy.env)->runtime - storm_ran; /* with its handlers */
    greedy_ran = machine_env(greedy.env)->runtime - greedy_ran;
    const struct flow *flow = machine_flow((u32)down->word[1]);
    u64 stopped = flow->stopped, unpaid = flow->unpaid;
    machine_forget();
    CHECK(stopped > 10);
    CHECK(unpaid > 10);
    if (greedy_ran < storm_ran / 2) /* a busy host stops the machine at random */
        FAIL("the storm took %lu ms, a greedy one with as many slices %lu ms", storm_ran / milliseconds(1),
             greedy_ran / milliseconds(1));
    end_peer(&stormy);
    end_peer(&greedy);
}
