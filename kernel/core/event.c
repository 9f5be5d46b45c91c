/* Event rings and loss pages lie in pages of their libOS; what the kernel has written there, it counts for itself. */
#include "core/event.h"

#include "core/env.h"
#include "core/lock.h"
#include "core/page.h"
#include "core/schedule.h"
#include "targe/call_table.h"
#include "x86/io.h"

void event_post(u32 to, u32 type, u32 about, u64 a, u64 b) {
    struct env *env = env_live(to);

    if (!env)
        return;
    word_lock(&env->event_lock, LOCK_EVENT);
    if (env->event_page) {
        struct event_ring *ring = page_ptr(env->event_page);
        if (env->event_count - __atomic_load_n(&ring->consumed, __ATOMIC_ACQUIRE) >= EVENTS) {
            ring->lost++;
        } else {
            ring->event[env->event_count % EVENTS] = (struct event){type, about, a, b, rdtsc()};
            __atomic_store_n(&ring->produced, ++env->event_count, __ATOMIC_SEQ_CST);
        }
    }
    word_unlock(&env->event_lock, LOCK_EVENT);
    event_delivered(env);
}

void event_delivered(struct env *to) {
    /* Before schedule_wake looks who sleeps: that CPU looks the other way round. */
    __atomic_fetch_add(&to->deliveries, 1, __ATOMIC_SEQ_CST);
    schedule_wake(to);
}

bool event_half_full(u32 to) {
    const struct env *env = env_live(to);
    u32 page = env ? env->event_page : 0;

    return page && env->event_count - ((const volatile struct event_ring *)page_ptr(page))->consumed >= EVENTS / 2;
}

/* ---------------------------------------------------------------- binding event rings and loss pages */

void event_unbind(struct env *env, u32 *place) {
    word_lock(&env->event_lock, LOCK_EVENT);
    u32 page = *place;
    *place = 0;
    word_unlock(&env->event_lock, LOCK_EVENT);
    if (page)
        page_end_use(page, PAGE_RING, PAGE_DATA);
}

static s64 bind(u64 user, u32 page, bool losses) {
    struct env *env;
    s64 error = 0;

    TRY(env_lock_target(user, RIGHT_MANAGE, &env));
    u32 *place = losses ? &env->loss_page : &env->event_page;
    if (!page)
        event_unbind(env, place);
    else
        error = *place ? E_BUSY : page_use(page, env->self, PAGE_RING, UINT32_MAX);
    if (page && !error) {
        word_lock(&env->event_lock, LOCK_EVENT);
        struct event_ring *ring = page_ptr(page);
        struct losses *l = page_ptr(page);
        if (losses)
            l->written = l->read = l->used = env->saves = 0;
        else
            ring->produced = ring->consumed = ring->lost = env->event_count = 0;
        *place = page;
        word_unlock(&env->event_lock, LOCK_EVENT);
    }
    env_unlock(env);
    return error;
}

s64 call_event_bind(u64 user, u32 page) { return bind(user, page, false); }
s64 call_loss_bind(u64 user, u32 page) { return bind(user, page, true); }
