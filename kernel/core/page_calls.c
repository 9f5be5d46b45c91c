/* The calls on pages: what they check before page.c acts. */
#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/page.h"
#include "core/revoke.h"
#include "core/user.h"
#include "net/flow.h"
#include "targe/call_table.h"

s64 call_null(void) { return 0; }

s64 call_page_alloc(u64 user, u32 name, u32 count, u32 order, u64 out) {
    struct env *env;

    TRY(env_target(user, RIGHT_MANAGE, &env));
    if (!count || count > PAGES_A_CALL || (order & 0xff) > 18 || order >> 8 >> (order & 0xff) ||
        (name != PAGE_ANY && order))
        return E_BAD_ARGUMENT;
    if (out && user_writable(out, sizeof(struct cap)))
        return E_BAD_ADDRESS;
    s64 result = page_take(env, name, count, order);
    if (out && result >= 0 && cap_grant(out, CAP_PAGE, RIGHT_READ | RIGHT_WRITE | RIGHT_OWN, (u32)result, count,
                                 page_generation(page_get((u32)result))))
        return E_BAD_ADDRESS; /* unmapped meanwhile by another CPU of the caller */
    return result;
}

/* Authority that was found before may be gone by the time that the owner's lock is held: then it is looked at again. */
static s64 still_allowed(u64 cap, u32 name, u32 count, const struct env *owner) {
    u32 now;
    s64 error = cap_pages(cap, name, count, RIGHT_OWN, &now);

    if (!error && (now != owner->self || owner->state != ENV_LIVE))
        error = E_NO_RIGHT;
    return error;
}

/* Locks the owner of pages that the caller may use as they like: 0, or an error; `dead`: that which tells that the owner has
 * ended. */
static s64 lock_owner(u64 cap, u32 name, u32 count, s64 dead, struct env **out) {
    struct env *env = current_env();

    if (count > PAGES_A_CALL)
        return E_BAD_ARGUMENT;
    if (cap) {
        u32 owner;
        TRY(cap_pages(cap, name, count, RIGHT_OWN, &owner));
        env = env_live(owner);
        if (!env)
            return dead;
    }
    env_lock(env);
    s64 error = still_allowed(cap, name, count, env);
    if (error)
        env_unlock(env);
    *out = env;
    return error;
}

/* Rings and contexts in use are bound, so only DATA can be free of bindings. */
static s64 may_free(u32 page) {
    u64 state = page_state(page_get(page));

    if (unlikely(STATE_PINS(state))) {
        flow_reclaim();
        state = page_state(page_get(page));
    }
    if (likely((state & ~(STATE_ZERO | STATE_TAKEN)) == PAGE_DATA))
        return 0;
    return STATE_TYPE(state) == PAGE_DATA ? E_BUSY : E_WRONG_TYPE;
}

s64 call_page_free(u64 cap, u32 name, u32 count) {
    struct env *env;
    s64 error = 0;

    TRY(lock_owner(cap, name, count, E_BUSY, &env));
    for (u32 i = 0; i < count && !error; i++)
        error = may_free(name + i);
    if (likely(!error)) {
        u32 freed = page_release_run(env, name, count);
        revoke_given(env, RESOURCE_PAGES, freed);
        error = freed == count ? 0 : E_BUSY; /* another CPU has just bound it */
    }
    env_unlock(env);
    return error;
}

s64 call_page_give(u64 cap, u32 name, u32 count, u64 to) {
    u32 owner;
    struct env *taker;

    TRY(count <= PAGES_A_CALL ? cap_pages(cap, name, count, RIGHT_OWN, &owner) : E_BAD_ARGUMENT);
    TRY(env_target(to, RIGHT_MANAGE, &taker));
    struct env *from = env_live(owner);
    if (!from)
        return E_DEAD;
    if (from == taker)
        return 0;
    env_lock_two(from, taker);
    s64 error = still_allowed(cap, name, count, from);
    if (!error)
        error = page_move(from, taker, name, count);
    for (u32 i = 0; i < count && !error; i++)
        if (page_type(page_get(name + i)) == PAGE_FLOW)
            flow_give(name + i, from, taker);
    env_unlock_two(from, taker);
    return error;
}

s64 call_page_revoke(u64 cap, u32 name, u32 count) {
    struct env *env;
    s64 error = 0;

    TRY(lock_owner(cap, name, count, E_NO_RIGHT, &env));
    for (u32 i = 0; i < count && !error; i++)
        if (page_type(page_get(name + i)) == PAGE_ENV)
            error = E_NO_RIGHT;
    u64 generation = page_new_generation();
    for (u32 i = 0; i < count && !error; i++)
        __atomic_store_n(&page_get(name + i)->generation, generation, __ATOMIC_SEQ_CST);
    if (!error)
        flow_reclaim(); /* a call on a flow that found its capability good is over */
    env_unlock(env);
    return error;
}
