/* Frames and upcalls: how a libOS is interrupted, told, and resumed. */
#pragma once
#include "lib/base.h"

/* Registers of a libOS on the kernel's stack; the same layout as a frame. */
struct regs {
    struct frame f;
};

/* What entry_pause leaves at the top of the kernel's stack. */
struct kept {
    u64 rsp, saved[6], leave, rip, rflags; /* saved: r15 to rbx, as a frame begins */
};

/* Saves r in a new frame of the current context: its address for the libOS, or 0 when there is none free. */
u64 frame_push(const struct regs *r, u32 cause);
/* The same for the caller of a call of class "pause", which is resumed with result 0. False: there is none free. */
bool frame_keep(u32 cause);
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
struct frame *frame_top(struct context *context);
/* Makes r enter the libOS at `entry`, with flags as an upcall has them. False: not a user address. */
bool upcall_enter(struct regs *r, u64 entry);
/* Pushes r and makes it an upcall of the current context. False: no frame or no entry. */
bool upcall(struct regs *r, u64 entry, u32 cause);
/* Flags and selectors of r become those that a libOS may have; false if rip is not its own. */
bool regs_make_safe(struct regs *r);

/* Leaves the kernel with these registers (entry.S). */
NORETURN void resume(const struct regs *r);
