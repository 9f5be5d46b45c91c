/* Spin locks: waiting for one, and the order that debug builds check. */
#include "core/lock.h"

#include "core/cpu.h"
#include "core/shootdown.h"
#include "x86/io.h"

void lock_wait(u32 *word) {
    do
        while (__atomic_load_n(word, __ATOMIC_RELAXED)) {
            if (cpu_count > 1)
                shootdown_answer();
            cpu_relax();
        }
    while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE));
}

#ifdef DEBUG
/* Two environments may be locked at once; every other rank once. */
void lock_note(u32 rank, bool taken) {
    if (!cpu_count)
        return; /* boot, before CPUs have their own data */
    struct cpu *cpu = this_cpu();
    u64 above = cpu->held >> rank;
    CHECK(!taken || !above || (rank == LOCK_ENV && above == 1));
    cpu->held = taken ? cpu->held | 1ull << rank : cpu->held & ~(1ull << rank);
}
#endif
