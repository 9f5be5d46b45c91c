/* The abort protocol: breaking bindings by force and moving what they held.
 *
 * A page that is being taken has FLAG_TAKEN, so that nobody binds it anew. Then every mapping of it is
 * removed: first where `where` says that it was mapped last, and if bindings are left, wherever any
 * table maps it. Then it is saved, unlinked, zeroed, and the taker's. If something still holds it (a
 * device, a sleeper) the flag goes and the answer is BUSY. */
#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/event.h"
#include "core/info.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/repossess.h"
#include "core/revoke.h"
#include "core/schedule.h"
#include "core/shootdown.h"
#include "core/space.h"
#include "core/user.h"
#include "net/flow.h"
#include "targe/call_table.h"
#include "x86/io.h"

/* How many mappings are to be flushed and unbound still; large ones are already. */
static u32 break_in_table(struct env *env, u32 table, u32 page) {
    u64 state = page_state(page_get(table));

    if (STATE_TYPE(state) != PAGE_TABLE)
        return 0;
    if (STATE_LEVEL(state) == 2)
        space_remove_large(env, table, page);
    return STATE_LEVEL(state) == 1 ? space_remove_page(table, page) : 0;
}

static void break_in_env(struct env *env, u32 page) {
    u32 broken = 0;

    env_lock(env);
    for (u32 t = env->first_page; t; t = page_get(t)->next)
        broken += break_in_table(env, t, page);
    if (broken)
        shootdown(env, 0, PAGES_A_CALL);
    env_unlock(env);
    while (broken--)
        page_unbind(page);
}

/* Where `where` points, if that is a table still. Its owner's lock keeps it one. */
static void break_by_hint(u32 page) {
    struct page *table = page_get(page_get(page)->where);
    struct env *env = table && page_type(table) == PAGE_TABLE ? env_live(page_owner(table)) : NULL;
    u32 broken = 0;

    if (!env)
        return;
    env_lock(env);
    if (page_owner(table) == env->self)
        broken = break_in_table(env, (u32)(table - page_array), page);
    if (broken)
        shootdown(env, 0, PAGES_A_CALL);
    env_unlock(env);
    while (broken--)
        page_unbind(page);
}

void repossess_mappings(u32 page) {
    if (STATE_BINDINGS(page_state(page_get(page))))
        break_by_hint(page);
    if (!STATE_BINDINGS(page_state(page_get(page))))
        return;
    for (u32 e = __atomic_load_n(&info->first_env, __ATOMIC_SEQ_CST); e; e = env_of(e)->next)
        break_in_env(env_of(e), page);
}

/* ---------------------------------------------------------------- saving */

/* Whether a capability that the environment offered is good for one page to be written. */
static bool is_fit(const struct env *env, const struct cap *c, u32 taken) {
    struct page *p = page_get(c->name);

    return c->type == CAP_PAGE && c->rights & RIGHT_WRITE && !c->zero && cap_tag(c) == c->tag &&
           (!c->holder || c->holder == env->self) && p && c->name != taken;
}

static u32 save_to(const struct cap *c, u32 taken) {
    if (page_bind(c->name, PAGE_DATA))
        return 0;
    bool good = page_generation(page_get(c->name)) == c->generation;
    if (good)
        memcpy(page_ptr(c->name), page_ptr(taken), PAGE_SIZE);
    page_unbind(c->name);
    return good ? c->name : 0;
}

/* Copies the page to the next place that is fit: its number, or 0. */
static u32 save(struct env *env, u32 taken) {
    struct losses *l = env->loss_page ? page_ptr(env->loss_page) : NULL;
    u32 saved = 0;

    for (u32 tries = 0; l && !saved && tries < SAVES; tries++) {
        u64 posted = __atomic_load_n(&l->posted, __ATOMIC_ACQUIRE);
        if (posted - env->saves - 1 >= SAVES) /* none left, or nonsense */
            break;
        struct cap c = l->save[env->saves++ % SAVES];
        __asm__ volatile("" : "+m"(c)); /* read once: the libOS may be writing it */
        l->used = env->saves;
        if (is_fit(env, &c, taken))
            saved = save_to(&c, taken);
    }
    return saved;
}

/* ---------------------------------------------------------------- taking */

/* Whatever else than a mapping holds the page lets go of it. */
static void break_uses(struct env *env, u32 page) {
    u32 owner, flow;

    while ((flow = flow_break(page, &owner))) {
        struct env *loser = env_live(owner);
        if (loser) {
            env_lock(loser);
            revoke_lost(loser, RESOURCE_FLOWS, flow, 0, 0);
            env_unlock(loser);
        }
    }
    env_lock(env);
    if (env->event_page == page)
        event_release(env);
    if (page_type(page_get(page)) == PAGE_TABLE)
        space_detach_table(env, page);
    env_unlock(env);
}

static bool is_held(u32 page) {
    u64 state = page_state(page_get(page));

    return STATE_BINDINGS(state) || STATE_PINS(state);
}

static void break_sleepers(u32 page) {
    stop_others();
    schedule_awaken_sleepers(page);
    start_others();
}

/* Everything that can be known before anything is broken. */
static s64 begin(struct env *env, struct env *taker, u32 page) {
    struct page *p = page_get(page);
    s64 error = revoke_due(env, RESOURCE_PAGES);

    if (error)
        return error;
    if (!p)
        return E_BAD_ARGUMENT;
    if (page_owner(p) != env->self)
        return E_NO_RIGHT;
    u8 type = page_type(p);
    if (type != PAGE_DATA && type != PAGE_RING && type != PAGE_TABLE)
        return E_WRONG_TYPE;
    if (page == env->root || page == env->loss_page)
        return E_VITAL;
    if (taker->pages >= taker->page_limit)
        return E_LIMIT;
    return page_take_begin(page, env->self);
}

/* A page that a device uses is left as it is. With FLAG_TAKEN set no device begins to. */
static bool is_pinned(u32 page) {
    if (STATE_PINS(page_state(page_get(page))))
        flow_reclaim();
    return STATE_PINS(page_state(page_get(page)));
}

static s64 finish(struct env *env, struct env *taker, u32 page, u32 *saved) {
    s64 error = E_BUSY;

    env_lock_two(env, taker);
    u64 generation = page_generation(page_get(page));
    if (env->state != ENV_LIVE || page_owner(page_get(page)) != env->self)
        error = E_DEAD;
    else if (taker->pages >= taker->page_limit)
        error = E_LIMIT;
    else if (!is_held(page))
        error = revoke_due(env, RESOURCE_PAGES);
    if (!error) {
        *saved = save(env, page);
        page_take_end(page, env, taker);
        revoke_lost(env, RESOURCE_PAGES, page, generation, *saved);
        env->request[RESOURCE_PAGES].left--;
    } else {
        page_take_end(page, NULL, NULL);
    }
    env_unlock(env);
    env_unlock(taker);
    return error;
}

static s64 take_page(struct env *env, struct env *taker, u32 page, u32 *saved) {
    u32 name = env->self;
    u64 generation = page_generation(page_get(name));

    env_lock(env);
    s64 error = begin(env, taker, page);
    env_unlock(env);
    if (error)
        return error;
    if (is_pinned(page)) {
        page_take_end(page, NULL, NULL);
        return E_BUSY;
    }
    break_uses(env, page);
    repossess_mappings(page);
    if (STATE_BINDINGS(page_state(page_get(page))))
        break_sleepers(page);
    if (env_live(name) != env || page_generation(page_get(name)) != generation) {
        page_take_end(page, NULL, NULL); /* destroyed while this CPU waited; its heir has the page */
        return E_DEAD;
    }
    return finish(env, taker, page, saved);
}

static s64 take_other(struct env *env, u32 resource, u32 name) {
    env_lock(env);
    s64 error = revoke_due(env, resource);
    if (!error && resource == RESOURCE_SLICES)
        error = schedule_take_slice(env, name >> 8, name & 0xff);
    else if (!error)
        error = flow_take(name, env->self);
    if (!error) {
        revoke_lost(env, resource, name, 0, 0);
        env->request[resource].left--;
    }
    env_unlock(env);
    return error;
}

/* One element; its environment is looked up anew, since it may have ended while this CPU waited for others. */
static s64 take(u64 cap, u64 at) {
    struct env *env;
    struct taking t;
    s64 error = env_target(cap, RIGHT_OWN, &env);

    if (!error && env == current_env())
        error = E_BAD_ARGUMENT;
    if (!error)
        error = user_read(&t, at, sizeof t);
    if (!error)
        error = user_writable(at, sizeof t);
    if (error)
        return error;
    t.saved = 0;
    if (t.resource >= RESOURCES)
        t.result = E_BAD_ARGUMENT;
    else if (t.resource == RESOURCE_PAGES)
        t.result = (s32)take_page(env, current_env(), t.name, &t.saved);
    else
        t.result = (s32)take_other(env, t.resource, t.name);
    error = user_write(at, &t, sizeof t);
    return error ? error : t.result != 0;
}

s64 call_repossess(u64 cap, u64 batch, u32 count) {
    s64 failed = 0;

    if (!count || count > TAKINGS_A_CALL || batch % 4)
        return E_BAD_ARGUMENT;
    for (u32 i = 0; i < count; i++) {
        s64 result = take(cap, batch + i * sizeof(struct taking));
        if (result < 0)
            return i ? failed + count - i : result;
        failed += result;
    }
    return failed;
}
