/* The run-time part of every libOS: start-up, upcall entries, control transfer, and the functions
 * that compilers call. It holds no policy: what to do in an upcall is the libOS's to say.
 *
 * Address space of a program, by convention (nothing in the kernel knows of it):
 *   0x10000    context pages, one for each CPU
 *   0x60000    the start page (struct start), read-only, if the creator gave one
 *   0x400000   the program
 *   from 4 GiB what the program maps (libos/lib/base/memory.h)
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>

#include "targe/calls.h"

#define RT_CONTEXT 0x10000ull
#define RT_START 0x60000ull
#define RT_PAGE 4096ull

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define NORETURN __attribute__((noreturn))

/* The program. What it returns is the code of its end. */
int main(void);

static inline struct context *rt_context(u32 cpu) { return (struct context *)(RT_CONTEXT + cpu * RT_PAGE); }
static inline u32 rt_self(void) { return rt_context(0)->env; } /* this environment's name */

static inline u64 rt_tsc(void) {
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}

/* ---- upcalls */
/* Handles an exception: may change the frame; when it returns, the frame's state is resumed without
 * the kernel. Without a handler an exception stops the environment. */
typedef void (*rt_exception_handler)(struct frame *frame);
void rt_on_exception(rt_exception_handler handler);

/* Runs at the end of a slice, before the processor is given back; may be NULL. */
typedef void (*rt_end_handler)(struct frame *frame);
void rt_on_slice_end(rt_end_handler handler);

/* Told that resources are asked back (CAUSE_REVOKE: env.request) or were taken (CAUSE_REPOSSESSED: the
 * loss page). It runs between any two instructions of the program. NULL: only events tell. */
typedef void (*rt_revoke_handler)(struct frame *frame, u64 cause);
void rt_on_revoke(rt_revoke_handler handler);

/* ---- protected control transfer */
/* The message: all general registers but rax, rcx, r11, rsp. */
struct rt_message {
    u64 rdi, rsi, rdx, r8, r9, r10, rbx, rbp, r12, r13, r14, r15;
};
/* Transfers control to env (kind: TRANSFER_CALL or TRANSFER_GIVE) with the message; after a CALL
 * it holds the reply. 0 or an error. */
s64 rt_transfer(u32 env, u32 kind, struct rt_message *message);
/* Serves transfers: changes the message into the reply. It runs on a stack of its own while the
 * rest of the program stands where it was: it may only touch what is made for that. One transfer at
 * a time: a CALL that comes while a GIVE is being served is answered with E_BUSY in rdi. */
typedef void (*rt_transfer_handler)(u32 caller, u32 kind, struct rt_message *message);
void rt_on_transfer(rt_transfer_handler handler); /* NULL: transfers are refused (E_BUSY) */

/* ---- ends */
NORETURN void rt_exit(u64 code);
/* Destroys an environment: repeats the call until all is done. 0 or an error. */
s64 rt_destroy(const struct cap *env);

/* ---- what compilers and C programs expect */
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
int atoi(const char *s);
