/* One environment against another, that does nothing but keep a secret: every call that could read,
 * map, overwrite, starve or impersonate it is refused, and it does not notice. */
#include "abuse.h"

#define SECRET 0x5ec4e75ec4e7ull
#define PAGES 8

/* word: 0 ready, 1 rounds, 2 first page, 3 root, 4 context page, 5 ring, 6 table, 7 damage */
ROLE(secret_keeper) {
    u32 page = page_alloc(PAGES);
    u64 *memory = (u64 *)mapped(page, PAGES, MAP_WRITE);

    bind_events();
    for (u32 i = 0; i < PAGES * 512; i++)
        memory[i] = SECRET + i;
    up->word[2] = page;
    up->word[3] = self()->root;
    up->word[4] = self()->context[0].page;
    up->word[5] = self()->event_page;
    up->word[0] = 1;
    for (;;) {
        for (u32 i = 0; i < PAGES * 512; i++)
            if (memory[i] != SECRET + i)
                up->word[7]++;
        __atomic_fetch_add(&up->word[1], 1, __ATOMIC_SEQ_CST);
        sys_yield();
    }
}

static struct peer victim;
static void start_victim(void) {
    down->word[0] = 0;
    start_peer(&victim, "secret_keeper", 0);
    wait_for(&down->word[0], 1);
}
static void end_victim(void) {
    u64 rounds = down->word[1];

    wait_for(&down->word[1], rounds + 2); /* it goes on */
    EQUAL(down->word[7], 0);
    end_peer(&victim);
}

/* A capability that looks right in all but its tag. */
static struct cap forged(u8 type, u32 name, u32 count) {
    struct cap c = {.type = type,
                    .rights = 63,
                    .name = name,
                    .count = count,
                    .generation = page_of(name)->generation};

    c.tag = 0x123456789abcdef;
    return c;
}

/* Every call, on every page of the victim, by ownership and by forged capabilities. */
TEST(attack_calls, .needs = NEED_FLOW, .seconds = 30) {
    start_victim();
    u64 va = address(1);
    struct env_spec spec = {.name = "thief", .page_limit = 4};
    const u32 page[] = {(u32)down->word[2], (u32)down->word[2] + PAGES - 1,
                        (u32)down->word[3], (u32)down->word[4],
                        (u32)down->word[5], victim.env};
    struct cap env = forged(CAP_ENV, victim.env, 1), root = item("flow");
    u32 mine = page_alloc(2);

    for (u32 i = 0; i < ARRAY_SIZE(page); i++) {
        u32 n = page[i];
        struct cap cap = forged(CAP_PAGE, n, 1),
                   want = {.type = CAP_PAGE, .rights = RIGHT_READ, .name = n, .count = 1};
        for (u32 by = 0; by < 2; by++) {
            const struct cap *c = by ? &cap : NULL;
            s64 error = by ? E_BAD_CAPABILITY : E_NO_RIGHT;
            EQUAL(sys_page_free(c, n, 1), error);
            EQUAL(sys_page_give(c, n, 1, 0), error);
            EQUAL(sys_page_revoke(c, n, 1), error);
            EQUAL(sys_cap_derive(c, &want), error);
            for (u16 flags = 0; flags < 4; flags++)
                if (i != ARRAY_SIZE(page) - 1) /* everybody may read an ENV page */
                    CHECK(update(UPDATE_MAP, 0, va, n, 1, flags, c) < 0);
            CHECK(update(UPDATE_MAP, 0, va, n, 1, MAP_WRITE, c) < 0);
        }
        CHECK(sys_page_alloc(0, n, 1, 0, 0) == E_NOT_FREE);
        CHECK(update(UPDATE_BIND_TABLE, 1, va + (1ull << 30), n, 1, 0, 0) < 0);
        CHECK(sys_env_create(n, mine, &spec, 0) < 0);
        CHECK(sys_env_create(mine, n, &spec, 0) < 0);
        CHECK(sys_event_bind(0, n) < 0);
        for (u32 cpu = 0; cpu < machine_info()->cpus; cpu++)
            CHECK(sys_context_bind(0, cpu, n) < 0);
        struct flow_spec flow = {.receive.count = 0};
        CHECK(sys_flow_create(&root, n, &flow, 0) < 0);
    }
    struct update u = {.op = UPDATE_UNMAP, .va = 0x400000, .count = 1};
    EQUAL(sys_page_alloc(&env, PAGE_ANY, 1, 0, 0), E_BAD_CAPABILITY);
    EQUAL(sys_space_update(&env, &u, 1), E_BAD_CAPABILITY);
    EQUAL(sys_env_stop(&env, 0), E_BAD_CAPABILITY);
    EQUAL(sys_env_destroy(&env), E_BAD_CAPABILITY);
    EQUAL(sys_context_bind(&env, 0, mine), E_BAD_CAPABILITY);
    EQUAL(sys_event_bind(&env, 0), E_BAD_CAPABILITY);
    EQUAL(sys_slice_alloc(&env, 0, PAGE_ANY), E_BAD_CAPABILITY);
    for (u32 i = 0; i < SLOTS; i++) {
        EQUAL(sys_slice_free(&env, 0, i), E_BAD_CAPABILITY);
        if (machine_slices(0)->slot[i].owner != rt_self())
            EQUAL(sys_slice_free(0, 0, i), E_NO_RIGHT);
    }
    EQUAL(sys_page_give(0, mine, 1, &env), E_BAD_CAPABILITY);
    struct rt_message m = {0};
    EQUAL(rt_transfer(victim.env, TRANSFER_CALL, &m), E_BUSY);
    EQUAL(rt_transfer(victim.env, TRANSFER_GIVE, &m), E_BUSY);
    EQUAL(rt_transfer(victim.env, TRANSFER_REPLY, &m), E_BAD_ARGUMENT);
    end_victim();
}

/* Rights that were lent end where they were lent: reading does not become writing, a part not the
 * whole. */
TEST(attack_lent) {
    u32 page = page_alloc(4);
    struct cap lent = {.type = CAP_PAGE, .rights = RIGHT_READ, .name = page + 1, .count = 2};
    struct peer other = bare_env(16, 0);

    OK(sys_cap_derive(0, &lent));
    OK(sys_page_give(0, page, 4, &other.cap)); /* now it is another's, and only lent */
    u64 va = address(4);
    EQUAL(update(UPDATE_MAP, 0, va, page + 1, 2, 0, &lent), 0);
    EQUAL(update(UPDATE_MAP, 0, va + 2 * RT_PAGE, page, 1, 0, &lent), E_BAD_CAPABILITY);
    EQUAL(update(UPDATE_MAP, 0, va + 2 * RT_PAGE, page + 2, 2, 0, &lent), E_BAD_CAPABILITY);
    EQUAL(update(UPDATE_MAP, 0, va + 2 * RT_PAGE, page + 1, 1, MAP_WRITE, &lent), E_NO_RIGHT);
    EQUAL(update(UPDATE_PROTECT, 0, va, 0, 2, MAP_WRITE, 0), E_NO_RIGHT);
    EQUAL(sys_page_free(&lent, page + 1, 1), E_NO_RIGHT);
    EQUAL(sys_page_give(&lent, page + 1, 1, 0), E_NO_RIGHT);
    EQUAL(sys_page_revoke(&lent, page + 1, 1), E_NO_RIGHT);
    EQUAL(try_write(va), 14);
    end_peer(&other);
    memory_unmap((void *)va, 2);
}

/* Whoever takes all the slices that it may, and never gives one back in time, leaves the victim its
 * own. */
TEST(attack_starve, .seconds = 30) {
    start_victim();
    u64 rounds = down->word[1];
    rt_on_slice_end(NULL);
    while (sys_slice_alloc(0, 0, PAGE_ANY) >= 0)
        ;
    rt_context(0)->end = 0;
    u64 begin = rt_tsc();
    while (rt_tsc() - begin < milliseconds(600))
        for (u32 i = 0; i < 100; i++)
            sys_wake(victim.env);
    CHECK(down->word[1] > rounds + 2);
    end_victim();
}

ROLE(taker) {
    u64 got = 0;

    while (sys_page_alloc(0, PAGE_ANY, 1, 0, 0) >= 0)
        got++;
    up->word[9] = got;
    up->word[8] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

/* Whoever takes all the memory that it may leaves what was promised to others. */
TEST(attack_memory) {
    struct peer taker;

    start_victim();
    start_peer(&taker, "taker", 0);
    wait_for(&down->word[8], 1);
    CHECK(down->word[9] <= 512);
    OK(sys_page_free(0, page_alloc(100), 100));
    end_peer(&taker);
    end_victim();
}

static void refuse(u32 caller, u32 kind, struct rt_message *m) {
    up->word[10]++;
    up->word[11] = caller;
    up->word[12] = kind;
    m->rdi = 1;
}
ROLE(service) {
    rt_on_transfer(refuse);
    up->word[0] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
ROLE(impostor) {
    struct rt_message m = {.rdi = 7};

    wait_for(&up->word[13], 1);
    for (u64 high = 0; high < 4; high++) { /* bits beside the kind name nobody else */
        struct raw r = {.rax =
                            up->word[13] << 32 | high << 16 | TRANSFER_CALL << 8 | CALL_TRANSFER};
        raw_call(&r);
        CHECK(r.rax == 0 && up->word[11] == rt_self());
    }
    EQUAL(rt_transfer((u32)up->word[13], TRANSFER_CALL, &m), 0);
    up->word[14] = rt_self();
    sys_sleep(NEVER, 0, 0);
}

/* Nobody calls in another's name, or answers for it. */
TEST(attack_impersonate) {
    struct peer service, impostor;
    struct rt_message m = {0};

    start_peer(&service, "service", 0);
    wait_for(&down->word[0], 1);
    start_peer(&impostor, "impostor", 0);
    down->word[13] = service.env;
    wait_for(&down->word[14], 1);
    EQUAL(down->word[11], impostor.env);
    EQUAL(rt_transfer(service.env, TRANSFER_CALL, &m), 0);
    EQUAL(down->word[11], rt_self());
    EQUAL(rt_transfer(service.env, TRANSFER_REPLY, &m), E_BAD_ARGUMENT);
    end_peer(&impostor);
    end_peer(&service);
}

static void late(struct frame *f) {
    struct rt_message m = {0};

    (void)f;
    up->word[2] = (u64)rt_transfer((u32)up->word[1], TRANSFER_GIVE, &m);
    up->word[3]++;
}
ROLE(late_giver) {
    rt_on_slice_end(late);
    for (;;)
        ;
}

/* The end of a slice cannot be passed on: who is called then is not charged for its caller. */
TEST(attack_late_gift, .seconds = 30) {
    struct peer service, giver;

    start_peer(&service, "service", 0);
    wait_for(&down->word[0], 1);
    down->word[1] = service.env;
    start_peer(&giver, "late_giver", 0);
    u64 end = rt_tsc() + milliseconds(300);
    while (rt_tsc() < end) {
        for (u64 busy = rt_tsc() + milliseconds(2); rt_tsc() < busy;)
            ;
        pause_for(1);
    }
    CHECK(down->word[3] > 0 && down->word[10] > 0);
    EQUAL(machine_env(service.env)->state, ENV_LIVE);
    CHECK(machine_env(service.env)->context[0].overruns < 20);
    machine_forget();
    end_peer(&giver);
    end_peer(&service);
}

/* ---- starving by long calls */
#define ENDS 32 /* ends of slices that are looked at */
#define LATE 8  /* slices; less than one unless the host has other things to do */

static volatile u64 ends, ends_in_time;
static void note_end(struct frame *f) {
    (void)f;
    ends++;
    ends_in_time += rt_tsc() - rt_context(0)->slice_end <= LATE * machine_slices(0)->length;
}

ROLE(waiting_victim) {
    for (;;) {
        up->word[0]++;
        sys_yield();
    }
}

/* Batches as long as they may be, without end: the slice ends in time, however it comes to lie in a call.
 * A call that was as long as 256 times 512 pages would make every end late; a host that stops the machine makes only some so. */
TEST(greedy_batcher, .seconds = 30) {
    static struct update u[UPDATES_A_CALL];
    u32 page = page_alloc(PAGES_A_CALL);
    u64 va = address(PAGES_A_CALL);

    start_peer(&victim, "waiting_victim", 0);
    wait_for(&down->word[0], 1);
    machine_slices(0);
    rt_on_slice_end(note_end);
    while (ends < ENDS) {
        for (u32 i = 0; i < UPDATES_A_CALL; i++)
            u[i] = (struct update){.op = i % 2 ? UPDATE_UNMAP : UPDATE_MAP,
                                   .va = va,
                                   .page = i % 2 ? 0 : page,
                                   .count = PAGES_A_CALL};
        EQUAL(sys_space_update(0, u, UPDATES_A_CALL), UPDATES_A_CALL - UPDATE_PAGES / PAGES_A_CALL);
    }
    rt_on_slice_end(NULL);
    if (ends_in_time < ENDS / 4)
        FAIL("%lu of %lu ends of slices were in time", ends_in_time, ends);
    CHECK(down->word[0] > ENDS / 2);
    end_peer(&victim);
}

/* Takes slices wherever it can, by itself and by children. word 0: done, 1: how many elsewhere than on CPU 0 */
ROLE(spreader) {
    struct env_spec spec = {.name = "spread", .page_limit = 4, .slice_limit = 2, .cpus = 3};
    u32 pages = page_alloc(2);
    struct cap child;

    EQUAL(sys_env_create(pages, pages + 1, &spec, &child), E_LIMIT);
    spec.cpus = ~0ull;
    EQUAL(sys_env_create(pages, pages + 1, &spec, &child), E_LIMIT);
    spec.cpus = 0;
    OK(sys_env_create(pages, pages + 1, &spec, &child));
    for (u32 cpu = 1; cpu < machine_info()->cpus; cpu++)
        for (u32 slot = 0; slot < SLOTS; slot++) {
            up->word[1] += sys_slice_alloc(0, cpu, slot) >= 0;
            up->word[1] += sys_slice_alloc(&child, cpu, slot) >= 0;
        }
    OK(rt_destroy(&child));
    up->word[0] = 1;
    sys_sleep(NEVER, 0, 0);
}

/* One that was given CPU 0 takes nothing of the turns on the others. */
TEST(attack_spreads, .cpus = 2) {
    struct spawn_slices slices = {0, 2};
    struct peer p;

    peer_cpus = 1;
    run_peer(&p, "spreader", &slices, 1, 512, 8);
    wait_for(&down->word[0], 1);
    EQUAL(down->word[1], 0);
    end_peer(&p);
}

/* ---- multiplying */
ROLE(bomb) {
    struct spawn_slices slices = {0, 1};
    struct peer p;

    for (;;) { /* until it has nothing left to give, and fails */
        run_peer(&p, "bomb", &slices, 1, self()->page_limit / 3, self()->slice_limit / 3);
        sys_yield();
    }
}

/* Whoever multiplies without end is ended to the last by the one who started it, while it goes on; nothing is left of it, and
 * all that was lent comes back. */
TEST(attack_multiplies, .seconds = 60) {
    struct spawn_slices own = {0, 2};
    struct peer p;

    for (u32 round = 0; round < 2; round++) { /* the first maps what looking needs */
        u32 free = free_pages(), pages = self()->page_limit, slices = self()->slice_limit, owned = 0;
        run_peer(&p, "bomb", &own, 1, 3000, 20);
        for (u32 i = 0; i < 200 && machine_env(p.env)->children < 2; i++)
            pause_for(5);
        machine_forget();
        OK(rt_destroy(&p.cap));
        end_children(0);
        EQUAL(self()->children, 0);
        EQUAL(self()->page_limit, pages);
        EQUAL(self()->slice_limit, slices);
        if (round)
            EQUAL(free_pages(), free);
        for (u32 i = 0; i < SLOTS; i++)
            owned += machine_slices(0)->slot[i].owner && machine_slices(0)->slot[i].owner != rt_self() &&
                     machine_slices(0)->slot[i].owner != self()->creator;
        EQUAL(owned, 0);
    }
}
