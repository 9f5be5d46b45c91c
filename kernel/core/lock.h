/* Spin locks. The kernel runs with interrupts off, so a lock is held for a bounded time.
 *
 * Order: a CPU that holds a lock may only take one of a higher rank (two environments: the one
 * with the lower page number first). Debug builds check this. Nobody waits for another CPU with
 * a lock held, except for TLB shootdowns, which a CPU that spins answers. */
#pragma once
#include "lib/base.h"

enum lock_rank {
    LOCK_ENVS = 1, /* list of environments */
    LOCK_ENV,      /* one environment: its pages, space, contexts, events (env.lock) */
    LOCK_SLICES,   /* one CPU's slice vector */
    LOCK_NET,      /* flows, filters and the network device */
    LOCK_EVENT,    /* one environment's event ring */
    LOCK_CONSOLE,  /* who receives what is typed */
    LOCK_SERIAL,   /* the serial port; innermost */
};

struct lock {
    u32 taken;
    u32 rank;
};
#define LOCK(text, order) {0, (order)} /* text: for people */

#if defined(DEBUG) || defined(HOST_TEST)
void lock_note(u32 rank, bool taken); /* which ranks this CPU holds */
#else
static inline void lock_note(u32 rank, bool taken) { (void)rank, (void)taken; }
#endif
void lock_wait(u32 *word); /* until the word is this CPU's */

/* On a bare word in an exposed page. */
static inline bool word_try_lock(u32 *word, u32 rank) {
    if (unlikely(__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE)))
        return false;
    lock_note(rank, true);
    return true;
}
static inline void word_lock(u32 *word, u32 rank) {
    lock_note(rank, true);
    if (unlikely(__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE)))
        lock_wait(word);
}
static inline void word_unlock(u32 *word, u32 rank) {
    __atomic_store_n(word, 0, __ATOMIC_RELEASE);
    lock_note(rank, false);
}
static inline void spin_lock(struct lock *l) { word_lock(&l->taken, l->rank); }
static inline void spin_unlock(struct lock *l) { word_unlock(&l->taken, l->rank); }
