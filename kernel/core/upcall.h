/* Frames and upcalls: how a libOS is interrupted, told, and resumed. */
#pragma once
#include "core/cpu.h"
#include "x86/registers.h"

/* Registers of a libOS on the kernel's stack; the same layout as a frame. */
struct regs {
    struct frame f;
};

/* Saves r in a new frame of the current context: its address for the libOS, or 0 when there is none free. */
u64 frame_push(const struct regs *r, u32 cause);
/* Takes the top frame of the current context into r, made safe. False: there is none, or it is bad. */
bool frame_pop(struct regs *r);
/* Goes on with the current context's top frame; returns if there is none that is good. */
void frame_leave(void);
/* Whether a context has frames to spare for upcalls that can wait. A libOS that gets next to no time (a host
 * that stops the machine, say) would otherwise collect them slice by slice until none is left. */
static inline bool frame_to_spare(const struct context *context) {
    return __atomic_load_n(&context->depth, __ATOMIC_RELAXED) < FRAMES / 2;
}
/* The top frame of a context page, or NULL. */
static inline struct frame *frame_top(struct context *context) {
    u32 depth = __atomic_load_n(&context->depth, __ATOMIC_RELAXED);

    return depth - 1 < FRAMES ? &context->frame[depth - 1] : NULL;
}
/* Where a new frame goes, in a context whose stack pointer is rsp. A libOS leaves a frame by itself: it stores frame.previous in depth,
 * puts rsp at frame.rip and executes iretq. If it is interrupted between the two, rsp points into the frame that depth no longer
 * counts; so the next frame is put above the one that rsp points into, too. */
static inline u32 frame_slot(struct context *context, u64 rsp) {
    u32 slot = __atomic_load_n(&context->depth, __ATOMIC_RELAXED);
    u64 inside = rsp - __atomic_load_n(&context->self, __ATOMIC_RELAXED) - CONTEXT_FRAME_AT;

    if (unlikely(inside < FRAMES * sizeof(struct frame) && inside / sizeof(struct frame) + 1 > slot))
        slot = (u32)(inside / sizeof(struct frame)) + 1;
    return slot;
}
/* A new frame for the caller of a call of class "pause", which is resumed with result 0; entry_paused puts in what C keeps, rip, rflags
 * and rsp, and the other registers are left as they were. NULL: there is none free. */
static inline struct frame *frame_keep(const struct cpu *cpu, u32 cause) {
    struct context *context = cpu->context;
    u32 slot = frame_slot(context, cpu->user_rsp);

    if (slot >= FRAMES)
        return NULL;
    struct frame *f = &context->frame[slot];
    f->rax = 0;
    f->previous = context->depth;
    f->cause = cause;
    f->cs = USER_CS;
    f->ss = USER_SS;
    __atomic_store_n(&context->depth, slot + 1, __ATOMIC_RELAXED);
    return f;
}
/* Makes r enter the libOS at `entry`, with flags as an upcall has them. False: not a user address. */
bool upcall_enter(struct regs *r, u64 entry);
/* Pushes r and makes it an upcall of the current context. False: no frame or no entry. */
bool upcall(struct regs *r, u64 entry, u32 cause);
/* Flags and selectors of r become those that a libOS may have; false if rip is not its own. */
bool regs_make_safe(struct regs *r);

/* Leaves the kernel with these registers (entry.S). */
NORETURN void resume(const struct regs *r);
