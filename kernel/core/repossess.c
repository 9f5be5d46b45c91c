/* The abort protocol: breaking bindings by force and moving what they held.
 *
 * A page that is being taken has FLAG_TAKEN, so that nobody binds it anew. Then every mapping of it is
 * removed: first where `where` says that it was mapped last, and if bindings are left, by a search through the whole machine, in pieces
 * between which the answer is AGAIN. Then it is saved, unlinked, zeroed, and the taker's. If something still holds it (a
 * device, tables below it) the flag goes and the answer is BUSY. env_destroy and flow_destroy use the same search. */
#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/event.h"
#include "core/load.h"
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

/* ---------------------------------------------------------------- making others let go */

#define SWEEP 16384 /* what one piece of the search may cost; to pass over pages without a holder costs 1 */
#define TABLE_COST 256

/* A table's owner's lock keeps it one. The owner may have stopped, or be dying. */
static void break_in_table(u32 table) {
    struct page *p = page_get(table);
    u32 owner = page_owner(p);

    if (page_type(page_get(owner)) != PAGE_ENV)
        return;
    struct env *env = env_of(owner);
    env_lock(env);
    if (page_owner(p) == env->self && page_type(p) == PAGE_TABLE)
        space_remove_taken(env, table);
    env_unlock(env);
}

void repossess_last_mapping(u32 page) {
    u32 table = page_get(page)->where;

    if (STATE_BINDINGS(page_state(page_get(page))) && page_get(table) && page_type(page_get(table)) == PAGE_TABLE)
        break_in_table(table);
}

static void break_flow(u32 page) {
    u32 owner = flow_break(page);
    struct env *loser = owner ? env_live(owner) : NULL;

    if (!loser)
        return;
    env_lock(loser);
    revoke_lost(loser, RESOURCE_FLOWS, page, 0, 0);
    env_unlock(loser);
}

/* True if it had to stop the other CPUs, after which pointers to environments are stale. */
static bool break_sleep(u32 page) {
    if (!schedule_awaken_taken(env_of(page), false))
        return false;
    stop_others();
    if (page_type(page_get(page)) == PAGE_ENV)
        schedule_awaken_taken(env_of(page), true);
    start_others();
    return true;
}

bool repossess_sweep(u32 *cursor, const struct env *dying) {
    u32 page = *cursor;
    bool enough = false;

    for (u32 work = 0; page < page_count && work < SWEEP && !enough; page = page_next_holder(page), work++) {
        u8 type = page_type(page_get(page));
        if (!page_holds(type))
            continue;
        work += TABLE_COST;
        if (type == PAGE_TABLE) {
            break_in_table(page);
        } else if (type == PAGE_FLOW) {
            break_flow(page);
        } else {
            if (dying && env_of(page)->creator == dying->self)
                env_pass_on(env_of(page), dying);
            enough = break_sleep(page);
        }
    }
    *cursor = page < page_count ? page : 0;
    return !*cursor;
}

/* ---------------------------------------------------------------- saving */

/* By a capability that the environment offered, if it is good for one page to be written: its number, or 0. */
static u32 save_to(const struct env *env, const struct cap *c, u32 taken) {
    if (cap_verify(c, CAP_PAGE, RIGHT_WRITE, env->self) || !page_get(c->name) || c->name == taken || page_bind(c->name, PAGE_DATA))
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
        saved = save_to(env, &c, taken);
    }
    return saved;
}

/* ---------------------------------------------------------------- taking */

/* What its owner uses it for, other than a mapping. */
static void break_uses(struct env *env, u32 page) {
    env_lock(env);
    if (env->event_page == page)
        event_unbind(env, &env->event_page);
    if (page_type(page_get(page)) == PAGE_TABLE)
        space_detach_table(env, page);
    else if (page_type(page_get(page)) == PAGE_CODE && !STATE_BINDINGS(page_state(page_get(page_get(page)->where))))
        load_release(page_get(page)->where);
    env_unlock(env);
}

/* Everything that can be known before anything is broken. */
static s64 begin(struct env *env, struct env *taker, u32 page) {
    struct page *p = page_get(page);

    TRY(revoke_due(env, RESOURCE_PAGES));
    if (!p)
        return E_BAD_ARGUMENT;
    if (page_owner(p) != env->self)
        return E_NO_RIGHT;
    u8 type = page_type(p);
    if (type != PAGE_DATA && type != PAGE_RING && type != PAGE_TABLE && type != PAGE_CODE && type != PAGE_DEVICE)
        return E_WRONG_TYPE;
    if (page == env->root || page == env->loss_page)
        return E_VITAL;
    if (taker->pages >= taker->page_limit)
        return E_LIMIT;
    return page_take_begin(page);
}

static s64 finish(struct env *env, struct env *taker, u32 page, u32 *saved) {
    s64 error = E_BUSY;

    env_lock_two(env, taker);
    u64 generation = page_generation(page_get(page)), state = page_state(page_get(page));
    if (env->state != ENV_LIVE || page_owner(page_get(page)) != env->self)
        error = E_DEAD;
    else if (taker->pages >= taker->page_limit)
        error = E_LIMIT;
    else if (state & STATE_TAKEN && !STATE_BINDINGS(state) && !STATE_PINS(state)) /* and no other CPU has given up, or freed it */
        error = revoke_due(env, RESOURCE_PAGES);
    if (!error) {
        *saved = page_type(page_get(page)) == PAGE_DEVICE ? 0 : save(env, page);
        page_take_end(page, env, taker);
        revoke_lost(env, RESOURCE_PAGES, page, generation, *saved);
        env->request[RESOURCE_PAGES].left--;
    } else if (page_owner(page_get(page)) == env->self) {
        page_take_end(page, NULL, NULL); /* it stays as it is */
    }
    env_unlock_two(env, taker);
    return error;
}

static s64 take_page(struct env *env, struct env *taker, u32 page, u32 *saved) {
    env_lock(env);
    s64 error = begin(env, taker, page);
    env_unlock(env);
    if (error)
        return error;
    if (STATE_PINS(page_state(page_get(page))))
        flow_reclaim();
    if (!STATE_PINS(page_state(page_get(page)))) { /* what a device uses is left as it is; no other begins to use it */
        break_uses(env, page);
        repossess_last_mapping(page);
        u8 type = page_type(page_get(page));
        if (type == PAGE_CODE || (STATE_BINDINGS(page_state(page_get(page))) && type != PAGE_TABLE))
            return E_AGAIN;
    }
    return finish(env, taker, page, saved); /* BUSY: what is pinned, or a table that holds tables */
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
static s64 take(u64 cap, u64 at, bool *search) {
    struct env *env;
    struct taking t;

    TRY(env_target(cap, RIGHT_OWN, &env));
    if (env == current_env())
        return E_BAD_ARGUMENT;
    TRY(user_read(&t, at, sizeof t));
    TRY(user_writable(at, sizeof t));
    t.saved = 0;
    if (t.resource >= RESOURCES)
        t.result = E_BAD_ARGUMENT;
    else if (t.resource == RESOURCE_PAGES)
        t.result = (s32)take_page(env, current_env(), t.name, &t.saved);
    else
        t.result = (s32)take_other(env, t.resource, t.name);
    *search |= t.result == E_AGAIN;
    TRY(user_write(at, &t, sizeof t));
    return t.result != 0;
}

s64 call_repossess(u64 cap, u64 batch, u32 count) {
    s64 failed = 0;
    bool search = false;

    if (!count || count > TAKINGS_A_CALL || batch % 4)
        return E_BAD_ARGUMENT;
    for (u32 i = 0; i < count; i++) {
        s64 result = take(cap, batch + i * sizeof(struct taking), &search);
        if (result < 0)
            return i ? failed + count - i : result;
        failed += result;
    }
    if (search)
        repossess_sweep(&current_env()->sweep, NULL);
    return failed;
}
