/* Memory under pressure.
 *
 * A child begins with room for `pages` of its manifest line: that is its guarantee. It may ask for more, up to
 * `limit`. While init has room left it is a matter of limits alone. Otherwise the child that is furthest above
 * its guarantee (or as the manifest's `memory ask=` says) is asked to give pages back by a deadline; what it has not given by then is
 * taken. Its limit goes down first, so that what it gives is not allocated by it again. */
#include "init/memory.h"

#include "base/print.h"
#include "base/wait.h"
#include "machine/machine.h"

#define RESERVE 64       /* pages that init keeps for itself */
#define MOST_AT_ONCE 4096
#define RETRY_MS 5       /* after a page was busy */

static struct {
    bool wanted;
    u32 child, pages; /* who wants how many */
    s64 env;
    bool asking;
    u32 victim;       /* and who is asked */
    s64 victim_env;
    u64 deadline;
} now;

static u32 owned(u32 i) {
    const struct env *e = machine_env((u32)child[i].env);

    return e ? e->pages : 0;
}

static u32 most(u32 i) {
    const struct env *e = machine_env((u32)child[i].env);

    return e ? e->page_limit : 0;
}

static s64 set_limit(u32 i, u32 pages) {
    const struct env *e = machine_env((u32)child[i].env);

    return e ? sys_env_limit(&child[i].cap, pages, e->slice_limit) : E_DEAD;
}

/* Pages that init could still give room for. */
static u32 room(void) {
    const struct env *self = machine_env(rt_self());
    u32 limit = self->page_limit, pages = self->pages + RESERVE;

    return limit > pages ? limit - pages : 0;
}

/* How much a child could give: what it has above its guarantee. */
static u32 above(u32 i) {
    u32 guarantee = manifest.env[i].pages, has = owned(i);

    return child[i].env && has > guarantee ? has - guarantee : 0;
}

static u32 weight(u32 i) { return manifest.ask == ASK_LARGEST && above(i) ? owned(i) : above(i); }

/* The one to ask; MANIFEST_ENVS: nobody. */
static u32 choose_victim(void) {
    u32 best = MANIFEST_ENVS;

    for (u32 i = 0; i < manifest.envs && manifest.ask != ASK_NOBODY; i++)
        if (i != now.child && weight(i) && (best == MANIFEST_ENVS || weight(i) > weight(best)))
            best = i;
    return best;
}

static void ask(u32 i, u32 pages) {
    u32 count = above(i) < pages ? above(i) : pages;

    now.victim = i;
    now.victim_env = child[i].env;
    now.deadline = rt_tsc() + machine_info()->tsc_hz / 1000 * manifest.deadline_ms;
    set_limit(i, owned(i) - count);
    if (sys_revoke(&child[i].cap, RESOURCE_PAGES, count, now.deadline))
        return;
    print("init: %s is asked for %u pages, for %s\n", manifest.env[i].name, count, manifest.env[now.child].name);
    now.asking = true;
}

/* By force: data pages that are not vital, from the head of its list on. *more: the kernel is still looking for who
 * holds some of them. */
static u32 take(u32 i, u32 count, bool *more) {
    static struct taking taking[TAKINGS_A_CALL];
    const struct page *pages = machine_pages();
    const struct env *e = machine_env((u32)child[i].env);
    u32 n = 0, taken = 0, steps = 0;

    for (u32 page = e ? e->first_page : 0; page && n < TAKINGS_A_CALL && n < count; page = pages[page].next) {
        u64 state = pages[page].state;
        if (pages[page].owner != child[i].env || steps++ > machine_info()->pages)
            break; /* the list changes while it is read: look again later */
        if ((u8)state == PAGE_DATA && !(state >> 8 & FLAG_VITAL))
            taking[n++] = (struct taking){.resource = RESOURCE_PAGES, .name = page};
    }
    machine_forget();
    if (n)
        sys_repossess(&child[i].cap, taking, n);
    for (u32 k = 0; k < n; k++) {
        *more |= taking[k].result == E_AGAIN;
        if (!taking[k].result) {
            sys_page_free(0, taking[k].name, 1);
            taken++;
        }
    }
    return taken;
}

static void go_on_asking(void) {
    const struct env *e = machine_env((u32)child[now.victim].env);
    u32 left = child[now.victim].env == now.victim_env && e ? e->request[RESOURCE_PAGES].left : 0;

    if (!left) {
        set_limit(now.victim, most(now.victim)); /* what it has given returns with this */
        now.asking = false;
    } else if (rt_tsc() >= now.deadline) {
        bool more = false;
        u32 taken = take(now.victim, left, &more);
        if (taken || !more)
            print("init: %s did not answer: %u pages were taken\n", manifest.env[now.victim].name, taken);
        now.deadline = taken || more ? 0 : deadline_in(RETRY_MS);
    }
}

static void grant(void) {
    u32 i = now.child;

    if (child[i].env == now.env)
        set_limit(i, most(i) + now.pages);
    now.wanted = false;
}

s64 memory_want(u32 which, u32 pages) {
    if (now.wanted)
        return E_BUSY;
    if (!pages || pages > MOST_AT_ONCE || (u64)most(which) + pages > manifest.env[which].limit)
        return E_LIMIT;
    now.child = which;
    now.env = child[which].env;
    now.pages = pages;
    if (room() < pages && choose_victim() == MANIFEST_ENVS)
        return E_LIMIT;
    now.wanted = true;
    return 0;
}

u64 memory_step(void) {
    u64 again = NEVER;

    while (now.wanted && again == NEVER) {
        machine_forget();
        if (now.asking) {
            go_on_asking();
            if (now.asking)
                again = now.deadline > rt_tsc() ? now.deadline : rt_tsc();
        } else if (room() >= now.pages || child[now.child].env != now.env) {
            grant();
        } else {
            u32 victim = choose_victim();
            if (victim == MANIFEST_ENVS)
                now.wanted = false; /* nobody has anything above his guarantee any more */
            else
                ask(victim, now.pages - room());
        }
    }
    machine_forget();
    return again;
}
