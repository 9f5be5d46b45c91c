/* Handlers: programs that answer a frame when it arrives, in the kernel, while their owner need not
 * be scheduled; the paper's application-specific safe handlers (docs/handlers.md). Where a predicate is bound in place
 * of one, it only says whether its owner wants the frame.
 *
 * All that a run needs was found when it was bound, and is ready if the last frame was of the same binding. The answer is
 * written where the device will read it. What the program asks for is remembered, and happens when it has ended well, all of it or
 * nothing: first the frame, which may be refused, then what cannot fail. */
#include "code/code.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/event.h"
#include "core/load.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/schedule.h"
#include "dev/dev.h"
#include "net/flow.h"
#include "x86/io.h"

static struct code_run run; /* the lock is held: one handler runs at a time */
static u64 bindings;        /* ever made */

/* What is the same in all runs of a binding; whose it is. */
static struct ready { u64 binding; struct env *owner; const struct program *program; } ready;

/* A predicate is pure: it has no memory. */
static s64 bind_program(u32 page, u32 memory) {
    const struct page *p = page_get(page);
    const struct program *program = page_ptr(page);

    if (!p || page_owner(p) != current_env()->self)
        return E_NO_RIGHT;
    if (page_type(p) != PAGE_CODE || p->where != page ||
        (program->kind != KIND_HANDLER && (program->kind != KIND_PREDICATE || memory)))
        return E_WRONG_TYPE;
    return program->work ? E_BUSY : page_bind(page, PAGE_CODE);
}

s64 handler_attach(struct flow *f, const struct handler_binding *b) {
    if (f->handler)
        return E_BUSY;
    TRY(bind_program(b->code, b->pages));
    s64 error = flow_hold(NULL, b->memory, b->pages);
    if (error) {
        page_unbind(b->code);
        return error;
    }
    if (!bindings++) /* once: what is ready stays so while others bind */
        code_run_start(&run, &code_profiles[KIND_HANDLER]);
    f->memory = b->memory;
    f->memory_pages = b->pages;
    f->handler = b->code;
    f->binding = bindings;
    return 0;
}

void handler_detach(struct flow *f) {
    page_unbind_all(NULL, f->memory, f->memory_pages);
    page_unbind(f->handler);
    f->handler = f->memory = f->memory_pages = 0;
}

bool handler_is_taken(const struct flow *f) {
    return page_any_taken(NULL, f->memory, f->memory_pages) ||
           (f->handler && page_any_taken(NULL, f->handler, ((struct program *)page_ptr(f->handler))->pages));
}

static NOINLINE void make_ready(const struct flow *f) {
    ready = (struct ready){f->binding, env_of(f->receiver), page_ptr(f->handler)};
    run.window[WINDOW_MEMORY] = (struct code_window){page_ptr(f->memory), f->memory_pages * PAGE_SIZE};
}

/* Where the answer goes. It shows nobody's frames: what stands there is zeros, or what runs of the same binding left. */
static inline u8 *room_for(u64 binding) {
    struct net_room *room = net_device_room();
    if (unlikely(!room))
        return NULL;
    if (unlikely(room->binding != binding))
        *room = (struct net_room){.binding = binding};
    return room->headers;
}

static inline bool commit(struct flow *f, u32 owner, const u8 *reply) {
    struct code_effects *e = &run.effects;

    if (e->frame.length && (!reply || !flow_answer(f, reply, e)))
        return false;
    for (u32 i = 0; i < e->published; i++)
        __atomic_store_n(e->publish[i].at, e->publish[i].value, __ATOMIC_RELEASE);
    if (e->event)
        event_post(owner, EVENT_HANDLER, f->self, e->a, e->b);
    else if (e->wake)
        event_delivered(env_of(owner));
    return true;
}

bool handler_run(struct flow *f, const u8 *frame, u32 length, u32 checked) {
    u64 began = rdtsc();

    if (unlikely(ready.binding != f->binding))
        make_ready(f);
    struct env *owner = ready.owner;
    if (owner->state != ENV_LIVE || owner->owed >= this_cpu()->slices->length) {
        f->unpaid++;
        return false;
    }
    u8 *reply = room_for(f->binding);
    run.window[WINDOW_PACKET] = (struct code_window){(u8 *)frame, length};
    run.window[WINDOW_REPLY] = (struct code_window){reply ? reply : (u8 *)frame, reply ? SEND_HEADERS : 0};
    run.value[0] = checked;
    run.value[1] = began;
    code_forget_effects(&run);
    u64 result = code_enter(ready.program->code, &run);
    if (ready.program->kind == KIND_PREDICATE) /* what it does not want is dealt with */
        result = result ? HANDLER_PASS : HANDLER_DONE;
    bool commits = run.status == CODE_DONE && (result == HANDLER_DONE || result == HANDLER_PASS) && commit(f, owner->self, reply);
    if (likely(commits))
        f->handled += result == HANDLER_DONE;
    else if (run.status == CODE_DONE)
        f->aborted++;
    else
        f->stopped++;
    u64 ticks = rdtsc() - began;
    f->handler_ticks += ticks;
    schedule_bill(owner, ticks);
    return commits && result == HANDLER_DONE;
}
