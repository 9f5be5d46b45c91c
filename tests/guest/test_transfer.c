/* Protected control transfer: the message, who calls, and what goes wrong. */
#include "guest.h"

#define GIVEN 99

/* Every register of the message is changed, so that each can be told from the others. */
static void serve(u32 caller, u32 kind, struct rt_message *m) {
    u64 *word = (u64 *)m;

    up->word[1] = caller;
    up->word[2] = kind;
    up->word[3]++;
    if (m->rdi == GIVEN && kind == TRANSFER_GIVE)
        return;
    for (u32 i = 0; i < 12; i++)
        word[i] = word[i] * 3 + i;
}
ROLE(server) {
    rt_on_transfer(serve);
    up->word[0] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

static void start_server(struct peer *p, const char *role) {
    down->word[0] = 0;
    start_peer(p, role, 0);
    wait_for(&down->word[0], 1);
}

/* A call carries twelve registers there and back, and the callee is told who calls. */
TEST(transfer_call) {
    struct peer p;
    struct rt_message m;
    u64 *word = (u64 *)&m;

    start_server(&p, "server");
    for (u64 round = 0; round < 50; round++) {
        for (u64 i = 0; i < 12; i++)
            word[i] = i << 40 | round << 8 | 7;
        EQUAL(rt_transfer(p.env, TRANSFER_CALL, &m), 0);
        for (u64 i = 0; i < 12; i++)
            EQUAL(word[i], (i << 40 | round << 8 | 7) * 3 + i);
        EQUAL(down->word[1], rt_self());
        EQUAL(down->word[2], TRANSFER_CALL);
        EQUAL(down->word[3], round + 1);
    }
    EQUAL(rt_context(0)->depth, 0);
    end_peer(&p);
}

/* What is given is the rest of the slice; nobody waits for an answer. */
TEST(transfer_give) {
    struct peer p;
    struct rt_message m = {.rdi = GIVEN};

    start_server(&p, "server");
    EQUAL(rt_transfer(p.env, TRANSFER_GIVE, &m), 0);
    EQUAL(down->word[3], 1);
    EQUAL(down->word[2], TRANSFER_GIVE);
    EQUAL(down->word[1], rt_self());
    EQUAL(m.rdi, GIVEN);
    end_peer(&p);
}

/* Targets that are none, and kinds that are none. */
TEST(transfer_errors) {
    struct peer bare = bare_env(4, 0);
    struct rt_message m = {0};

    EQUAL(rt_transfer(0, TRANSFER_CALL, &m), E_DEAD);
    EQUAL(rt_transfer(self()->root, TRANSFER_CALL, &m), E_DEAD);
    EQUAL(rt_transfer(0xffffffff, TRANSFER_GIVE, &m), E_DEAD);
    EQUAL(rt_transfer(rt_self(), TRANSFER_CALL, &m), E_BAD_ARGUMENT);
    EQUAL(rt_transfer(bare.env, 3, &m), E_BAD_ARGUMENT);
    EQUAL(rt_transfer(bare.env, 255, &m), E_BAD_ARGUMENT);
    EQUAL(rt_transfer(bare.env, TRANSFER_REPLY, &m), E_BAD_ARGUMENT);
    EQUAL(rt_transfer(bare.env, TRANSFER_CALL, &m), E_BUSY); /* it has no context here */
    OK(sys_env_stop(&bare.cap, 0));
    EQUAL(rt_transfer(bare.env, TRANSFER_CALL, &m), E_DEAD);
    end_peer(&bare);
    EQUAL(rt_transfer(bare.env, TRANSFER_CALL, &m), E_DEAD);
}

ROLE(refuser) {
    up->word[0] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

/* Who names no entry is not entered. */
TEST(transfer_refused) {
    struct peer p;
    struct rt_message m = {0};

    start_server(&p, "refuser");
    EQUAL(rt_transfer(p.env, TRANSFER_CALL, &m), E_BUSY);
    EQUAL(rt_transfer(p.env, TRANSFER_GIVE, &m), E_BUSY);
    end_peer(&p);
}

/* A GIVE needs a frame for the caller; a CALL does not. */
TEST(transfer_frames_full) {
    struct peer p;
    struct rt_message m = {0};

    start_server(&p, "server");
    rt_context(0)->end = 0;
    rt_context(0)->depth = FRAMES;
    s64 error = rt_transfer(p.env, TRANSFER_GIVE, &m);
    s64 called = rt_transfer(p.env, TRANSFER_CALL, &m);
    rt_context(0)->depth = 0;
    EQUAL(error, E_FULL);
    EQUAL(called, 0);
    end_peer(&p);
}

/* A context with half of its frames in use takes no calls, and goes on where it was when it is given a slice: otherwise one that
 * lives on what it is given could never get rid of them. */
static void never_served(u32 caller, u32 kind, struct rt_message *m) {
    (void)m;
    FAIL("entered by %x, kind %u", caller, kind);
}
ROLE(laden) {
    rt_on_transfer(never_served);
    for (u32 slot = 0; slot < SLOTS; slot++)
        if (machine_slices(0)->slot[slot].owner == rt_self())
            OK(sys_slice_free(0, 0, slot));
    rt_context(0)->depth = FRAMES / 2;
    up->word[0] = 1;
    for (;;) {
        sys_yield();
        up->word[1]++;
    }
}
TEST(transfer_laden) {
    struct peer p;
    struct rt_message m = {0};

    start_server(&p, "laden");
    pause_for(10); /* its last slice is over */
    for (u64 n = down->word[1] + 1, end = n + 20; n < end; n++) {
        EQUAL(rt_transfer(p.env, TRANSFER_CALL, &m), E_BUSY);
        EQUAL(rt_transfer(p.env, TRANSFER_GIVE, &m), 0);
        EQUAL(down->word[1], n);
    }
    end_peer(&p);
}

/* Passes a call on to the environment whose name is in rdi, and tries what must not work meanwhile.
 */
static void pass_on(u32 caller, u32 kind, struct rt_message *m) {
    struct rt_message probe = {0};

    (void)kind;
    up->word[10] =
        (u64)rt_transfer(caller, TRANSFER_CALL, &probe); /* who waits for a reply is not entered */
    up->word[11] =
        (u64)rt_transfer(m->rsi ? (u32)m->rdi : 0, TRANSFER_REPLY, &probe); /* nor answered for */
    if (m->rdi)
        up->word[12] = (u64)rt_transfer((u32)m->rdi, TRANSFER_CALL, m);
}
ROLE(middle) {
    rt_on_transfer(pass_on);
    up->word[0] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

/* Calls form a chain; who is in it cannot be called again, and only the callee may reply. */
TEST(transfer_chain) {
    struct peer middle, last;

    start_server(&last, "server");
    start_server(&middle, "middle");
    struct rt_message m = {.rdi = last.env, .rsi = 4};
    EQUAL(rt_transfer(middle.env, TRANSFER_CALL, &m), 0);
    EQUAL(down->word[10], E_BUSY);
    EQUAL(down->word[11], E_BAD_ARGUMENT);
    EQUAL(down->word[12], 0);
    EQUAL(m.rdi, last.env * 3);
    EQUAL(m.rsi, 13);
    EQUAL(down->word[1], middle.env);
    end_peer(&middle);
    end_peer(&last);
}

static void die(u32 caller, u32 kind, struct rt_message *m) {
    (void)caller;
    (void)kind;
    if (m->rdi == 1)
        __asm__ volatile("ud2");
    rt_exit(5);
}
ROLE(mortal) {
    rt_on_transfer(die);
    up->word[0] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

/* The caller of one who dies gets an error, and goes on. */
TEST(transfer_callee_dies) {
    for (u64 how = 0; how < 2; how++) {
        struct peer p;
        struct rt_message m = {.rdi = how};
        start_server(&p, "mortal");
        EQUAL(rt_transfer(p.env, TRANSFER_CALL, &m), E_DEAD);
        EQUAL(self()->context[0].state, CONTEXT_READY);
        EQUAL(rt_context(0)->depth, 0);
        end_peer(&p);
    }
}

static void sleep_on(u32 caller, u32 kind, struct rt_message *m) {
    (void)caller;
    (void)kind;
    up->word[4] = 1;
    sys_sleep(rt_tsc() + m->rdi, 0, 0);
    m->rsi = 1;
}
ROLE(sleeper) {
    rt_on_transfer(sleep_on);
    up->word[0] = 1;
    up->word[5] = (u64)sys_sleep(NEVER, 0, 0);
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

/* A callee may sleep in the caller's time. A transfer ends the callee's own sleep, with result 2.
 */
TEST(transfer_to_sleeper) {
    struct peer p;
    struct rt_message m = {.rdi = milliseconds(5)};

    start_server(&p, "sleeper");
    pause_for(5);
    u64 begin = rt_tsc();
    EQUAL(rt_transfer(p.env, TRANSFER_CALL, &m), 0);
    CHECK(rt_tsc() - begin >= milliseconds(5));
    EQUAL(m.rsi, 1);
    pause_for(10);
    EQUAL(down->word[5], 2);
    end_peer(&p);
}

static void spin(u32 caller, u32 kind, struct rt_message *m) {
    (void)caller;
    (void)kind;
    u64 end = rt_tsc() + milliseconds(3000);
    while (__atomic_load_n(&up->word[6], __ATOMIC_SEQ_CST) <= m->rdi && rt_tsc() < end)
        ;
}
ROLE(slow) {
    machine_info(); /* mapped before, not in the caller's time */
    rt_on_transfer(spin);
    up->word[0] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
ROLE(competitor) {
    for (;;)
        __atomic_fetch_add(&up->word[6], 1, __ATOMIC_SEQ_CST);
}

/* A call may last for many slices, which are the caller's, while others have theirs. */
TEST(transfer_long_call) {
    struct peer p, other;
    start_server(&p, "slow");
    start_peer(&other, "competitor", 0);
    u64 before = down->word[6];
    struct rt_message m = {.rdi = before};
    EQUAL(rt_transfer(p.env, TRANSFER_CALL, &m), 0);
    CHECK(down->word[6] > before);
    end_peer(&p);
    end_peer(&other);
}
