/* Exceptions and interrupts, once entry.S has saved the registers. */
#include "core/console.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/revoke.h"
#include "core/schedule.h"
#include "core/shootdown.h"
#include "core/trace.h"
#include "core/upcall.h"
#include "net/flow.h"
#include "x86/apic.h"
#include "x86/fpu.h"
#include "x86/interrupt.h"

void trap(struct regs *r);
NORETURN void trap_halted(u32 vector);

struct fixup { u64 at, to; };
extern const struct fixup fixups_start[], fixups_end[];

/* The kernel may fault only where it touches what a libOS controls. */
static void kernel_exception(struct regs *r, u64 address) {
    for (const struct fixup *f = fixups_start; f < fixups_end; f++)
        if (f->at == r->f.rip) {
            r->f.rip = f->to;
            return;
        }
    panic("exception %lu in the kernel: rip %lx error %lx address %lx rsp %lx", r->f.cause, r->f.rip,
          r->f.error, address, r->f.rsp);
}

static void exception(struct regs *r) {
    struct cpu *cpu = this_cpu();
    u32 cause = (u32)r->f.cause;
    u64 address = 0;

    if (cause == 14)
        __asm__ volatile("movq %%cr2, %0" : "=r"(address));
    if (!(r->f.cs & 3)) {
        kernel_exception(r, address);
        return;
    }
    if (cause == 7 && fpu_wanted(cpu))
        return;
    cpu->trace->exceptions++;
    cpu->env->exceptions++;
    trace(TRACE_EXCEPTION, cause, address);
    r->f.address = address;
    if (upcall(r, __atomic_load_n(&cpu->context->exception, __ATOMIC_RELAXED), cause))
        return;
    env_end(cpu->env, END_FAULT, r->f.rip);
    schedule();
}

/* Another CPU wants this one to look: at its slices if it idles, at the life of what it runs. */
static void kick(struct cpu *cpu) {
    u32 payer = cpu->payer->self;

    note_quiet(cpu);
    stand_still();
    schedule_pay(payer);
    schedule_leave_dead_space();
}

static NOINLINE void own_interrupt(struct cpu *cpu, u32 vector) {
    if (vector != VECTOR_SPURIOUS)
        apic_end();
    switch (vector) {
    case VECTOR_TIMER:
        cpu->trace->timer++;
        cpu->timer = NEVER;
        flow_tick();
        console_tick();
        break;
    case VECTOR_SHOOTDOWN: shootdown_answer(); break;
    case VECTOR_KICK: kick(cpu); break;
    }
}

static inline void interrupt(struct cpu *cpu, u32 vector) {
    if (vector >= VECTOR_TIMER) {
        own_interrupt(cpu, vector);
    } else {
        cpu->trace->interrupts++;
        trace(TRACE_INTERRUPT, vector, 0);
        apic_device(vector);
    }
}

static void interrupt_libos(struct regs *r, u32 vector) {
    struct cpu *cpu = this_cpu();

    interrupt(cpu, vector);
    if (cpu->env->state != ENV_LIVE)
        schedule();
    if (vector == VECTOR_TIMER)
        schedule_tick(r);
    else if (cpu->record->pending & PENDING_UPCALLS)
        revoke_deliver(r);
}

void trap(struct regs *r) {
    if (r->f.cause < 32)
        exception(r);
    else
        interrupt_libos(r, (u32)r->f.cause);
}

/* An interrupt ended a halt. */
OFTEN void trap_halted(u32 vector) {
    struct cpu *cpu = this_cpu();

    interrupt(cpu, vector);
    if (vector < VECTOR_TIMER && !cpu->woken && !cpu->left)
        rest(); /* handlers have done all there was to do */
    schedule_again();
}
