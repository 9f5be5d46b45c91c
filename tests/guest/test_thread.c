/* Threads: libos/lib/thread on one CPU and on several. */
#include "guest.h"
#include "thread/thread.h"

#define MANY 24

static struct mutex mutex;
static struct condition_variable changed;
static u64 sum, turns;

static u64 add(u64 n) {
    for (u64 i = 0; i < n; i++) {
        mutex_lock(&mutex);
        u64 before = sum;
        if (i % 8 == 0)
            thread_yield();
        sum = before + 1;
        mutex_unlock(&mutex);
    }
    return n * 2;
}

static u64 all_add(u64 n) {
    struct thread *t[MANY];

    for (u64 i = 0; i < MANY; i++)
        CHECK(t[i] = thread_create(add, n + i));
    for (u64 i = 0; i < MANY; i++)
        EQUAL(thread_join(t[i]), (n + i) * 2);
    EQUAL(sum, MANY * n + MANY * (MANY - 1) / 2);
    return 7;
}

/* Threads that take turns at a mutex lose nothing, and what they return arrives. */
TEST(thread_mutex) { EQUAL(thread_run(all_add, 200), 7); }

static u64 add_on_all(u64 n) {
    for (u32 cpu = 1; cpu < 4; cpu++)
        OK(thread_add_cpu(cpu, 4));
    return all_add(n);
}
/* The same on four CPUs, with slices that end. */
TEST(thread_mutex_smp, .cpus = 4, .seconds = 30) { EQUAL(thread_run(add_on_all, 1500), 7); }

/* A bounded buffer between producers and consumers. */
static struct { u64 item[4], filled; struct condition_variable room, there; } buffer;
static u64 produce(u64 n) {
    for (u64 i = 1; i <= n; i++) {
        mutex_lock(&mutex);
        while (buffer.filled == ARRAY_SIZE(buffer.item))
            condition_wait(&buffer.room, &mutex);
        buffer.item[buffer.filled++] = i;
        condition_signal(&buffer.there);
        mutex_unlock(&mutex);
    }
    return 0;
}
static u64 consume(u64 n) {
    u64 got = 0;

    while (n--) {
        mutex_lock(&mutex);
        while (!buffer.filled)
            condition_wait(&buffer.there, &mutex);
        got += buffer.item[--buffer.filled];
        condition_signal(&buffer.room);
        mutex_unlock(&mutex);
    }
    return got;
}
static u64 trade(u64 n) {
    struct thread *t[6];
    u64 got = 0;

    for (u32 i = 0; i < 6; i++)
        CHECK(t[i] = thread_create(i < 3 ? produce : consume, n));
    for (u32 i = 0; i < 6; i++)
        got += thread_join(t[i]);
    EQUAL(got, 3 * n * (n + 1) / 2);
    return 0;
}
TEST(thread_condition) { EQUAL(thread_run(trade, 500), 0); }
static u64 trade_on_all(u64 n) {
    for (u32 cpu = 1; cpu < 4; cpu++)
        OK(thread_add_cpu(cpu, 4));
    return trade(n);
}
TEST(thread_condition_smp, .cpus = 4, .seconds = 30) { EQUAL(thread_run(trade_on_all, 1500), 0); }

static bool go;
static u64 wait_for_go(u64 unused) {
    (void)unused;
    mutex_lock(&mutex);
    while (!go)
        condition_wait(&changed, &mutex);
    turns++;
    mutex_unlock(&mutex);
    return 0;
}
static u64 compute(u64 n) {
    u64 x = 0;

    for (u64 i = 0; i < n; i++) {
        x += i * i;
        if (i % 64 == 0)
            thread_yield();
    }
    return x;
}

/* While some wait for a condition, for a time, and for a thread, the CPU that they share goes on with another. */
static u64 blocked(u64 unused) {
    struct thread *t[4];
    u64 begin = rt_tsc();

    for (u32 i = 0; i < 4; i++)
        CHECK(t[i] = thread_create(wait_for_go, 0));
    struct thread *worker = thread_create(compute, 20000);
    CHECK(thread_join(worker));
    EQUAL(turns, 0);
    thread_sleep(rt_tsc() + milliseconds(5));
    CHECK(rt_tsc() - begin >= milliseconds(5));
    mutex_lock(&mutex);
    go = true;
    condition_broadcast(&changed);
    mutex_unlock(&mutex);
    for (u32 i = 0; i < 4; i++)
        thread_join(t[i]);
    EQUAL(turns, 4);
    return unused;
}
TEST(thread_blocked) { EQUAL(thread_run(blocked, 3), 3); }

static s64 key;
static u64 keep(u64 mine) {
    EQUAL(thread_self()->local[key], 0);
    thread_self()->local[key] = mine;
    for (u32 i = 0; i < 20; i++) {
        thread_yield();
        EQUAL(thread_self()->local[key], mine);
    }
    return mine;
}
static u64 keep_all(u64 unused) {
    struct thread *t[8];

    key = OK(thread_key());
    for (u64 i = 0; i < 8; i++)
        t[i] = thread_create(keep, i + 1);
    for (u64 i = 0; i < 8; i++)
        EQUAL(thread_join(t[i]), i + 1);
    return unused;
}
/* Each thread has words of its own, which begin as 0 also where another's were. */
TEST(thread_local_words) {
    EQUAL(thread_run(keep_all, 0), 0);
}

/* Registers survive the end of a slice, wherever the thread goes on. */
static u64 registers(u64 seed) {
    u64 wrong = 0;

    for (u64 end = rt_tsc() + milliseconds(60); rt_tsc() < end;) {
        u64 a = seed, b = seed + 1, c = seed + 2, d = seed + 3, n = 20000;
        __asm__ volatile("1: leaq (%0, %1), %%r8; subq %1, %%r8; cmpq %0, %%r8; jne 2f;"
                         "   pushfq; popq %%r9; stc; movq $0, %%r10; adcq $0, %%r10; cmpq $1, %%r10; jne 2f;"
                         "   decq %4; jnz 1b; jmp 3f; 2: movq $1, %5; 3:"
                         : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(n), "+r"(wrong)
                         : : "r8", "r9", "r10", "cc", "memory");
        wrong += a != seed || b != seed + 1 || c != seed + 2 || d != seed + 3;
    }
    return wrong;
}
static u64 preempted(u64 cpus) {
    struct thread *t[6];
    struct peer p;

    for (u32 cpu = 1; cpu < cpus; cpu++)
        OK(thread_add_cpu(cpu, 2));
    start_peer(&p, "thread_rival", 0);
    wait_for(&down->word[20], 1);
    u64 before = down->word[20];
    for (u64 i = 0; i < 6; i++)
        t[i] = thread_create(registers, i << 32);
    for (u64 i = 0; i < 6; i++)
        EQUAL(thread_join(t[i]), 0);
    CHECK(down->word[20] > before);
    end_peer(&p);
    return 0;
}
ROLE(thread_rival) {
    for (;;)
        __atomic_fetch_add(&up->word[20], 1, __ATOMIC_SEQ_CST);
}
TEST(thread_preempted) { EQUAL(thread_run(preempted, 1), 0); }
TEST(thread_preempted_smp, .cpus = 4) { EQUAL(thread_run(preempted, 4), 0); }

/* The page under a stack is not mapped: who needs more than there is does not get another's. */
static u64 deep(u64 n) {
    volatile char room[2048];

    room[0] = (char)n;
    return n ? deep(n - 1) + (u64)room[0] : 0;
}
static u64 too_deep(u64 unused) {
    return thread_join(thread_create(deep, 100)) + unused;
}
TEST(thread_stack_overflow, .ends = END_FAULT) { thread_run(too_deep, 0); }

/* What the goals say, in instructions: only when the TSC counts those (`icount=1` on the command line). */
static u64 nothing_to_do(u64 n) { return n; }
static u64 yields(u64 n) {
    for (; n; n -= 8) {
        thread_yield(), thread_yield(), thread_yield(), thread_yield();
        thread_yield(), thread_yield(), thread_yield(), thread_yield();
    }
    return 0;
}
static u64 costs(u64 n) {
    bool counted = number_argument("icount", 0);

    thread_join(thread_create(nothing_to_do, 0));
    u64 begin = rt_tsc();
    for (u64 i = 0; i < n; i++)
        thread_join(thread_create(nothing_to_do, i));
    u64 made = (rt_tsc() - begin) / n;
    struct thread *other = thread_create(yields, n);
    begin = rt_tsc();
    yields(n);
    u64 yielded = (rt_tsc() - begin) / (2 * n);
    thread_join(other);
    if (counted)
        print("count: thread create and join %lu, yield %lu\n", made, yielded);
    CHECK(!counted || (made <= 1500 && yielded <= 60));
    return 0;
}
TEST(thread_cost, .needs = NEED_CONSOLE) {
    struct cap console = item("console");

    print_to(&console);
    EQUAL(thread_run(costs, 200), 0);
}
