/* Protected control transfer (docs/transfer.md). Checks first; after the point of no return
 * nothing can fail. The message is in the registers and is not touched. */
#include "core/cpu.h"
#include "core/env.h"
#include "core/schedule.h"
#include "core/trace.h"
#include "core/upcall.h"
#include "targe/call_table.h"
#include "x86/registers.h"

/* Registers arrive as the message; the rest is the callee's choice. */
static void enter_callee(struct regs *r, u32 caller, u32 kind, u64 entry) {
    r->f.rax = (u64)caller << 32 | kind;
    r->f.rcx = r->f.r11 = 0;
    r->f.rsp = this_cpu()->context->transfer_stack;
    upcall_enter(r, entry);
}

static s64 call_or_give(struct regs *r, struct env *callee, u32 kind) {
    struct cpu *cpu = this_cpu();
    u32 self = cpu->env->self;
    struct env_context *mine = cpu->record, *record = &callee->context[cpu->number];

    if (record->state == CONTEXT_NONE || record->state == CONTEXT_CALLING || record->caller)
        return E_BUSY;
    struct context *context = page_ptr(record->page);
    u64 entry = __atomic_load_n(&context->transfer, __ATOMIC_RELAXED);
    if (!entry || entry >= USER_TOP)
        return E_BUSY;
    r->f.rax = 0;
    if (!frame_push(r, kind == TRANSFER_CALL ? CAUSE_CALL : CAUSE_YIELD))
        return E_FULL;
    if (!schedule_switch(callee, record)) {
        schedule(); /* it died this moment: the caller's frame is resumed in its next slice */
    }

    /* The point of no return. */
    if (kind == TRANSFER_CALL) {
        mine->state = CONTEXT_CALLING;
        mine->peer = callee->self;
        record->caller = self;
    }
    if (record->state == CONTEXT_SLEEPING)
        schedule_awaken(record, 2);
    enter_callee(r, self, kind, entry);
    return 0;
}

static s64 reply(struct regs *r, struct env *caller) {
    struct cpu *cpu = this_cpu();
    struct env_context *mine = cpu->record, *record = &caller->context[cpu->number];
    struct regs back;

    if (mine->caller != caller->self || record->state != CONTEXT_CALLING || record->peer != cpu->env->self)
        return E_BAD_ARGUMENT;

    /* The point of no return. */
    mine->caller = 0;
    record->state = CONTEXT_READY;
    if (!schedule_switch(caller, record))
        schedule();
    if (!frame_pop(&back)) {
        env_end(caller, END_FAULT, 0);
        schedule();
    }
    r->f.rip = back.f.rip;
    r->f.rsp = back.f.rsp;
    r->f.rflags = back.f.rflags;
    r->f.rax = r->f.rcx = r->f.r11 = 0;
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

    if (kind > TRANSFER_GIVE || target == cpu->env->self)
        error = E_BAD_ARGUMENT;
    else if (!env)
        error = E_DEAD;
    else if (cpu->ending)
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
