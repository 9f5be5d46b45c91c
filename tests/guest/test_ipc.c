/* Pipes, shared counters, lrpc and tlrpc: libos/lib/ipc. */
#include "guest.h"
#include "ipc/ipc.h"

/* The pipes lie in a page that both map, after the one that tests share. */
struct both { struct pipe there, back; u64 counter; };
_Static_assert(sizeof(struct both) <= 2 * RT_PAGE, "two pages");

/* Two pages for both, handed over as a capability in the shared page. */
static struct both *make_both(void) {
    u32 page = page_alloc(2);
    struct cap cap = {.type = CAP_PAGE, .rights = RIGHT_READ | RIGHT_WRITE, .name = page, .count = 2};

    OK(sys_cap_derive(0, &cap));
    down->cap[0] = cap;
    down->word[0] = rt_self();
    return (struct both *)mapped(page, 2, MAP_WRITE);
}
static struct both *find_both(void) {
    struct both *b = memory_map(up->cap[0].name, 2, MAP_WRITE, &up->cap[0]);

    CHECK(b);
    return b;
}
static void ready(void) {
    up->word[1] = 1;
}

/* ---- pipes */
ROLE(pipe_echo) {
    struct both *b = find_both();
    u32 other = (u32)up->word[0];

    OK(ipc_accept(0, NULL));
    ready();
    for (u64 word;;) {
        EQUAL(pipe_read(&b->there, other, &word, sizeof word), sizeof word);
        EQUAL(pipe_write(&b->back, other, &word, sizeof word), sizeof word);
    }
}
TEST(ipc_pipe) {
    struct both *b = make_both();
    struct peer p;

    OK(ipc_accept(0, NULL));
    start_peer(&p, "pipe_echo", 0);
    wait_for(&down->word[1], 1);
    for (u64 i = 0, got; i < 2000; i++) {
        EQUAL(pipe_put(&b->there, i * 3, p.env), 0);
        EQUAL(pipe_get(&b->back, &got, p.env), 0);
        EQUAL(got, i * 3);
    }
    EQUAL(pipe_write(&b->there, p.env, b, 7), E_BAD_ARGUMENT);
    end_peer(&p);
}

/* More than the pipe holds: the writer gives when it is full, the reader when it is empty. */
ROLE(pipe_sink) {
    struct both *b = find_both();
    u64 word = 0;

    OK(ipc_accept(0, NULL));
    ready();
    for (u64 i = 0;; i++) {
        EQUAL(pipe_get(&b->there, &word, (u32)up->word[0]), 0);
        EQUAL(word, i);
        up->word[2] = i + 1;
    }
}
TEST(ipc_pipe_full) {
    struct both *b = make_both();
    struct peer p;

    OK(ipc_accept(0, NULL));
    start_peer(&p, "pipe_sink", 0);
    wait_for(&down->word[1], 1);
    for (u64 i = 0; i < 20 * PIPE_WORDS; i++)
        EQUAL(pipe_put(&b->there, i, p.env), 0);
    wait_for(&down->word[2], 20 * PIPE_WORDS);
    end_peer(&p);
}

/* When the other end is gone, so is the wait for it. */
TEST(ipc_pipe_dead) {
    struct both *b = make_both();
    struct peer p;
    u64 word;

    OK(ipc_accept(0, NULL));
    start_peer(&p, "pipe_echo", 0);
    wait_for(&down->word[1], 1);
    end_peer(&p);
    EQUAL(pipe_get(&b->back, &word, p.env), E_DEAD);
    for (u32 i = 0; i < PIPE_WORDS; i++)
        EQUAL(pipe_put(&b->there, i, p.env), 0);
    EQUAL(pipe_put(&b->there, 0, p.env), E_DEAD);
}

/* ---- a shared counter */
ROLE(counter_odd) {
    struct both *b = find_both();
    u32 other = (u32)up->word[0];

    OK(ipc_accept(0, NULL));
    ready();
    for (u64 turn = 1; !ipc_await(&b->counter, turn, other); turn += 2)
        __atomic_store_n(&b->counter, turn + 1, __ATOMIC_RELEASE);
    FAIL("the other is gone");
}
static void count(struct both *b, u64 rounds, u32 other) {
    for (u64 turn = b->counter, last = turn + 2 * rounds; turn != last; turn += 2) {
        __atomic_store_n(&b->counter, turn + 1, __ATOMIC_RELEASE);
        if (ipc_await(&b->counter, turn + 2, other))
            FAIL("the other is gone");
    }
}
TEST(ipc_counter) {
    struct both *b = make_both();
    struct peer p;

    OK(ipc_accept(0, NULL));
    start_peer(&p, "counter_odd", 0);
    wait_for(&down->word[1], 1);
    count(b, 5000, p.env);
    EQUAL(b->counter, 10000);
    EQUAL(rt_context(0)->depth, 0);
    end_peer(&p);
}

/* ---- calls */
static u64 called;
static u64 answer(u64 a, u64 b, u64 c, u64 d, u32 caller) {
    (void)c, (void)d;
    up->word[3] = caller;
    return ++called * 1000000 + a * 1000 + b;
}
ROLE(callee) {
    OK(ipc_accept(0, answer));
    ready();
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
TEST(ipc_calls) {
    struct peer p;
    u64 got;

    down->word[0] = rt_self();
    start_peer(&p, "callee", 0);
    wait_for(&down->word[1], 1);
    for (u64 i = 1; i < 200; i++) {
        EQUAL(ipc_lrpc(p.env, i, 5, &got), 0);
        EQUAL(got, (2 * i - 1) * 1000000 + i * 1000 + 5);
        EQUAL(ipc_tlrpc(p.env, i, 6, &got), 0);
        EQUAL(got, 2 * i * 1000000 + i * 1000 + 6);
    }
    EQUAL(down->word[3], rt_self());
    end_peer(&p);
    EQUAL(ipc_lrpc(p.env, 1, 1, &got), E_DEAD);
    EQUAL(ipc_tlrpc(p.env, 1, 1, &got), E_DEAD);
}

/* One that is only given slices answers calls with an error. */
TEST(ipc_not_called) {
    struct both *b = make_both();
    struct peer p;
    u64 got;

    start_peer(&p, "pipe_sink", 0);
    wait_for(&down->word[1], 1);
    EQUAL(ipc_lrpc(p.env, 1, 1, &got), 0);
    EQUAL(got, E_BUSY);
    CHECK(b);
    end_peer(&p);
}

/* ---- the goals, in instructions: only when the TSC counts those (`icount=1` on the command line) */
#define ROUNDS 1000
static u64 pipes(struct both *b, u32 other, bool inlined) {
    u64 begin = rt_tsc();

    for (u64 i = 0, got = 0; i < ROUNDS; i++)
        if (inlined) {
            pipe_put(&b->there, i, other);
            pipe_get(&b->back, &got, other);
        } else {
            pipe_write(&b->there, other, &i, sizeof i);
            pipe_read(&b->back, other, &got, sizeof got);
        }
    return (rt_tsc() - begin) / (2 * ROUNDS);
}
ROLE(pipe_inlined_echo) {
    struct both *b = find_both();
    u32 other = (u32)up->word[0];

    OK(ipc_accept(0, NULL));
    ready();
    for (u64 word = 0;;) {
        pipe_get(&b->there, &word, other);
        pipe_put(&b->back, word, other);
    }
}
static u64 cost_of(const char *role) {
    struct both *b = make_both();
    struct peer p;
    u64 got = 0, begin, cost = 0;

    down->word[1] = 0;
    start_peer(&p, role, 0);
    wait_for(&down->word[1], 1);
    if (!strcmp(role, "pipe_echo") || !strcmp(role, "pipe_inlined_echo"))
        cost = pipes(b, p.env, role[5] == 'i');
    if (!strcmp(role, "counter_odd")) {
        count(b, 10, p.env);
        begin = rt_tsc();
        count(b, ROUNDS, p.env);
        cost = (rt_tsc() - begin) / (2 * ROUNDS);
    }
    if (!strcmp(role, "callee")) {
        ipc_lrpc(p.env, 1, 1, &got);
        begin = rt_tsc();
        for (u64 i = 0; i < ROUNDS; i++)
            ipc_lrpc(p.env, 1, 1, &got);
        cost = (rt_tsc() - begin) / ROUNDS << 32;
        begin = rt_tsc();
        for (u64 i = 0; i < ROUNDS; i++)
            ipc_tlrpc(p.env, 1, 1, &got);
        cost |= (rt_tsc() - begin) / ROUNDS;
    }
    end_peer(&p);
    return cost;
}
TEST(ipc_cost, .needs = NEED_CONSOLE) {
    struct cap console = item("console");
    bool counted = number_argument("icount", 0);

    OK(ipc_accept(0, NULL));
    u64 pipe = cost_of("pipe_echo"), inlined = cost_of("pipe_inlined_echo"), shm = cost_of("counter_odd");
    u64 calls = cost_of("callee");
    print_to(&console);
    if (counted)
        print("count: pipe %lu, inlined %lu, shm %lu, lrpc %lu, tlrpc %lu\n", pipe, inlined, shm, calls >> 32, (u64)(u32)calls);
    CHECK(!counted || (pipe <= 300 && inlined <= 300 && shm <= 120 && calls >> 32 <= 250 && (u32)calls <= 180));
}
