/* Environments: making, stopping and destroying them (docs/environments.md). */
#include "core/env.h"

#include "core/cap.h"
#include "core/cpu.h"
#include "core/event.h"
#include "core/info.h"
#include "core/load.h"
#include "core/lock.h"
#include "core/page.h"
#include "core/repossess.h"
#include "core/revoke.h"
#include "core/schedule.h"
#include "core/shootdown.h"
#include "core/space.h"
#include "core/trace.h"
#include "core/upcall.h"
#include "core/user.h"
#include "net/flow.h"
#include "targe/call_table.h"
#include "x86/apic.h"
#include "x86/fpu.h"
#include "x86/mmu.h"
#include "x86/interrupt.h"

#define PIECE 256   /* pages that one call of env_destroy handles */
#define BREAKS 8192 /* bindings that it breaks */

static struct lock list_lock = LOCK("environments", LOCK_ENVS);

struct env *env_live(u32 page) {
    struct page *p = page_get(page);

    if (!p || page_type(p) != PAGE_ENV)
        return NULL;
    struct env *e = env_of(page);
    return __atomic_load_n(&e->state, __ATOMIC_SEQ_CST) == ENV_LIVE ? e : NULL;
}

u64 env_active(const struct env *e) {
    u64 active = 0;

    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* what was changed before is seen by whoever loads the space after */
    for (u32 n = 0; n < cpu_count; n++) { /* the fast control transfer announces by its record what it loads */
        u64 runs = (u64)__atomic_load_n(&cpus[n]->record, __ATOMIC_SEQ_CST) / PAGE_SIZE * PAGE_SIZE;
        active |= (u64)(__atomic_load_n(&cpus[n]->env, __ATOMIC_SEQ_CST) == e || runs == (u64)e) << n;
    }
    return active;
}

void env_mark(struct env *e, u8 what) {
    for (u32 n = 0; n < cpu_count; n++)
        if (what != PENDING_STALE || cpus[n] != this_cpu() || current_env() != e) /* who has it loaded flushes it now */
            __atomic_fetch_or(&e->context[n].pending, what, __ATOMIC_SEQ_CST);
}

/* PCIDs that are in use. 0 is for those who get none: their translations go whenever CR3 is loaded. */
static u64 pcids[PCIDS / 64];

void env_set_roots(struct env *e, u32 count) {
    u64 root = phys_of_page(e->root).v;

    for (u32 id = 1; pcid_present && id < PCIDS; id++)
        if (!(__atomic_fetch_or(&pcids[id / 64], 1ull << id % 64, __ATOMIC_SEQ_CST) >> id % 64 & 1)) {
            root |= id | 1ull << CR3_KEEP;
            break;
        }
    for (u32 n = 0; n < count; n++) {
        e->context[n].root = root;
        e->context[n].pending = root >> CR3_KEEP ? PENDING_STALE : 0; /* whoever had the PCID before */
    }
}

void env_lock_two(struct env *a, struct env *b) {
    env_lock(a->self < b->self ? a : b);
    if (a != b)
        env_lock(a->self < b->self ? b : a);
}

void env_unlock_two(struct env *a, struct env *b) {
    env_unlock(a);
    if (a != b)
        env_unlock(b);
}

s64 env_presented(u64 user, u8 rights, struct env **out) {
    u32 name;

    TRY(cap_object(user, CAP_ENV, rights, PAGE_ENV, &name));
    *out = env_live(name);
    return *out ? 0 : E_DEAD;
}

s64 env_lock_target(u64 user, u8 rights, struct env **out) {
    TRY(env_target(user, rights, out));
    env_lock(*out);
    if ((*out)->state == ENV_LIVE)
        return 0;
    env_unlock(*out);
    return E_DEAD;
}

/* ---------------------------------------------------------------- making */

static void list_insert(struct env *e) {
    spin_lock(&list_lock);
    e->next = info->first_env;
    if (e->next)
        env_of(e->next)->prev = e->self;
    __atomic_store_n(&info->first_env, e->self, __ATOMIC_SEQ_CST);
    spin_unlock(&list_lock);
}

static void list_remove(struct env *e) {
    spin_lock(&list_lock);
    if (e->prev)
        env_of(e->prev)->next = e->next;
    else
        info->first_env = e->next;
    if (e->next)
        env_of(e->next)->prev = e->prev;
    spin_unlock(&list_lock);
}

/* The two pages change hands; limits move with them. Both can still fail, and then nothing has changed. */
static s64 take_from_creator(struct env *creator, u32 page, u32 root, const struct env_spec *spec) {
    if (creator->state != ENV_LIVE)
        return E_DEAD;
    if (creator->pages - 2ull + spec->page_limit > creator->page_limit ||
        (u64)creator->slices + spec->slice_limit > creator->slice_limit || spec->cpus & ~creator->cpus)
        return E_LIMIT;
    u64 page_was, root_was;

    TRY(page_retype_from(root, creator->self, PAGE_DATA, PAGE_TABLE | 4 << 8, 0, &root_was));
    s64 error = page_retype_from(page, creator->self, PAGE_DATA, PAGE_KERNEL, 0, &page_was); /* until it is filled in */
    if (error) {
        page_retype(root, creator->self, PAGE_TABLE, (u16)(PAGE_DATA | (root_was & STATE_ZERO)), 0);
        return error;
    }
    page_zero(root, root_was);
    page_zero(page, page_was);
    creator->page_limit -= spec->page_limit;
    creator->slice_limit -= spec->slice_limit;
    creator->children++;
    return 0;
}

s64 env_make(struct env *creator, u32 page, u32 root, const struct env_spec *spec) {
    env_lock(creator);
    s64 error = take_from_creator(creator, page, root, spec);
    if (error) {
        env_unlock(creator);
        return error;
    }
    struct env *e = env_of(page);
    memcpy(e->name, spec->name, sizeof e->name);
    e->self = page;
    e->creator = creator->self;
    e->creator_generation = page_generation(page_get(creator->self));
    e->root = root;
    env_set_roots(e, cpu_count);
    e->page_limit = spec->page_limit;
    e->slice_limit = spec->slice_limit;
    e->cpus = spec->cpus ? spec->cpus : creator->cpus;
    space_prepare(e);
    page_bind(root, PAGE_TABLE);
    page_unlink(creator, page);
    page_unlink(creator, root);
    page_link(e, root);
    page_link(e, page);
    page_get(page)->owner = page_get(root)->owner = page;
    page_get(page)->where = page_get(root)->where = 0;
    page_get(page)->generation = page_new_generation(); /* no capability for it as memory lives on */
    e->state = ENV_LIVE; /* before it can be found: another CPU of the creator may destroy it at once */
    page_retype(page, page, PAGE_KERNEL, PAGE_ENV, UINT32_MAX);
    env_unlock(creator);
    list_insert(e);
    trace(TRACE_ENV, 1, page);
    return page;
}

s64 call_env_create(u32 page, u32 root, u64 user_spec, u64 out) {
    struct env_spec spec;

    TRY(user_read(&spec, user_spec, sizeof spec));
    if (spec.page_limit < 2 || page == root)
        return E_BAD_ARGUMENT;
    if (out && user_writable(out, sizeof(struct cap)))
        return E_BAD_ADDRESS;
    s64 result = env_make(current_env(), page, root, &spec);
    if (result >= 0 && cap_grant(out, CAP_ENV, RIGHT_OWN | RIGHT_MANAGE, page, 1, page_generation(page_get(page))))
        return E_BAD_ADDRESS; /* unmapped meanwhile by another CPU of the caller: its own loss */
    return result;
}

s64 env_bind_context(struct env *env, u32 n, u32 page) {
    struct context *context = page_ptr(page);

    TRY(env->context[n].page ? E_BUSY : page_use(page, env->self, PAGE_CONTEXT, UINT32_MAX));
    context->env = env->self;
    context->cpu = n;
    context->info = page_of_phys(ptr_phys(info));
    fpu_reset(context);
    env->context[n].page = page;
    __atomic_store_n(&env->context[n].state, CONTEXT_READY, __ATOMIC_SEQ_CST);
    return 0;
}

s64 call_context_bind(u64 user, u32 n, u32 page) {
    struct env *env;

    TRY(n < cpu_count ? env_lock_target(user, RIGHT_MANAGE, &env) : E_BAD_ARGUMENT);
    s64 error = env_bind_context(env, n, page);
    env_unlock(env);
    if (!error)
        schedule_stir(cpus[n]);
    return error;
}

/* ---------------------------------------------------------------- ending */

static bool is_creator(const struct env *e, const struct page *creator) {
    return creator && page_generation(creator) == e->creator_generation;
}

bool env_is_child(u32 page) {
    struct page *p = page_get(page);
    u32 self = current_env()->self;

    return p && page_type(p) == PAGE_ENV && env_of(page)->creator == self && is_creator(env_of(page), page_get(self));
}

void env_chase(struct env *e) {
    for (u64 left = env_active(e); left; left &= left - 1) {
        struct cpu *cpu = cpus[__builtin_ctzll(left)];
        if (cpu != this_cpu())
            apic_send(cpu->apic, VECTOR_KICK);
    }
}

void env_end(struct env *e, u32 reason, u64 code) {
    env_lock(e);
    bool first = e->state == ENV_LIVE;
    u32 creator = e->creator;
    bool told = is_creator(e, page_get(creator));
    if (first) {
        e->end_reason = reason;
        e->end_code = code;
        __atomic_store_n(&e->state, ENV_STOPPED, __ATOMIC_SEQ_CST);
        env_mark(e, PENDING_ENDED);
    }
    env_unlock(e);
    if (!first)
        return;
    trace(TRACE_ENV, 2, e->self);
    env_chase(e);
    if (told)
        event_post(creator, EVENT_ENDED, e->self, reason, code);
}

s64 call_env_stop(u64 user, u64 code) {
    struct env *env;

    TRY(env_target(user, RIGHT_OWN, &env));
    env_end(env, END_STOPPED, code);
    if (env == current_env())
        schedule();
    return 0;
}

/* ---------------------------------------------------------------- destroying */

enum { PHASE_STOP, PHASE_RELEASE, PHASE_BINDINGS, PHASE_PAGES, PHASE_SWEEP, PHASE_GONE };

static void release_contexts(struct env *e) {
    for (u32 n = 0; n < cpu_count; n++) {
        struct env_context *record = &e->context[n];
        if (!record->page)
            continue;
        schedule_forget_sleep(record);
        page_end_use(record->page, PAGE_CONTEXT, PAGE_DATA);
        *record = (struct env_context){.root = record->root}; /* whose PCID last_page frees */
    }
}

/* Breaks what the environment's tables and flows hold, from the cursor on. */
static bool break_bindings(struct env *e) {
    u32 page = e->cursor ? e->cursor : e->first_page, work = BREAKS;

    for (u32 done = 0; page; page = page_get(page)->next) {
        struct page *p = page_get(page);
        bool whole = done++ < PIECE;
        if (whole && page_type(p) == PAGE_FLOW)
            flow_release(e->self, page);
        else if (whole && page_type(p) == PAGE_CODE)
            load_release(p->where);
        else if (whole && page_type(p) == PAGE_TABLE)
            whole = space_empty_table(page, &work);
        if (!whole) {
            e->cursor = page;
            return false;
        }
    }
    e->cursor = 0;
    return true;
}

/* Frees a page, or sees to it that nobody binds it anew. */
static void dispose(struct env *e, u32 page) {
    u64 state = page_state(page_get(page));
    u8 type = STATE_TYPE(state);

    if (STATE_PINS(state))
        flow_reclaim(); /* a device may be done with it by now */
    if (page == e->root) {
        e->root = 0;
        space_kernel_half(page, false);
        page_unbind(page);
    }
    if (state & STATE_VITAL)
        page_set_vital(page, false);
    if (page == e->self || type == PAGE_DEVICE || page_release(e, page, type == PAGE_TABLE ? PAGE_TABLE : PAGE_DATA))
        page_take_begin(page);
    else
        page_look_from(page); /* most of a small environment were tables: they are known to be zero */
}

static bool free_pages(struct env *e) {
    u32 page = e->cursor ? e->cursor : e->first_page;

    for (u32 done = 0; page; done++) {
        u32 next = page_get(page)->next;
        if (done == PIECE) {
            e->cursor = page;
            return false;
        }
        dispose(e, page);
        page = next;
    }
    e->cursor = 0;
    return true;
}

/* One piece of the search for whoever holds what is left, and for children. */
static void sweep(u32 name, u64 generation, u32 cursor) {
    bool all = repossess_sweep(&cursor, env_of(name));
    struct page *p = page_get(name);

    if (page_type(p) != PAGE_ENV || page_generation(p) != generation)
        return; /* another CPU has done all the rest meanwhile */
    struct env *e = env_of(name);
    env_lock(e);
    if (e->phase == PHASE_SWEEP) {
        e->cursor = cursor;
        if (all) {
            e->children = 0;
            e->phase = PHASE_PAGES;
        }
    }
    env_unlock(e);
}

#define LINE 16 /* creators' creators that are looked at */

/* The nearest of its creator, that one's creator and so on that lives; the current environment if there is none. */
static struct env *heir_of(const struct env *e) {
    for (u32 i = 0; i < LINE; i++) {
        struct page *p = page_get(e->creator);
        if (!is_creator(e, p) || page_type(p) != PAGE_ENV)
            break;
        e = env_of(e->creator);
        if (e->state != ENV_DYING)
            return (struct env *)e;
    }
    return current_env();
}

/* DEVICE pages are never free: once nobody holds them they go to the heir, with the room for them. */
static void pass_devices(struct env *e) {
    struct env *heir = heir_of(e);

    env_lock_two(e, heir);
    for (u32 page = e->first_page, next, done = 0; page && done < PIECE && e->phase == PHASE_SWEEP; page = next, done++) {
        next = page_get(page)->next;
        if (page_type(page_get(page)) != PAGE_DEVICE || STATE_BINDINGS(page_state(page_get(page))))
            continue;
        page_take_end(page, e, heir);
        page_get(page)->generation = page_generation(page_get(e->self)); /* one for all, that no capability for them has had */
        u32 *room = e->page_debt ? &e->page_debt : &e->page_limit;
        heir->page_limit += *room > 0;
        *room -= *room > 0;
    }
    env_unlock_two(e, heir);
}

/* The heir, living now, does not get beyond PHASE_STOP before this entry is over: if it begins to die, its own search for children
 * comes after. One who destroys his own creator, who had none that lives, has none from then on. */
void env_pass_on(struct env *child, const struct env *dying) {
    struct env *to = heir_of(dying);
    bool stopped = false;

    env_lock_two(child, to);
    if (child->phase != PHASE_GONE && child->creator == dying->self && is_creator(child, page_get(dying->self))) {
        child->creator_generation = child == to ? 0 : page_generation(page_get(to->self));
        child->creator = child == to ? 0 : to->self;
        to->children += child != to;
        stopped = child->state != ENV_LIVE;
    }
    env_unlock_two(child, to);
    if (stopped)
        event_post(to->self, EVENT_ENDED, child->self, child->end_reason, child->end_code);
}

/* Limits go back the same way as children. */
static void return_limits(const struct env *e) {
    struct env *to = heir_of(e);

    env_lock(to);
    to->page_limit += e->page_limit + e->page_debt;
    to->slice_limit += e->slice_limit + e->slice_debt;
    if (to->self == e->creator && to->children)
        to->children--;
    env_unlock(to);
}

/* The heir has the page for a moment, so that it is somebody's. */
static void last_page(struct env *e, struct env *heir) {
    u32 page = e->self, id = e->context[0].root % PCIDS;

    return_limits(e);
    list_remove(e);
    env_lock_two(e, heir); /* somebody may be walking its pages still */
    page_unlink(e, page);
    page_link(heir, page);
    page_get(page)->owner = heir->self;
    page_get(page)->generation = page_new_generation();
    /* As a KERNEL page it gets no new mapping, and nobody changes what others read in it as an environment. */
    page_retype(page, heir->self, PAGE_ENV, PAGE_KERNEL, 0);
    env_unlock_two(e, heir);
    quiesce(); /* nobody looks at it as an environment any more */
    __atomic_fetch_and(&pcids[id / 64], ~(1ull << id % 64), __ATOMIC_SEQ_CST);
    env_lock(heir);
    CHECK(!page_release(heir, page, PAGE_KERNEL));
    env_unlock(heir);
    trace(TRACE_ENV, 3, page);
}

s64 call_env_destroy(u64 cap) {
    u32 name;
    struct env *heir = current_env();

    TRY(cap_object(cap, CAP_ENV, RIGHT_OWN, PAGE_ENV, &name));
    struct env *e = env_of(name);
    struct page *p = page_get(name);
    u64 generation = page_generation(p);
    if (e == heir)
        return E_BAD_ARGUMENT;
    env_lock(e);
    if (e->phase == PHASE_GONE) {
        env_unlock(e);
        return E_DEAD;
    }
    if (e->phase == PHASE_STOP) {
        __atomic_store_n(&e->state, ENV_DYING, __ATOMIC_SEQ_CST);
        env_unlock(e);
        env_chase(e);
        quiesce();
        if (page_type(p) != PAGE_ENV || page_generation(p) != generation)
            return E_DEAD; /* another CPU has done all the rest meanwhile */
        env_lock(e);
        if (e->phase == PHASE_STOP && !env_active(e))
            e->phase = PHASE_RELEASE;
    }
    if (e->phase == PHASE_RELEASE && flow_unbind_all(e->self)) {
        schedule_free_slices(e);
        release_contexts(e);
        event_unbind(e, &e->event_page);
        event_unbind(e, &e->loss_page);
        e->phase = PHASE_BINDINGS;
    }
    if (e->phase == PHASE_BINDINGS && break_bindings(e))
        e->phase = PHASE_PAGES;
    bool last = false;
    if (e->phase == PHASE_PAGES && free_pages(e)) {
        last = e->pages == 1 && !STATE_BINDINGS(page_state(p)) && !e->children; /* its own page is all, and nobody looks at it */
        e->phase = last ? PHASE_GONE : PHASE_SWEEP;
    }
    u32 cursor = e->cursor;
    bool searching = e->phase == PHASE_SWEEP;
    env_unlock(e);
    if (searching) {
        pass_devices(e);
        sweep(name, generation, cursor);
    }
    if (last)
        last_page(e, heir);
    return last ? 0 : E_AGAIN;
}
