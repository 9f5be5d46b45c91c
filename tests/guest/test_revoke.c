/* Asking for resources back, giving them, taking them by force. The test asks; a puppet has. */
#include "revoke_puppet.h"

#define ALL (RIGHT_READ | RIGHT_WRITE | RIGHT_OWN)

static struct puppet p, q;

#define WRITTEN offsetof(struct losses, written)
#define READ offsetof(struct losses, read)
#define POSTED offsetof(struct losses, posted)
#define SAVE(n) (offsetof(struct losses, save) + (n) % SAVES * sizeof(struct cap))

static void expect_event(struct event_ring *ring, u32 type, u32 env, u64 a) {
    struct event e;

    CHECK(next_event(ring, &e, 2000));
    EQUAL(e.type, type);
    EQUAL(e.env, env);
    EQUAL(e.a, a);
}

static const struct demand *request(u32 resource) { return &machine_env(p.peer.env)->request[resource]; }

/* Puts a capability into a puppet's loss page as a place to save in. */
static void offer(u64 losses, u32 number, struct cap cap) {
    for (u32 i = 0; i < 4; i++)
        EQUAL(order_write(&p, losses + SAVE(number) + i * 8, ((u64 *)&cap)[i]), 0);
    EQUAL(order_write(&p, losses + POSTED, number + 1), 0);
}

/* ---------------------------------------------------------------- asking and giving */

/* A request arrives as an event and as an upcall, and stands in the exposed ENV page, for each resource. */
TEST(revoke_told) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 1);
    u64 ring = puppet_map(&p, page, 1, MAP_WRITE), event = ring + offsetof(struct event_ring, event);

    OK(order_call(&p, EVENT_BIND, 0, page));
    for (u32 resource = 0; resource < RESOURCES; resource++) {
        u64 deadline = rt_tsc() + milliseconds(10000 + resource), at = event + resource * sizeof(struct event);
        EQUAL(p.orders->asked, resource);
        EQUAL(sys_revoke(&p.peer.cap, resource, resource + 3, deadline), 0);
        EQUAL(order_read(&p, ring), resource + 1);
        EQUAL(order_read(&p, at), (u64)rt_self() << 32 | EVENT_REVOKE);
        EQUAL(order_read(&p, at + 8), (u64)resource << 32 | (resource + 3));
        EQUAL(order_read(&p, at + 16), deadline);
        wait_for(&p.orders->asked, resource + 1);
        EQUAL(request(resource)->left, resource + 3);
        EQUAL(request(resource)->from, rt_self());
        EQUAL(request(resource)->deadline, deadline);
        EQUAL(request(resource)->asked, resource + 3);
    }
    EQUAL(p.orders->lost, 0);
    machine_forget();
    end_puppet(&p);
}

/* One that sleeps without a deadline wakes for the upcall: sleep returns 3. */
static void wakes(u32 cpu) {
    start_puppet(&p, 0, cpu);
    u32 word = memory_page_of(p.scratch);
    order_begin(&p, ORDER_SLEEP, p.orders->scratch, 0, 0, 0, 0, 0);
    for (u32 i = 0; i < 2000 && machine_env(p.peer.env)->context[cpu].word / RT_PAGE != word; i++)
        pause_for(1);
    machine_forget();
    OK(ask(&p, RESOURCE_PAGES, 1, 1000));
    EQUAL(order_result(&p), 3);
    EQUAL(p.orders->asked, 1);
    end_puppet(&p);
}

TEST(revoke_wakes) { wakes(0); }
TEST(revoke_wakes_remote, .cpus = 2) { wakes(1); }

/* Pages that are freed or given away count; when all have come the asker is told, and no sooner. */
TEST(revoke_given_pages) {
    struct event_ring *ring = bind_events();
    struct event e;

    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 8);
    OK(ask(&p, RESOURCE_PAGES, 5, 1000));
    OK(order_call(&p, PAGE_FREE, 0, page, 3));
    EQUAL(request(RESOURCE_PAGES)->left, 2);
    u64 to = puppet_give_cap(&p, item("self"));
    OK(order_call(&p, PAGE_GIVE, 0, page + 3, 1, to));
    CHECK(!next_event(ring, &e, 0));
    OK(order_call(&p, PAGE_GIVE, 0, page + 4, 3, to));
    expect_event(ring, EVENT_GIVEN, p.peer.env, RESOURCE_PAGES);
    EQUAL(request(RESOURCE_PAGES)->left, 0);
    EQUAL(page_of(page + 6)->owner, rt_self());
    OK(order_call(&p, PAGE_FREE, 0, page + 7, 1));
    CHECK(!next_event(ring, &e, 0));
    OK(sys_page_free(0, page + 3, 4));
    machine_forget();
    end_puppet(&p);
}

/* A slice that is freed counts, and can be had by others. */
TEST(revoke_given_slices) {
    struct event_ring *ring = bind_events();

    start_puppet(&p, 0, 0);
    OK(ask(&p, RESOURCE_SLICES, 1, 1000));
    for (u32 slot = 0; slot < SLOTS; slot++)
        if (machine_slices(0)->slot[slot].owner == p.peer.env) {
            OK(order_call(&p, SLICE_FREE, 0, 0, slot));
            EQUAL(machine_slices(0)->slot[slot].owner, 0);
            break;
        }
    expect_event(ring, EVENT_GIVEN, p.peer.env, RESOURCE_SLICES);
    end_puppet(&p);
}

/* ---- flows: frames of a type that nobody else uses */
#define FLOW_TYPE 0x88b5

static u64 puppet_flow(struct puppet *owner, u32 *flow, u32 *ring, u32 *buffer) {
    struct flow_spec *spec = (struct flow_spec *)owner->scratch;
    struct flow_binding *binding = (struct flow_binding *)(owner->scratch + 100);
    u64 there = owner->orders->scratch, parent = puppet_give_cap(owner, item("flow"));
    struct condition c = {.count = 1};

    c.atom[0] = (struct atom){.offset = 12, .width = 2, .mask = 0xffff, .value = FLOW_TYPE};
    *spec = (struct flow_spec){.receive = c, .transmit = c};
    *flow = puppet_pages(owner, 1);
    OK(order_call(owner, FLOW_CREATE, parent, *flow, there, there + 3200));
    *ring = puppet_pages(owner, 1);
    *buffer = puppet_pages(owner, 1);
    *binding = (struct flow_binding){.filter = c, .pages = there + 3400, .count = 1, .ring = *ring, .entries = 2};
    *(u32 *)(owner->scratch + 425) = *buffer;
    OK(order_call(owner, FLOW_BIND, there + 3200, there + 800));
    return there + 3200;
}

/* A flow that is unbound, or destroyed while it is bound, counts. */
TEST(revoke_given_flows, .needs = NEED_FLOW) {
    struct event_ring *ring = bind_events();
    u32 flow, r, buffer;

    start_puppet(&p, 0, 0);
    u64 cap = puppet_flow(&p, &flow, &r, &buffer);
    OK(ask(&p, RESOURCE_FLOWS, 2, 1000));
    OK(order_call(&p, FLOW_UNBIND, cap));
    EQUAL(request(RESOURCE_FLOWS)->left, 1);
    OK(order_call(&p, FLOW_BIND, cap, p.orders->scratch + 800));
    OK(order_call(&p, FLOW_DESTROY, cap));
    expect_event(ring, EVENT_GIVEN, p.peer.env, RESOURCE_FLOWS);
    machine_forget();
    end_puppet(&p);
}

/* One request for a resource at a time, of somebody else, of one who lives; its asker may withdraw it. */
TEST(revoke_errors) {
    struct cap mine = item("self"), weak;

    start_puppet(&p, 0, 0);
    EQUAL(sys_revoke(&mine, RESOURCE_PAGES, 1, 0), E_BAD_ARGUMENT);
    EQUAL(sys_revoke(0, RESOURCE_PAGES, 1, 0), E_BAD_ARGUMENT);
    EQUAL(sys_revoke(&p.peer.cap, RESOURCES, 1, 0), E_BAD_ARGUMENT);
    weak = (struct cap){.type = CAP_ENV, .rights = RIGHT_MANAGE, .name = p.peer.env, .count = 1};
    OK(sys_cap_derive(&p.peer.cap, &weak));
    EQUAL(sys_revoke(&weak, RESOURCE_PAGES, 1, 0), E_NO_RIGHT);
    OK(ask(&p, RESOURCE_PAGES, 2, 1000));
    EQUAL(ask(&p, RESOURCE_PAGES, 3, 1000), E_BUSY);
    OK(ask(&p, RESOURCE_SLICES, 1, 1000));
    OK(ask(&p, RESOURCE_PAGES, 0, 0));
    EQUAL(request(RESOURCE_PAGES)->left, 0);
    OK(ask(&p, RESOURCE_PAGES, 3, 1000));
    OK(sys_env_stop(&p.peer.cap, 0));
    EQUAL(ask(&p, RESOURCE_FLOWS, 1, 1000), E_DEAD);
    machine_forget();
    end_puppet(&p);
    EQUAL(ask(&p, RESOURCE_FLOWS, 1, 1000), E_BAD_CAPABILITY);
}

/* A request ends with who asked: then another may ask. */
TEST(revoke_asker_dies) {
    start_puppet(&p, 0, 0);
    start_puppet(&q, 1, 0);
    u64 cap = puppet_give_cap(&q, p.peer.cap);
    OK(order_call(&q, REVOKE, cap, RESOURCE_PAGES, 2, 0));
    EQUAL(ask(&p, RESOURCE_PAGES, 1, 0), E_BUSY);
    EQUAL(ask(&p, RESOURCE_PAGES, 0, 0), E_BUSY);
    end_puppet(&q);
    OK(ask(&p, RESOURCE_PAGES, 1, 0));
    EQUAL(take(&p, RESOURCE_PAGES, puppet_pages(&p, 1)), 0);
    end_puppet(&p);
}

/* ---------------------------------------------------------------- taking */

/* Only what was asked for, by who asked, after the deadline, and no more. */
TEST(repossess_due) {
    start_puppet(&p, 0, 0);
    start_puppet(&q, 1, 0);
    u32 page = puppet_pages(&p, 3);
    EQUAL(take(&p, RESOURCE_PAGES, page), E_NOT_DUE);
    OK(ask(&p, RESOURCE_PAGES, 2, 100));
    EQUAL(take(&p, RESOURCE_PAGES, page), E_NOT_DUE);
    pause_for(110);
    EQUAL(take(&p, RESOURCE_SLICES, 0), E_NOT_DUE);
    u64 cap = puppet_give_cap(&q, p.peer.cap);
    struct taking *t = (struct taking *)q.scratch;
    *t = (struct taking){.name = page};
    EQUAL(order_call(&q, REPOSSESS, cap, q.orders->scratch, 1), 1);
    EQUAL(t->result, E_NOT_DUE);
    EQUAL(take(&p, RESOURCE_PAGES, page), 0);
    EQUAL(take(&p, RESOURCE_PAGES, page), E_NO_RIGHT);
    OK(order_call(&p, PAGE_FREE, 0, page + 1, 1));
    EQUAL(take(&p, RESOURCE_PAGES, page + 2), E_NOT_DUE);
    EQUAL(request(RESOURCE_PAGES)->left, 0);
    EQUAL(page_of(page + 2)->owner, p.peer.env);
    machine_forget();
    end_puppet(&q);
    end_puppet(&p);
}

/* A private page: its owner faults at once; it is the taker's, zeroed, with a new generation; capabilities are void;
 * the loss is written down and told. */
TEST(repossess_private) {
    start_puppet(&p, 0, 0);
    u64 losses = puppet_losses(&p);
    u32 page = puppet_pages(&p, 1);
    u64 va = puppet_map(&p, page, 1, MAP_WRITE), generation = page_of(page)->generation;
    u32 mine = self()->pages;
    struct cap old = puppet_cap(&p, page, 1, ALL);

    EQUAL(order_write(&p, va, 7), 0);
    ask_now(&p, RESOURCE_PAGES, 1);
    EQUAL(take(&p, RESOURCE_PAGES, page), 0);
    EQUAL(order_read(&p, va), UNREADABLE);
    EQUAL(page_of(page)->owner, rt_self());
    EQUAL(self()->pages, mine + 1);
    CHECK(page_of(page)->state == (PAGE_DATA | FLAG_ZERO << 8) && page_of(page)->generation > generation);
    EQUAL(sys_page_revoke(&old, page, 1), E_BAD_CAPABILITY);
    const u64 *word = (const u64 *)mapped(page, 1, 0);
    for (u32 i = 0; i < 512; i++)
        EQUAL(word[i], 0);
    wait_for(&p.orders->lost, 1);
    EQUAL(order_read(&p, losses + WRITTEN), 1);
    struct loss loss = puppet_loss(&p, losses, 0);
    CHECK(loss.resource == RESOURCE_PAGES && loss.name == page && loss.generation == generation && !loss.saved &&
          loss.from == rt_self() && loss.tsc);
    end_puppet(&p);
}

static volatile u64 *watched;
static volatile u64 reads;

static void read_on(u64 unused) {
    (void)unused;
    for (;; reads++)
        (void)*watched;
}

/* A page mapped in three spaces, twice in one of them, on several CPUs: all of them fault at once. */
TEST(repossess_shared, .cpus = 2) {
    extern void thread_exception_entry(void);
    start_puppet(&p, 0, 0);
    start_puppet(&q, 1, 1);
    u32 page = puppet_pages(&p, 1);
    u64 first = puppet_map(&p, page, 1, MAP_WRITE), second = puppet_map(&p, page, 1, 0);
    struct cap cap = puppet_cap(&p, page, 1, RIGHT_READ);
    u64 mine = address(1);
    OK(memory_map_at(mine, page, 1, 0, &cap));
    struct update *u = (struct update *)q.scratch;
    *u = (struct update){.op = UPDATE_MAP, .va = q.orders->scratch + RT_PAGE, .page = page, .count = 1,
                         .cap = puppet_give_cap(&q, cap)};
    EQUAL(order_call(&q, SPACE_UPDATE, 0, q.orders->scratch, 1), 0);
    EQUAL(order_write(&p, first, 5), 0);
    EQUAL(order_read(&q, q.orders->scratch + RT_PAGE), 5);
    watched = (u64 *)mine;
    start_thread(1, read_on, 0)->exception = (u64)thread_exception_entry;
    wait_for((u64 *)&reads, 1000);
    EQUAL(bindings_of(page), 4);

    ask_now(&p, RESOURCE_PAGES, 1);
    EQUAL(take(&p, RESOURCE_PAGES, page), 0);
    u64 then = reads;
    EQUAL(try_read(mine), 14);
    EQUAL(order_read(&p, first), UNREADABLE);
    EQUAL(order_read(&p, second), UNREADABLE);
    EQUAL(order_read(&q, q.orders->scratch + RT_PAGE), UNREADABLE);
    CHECK(reads <= then + 1);
    EQUAL(page_of(page)->state, PAGE_DATA | FLAG_ZERO << 8);
    end_puppet(&q);
    end_puppet(&p);
}

/* The event ring: its owner gets no events any more, and may bind another. */
TEST(repossess_event_ring) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 2);
    puppet_map(&p, page, 1, MAP_WRITE);
    OK(order_call(&p, EVENT_BIND, 0, page));
    ask_now(&p, RESOURCE_PAGES, 1);
    EQUAL(take(&p, RESOURCE_PAGES, page), 0);
    EQUAL(machine_env(p.peer.env)->event_page, 0);
    OK(order_call(&p, EVENT_BIND, 0, page + 1));
    OK(sys_page_free(0, page, 1));
    machine_forget();
    end_puppet(&p);
}

/* A flow's ring, or one of its buffers: the flow is unbound, which is a loss too. */
TEST(repossess_ring, .needs = NEED_FLOW) {
    u32 flow, ring, buffer;

    start_puppet(&p, 0, 0);
    u64 losses = puppet_losses(&p), cap = puppet_flow(&p, &flow, &ring, &buffer);
    for (u32 i = 0; i < 2; i++) {
        u32 page = i ? buffer : ring;
        ask_now(&p, RESOURCE_PAGES, 1);
        EQUAL(take(&p, RESOURCE_PAGES, page), 0);
        EQUAL(machine_flow(flow)->bound, 0);
        struct loss loss = puppet_loss(&p, losses, i * 2);
        CHECK(loss.resource == RESOURCE_FLOWS && loss.name == flow);
        EQUAL(puppet_loss(&p, losses, i * 2 + 1).name, page);
        struct flow_binding *b = (struct flow_binding *)(p.scratch + 100);
        if (!i) {
            b->ring = puppet_pages(&p, 1);
            OK(order_call(&p, FLOW_BIND, cap, p.orders->scratch + 800));
        }
    }
    machine_forget();
    end_puppet(&p);
}

/* Flows and slices are taken by name; others' are not. */
TEST(repossess_flow_and_slice, .needs = NEED_FLOW) {
    u32 flow, ring, buffer, slot = 0;

    start_puppet(&p, 0, 0);
    u64 losses = puppet_losses(&p);
    puppet_flow(&p, &flow, &ring, &buffer);
    ask_now(&p, RESOURCE_FLOWS, 5);
    EQUAL(take(&p, RESOURCE_FLOWS, flow), 0);
    EQUAL(take(&p, RESOURCE_FLOWS, flow), E_NO_RIGHT);
    EQUAL(take(&p, RESOURCE_FLOWS, ring), E_NO_RIGHT);
    EQUAL(take(&p, RESOURCE_FLOWS, 0xffffffff), E_NO_RIGHT);
    EQUAL(type_of(ring), PAGE_DATA);
    EQUAL(type_of(flow), PAGE_FLOW);
    EQUAL(puppet_loss(&p, losses, 0).name, flow);
    ask_now(&p, RESOURCE_SLICES, 5);
    while (machine_slices(0)->slot[slot].owner != p.peer.env)
        slot++;
    EQUAL(take(&p, RESOURCE_SLICES, slot), 0);
    EQUAL(machine_slices(0)->slot[slot].owner, 0);
    EQUAL(take(&p, RESOURCE_SLICES, slot), E_NO_RIGHT);
    EQUAL(take(&p, RESOURCE_SLICES, SLOTS), E_BAD_ARGUMENT);
    EQUAL(take(&p, RESOURCE_SLICES, machine_info()->cpus << 8), E_BAD_ARGUMENT);
    struct loss loss = puppet_loss(&p, losses, 1);
    CHECK(loss.resource == RESOURCE_SLICES && loss.name == slot);
    EQUAL(take(&p, 7, slot), E_BAD_ARGUMENT);
    EQUAL(sys_env_limit(&p.peer.cap, 512, 3), 0);
    end_puppet(&p);
}

/* A table: everything that it mapped is gone for its owner, and nothing else. A table that holds tables is taken after them. */
TEST(repossess_table) {
    start_puppet(&p, 0, 0);
    u32 table = puppet_pages(&p, 2), page = puppet_pages(&p, 1);
    struct update *u = (struct update *)p.scratch;
    u64 va = 0x7000000000, there = p.orders->scratch;

    u[0] = (struct update){.op = UPDATE_BIND_TABLE, .level = 2, .va = va, .page = table, .count = 1};
    u[1] = (struct update){.op = UPDATE_BIND_TABLE, .level = 1, .va = va, .page = table + 1, .count = 1};
    u[2] = (struct update){.op = UPDATE_MAP, .flags = MAP_WRITE, .va = va, .page = page, .count = 1};
    u[3] = (struct update){.op = UPDATE_MAP, .va = va + 4 * RT_PAGE, .page = page, .count = 1};
    u[4] = (struct update){.op = UPDATE_MAP, .va = va + 9 * RT_PAGE, .page = table + 1, .count = 1};
    s64 failed = order_call(&p, SPACE_UPDATE, 0, there, 5);
    if (u[0].result == E_NO_TABLE) { /* the first of its 512 GiB */
        u[6] = (struct update){.op = UPDATE_BIND_TABLE, .level = 3, .va = va, .page = puppet_pages(&p, 1), .count = 1};
        EQUAL(order_call(&p, SPACE_UPDATE, 0, there + 6 * sizeof *u, 1), 0);
        failed = order_call(&p, SPACE_UPDATE, 0, there, 5);
    }
    EQUAL(failed, 0);
    EQUAL(order_write(&p, va, 9), 0);
    EQUAL(order_read(&p, va + 4 * RT_PAGE), 9);
    ask_now(&p, RESOURCE_PAGES, 4);
    EQUAL(take(&p, RESOURCE_PAGES, table), E_BUSY);
    EQUAL(order_read(&p, va), 9);
    EQUAL(take(&p, RESOURCE_PAGES, table + 1), 0);
    EQUAL(order_read(&p, va), UNREADABLE);
    EQUAL(bindings_of(page), 0);
    EQUAL(type_of(table + 1), PAGE_DATA);
    EQUAL(take(&p, RESOURCE_PAGES, table), 0);
    u[0].page = puppet_pages(&p, 2);
    u[1].page = u[0].page + 1;
    u[4].page = u[1].page;
    EQUAL(order_call(&p, SPACE_UPDATE, 0, there, 5), 0);
    EQUAL(order_read(&p, va), 9);
    OK(sys_page_free(0, table, 2));
    end_puppet(&p);
}

/* Pages on whose words environments sleep: they wake, with result 3. */
static void sleepers(u32 cpu) {
    start_puppet(&p, 0, 0);
    start_puppet(&q, 1, cpu);
    u32 page = puppet_pages(&p, 1);
    u64 va = puppet_map(&p, page, 1, MAP_WRITE);
    struct cap cap = puppet_cap(&p, page, 1, RIGHT_READ);
    struct update *u = (struct update *)q.scratch;
    *u = (struct update){.op = UPDATE_MAP, .va = q.orders->scratch + RT_PAGE, .page = page, .count = 1,
                         .cap = puppet_give_cap(&q, cap)};
    EQUAL(order_call(&q, SPACE_UPDATE, 0, q.orders->scratch, 1), 0);
    order_begin(&p, ORDER_SLEEP, va, 0, 0, 0, 0, 0);
    order_begin(&q, ORDER_SLEEP, q.orders->scratch + RT_PAGE, 0, 0, 0, 0, 0);
    for (u32 i = 0; i < 2000 && bindings_of(page) < 4; i++)
        pause_for(1);
    EQUAL(bindings_of(page), 4);
    ask_now(&p, RESOURCE_PAGES, 1); /* wakes the puppet by its upcall; it is at its orders again */
    EQUAL(order_result(&p), 3);
    EQUAL(take(&p, RESOURCE_PAGES, page), 0);
    EQUAL(order_result(&q), 3);
    EQUAL(order_it(&q, ORDER_SLEEP, q.orders->scratch + RT_PAGE, 0, 0, 0, 0, 0), E_BAD_ADDRESS);
    end_puppet(&q);
    end_puppet(&p);
}

TEST(repossess_sleeper) { sleepers(0); }
TEST(repossess_sleeper_remote, .cpus = 2) { sleepers(1); }

/* A page that a device reads is BUSY, keeps its mappings, and can be taken when the device has let go. */
TEST(repossess_pinned, .needs = NEED_FLOW) {
    u32 flow, ring, buffer;

    start_puppet(&p, 0, 0);
    u64 cap = puppet_flow(&p, &flow, &ring, &buffer), there = p.orders->scratch;
    static const u8 header[14] = {[12] = FLOW_TYPE >> 8, [13] = FLOW_TYPE & 0xff};
    memcpy(p.scratch, header, sizeof header);
    for (u32 round = 0; round < 40; round++) {
        u32 page = puppet_pages(&p, 1);
        u64 va = puppet_map(&p, page, 1, MAP_WRITE);
        struct send *send = (struct send *)(p.scratch + 200);
        *send = (struct send){.headers = there, .length = 14, .pieces = 1};
        send->piece[0] = (struct piece){.page = page, .length = 1400};
        s64 sent = order_call(&p, FLOW_SEND, cap, there + 1600, 1);
        if (sent == E_NO_DEVICE)
            break;
        EQUAL(sent, 1);
        ask_now(&p, RESOURCE_PAGES, 1);
        s64 result = E_BUSY;
        for (u64 end = rt_tsc() + milliseconds(1000); result == E_BUSY && rt_tsc() < end;) {
            result = take(&p, RESOURCE_PAGES, page);
            if (result == E_BUSY)
                EQUAL(order_read(&p, va), 0);
        }
        EQUAL(result, 0);
        OK(sys_page_free(0, page, 1));
    }
    end_puppet(&p);
}

/* What is never taken, and what is not the loser's to lose. */
TEST(repossess_refused) {
    start_puppet(&p, 0, 0);
    u32 loss = puppet_pages(&p, 1), vital = puppet_pages(&p, 1), mine = page_alloc(1), free = puppet_pages(&p, 1);
    const struct env *env = machine_env(p.peer.env);
    u32 root = env->root, context = env->context[0].page, bindings = bindings_of(context);

    OK(order_call(&p, LOSS_BIND, 0, loss));
    OK(order_call(&p, VITAL_SET, 0, vital));
    OK(order_call(&p, PAGE_FREE, 0, free, 1));
    ask_now(&p, RESOURCE_PAGES, 100);
    const struct { u32 page; s64 result; } table[] = {
        {root, E_VITAL}, {loss, E_VITAL}, {vital, E_VITAL}, {context, E_WRONG_TYPE}, {p.peer.env, E_WRONG_TYPE},
        {mine, E_NO_RIGHT}, {free, E_NO_RIGHT}, {machine_info()->array, E_NO_RIGHT}, {0, E_NO_RIGHT},
        {machine_info()->pages, E_BAD_ARGUMENT}, {0xffffffff, E_BAD_ARGUMENT}, {rt_self(), E_NO_RIGHT},
    };
    for (u32 i = 0; i < ARRAY_SIZE(table); i++)
        EQUAL(take(&p, RESOURCE_PAGES, table[i].page), table[i].result);
    EQUAL(request(RESOURCE_PAGES)->left, 100);
    EQUAL(bindings_of(context), bindings);
    OK(order_call(&p, NULL)); /* it runs still */
    EQUAL(p.orders->lost, 0);
    machine_forget();
    end_puppet(&p);
}

/* ---------------------------------------------------------------- the loss page */

static s64 puppet_remap(u64 va, u32 page) {
    *(struct update *)p.scratch = (struct update){.op = UPDATE_MAP, .flags = MAP_WRITE, .va = va, .page = page, .count = 1};
    s64 failed = order_call(&p, SPACE_UPDATE, 0, p.orders->scratch, 1);
    return failed < 0 ? failed : ((struct update *)p.scratch)->result;
}

/* A taking that is not gone on with: the page takes no new binding while the request stands, and is its owner's as before
 * once it does not. */
TEST(repossess_given_up) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 1);
    u64 first = puppet_map(&p, page, 1, MAP_WRITE), second = puppet_map(&p, page, 1, MAP_WRITE);
    struct taking t = {.resource = RESOURCE_PAGES, .name = page};

    OK(order_write(&p, first, 0x1234));
    ask_now(&p, RESOURCE_PAGES, 1);
    EQUAL(sys_repossess(&p.peer.cap, &t, 1), 1);
    EQUAL(t.result, E_AGAIN);
    EQUAL(order_read(&p, second), UNREADABLE);
    EQUAL(puppet_remap(second, page), E_BUSY);
    OK(sys_revoke(&p.peer.cap, RESOURCE_PAGES, 0, 0));
    EQUAL(puppet_remap(second, page), 0);
    EQUAL(order_read(&p, second), 0x1234);
    EQUAL(page_of(page)->state >> 8 & FLAG_TAKEN, 0);
    EQUAL(sys_repossess(&p.peer.cap, &t, 1), 1);
    EQUAL(t.result, E_NOT_DUE);
    end_puppet(&p);
}

/* Contents are in the place that was preloaded before the page is anybody's again; places are used in their order. */
TEST(repossess_saved) {
    start_puppet(&p, 0, 0);
    u64 losses = puppet_losses(&p);
    u32 server = page_alloc(4), saved;
    u64 *place = (u64 *)mapped(server, 4, MAP_WRITE);

    for (u32 i = 0; i < 4; i++) {
        struct cap cap = {.type = CAP_PAGE, .rights = RIGHT_WRITE, .name = server + i, .count = 1};
        if (i & 1)
            cap = tied_to(cap, p.peer.env);
        OK(sys_cap_derive(0, &cap));
        offer(losses, i, cap);
    }
    for (u32 i = 0; i < 5; i++) {
        u32 page = puppet_pages(&p, 1);
        u64 va = puppet_map(&p, page, 1, MAP_WRITE);
        EQUAL(order_write(&p, va, 100 + i), 0);
        EQUAL(order_write(&p, va + 4088, 200 + i), 0);
        ask_now(&p, RESOURCE_PAGES, 1);
        EQUAL(take_saved(&p, page, &saved), 0);
        EQUAL(saved, i < 4 ? server + i : 0);
        EQUAL(puppet_loss(&p, losses, i).saved, saved);
        if (i < 4) {
            EQUAL(place[i * 512], 100 + i);
            EQUAL(place[i * 512 + 511], 200 + i);
        }
        EQUAL(*(u64 *)mapped(page, 1, 0), 0);
    }
    EQUAL(order_read(&p, losses + offsetof(struct losses, used)), 4);
    EQUAL(machine_env(p.peer.env)->saves, 4);
    machine_forget();
    end_puppet(&p);
}

/* When the loss page is full losses are only counted; when some are read there is room again. */
TEST(repossess_losses_full) {
    start_puppet(&p, 0, 0);
    u64 losses = puppet_losses(&p);
    u32 page = puppet_pages(&p, 200);
    struct taking t[TAKINGS_A_CALL];

    ask_now(&p, RESOURCE_PAGES, 200);
    for (u32 done = 0; done < LOSSES + 6; done += 35) {
        for (u32 i = 0; i < 35; i++)
            t[i] = (struct taking){.name = page + done + i};
        EQUAL(sys_repossess(&p.peer.cap, t, 35), 0);
    }
    EQUAL(order_read(&p, losses + WRITTEN), LOSSES);
    EQUAL(machine_env(p.peer.env)->losses, 70);
    EQUAL(puppet_loss(&p, losses, LOSSES - 1).name, page + LOSSES - 1);
    EQUAL(order_write(&p, losses + READ, LOSSES), 0);
    EQUAL(take(&p, RESOURCE_PAGES, page + 100), 0);
    EQUAL(order_read(&p, losses + WRITTEN), LOSSES + 1);
    EQUAL(puppet_loss(&p, losses, LOSSES).name, page + 100);
    machine_forget();
    end_puppet(&p);
}

/* Without a loss page losses are counted and told all the same; one can be bound and taken out. */
TEST(repossess_no_loss_page) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 3);

    ask_now(&p, RESOURCE_PAGES, 1);
    EQUAL(take(&p, RESOURCE_PAGES, page), 0);
    EQUAL(machine_env(p.peer.env)->losses, 1);
    wait_for(&p.orders->lost, 1);
    OK(order_call(&p, LOSS_BIND, 0, page + 1));
    EQUAL(type_of(page + 1), PAGE_RING);
    EQUAL(order_call(&p, LOSS_BIND, 0, page + 2), E_BUSY);
    EQUAL(order_call(&p, PAGE_FREE, 0, page + 1, 1), E_WRONG_TYPE);
    OK(order_call(&p, LOSS_BIND, 0, 0));
    EQUAL(type_of(page + 1), PAGE_DATA);
    EQUAL(bindings_of(page + 1), 0);
    EQUAL(order_call(&p, LOSS_BIND, 0, page), E_NO_RIGHT);
    EQUAL(order_call(&p, LOSS_BIND, 0, 0), 0);
    machine_forget();
    end_puppet(&p);
}

/* ---------------------------------------------------------------- vital pages and limits */

/* Ten pages are vital, an eleventh has no place; a vital page is neither freed nor given nor used as a table. */
TEST(vital_pages) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 11);

    for (u32 i = 0; i < VITALS; i++)
        OK(order_call(&p, VITAL_SET, i, page + i));
    EQUAL(order_call(&p, VITAL_SET, VITALS, page + 10), E_BAD_ARGUMENT);
    EQUAL(order_call(&p, VITAL_SET, 3, page + 5), E_BUSY);
    EQUAL(machine_env(p.peer.env)->vitals, VITALS);
    ask_now(&p, RESOURCE_PAGES, 11);
    for (u32 i = 0; i < VITALS; i++) {
        EQUAL(take(&p, RESOURCE_PAGES, page + i), E_VITAL);
        EQUAL(order_call(&p, PAGE_FREE, 0, page + i, 1), E_BUSY);
        EQUAL(order_call(&p, PAGE_GIVE, 0, page + i, 1, puppet_give_cap(&p, item("self"))), E_BUSY);
    }
    EQUAL(take(&p, RESOURCE_PAGES, page + 10), 0);
    u32 next = puppet_pages(&p, 1);
    OK(order_call(&p, VITAL_SET, 4, next));
    EQUAL(take(&p, RESOURCE_PAGES, next), E_VITAL);
    EQUAL(take(&p, RESOURCE_PAGES, page + 4), 0);
    OK(order_call(&p, VITAL_SET, 4, 0));
    EQUAL(machine_env(p.peer.env)->vitals, VITALS - 1);
    EQUAL(take(&p, RESOURCE_PAGES, next), 0);
    OK(order_call(&p, VITAL_SET, 0, 0));
    OK(order_call(&p, PAGE_FREE, 0, page, 1));
    machine_forget();
    end_puppet(&p);
}

/* Limits move between creator and created, never more than there is; below what is owned they only stop allocation. */
TEST(limit_moves) {
    u32 pages = self()->page_limit, slices = self()->slice_limit;
    struct peer e = bare_env(100, 2);

    OK(sys_env_limit(&e.cap, 200, 3));
    EQUAL(self()->page_limit, pages - 200);
    EQUAL(self()->slice_limit, slices - 3);
    EQUAL(sys_env_limit(&e.cap, 200 + self()->page_limit - self()->pages + 1, 3), E_LIMIT);
    EQUAL(sys_env_limit(&e.cap, 0xffffffff, 3), E_LIMIT);
    EQUAL(sys_env_limit(&e.cap, 200, 0xffffffff), E_LIMIT);
    struct cap cap;
    u32 page = (u32)OK(sys_page_alloc(&e.cap, PAGE_ANY, 50, 0, &cap));
    OK(sys_env_limit(&e.cap, 10, 0));
    EQUAL(self()->page_limit, pages - 52); /* with the two that it is made of, it has so many still */
    EQUAL(self()->slice_limit, slices);
    EQUAL(sys_page_alloc(&e.cap, PAGE_ANY, 1, 0, 0), E_LIMIT);
    OK(sys_page_free(&cap, page + 30, 20));
    EQUAL(self()->page_limit, pages - 52);
    OK(sys_env_limit(&e.cap, 10, 0)); /* and this asks for what it has let go of */
    EQUAL(self()->page_limit, pages - 32);
    EQUAL(page_of(page)->owner, e.env);
    OK(sys_env_limit(&e.cap, 0, 0));
    EQUAL(sys_env_limit(0, 10, 10), E_NO_RIGHT);
    end_peer(&e);
    EQUAL(self()->page_limit, pages);
    EQUAL(self()->slice_limit, slices);
    EQUAL(sys_env_limit(&e.cap, 1, 1), E_BAD_CAPABILITY);
}

/* Only the creator changes limits, also if another has every right. What is destroyed by that one leaves it nothing, and the creator its room. */
TEST(limit_of_another) {
    start_puppet(&p, 0, 0);
    struct peer e = bare_env(64, 1);
    struct cap cap;
    u64 there = puppet_give_cap(&p, e.cap);
    u32 page = (u32)OK(sys_page_alloc(&e.cap, PAGE_ANY, 8, 0, &cap)), mine = self()->page_limit;

    EQUAL(order_call(&p, ENV_LIMIT, there, 1, 1), E_NO_RIGHT);
    u64 va = address(8);
    OK(memory_map_at(va, page, 8, 0, &cap));
    OK(sys_env_limit(&e.cap, 0, 0));
    u32 owned = machine_env(p.peer.env)->pages, limit = machine_env(p.peer.env)->page_limit;
    there = puppet_give_cap(&p, e.cap);
    s64 result;
    do
        result = order_call(&p, ENV_DESTROY, there);
    while (result == E_AGAIN);
    EQUAL(result, 0);
    EQUAL(machine_env(p.peer.env)->pages, owned);
    EQUAL(machine_env(p.peer.env)->page_limit, limit);
    EQUAL(self()->page_limit, mine + 64);
    EQUAL(page_of(page)->state, PAGE_FREE);
    EQUAL(try_read(va), 14);
    machine_forget();
    end_puppet(&p);
}

/* Destroying returns everything: vital pages, loss page, what is asked for, limits. */
TEST(revoke_destroyed) {
    u32 pages = self()->page_limit, slices = self()->slice_limit, owned = self()->pages;

    start_puppet(&p, 0, 0);
    u32 scratch = memory_page_of(p.scratch);
    puppet_losses(&p);
    u32 page = puppet_pages(&p, 4);
    OK(order_call(&p, VITAL_SET, 1, page));
    OK(order_call(&p, VITAL_SET, 2, page + 1));
    OK(ask(&p, RESOURCE_PAGES, 100, 10000));
    memory_unmap(p.scratch, 1);
    end_puppet(&p);
    OK(sys_page_free(0, scratch, 1));
    EQUAL(self()->page_limit, pages);
    EQUAL(self()->slice_limit, slices);
    CHECK(self()->pages >= owned && self()->pages < owned + 8); /* tables for its own mappings */
    for (u32 i = 0; i < 4; i++) /* free, or this test's already for its tables */
        CHECK(type_of(page + i) == PAGE_FREE || page_of(page + i)->owner == rt_self());
}

/* ---------------------------------------------------------------- against each other */
ROLE(rival) {
    const u32 number = __atomic_fetch_add((u32 *)&up->word[40], 1, __ATOMIC_SEQ_CST);
    u64 seed = number * 77 + 5;
    u32 page[16], page_count = 16, owned = 0;

    struct cap mine = item("self");
    page_of(rt_self()); /* maps what it needs before pages can be lost */
    up->cap[number] = mine;
    __atomic_fetch_add(&up->word[41], 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&up->word[41], __ATOMIC_SEQ_CST) < 2)
        sys_yield();
    const struct cap other = up->cap[!number];
    u64 end = rt_tsc() + milliseconds(700);
    while (rt_tsc() < end) {
        for (; owned < page_count; owned++) {
            s64 got = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);
            if (got < 0)
                break;
            page[owned] = (u32)got;
            __atomic_store_n((u32 *)&up->order[number * 16 + owned], (u32)got, __ATOMIC_SEQ_CST);
        }
        s64 error = sys_revoke(&other, RESOURCE_PAGES, 4, 0);
        if (error == E_DEAD) /* the other's time was over first */
            break;
        if (error && error != E_BUSY)
            FAIL("revoke: %s", error_name(error));
        struct taking t[6];
        for (u32 i = 0; i < 6; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            t[i] = (struct taking){.name = (u32)up->order[!number * 16 + (seed >> 40) % 16]};
        }
        if (sys_repossess(&other, t, 6) == E_DEAD)
            break;
        for (u32 i = 0; i < 6; i++)
            if (!t[i].result) {
                up->word[42 + number]++;
                s64 freed = sys_page_free(0, t[i].name, 1);
                CHECK(!freed || freed == E_NO_RIGHT); /* the rival may have taken it back already */
            }
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        u32 victim = (seed >> 40) % 16;
        sys_page_free(0, page[victim], 1); /* it may be lost already */
        for (u32 i = owned = 0; i < page_count; i++)
            if (page_of(page[i])->owner == rt_self())
                page[owned++] = page[i];
    }
}

/* Two environments ask each other at once and take from each other: neither waits for ever, and nothing is lost. */
TEST(repossess_each_other, .needs = NEED_MACHINE, .seconds = 120) { /* each search goes through all of memory */
    struct cap machine = item("machine");
    u32 cpus = machine_info()->cpus;
    struct event_ring *ring = bind_events();
    struct event e;

    start_peer(&p.peer, "rival", 0);
    start_peer(&q.peer, "rival", cpus > 1 ? 1 : 0);
    for (u32 ended = 0; ended < 2;) {
        if (next_event(ring, &e, 20)) {
            ended += e.type == EVENT_ENDED;
            if (e.type != EVENT_ENDED || e.a != END_STOPPED || e.b || down->failed)
                FAIL("a rival: event %u, %lx, %lx: %s", e.type, e.a, e.b, down->text);
        }
        EQUAL(sys_check(&machine), 0);
    }
    CHECK(down->word[42] && down->word[43]);
    end_peer(&p.peer);
    end_peer(&q.peer);
}
