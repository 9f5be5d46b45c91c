/* Between two address spaces: control transfer, and what libraries build on it. */
#include "bench.h"

u64 pct_one_way(u32 env);
void pct_loop(u64 n, u32 env);
u64 lrpc(u32 env), tlrpc(u32 env);
void give(u32 env);
u64 rpc_server(void);
void pct_one_way_entry(void), pct_entry(void), rpc_entry(void), give_entry(void);
extern char rt_transfer_stack_top[];

static u32 peer;

static void accept_by(void (*entry)(void)) {
    rt_context(0)->transfer_stack = (u64)rt_transfer_stack_top;
    rt_context(0)->transfer = (u64)entry;
}

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

/* ---- lrpc: a counter in the other address space */
u64 rpc_server(void) {
    static u64 counter;

    return ++counter;
}
ROLE(counter_server) {
    accept_by(rpc_entry);
    serve();
}
static void call_lrpc(u64 n) {
    u64 before = lrpc(peer);

    for (u64 i = 1; i <= n; i++)
        if (lrpc(peer) != before + i)
            fail(__FILE__, __LINE__, "lrpc", 0);
}
static void call_tlrpc(u64 n) {
    u64 before = tlrpc(peer);

    for (u64 i = 1; i <= n; i++)
        if (tlrpc(peer) != before + i)
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

/* ---- a shared counter, with directed yield: each side adds one when the other has */
static void take_turns(u64 n, u64 *counter, u32 other) {
    u64 turn = *counter;

    while (n--) {
        __atomic_store_n(counter, turn + 1, __ATOMIC_RELEASE);
        turn += 2;
        while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) != turn)
            give(other);
    }
}
ROLE(turn_taker) {
    accept_by(give_entry);
    __atomic_store_n(&shared->ready, 1, __ATOMIC_SEQ_CST);
    while (!(__atomic_load_n(&shared->counter, __ATOMIC_ACQUIRE) & 1))
        give(shared->env);
    take_turns(NEVER, &shared->counter, shared->env);
}
static void count(u64 n) { take_turns(n, &shared->counter, peer); }
ROW(shared_counter, "one way") {
    accept_by(give_entry);
    peer = start_role("turn_taker");
    measure_parts(1000, 2, count);
}

/* ---- a pipe: a circular buffer of words, yielding to the other side when it is empty or full */
#define WORDS ARRAY_SIZE(((struct pipe *)0)->word)

static inline __attribute__((always_inline)) void pipe_put(struct pipe *p, u64 word, u32 reader) {
    u32 at = p->written;

    while (at - __atomic_load_n(&p->read, __ATOMIC_ACQUIRE) == WORDS)
        give(reader);
    p->word[at % WORDS] = word;
    __atomic_store_n(&p->written, at + 1, __ATOMIC_RELEASE);
}
static inline __attribute__((always_inline)) u64 pipe_get(struct pipe *p, u32 writer) {
    u32 at = p->read;

    while (__atomic_load_n(&p->written, __ATOMIC_ACQUIRE) == at)
        give(writer);
    u64 word = p->word[at % WORDS];
    __atomic_store_n(&p->read, at + 1, __ATOMIC_RELEASE);
    return word;
}

/* `write` and `read` as a library has them: any number of bytes, by a handle. */
struct end {
    struct pipe *pipe;
    u32 other;
};
static __attribute__((noinline)) s64 pipe_write(const struct end *e, const void *from, u64 bytes) {
    const u64 *word = from;

    if (bytes % sizeof *word)
        return E_BAD_ARGUMENT;
    for (u64 n = bytes / sizeof *word; n; n--)
        pipe_put(e->pipe, *word++, e->other);
    return (s64)bytes;
}
static __attribute__((noinline)) s64 pipe_read(const struct end *e, void *to, u64 bytes) {
    u64 *word = to;

    if (bytes % sizeof *word)
        return E_BAD_ARGUMENT;
    for (u64 n = bytes / sizeof *word; n; n--)
        *word++ = pipe_get(e->pipe, e->other);
    return (s64)bytes;
}

ROLE(pipe_echo) {
    struct end in = {&shared->there, shared->env}, out = {&shared->back, shared->env};

    accept_by(give_entry);
    __atomic_store_n(&shared->ready, 1, __ATOMIC_SEQ_CST);
    for (u64 word;;) {
        pipe_read(&in, &word, sizeof word);
        pipe_write(&out, &word, sizeof word);
    }
}
static void ping(u64 n) {
    struct end out = {&shared->there, peer}, in = {&shared->back, peer};

    for (u64 got; n; n--) {
        pipe_write(&out, &n, sizeof n);
        pipe_read(&in, &got, sizeof got);
        if (got != n)
            fail(__FILE__, __LINE__, "pipe", 0);
    }
}
ROW(pipe_word, "one way") {
    accept_by(give_entry);
    peer = start_role("pipe_echo");
    measure_parts(1000, 2, ping);
}

ROLE(pipe_echo_inlined) {
    u32 other = shared->env;

    accept_by(give_entry);
    __atomic_store_n(&shared->ready, 1, __ATOMIC_SEQ_CST);
    for (;;)
        pipe_put(&shared->back, pipe_get(&shared->there, other), other);
}
static void ping_inlined(u64 n) {
    u32 other = peer;

    for (; n; n--) {
        pipe_put(&shared->there, n, other);
        if (pipe_get(&shared->back, other) != n)
            fail(__FILE__, __LINE__, "pipe", 0);
    }
}
ROW(pipe_inlined, "one way") {
    accept_by(give_entry);
    peer = start_role("pipe_echo_inlined");
    measure_parts(1000, 2, ping_inlined);
}
