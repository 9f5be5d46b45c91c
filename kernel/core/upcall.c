/* Frames in context pages.
 *
 * A libOS leaves a frame by itself: it stores frame.previous in depth, puts rsp at frame.rip and
 * executes iretq. If it is interrupted between the two, rsp points into the frame that depth no longer
 * counts; so the next frame is put above the one that rsp points into, too. */
#include "core/upcall.h"

#include "core/cpu.h"
#include "x86/registers.h"

static u32 slot_for(struct context *context, u64 rsp) {
    u32 slot = __atomic_load_n(&context->depth, __ATOMIC_RELAXED);
    u64 self = __atomic_load_n(&context->self, __ATOMIC_RELAXED);
    u64 inside = rsp - self - CONTEXT_FRAME_AT;

    if (inside < FRAMES * sizeof(struct frame) && inside / sizeof(struct frame) + 1 > slot)
        slot = (u32)(inside / sizeof(struct frame)) + 1;
    return slot;
}

u64 frame_push(const struct regs *r, u32 cause) {
    struct context *context = this_cpu()->context;
    u32 slot = slot_for(context, r->f.rsp);

    if (slot >= FRAMES)
        return 0;
    struct frame *f = &context->frame[slot];
    *f = r->f;
    f->cause = cause;
    f->previous = context->depth;
    __atomic_store_n(&context->depth, slot + 1, __ATOMIC_RELAXED);
    return context->self + CONTEXT_FRAME_AT + slot * sizeof(struct frame);
}

bool frame_keep(u32 cause) {
    const struct cpu *cpu = this_cpu();
    const struct kept *k = (const struct kept *)cpu->kernel_rsp - 1;
    struct context *context = cpu->context;
    u32 slot = slot_for(context, k->rsp);

    if (slot >= FRAMES)
        return false;
    struct frame *f = &context->frame[slot];
    memcpy(f, k->saved, sizeof k->saved);
    memset(&f->r11, 0, offsetof(struct frame, address) - offsetof(struct frame, r11)); /* what C does not keep, and rax */
    f->previous = context->depth;
    f->cause = cause;
    f->rip = k->rip;
    f->cs = USER_CS;
    f->rflags = k->rflags;
    f->rsp = k->rsp;
    f->ss = USER_SS;
    __atomic_store_n(&context->depth, slot + 1, __ATOMIC_RELAXED);
    return true;
}

struct frame *frame_top(struct context *context) {
    u32 depth = __atomic_load_n(&context->depth, __ATOMIC_RELAXED);

    return depth && depth <= FRAMES ? &context->frame[depth - 1] : NULL;
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
