/* Spin locks, with the order checked in debug builds. */
#include "core/lock.h"

#include "core/cpu.h"
#include "core/shootdown.h"
#include "x86/io.h"

static void acquire(u32 *word) {
    while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(word, __ATOMIC_RELAXED)) {
            if (cpu_count > 1)
                shootdown_answer();
            cpu_relax();
        }
}

static void release(u32 *word) { __atomic_store_n(word, 0, __ATOMIC_RELEASE); }

/* Two environments may be locked at once; every other rank once. */
static void note_taken(u32 rank) {
#ifdef DEBUG
    if (!cpu_count)
        return; /* boot, before CPUs have their own data */
    struct cpu *cpu = this_cpu();
    u64 above = cpu->held >> rank;
    CHECK(!above || (rank == LOCK_ENV && above == 1));
    cpu->held |= 1ull << rank;
#else
    (void)rank;
#endif
}

static void note_released(u32 rank) {
#ifdef DEBUG
    if (cpu_count)
        this_cpu()->held &= ~(1ull << rank);
#else
    (void)rank;
#endif
}

void word_lock(u32 *word, u32 rank) {
    note_taken(rank);
    acquire(word);
}

void word_unlock(u32 *word, u32 rank) {
    release(word);
    note_released(rank);
}

void spin_lock(struct lock *l) { word_lock(&l->taken, l->rank); }
void spin_unlock(struct lock *l) { word_unlock(&l->taken, l->rank); }
