/* Communication between environments on one CPU, by control transfer (docs/transfer.md):
 *
 *   directed yield   ipc_give: the rest of the slice goes to another, who resumes where it was suspended
 *   pipe             a circular buffer of words in a shared page; who finds it empty or full gives
 *   lrpc             a function of another environment is called; it may return anything in any register
 *   tlrpc            the same, with a server that is trusted to keep the registers that C keeps
 *
 * A context that takes part calls ipc_accept first; from then on this part owns its transfer entry. Who
 * is named in a transfer learns nothing but the caller's name, so the words in shared memory are as
 * trustworthy as who else maps them: indices are masked, and nothing of them is an address. */
#pragma once
#include "rt.h"

/* Answers a call: at most five words come, one goes back. It runs on a stack of its own while the rest of
 * the program stands where it was. */
typedef u64 (*ipc_function)(u64 a, u64 b, u64 c, u64 d, u32 caller);
/* Lets this environment be called (function: NULL if it is only given slices) on this CPU. 0 or an error. */
s64 ipc_accept(u32 cpu, ipc_function function);

/* What the kernel keeps of the registers, and what it does not. */
#define IPC_LOST "rdi", "rsi", "rdx", "rcx", "r8", "r9", "r10", "r11", "memory", "cc"

/* Directed yield. 0 when the slice came back, or an error: nothing was given. */
static inline s64 ipc_give(u32 env) {
    u64 rax = (u64)env << 32 | TRANSFER_GIVE << 8 | CALL_TRANSFER;

    __asm__ volatile("syscall" : "+a"(rax) : : IPC_LOST);
    return (s64)rax;
}

/* ---- calls: *result is what the function returned. 0 or an error (E_BUSY: it serves another, or none). */
s64 ipc_lrpc(u32 env, u64 a, u64 b, u64 *result);

static inline s64 ipc_tlrpc(u32 env, u64 a, u64 b, u64 *result) {
    u64 rax = (u64)env << 32 | TRANSFER_CALL << 8 | CALL_TRANSFER;

    __asm__ volatile("syscall" : "+a"(rax), "+D"(a), "+S"(b)
                     : : "rdx", "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
    *result = a;
    return (s64)rax;
}

/* ---- a pipe: one writer, one reader, in memory that both map. All zero: empty. */
#define PIPE_WORDS 256u
struct pipe {
    u32 written, zero[15]; /* words ever written: the writer's, on a cache line of its own */
    u32 read, zero2[15];   /* words ever read: the reader's */
    u64 word[PIPE_WORDS];
};

/* Gives the CPU to the other side, which has to do something first. 0, or E_DEAD: it will not. */
s64 pipe_wait(u32 other);

/* One word, inlined; `other` is the environment at the other end. 0 or E_DEAD. */
static inline s64 pipe_put(struct pipe *p, u64 word, u32 other) {
    u32 at = p->written;
    s64 error;

    while (at - __atomic_load_n(&p->read, __ATOMIC_ACQUIRE) >= PIPE_WORDS)
        if ((error = pipe_wait(other)))
            return error;
    p->word[at % PIPE_WORDS] = word;
    __atomic_store_n(&p->written, at + 1, __ATOMIC_RELEASE);
    return 0;
}
static inline s64 pipe_get(struct pipe *p, u64 *word, u32 other) {
    u32 at = p->read;
    s64 error;

    while (__atomic_load_n(&p->written, __ATOMIC_ACQUIRE) == at)
        if ((error = pipe_wait(other)))
            return error;
    *word = p->word[at % PIPE_WORDS];
    __atomic_store_n(&p->read, at + 1, __ATOMIC_RELEASE);
    return 0;
}

/* As a library has them: any number of whole words. The bytes moved, all of them, or an error. */
s64 pipe_write(struct pipe *p, u32 other, const void *from, u64 bytes);
s64 pipe_read(struct pipe *p, u32 other, void *to, u64 bytes);

/* ---- a shared counter, which each side makes change in turn: gives to `other`, who has something to do,
 * until *word is `value`. 0 or E_DEAD. */
static inline s64 ipc_await(const u64 *word, u64 value, u32 other) {
    s64 error;

    do
        if ((error = ipc_give(other)) && (error = pipe_wait(other)))
            return error;
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value);
    return 0;
}
