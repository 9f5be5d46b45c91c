/* Time slices: each CPU walks its vector round robin (docs/processor.md). */
#pragma once
#include "core/memory.h"

struct cpu;
struct regs;
/* Gives the CPU to the next slot that can use it, or halts until there is one. What ran before
 * was saved or is gone. */
NORETURN void schedule(void);
/* Waits for an interrupt, which ends in trap_halted(). Between `sti` and `hlt` none is lost, since the first takes effect after
 * the second has begun. A halt may also end for no reason. Interrupts are taken only here, and for a moment in seek(). */
static inline NORETURN void rest(void) {
    for (;;)
        __asm__ volatile("sti; hlt" ::: "memory");
}
/* As schedule(), on a CPU that rested. */
NORETURN void schedule_again(void);
/* Goes on with the context that was just put on this CPU: its start upcall, or its top frame. */
NORETURN void schedule_enter(void);
/* The timer rang, with a libOS's registers in r: goes on with it, or ends its slice. */
void schedule_tick(struct regs *r);
/* An interrupt took so many ticks from whoever runs, if somebody does: they are not charged, and the slice ends
 * later by them. The timer is to ring at `again`, too, whoever may run by then. */
void schedule_lend(u64 took, u64 again);
/* This CPU looks at all owners of its slots, also at those that slept, when it looks next: now, if it idles. One that does not is not
 * disturbed, or whoever changes his slices all the time would starve whom it runs. To be called after the change. */
void schedule_stir(struct cpu *cpu);
/* Makes CPUs on which an environment sleeps look again, if they are idle. */
void schedule_wake(const struct env *env);
/* Puts a context on this CPU: its space, its extended state. False if its environment died. */
bool schedule_switch(struct env *env, struct env_context *record);
/* The rest of the slice is given to this environment, which pays for it from now on. */
void schedule_give(struct env *env);
/* What a handler took is owed by its owner, who pays with slices of any CPU. */
void schedule_bill(struct env *env, u64 ticks);
/* After note_quiet in the middle of a slice, which makes this CPU forget who pays: it is this environment, if
 * it still lives. */
void schedule_pay(u32 name);
/* Loads the kernel's own space if a dead environment's is still there. */
void schedule_leave_dead_space(void);
/* The word that a context sleeps on is in its own ENV page, and so needs no binding. */
static inline bool schedule_waits_for_own(const struct env_context *record) {
    return (record->word ^ ptr_phys(record).v) >> PAGE_SHIFT == 0;
}
/* Lets go of what a sleeping context waits for. */
void schedule_forget_sleep(struct env_context *record);
/* Ends a sleep, with this result. */
void schedule_awaken(struct env_context *record, u64 result);
/* Takes one slice from an environment whose lock is held: 0 or E_NO_RIGHT. */
s64 schedule_take_slice(struct env *env, u32 cpu, u32 slot);
/* Whether a context of the environment sleeps on a word of a page that is being taken. `awaken` wakes those; the other
 * CPUs are stopped then. */
bool schedule_awaken_taken(struct env *env, bool awaken);
/* Frees every slice of an environment that no CPU runs. */
void schedule_free_slices(struct env *env);
