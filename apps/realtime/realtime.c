/* Low latency by the position of slices: an environment that owns every second slot of a CPU is never
 * further than one slice of another from running, however greedy that one is.
 *
 *   arg=period   takes the even slots, does something each millisecond, and says how late it was at worst
 *   arg=greedy   takes the odd slots and computes for ever
 *
 * Both run on CPU 1. Slots are taken by number, as pages are. */
#include "base/print.h"
#include "base/start.h"
#include "machine/machine.h"

#define CPU 1
#define PERIODS 1000

/* Moves this environment's slices to the slots of one parity: frees the others first, so that whoever wants
 * them finds them free, and takes what is free until it has as many as before. */
static s64 take_slots(u32 parity) {
    const struct slices *vector = machine_slices(CPU);
    u32 wanted = 0;

    if (!vector)
        return E_BAD_ARGUMENT;
    for (u32 slot = 0; slot < SLOTS; slot++)
        wanted += vector->slot[slot].owner == rt_self() && slot % 2 != parity;
    for (u32 slot = 1 - parity; slot < SLOTS; slot += 2) {
        if (vector->slot[slot].owner != rt_self())
            continue;
        s64 error = sys_slice_free(0, CPU, slot);
        if (error)
            return error;
    }
    /* The slice that runs goes on to its end: it is time enough to take the first. */
    for (u32 slot = parity; wanted; slot = (slot + 2) % SLOTS)
        if (!vector->slot[slot].owner && sys_slice_alloc(0, CPU, slot) >= 0)
            wanted--;
    return 0;
}

static u64 us(u64 ticks) { return ticks * 1000000 / machine_info()->tsc_hz; }

static void keep_period(void) {
    u64 period = machine_info()->tsc_hz / 1000, due = rt_tsc() + period, worst = 0, missed = 0, sum = 0;

    for (u32 n = 1;; n++) {
        sys_sleep(due, 0, 0);
        u64 now = rt_tsc(), late = now > due ? now - due : 0;
        worst = late > worst ? late : worst;
        sum += late;
        due += period;
        for (; due + period < now; due += period)
            missed++;
        if (n % PERIODS == 0) {
            print("realtime: %u periods of 1000 us, late %lu us at worst, %lu on average, %lu missed\n", n, us(worst),
                  us(sum / PERIODS), missed);
            worst = missed = sum = 0;
        }
    }
}

int main(void) {
    bool greedy = !strcmp(start_arguments(), "greedy");

    if (take_slots(greedy))
        return 1;
    if (!greedy)
        keep_period();
    for (;;)
        ;
}
