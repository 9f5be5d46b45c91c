/* Asking for resources back: the requests in ENV pages, the upcalls, the loss page. Taking by force
 * is in repossess.c. Who asks whom, when and for how much is not decided here. */
#include "core/revoke.h"

#include "core/cpu.h"
#include "core/env.h"
#include "core/event.h"
#include "core/page.h"
#include "core/schedule.h"
#include "core/upcall.h"
#include "targe/call_table.h"
#include "x86/io.h"

/* Every context of the environment is told: it knows itself which one minds its resources. Those that sleep are woken by the event
 * that goes with it; whoever else runs on their CPUs is not disturbed. */
static void make_pending(struct env *env, u8 what) {
    for (u32 n = 0; n < cpu_count; n++)
        if (env->context[n].state != CONTEXT_NONE)
            __atomic_fetch_or(&env->context[n].pending, what, __ATOMIC_SEQ_CST);
    env_chase(env);
}

void revoke_deliver(struct regs *r) {
    struct cpu *cpu = this_cpu();
    u64 entry = __atomic_load_n(&cpu->context->revoke, __ATOMIC_RELAXED);
    u8 pending = __atomic_load_n(&cpu->record->pending, __ATOMIC_SEQ_CST) & PENDING_UPCALLS;
    u8 what = pending & PENDING_LOST ? PENDING_LOST : PENDING_REVOKE;

    if (!pending || !frame_to_spare(cpu->context))
        return; /* without frames to spare it stays pending */
    if (!entry || entry >= USER_TOP) {
        __atomic_fetch_and(&cpu->record->pending, (u8)~PENDING_UPCALLS, __ATOMIC_SEQ_CST);
        return;
    }
    /* Without a free frame it stays pending until the next slice. */
    if (upcall(r, entry, what == PENDING_LOST ? CAUSE_REPOSSESSED : CAUSE_REVOKE))
        __atomic_fetch_and(&cpu->record->pending, (u8)~what, __ATOMIC_SEQ_CST);
}

/* Whether a request stands: who asked exists still. */
static bool stands(const struct demand *q) {
    return q->left && page_generation(page_get(q->from)) == q->generation;
}

s64 revoke_due(const struct env *env, u32 resource) {
    const struct demand *q = &env->request[resource];

    return stands(q) && q->from == current_env()->self && rdtsc() >= q->deadline ? 0 : E_NOT_DUE;
}

void revoke_let_go(const struct env *env, u32 page) {
    u8 type = page_type(page_get(page));
    bool own = page_owner(page_get(page)) == env->self;

    if (own && (type == PAGE_DATA || type == PAGE_DEVICE) && !stands(&env->request[RESOURCE_PAGES]))
        page_take_end(page, NULL, NULL);
}

void revoke_given(struct env *env, u32 resource, u32 count) {
    struct demand *q = &env->request[resource];

    if (likely(!q->left))
        return;
    bool last = q->left <= count && stands(q);
    q->left -= (u32)min_u64(q->left, count);
    if (last)
        event_post(q->from, EVENT_GIVEN, env->self, resource, 0);
}

s64 call_revoke(u64 cap, u32 resource, u32 count, u64 deadline) {
    struct env *env;
    s64 error = 0;

    TRY(resource < RESOURCES ? env_lock_target(cap, RIGHT_OWN, &env) : E_BAD_ARGUMENT);
    struct demand *q = &env->request[resource];
    if (env == current_env())
        error = E_BAD_ARGUMENT;
    else if (stands(q) && (count || q->from != current_env()->self))
        error = E_BUSY;
    else {
        q->from = current_env()->self;
        q->generation = page_generation(page_get(q->from));
        q->deadline = deadline;
        q->asked += count;
        q->left = count;
    }
    env_unlock(env);
    if (error || !count)
        return error;
    make_pending(env, PENDING_REVOKE);
    event_post(env->self, EVENT_REVOKE, current_env()->self, (u64)resource << 32 | count, deadline);
    return 0;
}

/* ---------------------------------------------------------------- losses */

void revoke_lost(struct env *env, u32 resource, u32 name, u64 generation, u32 saved) {
    env->losses++;
    if (env->loss_page) {
        struct losses *l = page_ptr(env->loss_page);
        u64 written = l->written;
        if (written - __atomic_load_n(&l->read, __ATOMIC_ACQUIRE) < LOSSES) {
            l->loss[written % LOSSES] = (struct loss){resource, name, generation, saved, current_env()->self, rdtsc()};
            __atomic_store_n(&l->written, written + 1, __ATOMIC_RELEASE);
        }
    }
    make_pending(env, PENDING_LOST);
    event_post(env->self, EVENT_LOST, current_env()->self, (u64)resource << 32 | name, saved);
}

/* ---------------------------------------------------------------- vital pages */

s64 call_vital_set(u32 place, u32 page) {
    struct env *env = current_env();
    struct page *p = page_get(page);
    s64 error = 0;

    if (place >= VITALS || (page && !p))
        return E_BAD_ARGUMENT;
    env_lock(env);
    if (page && page_owner(p) == env->self && page_type(p) != PAGE_ENV && page_type(p) != PAGE_FLOW)
        error = page_set_vital(page, true);
    else if (page) /* also what others may map: it must be possible to break their mappings when it ends */
        error = E_NO_RIGHT;
    if (!error) {
        if (env->vital[place])
            page_set_vital(env->vital[place], false);
        env->vitals += (page != 0) - (env->vital[place] != 0);
        env->vital[place] = page;
    }
    env_unlock(env);
    return error;
}

/* ---------------------------------------------------------------- limits */

/* What it owns above a limit that was lowered is its debt, which its creator cannot lend to another yet. */
s64 call_env_limit(u64 cap, u32 pages, u32 slices) {
    struct env *env, *creator = current_env();
    s64 error = 0;

    TRY(env_target(cap, RIGHT_OWN, &env));
    if (!env_is_child(env->self))
        return E_NO_RIGHT;
    env_lock_two(env, creator);
    u32 page_debt = env->pages - (u32)min_u64(env->pages, pages), slice_debt = env->slices - (u32)min_u64(env->slices, slices);
    s64 more_pages = (s64)pages + page_debt - env->page_limit - env->page_debt;
    s64 more_slices = (s64)slices + slice_debt - env->slice_limit - env->slice_debt;
    if (env->state != ENV_LIVE)
        error = E_DEAD;
    else if ((more_pages > 0 && more_pages > (s64)creator->page_limit - creator->pages) ||
             (more_slices > 0 && more_slices > (s64)creator->slice_limit - creator->slices))
        error = E_LIMIT;
    if (!error) {
        env->page_limit = pages;
        env->page_debt = page_debt;
        env->slice_limit = slices;
        env->slice_debt = slice_debt;
        creator->page_limit -= (u32)more_pages;
        creator->slice_limit -= (u32)more_slices;
    }
    env_unlock_two(env, creator);
    return error;
}
