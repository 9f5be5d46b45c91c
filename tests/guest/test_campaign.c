/* The fast and the slow way of control transfer against each other, and races of transfer with all that
 * ends or moves environments. Both are random, from `seed=N` on the kernel's command line. */
#include "guest.h"

static u64 state;
static u64 draw(u64 below) { /* xorshift64, Marsaglia 2003 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

/* ---- fast against slow. Whoever uses segment bases is transferred to and from by the slow way. */
static void mix(u32 caller, u32 kind, struct rt_message *m) {
    u64 *word = (u64 *)m;

    for (u32 i = 0; i < 12; i++)
        word[i] = word[i] * 0x9e3779b97f4a7c15 + i + caller + kind;
}
static void serve_as(bool slowly) {
    rt_context(0)->bases = slowly;
    rt_on_transfer(mix);
    up->word[slowly] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
ROLE(mixer_fast) { serve_as(false); }
ROLE(mixer_slow) { serve_as(true); }

/* One transfer of a random kind; returns its result, the message has what came back. */
static s64 send(u32 env, u32 kind, const struct rt_message *from, struct rt_message *m) {
    *m = *from;
    return rt_transfer(env, kind, m);
}

TEST(campaign_fast_slow, .seconds = 30) {
    struct peer fast, slow;
    u64 before = machine_trace(0)->transfers, calls = 0;

    state = number_argument("seed", 1) * 2 + 1;
    start_peer(&fast, "mixer_fast", 0);
    start_peer(&slow, "mixer_slow", 0);
    wait_for(&down->word[0], 1);
    wait_for(&down->word[1], 1);
    for (u32 round = 0; round < 2000; round++) {
        struct rt_message from, by_fast, by_slow;
        static const u32 kinds[] = {TRANSFER_CALL, TRANSFER_CALL, TRANSFER_CALL, TRANSFER_GIVE, TRANSFER_REPLY, 3};
        u32 kind = kinds[draw(ARRAY_SIZE(kinds))];
        for (u32 i = 0; i < 12; i++)
            ((u64 *)&from)[i] = draw(NEVER);
        s64 one = send(fast.env, kind, &from, &by_fast), two = send(slow.env, kind, &from, &by_slow);
        EQUAL(one, two);
        if (kind == TRANSFER_CALL)
            CHECK(!memcmp(&by_fast, &by_slow, sizeof by_fast));
        EQUAL(rt_context(0)->depth, 0);
        EQUAL(self()->context[0].state, CONTEXT_READY);
        calls += kind == TRANSFER_CALL;
    }
    CHECK(machine_trace(0)->transfers - before >= 2 * calls); /* the slow ones: call and reply */
    end_peer(&fast);
    end_peer(&slow);
}

/* ---- races */
#define PEERS 4
static void bounce(u32 caller, u32 kind, struct rt_message *m) {
    (void)caller, (void)kind;
    m->rsi = (u64)rt_transfer((u32)m->rdi, TRANSFER_CALL, m);
}
/* Transfers to whoever is named in the shared words, dead or alive, on its own CPU and never at rest. */
ROLE(restless) {
    struct rt_message m = {0};
    u64 mine = __atomic_add_fetch(&up->word[8], 1, __ATOMIC_SEQ_CST);

    state = mine * 0x9e3779b97f4a7c15 + 1;
    rt_on_transfer(bounce);
    for (u64 n = 0;; n++) {
        m.rdi = up->word[16 + draw(PEERS)];
        s64 error = rt_transfer((u32)up->word[16 + draw(PEERS)], (u32)draw(3), &m);
        if (error > 0)
            FAIL("a transfer returned %ld", error);
        if (draw(16) == 0)
            sys_wake((u32)up->word[16 + draw(PEERS)]);
        if (draw(8) == 0)
            sys_sleep(rt_tsc() + draw(milliseconds(1)), &up->word[9], up->word[9]);
        __atomic_fetch_add(&up->word[9], 1, __ATOMIC_SEQ_CST);
    }
}

/* Its slices move from CPU to CPU while it runs. */
static u64 given;
static void migrate(const struct peer *p, u32 cpus) {
    u32 cpu = (u32)draw(cpus);
    bool give = draw(2);
    s64 slot = sys_slice_alloc(give ? NULL : &p->cap, cpu, PAGE_ANY);

    if (slot < 0)
        return;
    if (give && sys_slice_give(cpu, (u32)slot, &p->cap)) {
        EQUAL(sys_slice_free(0, cpu, (u32)slot), 0);
        return;
    }
    given += give;
    if (draw(2))
        sys_slice_free(&p->cap, cpu, (u32)slot);
}

static void start_restless(struct peer *p, u32 i, u32 cpus) {
    struct spawn_slices slices[4] = {{0, 1}, {1, 1}, {2, 1}, {3, 1}};

    run_peer(p, "restless", slices, cpus < 4 ? cpus : 4, 256, 4);
    __atomic_store_n(&down->word[16 + i], p->env, __ATOMIC_SEQ_CST);
}

TEST(campaign_races, .seconds = 60) {
    struct peer p[PEERS];
    u32 cpus = machine_info()->cpus;
    u64 seed = number_argument("seed", 1);

    state = seed * 2 + 1;
    for (u32 i = 0; i < PEERS; i++)
        start_restless(&p[i], i, cpus);
    for (u32 round = 0; round < 60; round++) {
        u32 i = (u32)draw(PEERS);
        migrate(&p[i], cpus);
        if (draw(2))
            pause_for(draw(4));
        if (draw(3) == 0)
            sys_env_stop(&p[i].cap, round);
        if (draw(2)) {
            end_peer(&p[i]);
            start_restless(&p[i], i, cpus);
        }
    }
    if (down->failed)
        FAIL("seed %lu: %s", seed, down->text);
    CHECK(down->word[9] > 0 && given > 0);
    for (u32 i = 0; i < PEERS; i++)
        end_peer(&p[i]);
}

/* ---- nobody delays another by more than the vector says, whatever he does */
ROLE(villain_deaf) { /* never gives back, not even when asked to */
    rt_context(0)->end = 0;
    for (;;)
        __atomic_fetch_add(&up->word[30], 1, __ATOMIC_RELAXED);
}
ROLE(villain_critical) { /* always in a critical section */
    for (;;)
        rt_context(0)->critical = 1;
}
static void stay(struct frame *frame) {
    (void)frame;
    for (;;)
        __atomic_fetch_add(&up->word[33], 1, __ATOMIC_RELAXED);
}
ROLE(villain_storm) { /* wakes everybody all the time, and gives what it has to whoever */
    struct rt_message m = {0};

    rt_on_transfer(bounce);
    for (;;) {
        sys_wake((u32)up->word[31]);
        rt_transfer((u32)up->word[32], TRANSFER_GIVE, &m);
        rt_transfer(rt_self(), TRANSFER_GIVE, &m);
    }
}

ROLE(villain_late) { /* takes the end of each slice for another one */
    rt_on_slice_end(stay);
    for (;;)
        __atomic_fetch_add(&up->word[34], 1, __ATOMIC_RELAXED);
}
ROLE(villain_circle) { /* calls others of its kind, who call others, and gives to them */
    struct rt_message m = {0};

    rt_on_transfer(bounce);
    for (u64 n = 0;; n++) {
        m.rdi = up->word[35 + n % 2];
        rt_transfer((u32)up->word[36 - n % 2], n % 3 ? TRANSFER_CALL : TRANSFER_GIVE, &m);
    }
}
ROLE(villain_dead) { /* transfers to those who are not there, and to itself */
    struct rt_message m = {0};

    for (u64 n = 0;; n++) {
        const u32 nobody[] = {0, rt_self(), (u32)self()->root, 0xffffffff, (u32)up->word[37]};
        if (rt_transfer(nobody[n % ARRAY_SIZE(nobody)], (u32)(n % 3), &m) >= 0)
            FAIL("somebody was there");
    }
}
ROLE(villain_asleep) {
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

/* The slices that began on this CPU, of one owner or of all (0). */
static u64 slices_begun(u32 owner) {
    const volatile struct slices *vector = machine_slices(0);
    u64 sum = 0;

    for (u32 i = 0; i < SLOTS; i++)
        sum += !owner || vector->slot[i].owner == owner ? vector->slot[i].runs : 0;
    return sum;
}

TEST(campaign_delay, .seconds = 40) {
    static const char *const roles[] = {"villain_deaf", "villain_critical", "villain_storm", "villain_storm", "villain_late",
                                        "villain_circle", "villain_circle", "villain_dead", "villain_asleep"};
    struct peer p[ARRAY_SIZE(roles)], gone = bare_env(4, 0);
    struct spawn_slices own = {0, 2};

    OK(sys_env_stop(&gone.cap, 0));
    down->word[37] = gone.env;
    for (u32 i = 0; i < ARRAY_SIZE(roles); i++)
        run_peer(&p[i], roles[i], &own, 1, 256, 0);
    down->word[31] = rt_self();
    down->word[32] = p[0].env;
    down->word[35] = p[5].env;
    down->word[36] = p[6].env;
    pause_for(20);
    /* The vector: each of the others has one run of slots at most, init another, and this test its own. */
    for (u32 i = 0; i < 40; i++) {
        u64 before = slices_begun(0), had = slices_begun(rt_self()), owed = self()->context[0].excess;
        sys_yield();
        /* A busy host may stop the machine for the whole of a slice that it had. */
        u64 between = slices_begun(0) - before, turns = slices_begun(rt_self()) - had;
        if (owed >= machine_slices(0)->length)
            continue; /* it was late itself, on a busy host, and forfeits a turn */
        if (between > (ARRAY_SIZE(roles) + 3) * (turns ? turns : 1))
            FAIL("%lu slices, of which %lu were this test's, which owes %lu ticks", between, turns, owed);
    }
    if (!down->word[30] || !down->word[33] || down->failed)
        FAIL("they are no villains: %lu, %lu, %s", down->word[30], down->word[33], down->text);
    for (u32 i = 0; i < ARRAY_SIZE(roles); i++)
        end_peer(&p[i]);
    end_peer(&gone);
}
