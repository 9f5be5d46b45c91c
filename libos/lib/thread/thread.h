/* Threads of one environment over all the CPUs on which it has slices (docs/threads.md).
 *
 * The kernel knows one context for each CPU and nothing of threads. A thread that blocks is put aside here and
 * its CPU goes on with another; the end of a slice is an upcall, in which the thread goes back to
 * the queue, so that any other CPU may take it meanwhile; when all wait, the CPUs sleep in the kernel.
 *
 *     static u64 first(u64 argument) { .. }
 *     int main(void) { return (int)thread_run(first, 0); }
 *
 * Rules: a thread that calls sys_sleep, sys_yield or sys_wait stops its CPU, not only itself: use what is
 * here. A context's `end` entry and its `critical` word belong to this part. Other parts of libos/lib are not made
 * for several threads at once: protect them by a mutex. Registers of SSE and AVX are not kept.
 * A thread's stack is THREAD_REGION less a page; the page under it is not mapped. */
#pragma once
#include "rt.h"

#define THREAD_REGION 32768ull /* of addresses, for each: an unmapped page, the stack, struct thread */
#define THREAD_LOCALS 16

struct thread_cpu;
/* Only `local` is for others to use. */
struct thread {
    u64 rsp;                /* its stack while it does not run */
    struct thread *next;    /* in the queue that it is in */
    struct thread_cpu *cpu; /* where it runs; changes only while it does not */
    struct thread *joiner;  /* who waits for its end */
    u64 (*function)(u64);
    u64 argument, result;
    u64 deadline;           /* asleep until then */
    u64 done;
    u64 local[THREAD_LOCALS];
    u64 zero;
};
_Static_assert(sizeof(struct thread) % 16 == 0, "the stack begins below it");

/* The running thread: its stack pointer says which it is, so thread-local storage costs no register more
 * and no system call. */
static inline __attribute__((const)) struct thread *thread_self(void) {
    u64 rsp;

    __asm__("movq %%rsp, %0" : "=r"(rsp));
    return (struct thread *)((rsp | (THREAD_REGION - 1)) + 1 - sizeof(struct thread));
}

/* Runs `function` as the first thread, and threads on every CPU that the creator gave this environment a
 * context on. Returns what the function returned; it is not for being called again. */
u64 thread_run(u64 (*function)(u64), u64 argument);
/* Takes one more CPU: a context on it, and so many slices of its vector. 0 or an error. */
s64 thread_add_cpu(u32 cpu, u32 slices);

/* NULL: no memory. Each thread that is created must be joined, once. */
struct thread *thread_create(u64 (*function)(u64), u64 argument);
u64 thread_join(struct thread *thread); /* what its function returned */
void thread_yield(void);                /* lets those that are ready go first */
void thread_sleep(u64 deadline);        /* until this TSC */

/* A word of each thread's own: local[key], 0 at first. E_FULL: all keys are taken. */
s64 thread_key(void);

/* ---- waiting for each other. All zero: free, nobody waits. */
struct thread_queue { struct thread *head, *tail; };
struct mutex {
    u32 state; /* 0 free, 1 taken, 2 taken and perhaps waited for */
    struct thread_queue waiting;
};
struct condition_variable { struct thread_queue waiting; };

void mutex_lock(struct mutex *m);   /* those who wait get it in the order in which they came */
bool mutex_try(struct mutex *m);
void mutex_unlock(struct mutex *m);
/* Lets the mutex go and waits, in one step; has it again when it returns. The caller checks what it waits for. */
void condition_wait(struct condition_variable *c, struct mutex *m);
void condition_signal(struct condition_variable *c);
void condition_broadcast(struct condition_variable *c);
