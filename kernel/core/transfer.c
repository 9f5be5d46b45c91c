/* Protected control transfer, the slow way: every kind and every case. transfer.S does the plain CALL,
 * REPLY and GIVE with the same result. Checks first; after the point of no return nothing can
 * fail. The message is in the registers and is not touched. */
#include "core/cpu.h"
#include "core/env.h"
#include "core/schedule.h"
#include "core/trace.h"
#include "core/upcall.h"
#include "targe/call_table.h"

/* Registers arrive as the message; the rest is the callee's choice. */
static void enter_callee(struct regs *r, u32 caller, u32 kind, u64 entry) {
    r->f.rax = (u64)caller << 32 | kind;
    r->f.rcx = r->f.r11 = 0;
    r->f.rsp = this_cpu()->context->transfer_stack;
    r->f.rflags = 0;
    upcall_enter(r, entry);
}

/* Whether a caller still waits on this CPU for the callee's reply. */
static bool is_waited_for(const struct env *callee, u32 caller) {
    const struct env *env = env_live(caller);
    const struct env_context *record = env ? &env->context[this_cpu()->number] : NULL;

    return record && record->state == CONTEXT_CALLING && record->peer == callee->self;
}

static s64 call_or_give(struct regs *r, struct env *callee, u32 kind) {
    struct cpu *cpu = this_cpu();
    u32 self = cpu->name;
    struct env_context *mine = cpu->record, *record = &callee->context[cpu->number];

    if (record->caller && !is_waited_for(callee, record->caller))
        record->caller = 0; /* it ended while it was served */
    if (record->state == CONTEXT_NONE || record->state == CONTEXT_CALLING || record->caller)
        return E_BUSY;
    struct context *context = page_ptr(record->page);
    bool spare = frame_to_spare(context); /* or those who enter it could use up its frames */
    if (!spare && kind == TRANSFER_CALL)
        return E_BUSY;
    u64 entry = __atomic_load_n(&context->transfer, __ATOMIC_RELAXED);
    if (!entry || entry >= USER_TOP)
        return E_BUSY;
    r->f.rax = 0;
    if (kind == TRANSFER_GIVE && !frame_push(r, CAUSE_YIELD))
        return E_FULL;

    /* The point of no return. A caller waits for its reply, a giver for a later slice. */
    if (kind == TRANSFER_CALL) {
        cpu->context->call_rip = r->f.rip;
        cpu->context->call_rsp = r->f.rsp;
        mine->state = CONTEXT_CALLING;
        mine->peer = callee->self;
        record->caller = self;
        cpu->reply_peer = self;
    } else {
        schedule_give(callee);
    }
    if (!schedule_switch(callee, record))
        schedule(); /* it died this moment: the caller learns it in its next slice */
    if (record->state == CONTEXT_SLEEPING || record->state == CONTEXT_WAITING) {
        schedule_awaken(record, 2);
        schedule_stir(cpu);
    }
    if (!spare) { /* as in a slice of its own: so it gets rid of frames, even if it has no slices */
        cpu->trace->transfers++;
        schedule_enter();
    }
    cpu->peer = kind == TRANSFER_GIVE ? self : callee->self; /* who gives is often given back */
    enter_callee(r, self, kind, entry);
    return 0;
}

/* A reply that nobody waits for frees its server all the same. Whoever serves nobody may not be CPU_PEER: it
 * would transfer control to itself. */
static s64 to_the_dead(u32 target) {
    struct cpu *cpu = this_cpu();

    if (cpu->record->caller == target) {
        cpu->record->caller = 0;
        cpu->peer = NO_PEER;
    }
    return E_DEAD;
}

static s64 reply(struct regs *r, struct env *caller) {
    struct cpu *cpu = this_cpu();
    struct env_context *mine = cpu->record, *record = &caller->context[cpu->number];

    if (mine->caller != caller->self)
        return E_BAD_ARGUMENT;
    if (!is_waited_for(cpu->env, caller->self))
        return to_the_dead(caller->self);

    /* The point of no return. */
    mine->caller = 0;
    record->state = CONTEXT_READY;
    cpu->reply_peer = caller->self;
    if (!schedule_switch(caller, record))
        schedule();
    r->f.rip = cpu->context->call_rip;
    r->f.rsp = cpu->context->call_rsp;
    r->f.rflags = 0;
    r->f.rax = r->f.rcx = r->f.r11 = 0;
    if (!regs_make_safe(r)) {
        env_end(caller, END_FAULT, 0);
        schedule();
    }
    return 0;
}

/* In the allowance after a slice there is nothing to give: whoever got the CPU now would be cut off for
 * its caller's lateness. So the caller is put back to its `syscall`, two bytes long, and makes the
 * transfer when its next slice comes. */
static s64 put_off(struct regs *r) {
    r->f.rip -= 2;
    if (frame_push(r, CAUSE_YIELD))
        schedule();
    r->f.rip += 2;
    return E_FULL;
}

void call_transfer(struct regs *r) {
    u32 target = (u32)(r->f.rax >> 32), kind = (u8)(r->f.rax >> 8);
    struct cpu *cpu = this_cpu();
    struct env *env = env_live(target);
    s64 error;

    if (kind > TRANSFER_GIVE || target == cpu->name)
        error = E_BAD_ARGUMENT;
    else if (!env)
        error = to_the_dead(target);
    else if (cpu->ending || cpu->put_off)
        error = put_off(r);
    else
        error = kind == TRANSFER_REPLY ? reply(r, env) : call_or_give(r, env, kind);
    if (error) {
        r->f.rax = (u64)error;
        return;
    }
    cpu->trace->transfers++;
    trace(TRACE_TRANSFER, target, kind);
}
