/* Environments: making, ending and destroying them in every state, and what their creator is told.
 */
#include "guest.h"

/* An environment is made of two pages and a part of its creator's limits, which come back. */
TEST(env_limits) {
    u32 pages = self()->page_limit, slices = self()->slice_limit, owned = self()->pages;
    struct peer p = bare_env(100, 3);

    EQUAL(self()->page_limit, pages - 100);
    EQUAL(self()->slice_limit, slices - 3);
    EQUAL(self()->pages, owned);
    EQUAL(self()->children, 1);
    EQUAL(sys_page_alloc(&p.cap, PAGE_ANY, 99, 0, 0), E_LIMIT);
    OK(sys_page_alloc(&p.cap, PAGE_ANY, 98, 0, 0));
    end_peer(&p);
    EQUAL(self()->page_limit, pages);
    EQUAL(self()->slice_limit, slices);
    EQUAL(self()->children, 0);
    EQUAL(self()->pages, owned);
}

/* Nobody gives away more than it has, also by numbers that wrap. */
TEST(env_limits_exceeded) {
    const u32 pages[] = {self()->page_limit, 0xffffffff, 0xfffffff0, 0x80000000};
    struct env_spec spec = {.name = "greedy"};
    struct cap cap;
    u32 page = page_alloc(2);

    for (u32 i = 0; i < ARRAY_SIZE(pages); i++) {
        spec.page_limit = pages[i];
        EQUAL(sys_env_create(page, page + 1, &spec, &cap), E_LIMIT);
        EQUAL(type_of(page), PAGE_DATA);
    }
    spec.page_limit = 2;
    for (u32 i = 0; i < 2; i++) {
        spec.slice_limit = i ? 0xffffffff : self()->slice_limit;
        EQUAL(sys_env_create(page, page + 1, &spec, &cap), E_LIMIT);
    }
    spec.slice_limit = 0;
    spec.page_limit = 1;
    EQUAL(sys_env_create(page, page + 1, &spec, &cap), E_BAD_ARGUMENT);
    EQUAL(sys_env_create(page, page, &spec, &cap), E_BAD_ARGUMENT);
}

/* Nothing is left of an environment, whatever it had been given and however far. */
TEST(env_half_built) {
    u32 before = free_pages();

    for (u32 stage = 0; stage < 6; stage++) {
        struct peer p = bare_env(64, 2);
        s64 page = 0;
        if (stage >= 1)
            page = OK(sys_page_alloc(&p.cap, PAGE_ANY, 8, 0, 0));
        if (stage >= 2)
            OK(memory_map_for(&p.cap, 0x400000, (u32)page, 8, MAP_WRITE, 0));
        if (stage >= 3)
            OK(sys_event_bind(&p.cap, (u32)page));
        if (stage >= 4)
            OK(sys_context_bind(&p.cap, 0, (u32)page + 1));
        if (stage >= 5)
            OK(sys_slice_alloc(&p.cap, 0, PAGE_ANY));
        if (stage >= 5) /* its context holds no frame and no entry: its first slice is its last */
            pause_for(3);
        end_peer(&p);
        EQUAL(free_pages(), before);
        EQUAL(sys_env_destroy(&p.cap), E_BAD_CAPABILITY);
    }
}

ROLE(spin_for_ever) {
    up->word[0]++;
    for (;;)
        ;
}
ROLE(sleep_for_ever) {
    u64 *word = (u64 *)mapped(page_alloc(1), 1, MAP_WRITE);

    up->word[0]++;
    sys_sleep(NEVER, word, 0);
}
static void hold(u32 caller, u32 kind, struct rt_message *m) {
    (void)caller;
    (void)kind;
    (void)m;
    up->word[1]++;
    sys_sleep(NEVER, 0, 0);
}
ROLE(holder) {
    rt_on_transfer(hold);
    up->word[0]++;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
ROLE(caller) {
    struct rt_message m = {0};

    up->word[2] = (u64)rt_transfer((u32)up->word[3], TRANSFER_CALL, &m);
    up->word[4]++;
    sys_sleep(NEVER, 0, 0);
}

/* Running and sleeping ones, here and on other CPUs, end at once. */
TEST(env_destroy_states) {
    static const char *const role[] = {"spin_for_ever", "sleep_for_ever"};

    for (u32 i = 0; i < 2; i++)
        for (u32 cpu = 0; cpu < machine_info()->cpus; cpu++) {
            struct peer p;
            u32 before = free_pages();
            down->word[0] = 0;
            start_peer(&p, role[i], cpu);
            wait_for(&down->word[0], 1);
            end_peer(&p);
            if (i || cpu) /* the first maps what making it needs */
                EQUAL(free_pages(), before);
        }
}

/* One that waits for a reply is destroyed, and so is one that is called: its caller gets an error.
 */
TEST(env_destroy_calling) {
    struct peer server, client;

    for (u32 first = 0; first < 2; first++) {
        memset(down->word, 0, sizeof down->word);
        start_peer(&server, "holder", 0);
        wait_for(&down->word[0], 1);
        down->word[3] = server.env;
        start_peer(&client, "caller", 0);
        wait_for(&down->word[1], 1);
        end_peer(first ? &server : &client);
        if (first) {
            wait_for(&down->word[4], 1);
            EQUAL(down->word[2], E_DEAD);
        }
        end_peer(first ? &client : &server);
    }
}

ROLE(parent) {
    struct spawn_slices slices = {0, 2};
    struct peer p;

    run_peer(&p, "sleep_for_ever", &slices, 1, 400, 0);
    wait_for(&down->word[0], 1);
    up->cap[0] = p.cap;
    up->word[0] = p.env;
    sys_sleep(NEVER, 0, 0);
}

ROLE(half_destroyer) {
    struct peer e = bare_env(2, 0);

    __atomic_store_n(&up->word[0], e.env, __ATOMIC_SEQ_CST);
    wait_for(&up->word[1], 1);
    EQUAL(sys_env_destroy(&e.cap), E_AGAIN); /* somebody looks at its page */
    up->word[2] = 1;
    sys_sleep(NEVER, 0, 0);
}

/* So does one that was being destroyed by who is destroyed now: its page shows to nobody any more, but the heir is told. */
TEST(env_adopted_dying) {
    struct event_ring *ring = bind_events();
    struct event e;
    struct peer p;

    start_peer(&p, "half_destroyer", 0);
    wait_for(&down->word[0], 1);
    u32 child = (u32)down->word[0];
    mapped(child, 1, 0);
    down->word[1] = 1;
    wait_for(&down->word[2], 1);
    end_peer(&p);
    do
        CHECK(next_event(ring, &e, 1000));
    while (e.type != EVENT_ENDED || e.env != child);
    struct cap cap = cap_of_child(child);
    OK(rt_destroy(&cap));
}

/* Children of what is destroyed come to its creator, who can name them, is told of their ends and gets their limits back. */
TEST(env_adopted) {
    struct event_ring *ring = bind_events();
    struct event e;
    struct peer p;
    page_of(rt_self()); /* the page array needs tables, in a large machine many */
    u32 limit = self()->page_limit, slices = self()->slice_limit, free = free_pages();
    struct spawn_slices own = {0, 10};
    struct cap other = {.type = CAP_ENV, .rights = RIGHT_OWN, .name = rt_self(), .count = 1};

    other.name = self()->creator;
    EQUAL(sys_cap_derive(0, &other), E_NO_RIGHT);
    run_peer(&p, "parent", &own, 1, 1000, 2);
    wait_for(&down->word[0], 1);
    u32 child = (u32)down->word[0];
    struct cap cap = {.type = CAP_ENV, .rights = RIGHT_OWN, .name = child, .count = 1};
    EQUAL(sys_cap_derive(0, &cap), E_NO_RIGHT); /* a grandchild, so far */
    end_peer(&p);
    CHECK(self()->page_limit < limit); /* what the child has is still out */
    EQUAL(self()->children, 1);
    EQUAL(machine_env(child)->state, ENV_LIVE);
    EQUAL(machine_env(child)->creator, rt_self());
    machine_forget();
    cap = cap_of_child(child);
    OK(sys_env_stop(&cap, 77));
    do
        CHECK(next_event(ring, &e, 1000));
    while (e.env != child);
    CHECK(e.type == EVENT_ENDED && e.a == END_STOPPED && e.b == 77);
    OK(rt_destroy(&cap));
    EQUAL(sys_cap_derive(0, &cap), E_NO_RIGHT);
    EQUAL(self()->children, 0);
    EQUAL(self()->page_limit, limit);
    EQUAL(self()->slice_limit, slices);
    CHECK(free_pages() + 8 >= free); /* but for tables of this environment */
}

/* word: 2 page; cap: 1 for it */
ROLE(sleeps_on_anothers) {
    u64 va = address(1);

    OK(memory_map_at(va, (u32)up->word[2], 1, 0, &up->cap[1]));
    up->word[0]++;
    up->word[3] = (u64)sys_sleep(NEVER, (const u64 *)va, 0);
    up->word[1]++;
    sys_sleep(NEVER, 0, 0);
}

/* Who sleeps on a word of what is destroyed wakes, on any CPU. */
TEST(env_destroy_wakes) {
    for (u32 cpu = 0; cpu < machine_info()->cpus && cpu < 2; cpu++) {
        struct peer dead = bare_env(8, 0), sleeper;
        memset(down->word, 0, sizeof down->word);
        down->word[2] = (u64)OK(sys_page_alloc(&dead.cap, PAGE_ANY, 1, 0, &down->cap[1]));
        start_peer(&sleeper, "sleeps_on_anothers", cpu);
        wait_for(&down->word[0], 1);
        while (machine_env(sleeper.env)->context[cpu].state != CONTEXT_SLEEPING)
            pause_for(1);
        machine_forget();
        end_peer(&dead);
        EQUAL(type_of((u32)down->word[2]), PAGE_FREE);
        wait_for(&down->word[1], 1);
        EQUAL(down->word[3], 3);
        end_peer(&sleeper);
    }
}

/* A chain of environments, each made by the one before: whoever destroys the first can end all. */
ROLE(link) {
    struct spawn_slices slices = {0, 1};
    struct peer p;
    u32 left = self()->page_limit;

    down->word[1] = up->word[1] - 1;
    if (up->word[1])
        run_peer(&p, "link", &slices, 1, left - 300, 8 * (u32)down->word[1]);
    for (const u64 *deep = up->word[1] ? &down->word[0] : NULL; deep && !*deep;)
        pause_for(1);
    up->word[0] = 1;
    sys_sleep(NEVER, 0, 0);
}

TEST(env_chain, .seconds = 60) {
    enum { LINKS = 4 };
    u32 limit = self()->page_limit, slices = self()->slice_limit, ended = 0;
    struct spawn_slices own = {0, 1};
    struct peer p;

    down->word[1] = LINKS;
    run_peer(&p, "link", &own, 1, 2400, 8 * LINKS);
    wait_for(&down->word[0], 1);
    OK(rt_destroy(&p.cap));
    for (; find_child(0); ended++) {
        struct cap cap = cap_of_child(find_child(0));
        OK(rt_destroy(&cap));
    }
    EQUAL(ended, LINKS);
    EQUAL(self()->children, 0);
    EQUAL(self()->page_limit, limit);
    EQUAL(self()->slice_limit, slices);
}

/* A page that others still map is taken from them, by every way in which they hold it, and free in the end. So is the
 * environment's own page. */
TEST(env_mapped_page) {
    struct peer p = bare_env(1024, 0), other = bare_env(64, 0);
    struct cap cap, large;
    u32 page = (u32)OK(sys_page_alloc(&p.cap, PAGE_ANY, 1, 0, &cap)), limit = self()->page_limit;
    u32 run = (u32)OK(sys_page_alloc(&p.cap, PAGE_ANY, 512, 9, &large));
    u64 va = address(2), big = address(1024);

    OK(memory_map_at(va, page, 1, MAP_WRITE, &cap));
    OK(memory_map_at(va + RT_PAGE, p.env, 1, 0, 0));
    OK(memory_map_for(&other.cap, 0x400000, page, 1, MAP_WRITE, &cap));
    for (u32 i = 0; i < 512; i++)
        OK(memory_map_at(big + i * RT_PAGE, run + i, 1, 0, &large));
    CHECK(page_of(page)->owner == p.env && try_read(va) == 32);
    u32 mine = self()->pages;
    *(u64 *)va = 3;
    end_peer(&p);
    EQUAL(page_of(page)->state, PAGE_FREE);
    EQUAL(page_of(p.env)->state, PAGE_FREE);
    EQUAL(page_of(run + 511)->state, PAGE_FREE);
    EQUAL(try_read(va), 14);
    EQUAL(try_read(va + RT_PAGE), 14);
    EQUAL(try_read(big + 511 * RT_PAGE), 14);
    EQUAL(self()->pages, mine);
    EQUAL(self()->page_limit, limit + 1024);
    end_peer(&other);
}

/* Nobody destroys itself, or what is gone. */
TEST(env_destroy_errors) {
    struct cap mine = {
        .type = CAP_ENV, .rights = RIGHT_OWN | RIGHT_MANAGE, .name = rt_self(), .count = 1};
    struct peer p = bare_env(4, 0);

    OK(sys_cap_derive(0, &mine));
    EQUAL(sys_env_destroy(&mine), E_BAD_ARGUMENT);
    EQUAL(sys_env_destroy(0), E_BAD_ADDRESS);
    struct cap weak = {.type = CAP_ENV, .rights = RIGHT_MANAGE, .name = p.env, .count = 1};
    OK(sys_cap_derive(&p.cap, &weak));
    EQUAL(sys_env_destroy(&weak), E_NO_RIGHT);
    EQUAL(sys_env_stop(&weak, 0), E_NO_RIGHT);
    end_peer(&p);
    EQUAL(sys_page_alloc(&weak, PAGE_ANY, 1, 0, 0), E_BAD_CAPABILITY);
}

/* ---- events */
static void stop(struct peer *p, u64 code) { EQUAL(sys_env_stop(&p->cap, code), 0); }

/* The creator is told of each end once, in order, with reason and code. */
TEST(event_order) {
    struct event_ring *ring = bind_events();
    struct peer p[4];
    struct event e;

    for (u32 i = 0; i < 4; i++)
        p[i] = bare_env(2, 0);
    for (u32 i = 0; i < 4; i++)
        stop(&p[3 - i], 100 + i);
    for (u32 i = 0; i < 4; i++) {
        CHECK(next_event(ring, &e, 100));
        CHECK(e.type == EVENT_ENDED && e.env == p[3 - i].env && e.a == END_STOPPED &&
              e.b == 100 + i);
        CHECK(e.tsc <= rt_tsc());
    }
    EQUAL(sys_env_stop(&p[0].cap, 0), E_DEAD);
    CHECK(!next_event(ring, &e, 1));
    for (u32 i = 0; i < 4; i++)
        end_peer(&p[i]);
    CHECK(!next_event(ring, &e, 1));
}

/* A full ring keeps what it has and counts what is lost. */
TEST(event_overflow) {
    struct event_ring *ring = bind_events();
    struct event e;

    for (u32 i = 0; i < EVENTS + 10; i++) {
        struct peer p = bare_env(2, 0);
        stop(&p, i);
        end_peer(&p);
    }
    EQUAL(ring->produced, EVENTS);
    EQUAL(ring->lost, 10);
    for (u32 i = 0; i < EVENTS; i++) {
        CHECK(next_event(ring, &e, 1));
        EQUAL(e.b, i);
    }
    struct peer p = bare_env(2, 0);
    stop(&p, 1000);
    end_peer(&p);
    CHECK(next_event(ring, &e, 1) && e.b == 1000);
}

/* A ring is taken out and given back; a page is in one only. */
TEST(event_bind) {
    u32 page = page_alloc(2);

    EQUAL(sys_event_bind(0, page), 0);
    EQUAL(type_of(page), PAGE_RING);
    EQUAL(sys_event_bind(0, page + 1), E_BUSY);
    EQUAL(sys_page_free(0, page, 1), E_WRONG_TYPE);
    EQUAL(sys_event_bind(0, 0), 0);
    EQUAL(type_of(page), PAGE_DATA);
    EQUAL(sys_event_bind(0, self()->root), E_WRONG_TYPE);
    EQUAL(sys_event_bind(0, 1), E_NO_RIGHT);
    EQUAL(sys_event_bind(0, page + 1), 0);
    EQUAL(sys_page_free(0, page, 1), 0);
}

ROLE(faulter) { *(volatile u64 *)0x123456000 = 1; }
ROLE(stopper) { rt_exit(4711); }

/* How an environment ended, and with what. */
TEST(event_reasons) {
    struct event_ring *ring = bind_events();
    struct event e;
    struct peer p;

    start_peer(&p, "stopper", 0);
    CHECK(next_event(ring, &e, 3000) && e.a == END_STOPPED && e.b == 4711);
    EQUAL(machine_env(p.env)->end_code, 4711);
    EQUAL(machine_env(p.env)->state, ENV_STOPPED);
    machine_forget();
    end_peer(&p);
    start_peer(&p, "faulter", 0);
    CHECK(next_event(ring, &e, 3000) && e.a == END_FAULT);
    end_peer(&p);
}

/* Contexts: one for each CPU, of a DATA page of the environment, for good. */
TEST(context_bind) {
    u32 page = page_alloc(2), cpus = machine_info()->cpus;

    EQUAL(sys_context_bind(0, 0, page), E_BUSY);
    EQUAL(sys_context_bind(0, cpus, page), E_BAD_ARGUMENT);
    EQUAL(sys_context_bind(0, 0xffffffff, page), E_BAD_ARGUMENT);
    if (cpus > 1) {
        EQUAL(sys_context_bind(0, 1, self()->root), E_WRONG_TYPE);
        EQUAL(sys_context_bind(0, 1, 1), E_NO_RIGHT);
        EQUAL(sys_context_bind(0, 1, page), 0);
        EQUAL(type_of(page), PAGE_CONTEXT);
        EQUAL(sys_context_bind(0, 1, page + 1), E_BUSY);
        EQUAL(sys_page_free(0, page, 1), E_WRONG_TYPE);
    }
}
