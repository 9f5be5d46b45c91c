/* Frames in context pages. */
#include "core/upcall.h"

u64 frame_push(const struct regs *r, u32 cause) {
    struct context *context = this_cpu()->context;
    u32 slot = frame_slot(context, r->f.rsp);

    if (slot >= FRAMES)
        return 0;
    struct frame *f = &context->frame[slot];
    *f = r->f;
    f->cause = cause;
    f->previous = context->depth;
    __atomic_store_n(&context->depth, slot + 1, __ATOMIC_RELAXED);
    return context->self + CONTEXT_FRAME_AT + slot * sizeof(struct frame);
}

bool regs_make_safe(struct regs *r) {
    r->f.cs = USER_CS;
    r->f.ss = USER_SS;
    r->f.rflags = (r->f.rflags & RFLAGS_USER) | RFLAGS_IF | RFLAGS_FIXED;
    return r->f.rip < USER_TOP;
}

bool frame_pop(struct regs *r) {
    struct context *context = this_cpu()->context;
    struct frame *f = frame_top(context);

    if (!f)
        return false;
    r->f = *f;
    __atomic_store_n(&context->depth, (u32)r->f.previous, __ATOMIC_RELAXED);
    return regs_make_safe(r);
}

bool upcall_enter(struct regs *r, u64 entry) {
    r->f.rip = entry;
    r->f.rflags &= ~(u64)RFLAGS_CLEARED;
    return regs_make_safe(r) && entry;
}

bool upcall(struct regs *r, u64 entry, u32 cause) {
    u64 frame = entry ? frame_push(r, cause) : 0;

    if (!frame || !upcall_enter(r, entry))
        return false;
    r->f.rdi = frame;
    r->f.rsi = cause;
    return true;
}
