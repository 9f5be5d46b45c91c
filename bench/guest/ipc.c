/* Between two address spaces: control transfer, and what libos/lib/ipc builds on it. */
#include "bench.h"
#include "ipc/ipc.h"

u64 pct_one_way(u32 env);
void pct_loop(u64 n, u32 env);
void pct_one_way_entry(void), pct_entry(void);

static u32 peer;

/* ---- control transfer */
ROLE(one_way_server) {
    accept_by(pct_one_way_entry);
    serve();
}
static void one_way(u64 n, u64 *sum) {
    while (n--)
        *sum += pct_one_way(peer);
}
ROW(transfer_there, "entry to entry") {
    peer = start_role("one_way_server");
    measure_sum(1000, one_way);
}

ROLE(pct_server) {
    accept_by(pct_entry);
    serve();
}
static void there_and_back(u64 n) { pct_loop(n, peer); }
ROW(transfer_back, "call and reply") {
    peer = start_role("pct_server");
    measure(1000, there_and_back);
}

/* ---- calls: a counter in the other address space */
static u64 count_up(u64 a, u64 b, u64 c, u64 d, u32 caller) {
    static u64 counter;

    (void)a, (void)b, (void)c, (void)d, (void)caller;
    return ++counter;
}
ROLE(counter_server) {
    OK(ipc_accept(0, count_up));
    serve();
}
static void call_lrpc(u64 n) {
    u64 before, got;

    OK(ipc_lrpc(peer, 0, 0, &before));
    for (u64 i = 1; i <= n; i++)
        if (ipc_lrpc(peer, 0, 0, &got) || got != before + i)
            fail(__FILE__, __LINE__, "lrpc", 0);
}
static void call_tlrpc(u64 n) {
    u64 before, got;

    OK(ipc_tlrpc(peer, 0, 0, &before));
    for (u64 i = 1; i <= n; i++)
        if (ipc_tlrpc(peer, 0, 0, &got) || got != before + i)
            fail(__FILE__, __LINE__, "tlrpc", 0);
}
ROW(lrpc_call, "call and return") {
    peer = start_role("counter_server");
    measure(1000, call_lrpc);
}
ROW(tlrpc_call, "call and return") {
    peer = start_role("counter_server");
    measure(1000, call_tlrpc);
}

/* Takes part in directed yields from now on. */
static void take_part(void) {
    OK(ipc_accept(0, NULL));
    __atomic_store_n(&shared->ready, 1, __ATOMIC_SEQ_CST);
}

/* ---- a shared counter, with directed yield: each side adds one when the other has */
ROLE(turn_taker) {
    u32 other = shared->env;

    take_part();
    for (u64 turn = 1; !ipc_await(&shared->counter, turn, other); turn += 2)
        __atomic_store_n(&shared->counter, turn + 1, __ATOMIC_RELEASE);
}
static void count(u64 n) {
    u32 other = peer;

    for (u64 turn = shared->counter; n; n--, turn += 2) {
        __atomic_store_n(&shared->counter, turn + 1, __ATOMIC_RELEASE);
        if (ipc_await(&shared->counter, turn + 2, other))
            fail(__FILE__, __LINE__, "await", 0);
    }
}
ROW(shared_counter, "one way") {
    OK(ipc_accept(0, NULL));
    peer = start_role("turn_taker");
    measure_parts(1000, 2, count);
}

/* ---- a pipe: a circular buffer of words, yielding to the other side when it is empty or full */
ROLE(pipe_echo) {
    take_part();
    for (u64 word;;) {
        OK(pipe_read(&shared->there, shared->env, &word, sizeof word));
        OK(pipe_write(&shared->back, shared->env, &word, sizeof word));
    }
}
static void ping(u64 n) {
    for (u64 got; n; n--) {
        OK(pipe_write(&shared->there, peer, &n, sizeof n));
        OK(pipe_read(&shared->back, peer, &got, sizeof got));
        if (got != n)
            fail(__FILE__, __LINE__, "pipe", 0);
    }
}
ROW(pipe_word, "one way") {
    OK(ipc_accept(0, NULL));
    peer = start_role("pipe_echo");
    measure_parts(1000, 2, ping);
}

ROLE(pipe_echo_inlined) {
    u32 other = shared->env;

    take_part();
    for (u64 word = 0;;) {
        OK(pipe_get(&shared->there, &word, other));
        OK(pipe_put(&shared->back, word, other));
    }
}
static void ping_inlined(u64 n) {
    u32 other = peer;

    for (u64 got = 0; n; n--) {
        OK(pipe_put(&shared->there, n, other));
        OK(pipe_get(&shared->back, &got, other));
        if (got != n)
            fail(__FILE__, __LINE__, "pipe", 0);
    }
}
ROW(pipe_inlined, "one way") {
    OK(ipc_accept(0, NULL));
    peer = start_role("pipe_echo_inlined");
    measure_parts(1000, 2, ping_inlined);
}
