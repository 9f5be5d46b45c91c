/* Programs in the kernel: loading them, and what a handler can do (docs/handlers.md). */
#include "handler.h"

#include "revoke_puppet.h"

/* ---- loading */
#define EXIT 0x95ull
#define MOV(register, number) (0xb7ull | (u64)(register) << 8 | (u64)(u32)(number) << 32)

static struct code_spec spec_of(const u64 *program, u32 slots) {
    struct code_spec s = {
        .program = (u64)program, .slots = slots, .kind = KIND_HANDLER, .pages = 1, .work_pages = 8};

    for (u32 i = 0; i < machine_info()->code_pages; i++) {
        s.page = machine_info()->code_first + i;
        if (sys_page_alloc(0, s.page, 1, 0, 0) >= 0)
            break;
    }
    CHECK(s.page);
    s.work = page_alloc(s.work_pages);
    return s;
}

static s64 load(struct code_spec *s, u32 *pieces) {
    s64 error;

    for (*pieces = 1; (error = sys_code_load(s)) == E_AGAIN; ++*pieces) {
        EQUAL(type_of(s->page), PAGE_CODE);
        EQUAL(type_of(s->work), PAGE_CODE);
    }
    return error;
}

static const u64 good[] = {MOV(0, 1), EXIT};

/* A page becomes a program, which nobody can map, free or give away, and DATA again. */
TEST(code_life, .needs = NEED_MACHINE) {
    struct code_spec s = spec_of(good, ARRAY_SIZE(good));
    struct cap machine = item("machine"), before = {.type = CAP_PAGE, .rights = RIGHT_OWN, .count = 1};
    struct peer other = bare_env(8, 0);
    u64 at = address(1);
    u32 pieces;

    before.name = s.page;
    OK(sys_cap_derive(0, &before));
    EQUAL(load(&s, &pieces), 0);
    CHECK(pieces >= 3); /* reading, verifying, translating */
    EQUAL(type_of(s.page), PAGE_CODE);
    EQUAL(type_of(s.work), PAGE_DATA);
    EQUAL(sys_check(&machine), 0); /* sealed: the kernel executes it and does not write to it */
    EQUAL(update(UPDATE_MAP, 0, at, s.page, 1, 0, 0), E_WRONG_TYPE);
    EQUAL(update(UPDATE_MAP, 0, at, s.page, 1, MAP_EXECUTE, 0), E_WRONG_TYPE);
    EQUAL(sys_page_free(0, s.page, 1), E_WRONG_TYPE);
    EQUAL(sys_page_give(0, s.page, 1, &other.cap), E_WRONG_TYPE);
    EQUAL(sys_page_revoke(&before, s.page, 1), E_BAD_CAPABILITY);
    EQUAL(sys_code_load(&s), E_WRONG_TYPE);
    EQUAL(sys_code_unload(s.page), 0);
    EQUAL(type_of(s.page), PAGE_DATA);
    EQUAL(sys_code_unload(s.page), E_WRONG_TYPE);
    EQUAL(sys_check(&machine), 0);
    const u64 *words = (const u64 *)mapped(s.page, 1, MAP_WRITE);
    for (u32 i = 0; i < RT_PAGE / 8; i++)
        EQUAL(words[i], 0);
    words = (const u64 *)mapped(s.work, s.work_pages, MAP_WRITE);
    for (u32 i = 0; i < s.work_pages * RT_PAGE / 8; i++)
        EQUAL(words[i], 0);
    end_peer(&other);
}

/* What is refused, and why; all pages are DATA again. */
TEST(code_refused) {
    static const u64 leaks[] = {0xbfull | 1 << 12, EXIT};           /* r0 = r1, the context */
    static const u64 wild[] = {MOV(1, 0), 0x79ull | 1 << 12, EXIT}; /* r0 = *(u64 *)r1 */
    static const u64 unknown[] = {0xff, EXIT};
    static const u64 unset[] = {0xbfull | 3 << 12, EXIT}; /* r0 = r3 */
    static const u64 no_end[] = {MOV(0, 1)};
    static const struct {
        const u64 *program;
        u32 slots;
    } bad[] = {{leaks, 2}, {wild, 3}, {unknown, 2}, {unset, 2}, {no_end, 1}};
    u32 pieces;

    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        struct code_spec s = spec_of(bad[i].program, bad[i].slots);
        EQUAL(load(&s, &pieces), E_REFUSED);
        CHECK(s.why[0] && !s.why[sizeof s.why - 1]);
        CHECK(s.refused_at < bad[i].slots);
        EQUAL(type_of(s.page), PAGE_DATA);
        EQUAL(type_of(s.work), PAGE_DATA);
        OK(sys_page_free(0, s.page, 1));
    }
}

/* Too little room to verify it in, and for what it is translated into. */
TEST(code_room) {
    static u64 long_one[CODE_SLOTS];
    u32 pieces;

    for (u32 i = 0; i < 1000; i++)
        long_one[i] = MOV(0, i);
    long_one[1000] = EXIT;
    struct code_spec s = spec_of(long_one, 1001);
    s.work_pages = 1;
    EQUAL(load(&s, &pieces), E_FULL);
    s.work_pages = 8;
    EQUAL(load(&s, &pieces), E_FULL); /* 5 bytes for each */
    EQUAL(type_of(s.page), PAGE_DATA);
    EQUAL(type_of(s.work + 7), PAGE_DATA);
    OK(sys_page_free(0, s.page, 1));
    s.pages = 2;
    for (s.page = machine_info()->code_first; sys_page_alloc(0, s.page, 2, 0, 0) < 0; s.page++) {
    }
    EQUAL(load(&s, &pieces), 0);
    CHECK(pieces > 3 * 1001 / 64); /* followed once, translated twice, a few at a time */
    EQUAL(type_of(s.page + 1), PAGE_CODE);
    EQUAL(sys_code_unload(s.page + 1), E_WRONG_TYPE);
    EQUAL(sys_code_unload(s.page), 0);
}

/* A page that the kernel cannot seal is refused; so is one that is mapped, before anything has changed. */
TEST(code_pages_fit) {
    struct code_spec s = spec_of(good, ARRAY_SIZE(good)), other = s;
    u64 *word = (u64 *)mapped(s.work, 1, MAP_WRITE);

    *word = 4711;
    EQUAL(sys_code_load(&s), E_BUSY);
    EQUAL(*word, 4711);
    EQUAL(type_of(s.page), PAGE_DATA);
    other.page = machine_info()->code_first + machine_info()->code_pages;
    other.work = page_alloc(8);
    EQUAL(sys_code_load(&other), E_BAD_ARGUMENT);
    other.page = s.page;
    other.work = s.page; /* both runs in one */
    other.work_pages = 1;
    EQUAL(sys_code_load(&other), E_WRONG_TYPE);
    EQUAL(type_of(s.page), PAGE_DATA);
}

/* A load that is under way can be taken back. */
TEST(code_unload_half) {
    struct code_spec s = spec_of(good, ARRAY_SIZE(good));

    EQUAL(sys_code_load(&s), E_AGAIN);
    EQUAL(sys_code_unload(s.page), 0);
    EQUAL(type_of(s.page), PAGE_DATA);
    EQUAL(type_of(s.work), PAGE_DATA);
    EQUAL(sys_code_load(&s), E_AGAIN); /* and an environment may end with it */
}

/* ---- what a handler does */

/* Copies part of a message into its owner's memory and sums it, sees its context, and publishes a word. */
TEST(handler_places, .needs = NEED_FLOW) {
    struct handled h = handled(item("flow"));
    struct puppet_orders *o = h.orders;

    o->orders = PUPPET_COPY | PUPPET_CONTEXT | PUPPET_PUBLISH;
    o->result = HANDLER_DONE;
    o->to = offsetof(struct puppet_orders, room);
    o->size = 42;
    o->at = offsetof(struct puppet_orders, pad);
    o->value = 77;
    if (!provoke(&h))
        return;
    wait_for(&o->pad[0], 77);
    EQUAL(o->runs, 1);
    CHECK(!memcmp(o->room, machine_info()->mac, 6) && o->room[12] == 8 && o->room[13] == 6 && o->room[21] == 2);
    u32 sum = 0;
    for (u32 i = 0; i < 42; i += 2)
        sum += (u32)o->room[i] << 8 | o->room[i + 1];
    EQUAL(o->sum, (sum & 0xffff) + (sum >> 16));
    CHECK(o->seen[0] >= 42 && o->seen[0] <= 64);
    EQUAL(o->seen[1], HANDLED_MEMORY * RT_PAGE);
    EQUAL(o->seen[2], SEND_HEADERS);
    CHECK((o->seen[3] <= 1 || o->seen[3] == (RING_CHECKED | RING_PARTIAL)) && o->seen[4] && o->seen[4] <= rt_tsc());
    pause_for(2);
    EQUAL(h.ring->filled, 0); /* the frame is dealt with */
    EQUAL(flow_page(&h)->handled, 1);
    EQUAL(flow_page(&h)->aborted + flow_page(&h)->stopped, 0);
    CHECK(flow_page(&h)->handler_ticks > 0);
    handled_end(&h);
}

/* Sends by itself: the answer to what it sent arrives, with a part of the frame in its memory. */
TEST(handler_sends, .needs = NEED_FLOW) {
    struct handled h = handled(item("flow"));
    struct puppet_orders *o = h.orders;

    o->orders = PUPPET_SEND | PUPPET_PUBLISH;
    o->result = HANDLER_DONE;
    o->length = 20; /* the rest across the end of a page, read there by the device */
    o->attached = 22;
    o->attach_at = RT_PAGE - 10;
    memcpy((u8 *)o + RT_PAGE - 10, o->answer + 20, 22);
    o->at = offsetof(struct puppet_orders, orders); /* only once: */
    o->value = PUPPET_CONTEXT;
    if (!provoke(&h))
        return;
    await_runs(&h, 2); /* the answer to the handler's own frame came */
    EQUAL(flow_page(&h)->handled, 2);
    EQUAL(flow_page(&h)->sent, 2);
    EQUAL(h.ring->filled, 0);
    handled_end(&h);
}

/* Where its answer goes it finds zeros, or an answer of its own; not what others have sent from there. */
TEST(handler_room, .needs = NEED_FLOW) {
    struct handled h = handled(item("flow"));
    struct puppet_orders *o = h.orders;
    static const u8 zeros[SEND_HEADERS];

    o->result = HANDLER_DONE;
    o->length = 42;
    o->answer[41] = 77; /* so that it can be told from requests; nobody answers it */
    memset(o->answer + 42, 0x5a, 22);
    u64 before;
    do { /* what answers earlier tests has come */
        before = flow_page(&h)->handled;
        pause_for(20);
    } while (flow_page(&h)->handled != before);
    for (u64 run = before + 1; run <= before + 600; run++) {
        o->orders = PUPPET_SHOW | (run % 3 ? PUPPET_SEND : 0);
        memset(o->room, 1, SEND_HEADERS);
        while (flow_page(&h)->handled < run) { /* it is not run while we owe a slice */
            u64 frames = flow_page(&h)->handled + h.ring->filled;
            __atomic_store_n(&h.ring->posted, h.ring->filled + 2, __ATOMIC_SEQ_CST);
            if (!provoke(&h))
                return;
            for (u32 i = 0; i < 5000 && flow_page(&h)->handled + h.ring->filled == frames; i++)
                pause_for(1);
            CHECK(flow_page(&h)->handled + h.ring->filled > frames);
        }
        CHECK(!memcmp(o->room, zeros, 64) || !memcmp(o->room, o->answer, 64));
        CHECK(!memcmp(o->room + 64, zeros, SEND_HEADERS - 64));
        machine_forget();
    }
    handled_end(&h);
}

/* Wakes its owner, and tells it by an event; the frame goes to the ring as well if it says so. */
TEST(handler_wakes, .needs = NEED_FLOW) {
    struct handled h = handled(item("flow"));
    struct event_ring *ring = bind_events();
    struct event e;

    h.orders->orders = PUPPET_EVENT;
    h.orders->result = HANDLER_PASS;
    u64 before = self()->deliveries;
    if (!provoke(&h))
        return;
    CHECK(next_event(ring, &e, 5000));
    EQUAL(e.type, EVENT_HANDLER);
    EQUAL(e.env, h.flow.name);
    EQUAL(e.a, 1);
    CHECK(e.b >= 42);
    wait_for(&h.ring->filled, 1);
    EQUAL(self()->deliveries, before + 2);
    h.orders->orders = PUPPET_WAKE;
    h.orders->result = HANDLER_DONE;
    before = self()->deliveries;
    CHECK(provoke(&h));
    EQUAL(sys_sleep(rt_tsc() + milliseconds(5000), &self()->deliveries, before), 0);
    EQUAL(h.ring->filled, 1);
    EQUAL(h.orders->runs, 2);
    handled_end(&h);
}

/* Of what a handler asks for before it aborts nothing happens, and the frame goes to the ring. */
TEST(handler_aborts, .needs = NEED_FLOW) {
    struct handled h = handled(item("flow"));
    struct puppet_orders *o = h.orders;
    struct event_ring *ring = bind_events();
    struct event e;

    o->orders = PUPPET_SEND | PUPPET_PUBLISH | PUPPET_EVENT | PUPPET_WAKE;
    o->length = 42;
    o->at = offsetof(struct puppet_orders, pad);
    o->value = 77;
    static const u64 results[] = {HANDLER_ABORT, 3, ~0ull};
    for (u32 i = 0; i < ARRAY_SIZE(results); i++) {
        o->result = results[i];
        __atomic_store_n(&h.ring->posted, i + 2, __ATOMIC_SEQ_CST);
        if (!provoke(&h))
            return;
        wait_for(&h.ring->filled, i + 1);
        EQUAL(o->runs, i + 1);
        EQUAL(o->pad[0], 0);
        EQUAL(flow_page(&h)->sent, i + 1); /* ours */
        EQUAL(flow_page(&h)->aborted, i + 1);
    }
    CHECK(!next_event(ring, &e, 5));
    EQUAL(flow_page(&h)->handled, 0);
    handled_end(&h);
}

/* A frame that its flow does not let it send: as if it had aborted. */
TEST(handler_forges, .needs = NEED_FLOW) {
    struct handled h = handled(item("flow"));
    struct puppet_orders *o = h.orders;

    o->orders = PUPPET_SEND | PUPPET_PUBLISH;
    o->result = HANDLER_DONE;
    o->at = offsetof(struct puppet_orders, pad);
    o->value = 77;
    o->answer[13] = 0; /* not ARP */
    static const u32 lengths[] = {42, 13, SEND_HEADERS + 1, 12};
    for (u32 i = 0; i < ARRAY_SIZE(lengths); i++) {
        o->length = lengths[i];
        __atomic_store_n(&h.ring->posted, i + 2, __ATOMIC_SEQ_CST);
        if (!provoke(&h))
            return;
        wait_for(&h.ring->filled, i + 1);
        EQUAL(o->pad[0], 0);
        EQUAL(flow_page(&h)->aborted, i + 1);
        EQUAL(flow_page(&h)->refused, 1);
    }
    EQUAL(flow_page(&h)->sent, ARRAY_SIZE(lengths)); /* ours */
    handled_end(&h);
}

/* Without end, or outside of its memory: the kernel stops it, and the frame goes to the ring. */
TEST(handler_stopped, .needs = NEED_FLOW) {
    struct handled h = handled(item("flow"));
    struct puppet_orders *o = h.orders;
    static const struct {
        u64 orders, at;
    } bad[] = {{PUPPET_LOOP, 0},
               {PUPPET_WRITE, HANDLED_MEMORY * RT_PAGE},
               {PUPPET_WRITE, 0xffffffff},
               {PUPPET_READ, 1514},
               {PUPPET_READ, 0xffffff},
               {PUPPET_COPY, 0},
               {PUPPET_PUBLISH, HANDLED_MEMORY * RT_PAGE},
               {PUPPET_PUBLISH, ~0ull},
               {PUPPET_PUBLISH, 4}};

    o->result = HANDLER_DONE;
    o->to = HANDLED_MEMORY * RT_PAGE - 41;
    o->size = 42;
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        o->orders = bad[i].orders;
        o->at = bad[i].at;
        __atomic_store_n(&h.ring->posted, i + 2, __ATOMIC_SEQ_CST);
        if (!provoke(&h))
            return;
        wait_for(&h.ring->filled, i + 1);
        EQUAL(o->runs, i + 1);
        EQUAL(flow_page(&h)->stopped, i + 1);
    }
    CHECK(o->seen[5] > 100 && o->seen[5] < 16384);
    EQUAL(flow_page(&h)->handled + flow_page(&h)->aborted, 0);
    o->orders = 0; /* and it is as good as before */
    CHECK(provoke(&h));
    await_runs(&h, ARRAY_SIZE(bad) + 1);
    EQUAL(flow_page(&h)->handled, 1);
    handled_end(&h);
}

/* What a run takes is owed by its owner, to the tick, and paid by slices that it sleeps through. */
TEST(handler_charged, .needs = NEED_FLOW) {
    struct handled h = handled(item("flow"));
    u64 length = machine_slices(0)->length, limit = rt_tsc() + milliseconds(5000), before = self()->owed;

    h.orders->orders = PUPPET_LOOP;
    if (machine_info()->cpus > 1 || !provoke(&h)) /* slices on other CPUs would pay for some at once */
        return;
    while (!flow_page(&h)->stopped) /* without sleeping */
        CHECK(rt_tsc() < limit);
    u64 ticks = flow_page(&h)->handler_ticks, owed = self()->owed - before;
    CHECK(ticks > 0);
    if (before + ticks < length) /* else it may have been forfeited already */
        EQUAL(owed, ticks < machine_slices(0)->allowance ? ticks : machine_slices(0)->allowance);
    limit = rt_tsc() + milliseconds(5000);
    for (u64 slept = 1; self()->owed; slept++) {
        pause_for(slept);
        CHECK(rt_tsc() < limit);
    }
    handled_end(&h);
}

/* A predicate in the handler's place judges frames: what it wants goes to the ring, what it does not is dealt with, and
 * wakes nobody. If it does not end, or looks where there is nothing, the ring gets the frame. */
TEST(predicate_judges, .needs = NEED_FLOW) {
    static const u64 short_one = 0xa5ull | 2 << 8 | 1 << 16 | 22ull << 32;            /* if r2 < 22 goto + 1 */
    static const u64 wants[] = {MOV(0, 1), short_one, 0x71ull | 1 << 12 | 21 << 16, EXIT};   /* an answer: its operation is 2 */
    static const u64 not_wants[] = {MOV(0, 1), short_one, 0x71ull | 1 << 12 | 20 << 16, EXIT}; /* 0, in the byte before */
    static const u64 endless[] = {MOV(0, 0), 0x05ull | 0xffffull << 16};
    static const u64 outside[] = {0x71ull | 1 << 12 | 2000 << 16, EXIT};
    static const struct {
        const u64 *program;
        u32 slots, delivered, stopped;
    } judge[] = {{wants, 4, 1, 0}, {not_wants, 4, 0, 0}, {endless, 2, 1, 1}, {outside, 2, 1, 1}, {not_wants, 4, 0, 0}};
    struct handled h = handled(item("flow"));
    struct handler_binding b = {.code = 0};
    u64 filled = 0, handled_frames = 0, stopped = 0;
    u32 pieces;

    EQUAL(sys_handler_bind(&h.flow, &b), 0);
    for (u32 i = 0; i < ARRAY_SIZE(judge); i++) {
        struct code_spec s = spec_of(judge[i].program, judge[i].slots);
        s.kind = KIND_PREDICATE;
        EQUAL(load(&s, &pieces), 0);
        b.code = s.page;
        EQUAL(sys_handler_bind(&h.flow, &b), 0);
        EQUAL(sys_code_unload(s.page), E_BUSY);
        __atomic_store_n(&h.ring->posted, filled + 2, __ATOMIC_SEQ_CST);
        u64 before = self()->deliveries;
        if (!provoke(&h))
            return;
        filled += judge[i].delivered;
        stopped += judge[i].stopped;
        handled_frames += !judge[i].delivered;
        u64 limit = rt_tsc() + milliseconds(5000);
        while (h.ring->filled != filled || flow_page(&h)->handled != handled_frames)
            CHECK(rt_tsc() < limit);
        EQUAL(flow_page(&h)->stopped, stopped);
        EQUAL(self()->deliveries - before, judge[i].delivered);
        machine_forget();
        b.code = 0;
        EQUAL(sys_handler_bind(&h.flow, &b), 0);
        EQUAL(sys_code_unload(s.page), 0);
    }
    handled_end(&h);
}

/* ---- bindings and their ends */

/* What is bound stays what it is: program, memory, flow; and all is free when it is unbound. */
TEST(handler_bound, .needs = NEED_FLOW) {
    struct handled h = handled(item("flow"));
    struct handler_binding none = {.code = 0}, again = {.code = h.program.page, .memory = h.memory_page, .pages = 1};
    struct cap weak = {.type = CAP_FLOW, .rights = RIGHT_READ, .name = h.flow.name, .count = 1};

    EQUAL(bindings_of(h.program.page), 1);
    EQUAL(bindings_of(h.memory_page), 2); /* and our mapping */
    EQUAL(flow_page(&h)->handler, h.program.page);
    machine_forget();
    OK(sys_cap_derive(&h.flow, &weak));
    EQUAL(sys_handler_bind(&weak, &none), E_NO_RIGHT);
    EQUAL(sys_handler_bind(&h.flow, &again), E_BUSY);
    EQUAL(sys_code_unload(h.program.page), E_BUSY);
    EQUAL(sys_page_free(0, h.memory_page + 1, 1), E_BUSY);
    EQUAL(sys_handler_bind(&h.flow, &none), 0);
    EQUAL(sys_handler_bind(&h.flow, &none), E_WRONG_TYPE);
    EQUAL(bindings_of(h.program.page), 0);
    EQUAL(bindings_of(h.memory_page), 1);
    again.code = h.memory_page;
    EQUAL(sys_handler_bind(&h.flow, &again), E_WRONG_TYPE);
    again.code = machine_info()->array;
    EQUAL(sys_handler_bind(&h.flow, &again), E_NO_RIGHT);
    again.code = h.program.page;
    again.memory = h.ring_page;
    EQUAL(sys_handler_bind(&h.flow, &again), E_WRONG_TYPE);
    EQUAL(bindings_of(h.program.page), 0);
    again.memory = h.memory_page;
    EQUAL(sys_handler_bind(&h.flow, &again), 0);
    if (provoke(&h)) {
        h.orders->result = HANDLER_ABORT;
        wait_for(&h.ring->filled, 1); /* its memory is smaller now, but enough */
        EQUAL(h.orders->runs, 1);
    }
    machine_forget();
    EQUAL(sys_flow_unbind(&h.flow), 0); /* takes the handler out too */
    EQUAL(bindings_of(h.program.page), 0);
    EQUAL(bindings_of(h.memory_page), 1);
    EQUAL(sys_handler_bind(&h.flow, &again), E_WRONG_TYPE);
    handled_end(&h);
}

/* One program serves two flows, each with its memory, and only then can be unloaded. That the other is bound, between two
 * runs of the first, changes nothing about what the first sees. */
TEST(handler_shared, .needs = NEED_FLOW) {
    static struct flow_spec spec;
    struct handled h = handled(item("flow"));
    struct cap root = item("flow"), other;
    struct flow_binding b = {.count = 1, .entries = 1, .ring = page_alloc(1)};
    u32 buffer = page_alloc(1), memory = page_alloc(1);

    spec.receive.count = spec.transmit.count = 1;
    spec.receive.atom[0] = (struct atom){.offset = 12, .width = 2, .mask = 0xffff, .value = 0x88b5};
    spec.transmit.atom[0] = spec.receive.atom[0];
    OK(sys_flow_create(&root, page_alloc(1), &spec, &other));
    b.filter = spec.receive;
    b.pages = (u64)&buffer;
    EQUAL(sys_flow_bind(&other, &b), 0);
    h.orders->result = HANDLER_ABORT;
    if (provoke(&h))
        await_runs(&h, 1);
    EQUAL(code_handle(&other, &h.program, memory, 1), 0);
    EQUAL(bindings_of(h.program.page), 2);
    if (provoke(&h))
        await_runs(&h, 2);
    machine_forget();
    EQUAL(sys_flow_unbind(&other), 0);
    EQUAL(sys_code_unload(h.program.page), E_BUSY);
    EQUAL(sys_flow_destroy(&other), 0);
    handled_end(&h);
}

/* An environment ends while its handler is bound, and another while a program is half loaded: the runner
 * counts what is left. */
ROLE(handler_owner) {
    struct handled h = handled(up->cap[0]);
    struct code_spec s = spec_of(good, ARRAY_SIZE(good));

    h.orders->result = HANDLER_ABORT;
    EQUAL(sys_code_load(&s), E_AGAIN);
    up->word[0] = h.program.page;
    __atomic_store_n(&up->word[1], 1, __ATOMIC_SEQ_CST);
    for (;;) {
        if (!provoke(&h))
            pause_for(1);
        __atomic_store_n(&h.ring->posted, h.ring->filled + 1, __ATOMIC_SEQ_CST);
        sys_yield();
    }
}

TEST(handler_owner_ends, .needs = NEED_FLOW) {
    struct peer p;
    static const struct spawn_slices slices = {.cpu = 0, .count = 4};

    down->cap[0] = item("flow");
    run_peer(&p, "handler_owner", &slices, 1, 512, 0);
    wait_for(&down->word[1], 1);
    pause_for(5);
    EQUAL(type_of((u32)down->word[0]), PAGE_CODE);
    end_peer(&p);
    EQUAL(type_of((u32)down->word[0]), PAGE_FREE);
}

/* Its program, and then a page of its memory, are taken by force: it no longer runs, the flow goes on. */
TEST(handler_repossessed, .needs = NEED_FLOW) {
    static const struct spawn_slices slices = {.cpu = 0, .count = 4};

    for (u32 i = 0; i < 4; i++) {
        struct puppet p;
        memset(down->word, 0, sizeof down->word);
        down->cap[0] = item("flow");
        run_peer(&p.peer, "handler_loser", &slices, 1, 512, 0);
        wait_for(&down->word[4], 1);
        u32 page = (u32)down->word[i];
        u8 type = type_of(page);
        EQUAL(type, i == 1 ? PAGE_DATA : PAGE_CODE);
        OK(sys_revoke(&p.peer.cap, RESOURCE_PAGES, 1, rt_tsc()));
        struct taking t = {.resource = RESOURCE_PAGES, .name = page};
        do
            OK(sys_repossess(&p.peer.cap, &t, 1));
        while (t.result == E_AGAIN);
        EQUAL(t.result, 0);
        EQUAL(type_of(page), PAGE_DATA);
        EQUAL(page_of(page)->owner, rt_self());
        const u64 *words = (const u64 *)mapped(page, 1, MAP_WRITE);
        for (u32 k = 0; k < RT_PAGE / 8; k++)
            EQUAL(words[k], 0);
        u32 handler = machine_flow((u32)down->word[5])->handler;
        machine_forget();
        EQUAL(handler, i < 2 ? 0 : (u32)down->word[0]);
        EQUAL(type_of((u32)down->word[0]), i == 0 ? PAGE_DATA : PAGE_CODE);
        end_peer(&p.peer);
    }
}

ROLE(handler_loser) {
    struct handled h = handled(up->cap[0]);
    struct code_spec s = spec_of(good, ARRAY_SIZE(good));

    EQUAL(sys_code_load(&s), E_AGAIN);
    up->word[0] = h.program.page;
    up->word[1] = h.memory_page + 1;
    up->word[2] = s.page;
    up->word[3] = s.work + 3;
    up->word[5] = h.flow.name;
    memory_unmap(h.orders, HANDLED_MEMORY);
    __atomic_store_n(&up->word[4], 1, __ATOMIC_SEQ_CST);
    for (;;)
        pause_for(100);
}
