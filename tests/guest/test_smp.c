/* Several contexts of one environment on several CPUs. */
#include "guest.h"

static struct {
    volatile u64 *at;
    volatile u64 reads, faults, stop, address;
} shared_state;
static struct context *other;
void thread_exception(struct frame *frame);
void thread_exception_entry(
    void); /* stubs.S: thread_exception on a stack of its own, then sleeps for ever */

void thread_exception(struct frame *frame) {
    shared_state.address = frame->address;
    shared_state.faults++;
}

static void read_for_ever(u64 unused) {
    (void)unused;
    while (!shared_state.stop) {
        (void)*shared_state.at;
        shared_state.reads++;
    }
}

/* Both CPUs run this environment, each in its context. */
TEST(smp_contexts, .cpus = 2) {
    u64 word = 0;

    shared_state.at = &word;
    struct context *c = start_thread(1, read_for_ever, 0);
    wait_for((u64 *)&shared_state.reads, 1000);
    EQUAL(c->env, rt_self());
    EQUAL(c->cpu, 1);
    EQUAL(self()->context[1].state, CONTEXT_READY);
    EQUAL(machine_slices(1)->running, rt_self());
    shared_state.stop = 1;
    for (u32 i = 0; i < 1000 && self()->context[1].state != CONTEXT_SLEEPING; i++)
        pause_for(5); /* a busy host stops CPUs at random */
    EQUAL(self()->context[1].state, CONTEXT_SLEEPING);
}

/* What one CPU unmaps no other can reach when the call has returned. */
TEST(smp_shootdown, .cpus = 2) {
    u32 page = page_alloc(1);
    u64 va = mapped(page, 1, MAP_WRITE);

    shared_state.at = (u64 *)va;
    other = start_thread(1, read_for_ever, 0);
    other->exception = (u64)thread_exception_entry;
    wait_for((u64 *)&shared_state.reads, 1000);
    u64 before = machine_trace(0)->shootdowns;
    EQUAL(update(UPDATE_UNMAP, 0, va, 0, 1, 0, 0), 0);
    u64 reads = shared_state.reads;
    EQUAL(sys_page_free(0, page, 1), 0);
    wait_for((u64 *)&shared_state.faults, 1);
    CHECK(shared_state.reads <= reads + 1);
    EQUAL(shared_state.address, va);
    CHECK(machine_trace(0)->shootdowns > before);
}

static void write_for_ever(u64 unused) {
    (void)unused;
    for (;;) {
        *shared_state.at = 1;
        shared_state.reads++;
    }
}

/* The same when a mapping becomes read-only. */
TEST(smp_protect, .cpus = 2) {
    u64 va = mapped(page_alloc(1), 1, MAP_WRITE);

    shared_state.at = (u64 *)va;
    other = start_thread(1, write_for_ever, 0);
    other->exception = (u64)thread_exception_entry;
    wait_for((u64 *)&shared_state.reads, 1000);
    EQUAL(update(UPDATE_PROTECT, 0, va, 0, 1, 0, 0), 0);
    u64 reads = shared_state.reads;
    wait_for((u64 *)&shared_state.faults, 1);
    CHECK(shared_state.reads <= reads + 1);
}

/* Nor when one of several elements makes it read-only. */
TEST(smp_protect_batch, .cpus = 2) {
    u64 va = mapped(page_alloc(2), 2, MAP_WRITE);
    struct update u[2] = {{.op = UPDATE_PROTECT, .va = va + RT_PAGE, .count = 1},
                          {.op = UPDATE_PROTECT, .va = va, .count = 2}};

    shared_state.at = (u64 *)va;
    other = start_thread(1, write_for_ever, 0);
    other->exception = (u64)thread_exception_entry;
    wait_for((u64 *)&shared_state.reads, 1000);
    EQUAL(sys_space_update(0, u, 2), 0);
    u64 reads = shared_state.reads;
    wait_for((u64 *)&shared_state.faults, 1);
    CHECK(shared_state.reads <= reads + 1);
}

static void update_for_ever(u64 argument) {
    u64 va = argument;
    u32 page = (u32) * (u64 *)(va + RT_PAGE);

    while (!shared_state.stop) {
        struct update u = {.op = UPDATE_MAP, .va = va, .page = page, .count = 1};
        sys_space_update(0, &u, 1);
        u.op = UPDATE_UNMAP;
        u.page = 0;
        sys_space_update(0, &u, 1);
        shared_state.reads++;
    }
}

/* Two CPUs that change one space at once, and shoot at each other, both go on. */
TEST(smp_crossfire, .cpus = 2, .seconds = 60) {
    u64 va[2] = {address(2), address(2)};
    u32 page = page_alloc(1);

    for (u32 i = 0; i < 2; i++) {
        OK(memory_map_at(va[i] + RT_PAGE, page_alloc(1), 1, MAP_WRITE, 0));
        *(u64 *)(va[i] + RT_PAGE) = page;
    }
    start_thread(1, update_for_ever, va[1]);
    wait_for((u64 *)&shared_state.reads, 1);
    u64 end = rt_tsc() + milliseconds(10000); /* on a busy host the other CPU may be a while */
    for (u32 i = 0; i < 200 || (shared_state.reads <= 10 && rt_tsc() < end); i++) {
        OK(update(UPDATE_MAP, 0, va[0], page, 1, 0, 0));
        OK(update(UPDATE_UNMAP, 0, va[0], 0, 1, 0, 0));
    }
    CHECK(shared_state.reads > 10);
    shared_state.stop = 1;
    pause_for(20);
    EQUAL(bindings_of(page), 0);
}

/* Says who it is, waits for the other, and destroys it. */
ROLE(mutual) {
    struct cap mine = {
        .type = CAP_ENV, .rights = RIGHT_OWN | RIGHT_MANAGE, .name = rt_self(), .count = 1};

    OK(sys_cap_derive(0, &mine));
    up->cap[__atomic_fetch_add(&up->word[0], 1, __ATOMIC_SEQ_CST)] = mine;
    __atomic_fetch_add(&up->word[1], 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&up->word[1], __ATOMIC_SEQ_CST) < 2)
        ;
    for (u32 i = 0; i < 2; i++)
        if (up->cap[i].name != rt_self())
            while (sys_env_destroy(&up->cap[i]) == E_AGAIN)
                ;
    sys_sleep(NEVER, 0, 0);
}

/* Two that destroy each other at the same time do not stop the machine. */
TEST(smp_destroy_each_other, .cpus = 4) {
    for (u32 round = 0; round < 4; round++) {
        struct peer p[2];
        memset(down->word, 0, sizeof down->word);
        start_peer(&p[0], "mutual", 2);
        start_peer(&p[1], "mutual", 3);
        wait_for(&down->word[1], 2);
        pause_for(10);
        for (u32 i = 0; i < 2; i++) {
            s64 error = rt_destroy(&p[i].cap);
            CHECK(!error || error == E_BAD_CAPABILITY || error == E_DEAD);
        }
    }
}

/* Makes environments and destroys some of them, as fast as it can. */
ROLE(breeder) {
    for (u64 n = 0;; n++) {
        struct env_spec spec = {.name = "bred", .page_limit = 4};
        struct cap cap;
        s64 page = sys_page_alloc(0, PAGE_ANY, 2, 1, 0);
        if (page >= 0 && sys_env_create((u32)page, (u32)page + 1, &spec, &cap) < 0)
            sys_page_free(0, (u32)page, 2);
        else if (page >= 0 && n % 3)
            rt_destroy(&cap);
        if (page < 0 || self()->children > 20)
            end_children(0);
        up->word[0]++;
    }
}

static struct cap raced[3];
static u64 helping;
static void destroy_too(u64 unused) {
    (void)unused;
    for (u32 i = 0; i < 3; i++)
        rt_destroy(&raced[i]);
    __atomic_store_n(&helping, 2, __ATOMIC_SEQ_CST);
}

/* Creators are destroyed from two CPUs while they make and destroy children on two others: each child has a creator that lives in
 * the end, and no page and no limit is lost. */
TEST(smp_orphans, .cpus = 4, .seconds = 60) {
    u32 pages = self()->page_limit, slices = self()->slice_limit;

    end_children(0); /* maps what looking needs */
    for (u32 round = 0; round < 3; round++) {
        struct peer p[3];
        down->word[0] = 0;
        for (u32 i = 0; i < 3; i++) {
            start_peer(&p[i], "breeder", 1 + i);
            raced[i] = p[i].cap;
        }
        wait_for(&down->word[0], 100);
        helping = 1;
        if (!round) {
            start_thread(1, destroy_too, 0);
            for (u64 end = rt_tsc() + milliseconds(20); rt_tsc() < end;)
                ;
        }
        for (u32 i = 0; i < 3; i++) {
            s64 error = rt_destroy(&p[i].cap);
            CHECK(!error || error == E_BAD_CAPABILITY || error == E_DEAD);
        }
        while (!round && __atomic_load_n(&helping, __ATOMIC_SEQ_CST) < 2)
            pause_for(1);
        end_children(0);
        EQUAL(self()->children, 0);
        EQUAL(self()->page_limit, pages);
        EQUAL(self()->slice_limit, slices);
    }
}

/* Environments on different CPUs that allocate have nothing in common, not even a cache line of the free map. */
#define APART 24
#define LINE 512 /* pages whose bits are in one */
ROLE(allocates_apart) {
    u64 *mine = &up->order[rt_first->cpu * APART];

    for (u32 i = 0; i < APART; i++) {
        mine[i] = (u64)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, 0));
        __atomic_fetch_add(&up->word[rt_first->cpu], 1, __ATOMIC_SEQ_CST);
        wait_for(&up->word[1 - rt_first->cpu], i + 1); /* at the same time */
    }
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
TEST(smp_apart, .cpus = 2) {
    struct peer p[2];

    start_peer(&p[0], "allocates_apart", 0);
    start_peer(&p[1], "allocates_apart", 1);
    wait_for(&down->word[0], APART);
    wait_for(&down->word[1], APART);
    for (u32 i = 0; i < APART; i++)
        for (u32 k = 0; k < APART; k++)
            if (down->order[i] / LINE == down->order[APART + k] / LINE)
                FAIL("pages %lx and %lx", down->order[i], down->order[APART + k]);
    CHECK(page_of((u32)down->order[0])->generation != page_of((u32)down->order[APART])->generation);
    end_peer(&p[0]);
    end_peer(&p[1]);
}
