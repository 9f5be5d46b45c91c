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
    const char *name;
};
#define LOCK(text, order) {0, (order), (text)}

void spin_lock(struct lock *l);
void spin_unlock(struct lock *l);

/* The same on a bare word in an exposed page. */
void word_lock(u32 *word, u32 rank);
void word_unlock(u32 *word, u32 rank);
