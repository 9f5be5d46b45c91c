/* TLB shootdown and quiescence: one CPU waits for the others. */
#include "core/shootdown.h"

#include "core/cpu.h"
#include "core/env.h"
#include "core/schedule.h"
#include "x86/apic.h"
#include "x86/interrupt.h"
#include "x86/io.h"
#include "x86/mmu.h"

/* Translations with all PCIDs, and global ones. */
static void flush_every(void) {
    static const u64 all[2];

    __asm__ volatile("invpcid %0, %1" : : "m"(all), "r"(2ull) : "memory");
}

void shootdown_answer(void) {
    struct cpu *cpu = this_cpu();
    u64 wanted = __atomic_load_n(&cpu->flush_wanted, __ATOMIC_SEQ_CST);

    if (likely(wanted == cpu->flush_done))
        return;
    if (__atomic_exchange_n(&cpu->flush_every, false, __ATOMIC_SEQ_CST))
        flush_every();
    load_root(current_root());
    __atomic_store_n(&cpu->flush_done, wanted, __ATOMIC_SEQ_CST);
}

/* Other CPUs. */
static void flush_on(u64 active) {
    struct cpu *cpu = this_cpu();
    u64 ticket[MAX_CPUS];

    for (u64 left = active; left; left &= left - 1) {
        u32 n = (u32)__builtin_ctzll(left);
        ticket[n] = __atomic_add_fetch(&cpus[n]->flush_wanted, 1, __ATOMIC_SEQ_CST);
        apic_send(cpus[n]->apic, VECTOR_SHOOTDOWN);
        cpu->trace->shootdowns++;
    }
    for (u64 left = active; left; left &= left - 1) {
        u32 n = (u32)__builtin_ctzll(left);
        while ((s64)(__atomic_load_n(&cpus[n]->flush_done, __ATOMIC_SEQ_CST) - ticket[n]) < 0) {
            shootdown_answer(); /* the other may be waiting for this CPU */
            cpu_relax();
        }
    }
}

void shootdown_others(struct env *env) {
    if (pcid_present)
        env_mark(env, PENDING_STALE); /* before it looks who is active: see load_space */
    flush_on(env_active(env) & ~(1ull << this_cpu()->number));
}

void shootdown(struct env *env, u64 va, u32 count) {
    if (env == current_env())
        flush_local(va, count);
    if (cpu_count > 1 || pcid_present)
        shootdown_others(env);
}

void shootdown_all(u64 va, u32 count) {
    for (u32 n = 0; n < cpu_count; n++)
        __atomic_store_n(&cpus[n]->flush_every, pcid_present, __ATOMIC_SEQ_CST);
    if (pcid_present)
        flush_every();
    flush_local(va, count);
    flush_on(~0ull >> (64 - cpu_count) & ~(1ull << this_cpu()->number));
}

/* A CPU that waits here holds no pointer to an object that another could be destroying: env_destroy
 * is the only caller that keeps one, to what it destroys itself. */
static void wait_until_quiet(void) {
    struct cpu *cpu = this_cpu();
    u64 before[MAX_CPUS];

    ASSERT(!cpu->held);
    note_quiet(cpu);
    for (u32 n = 0; n < cpu_count; n++)
        before[n] = __atomic_load_n(&cpus[n]->quiet, __ATOMIC_SEQ_CST);
    for (u32 n = 0; n < cpu_count; n++)
        if (n != cpu->number)
            apic_send(cpus[n]->apic, VECTOR_KICK);
    for (u32 n = 0; n < cpu_count; n++) {
        while (n != cpu->number && __atomic_load_n(&cpus[n]->quiet, __ATOMIC_SEQ_CST) == before[n]) {
            note_quiet(cpu);
            shootdown_answer();
            cpu_relax();
        }
    }
}

static u32 stopped;

/* This CPU has been quiet too: one that stops all others meanwhile relies on it, so it may not go on yet. */
void quiesce(void) {
    u32 payer = this_cpu()->payer->self;

    wait_until_quiet();
    stand_still();
    schedule_pay(payer);
}

void stop_others(void) {
    u32 payer = this_cpu()->payer->self;

    while (__atomic_exchange_n(&stopped, 1, __ATOMIC_SEQ_CST))
        stand_still(); /* another CPU was first */
    wait_until_quiet();
    schedule_pay(payer);
}

void start_others(void) { __atomic_store_n(&stopped, 0, __ATOMIC_SEQ_CST); }

void stand_still(void) {
    while (__atomic_load_n(&stopped, __ATOMIC_SEQ_CST)) {
        note_quiet(this_cpu()); /* perhaps for the next who stops all */
        shootdown_answer();
        cpu_relax();
    }
}
