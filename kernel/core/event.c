/* Event rings lie in pages of their libOS; the count of events is the kernel's own. */
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
    event_delivered(to);
}

void event_delivered(u32 to) {
    struct env *env = env_live(to);

    if (!env)
        return;
    /* Before schedule_wake looks who sleeps: that CPU looks the other way round. */
    __atomic_fetch_add(&env->deliveries, 1, __ATOMIC_SEQ_CST);
    schedule_wake(env);
}

void event_release(struct env *env) {
    word_lock(&env->event_lock, LOCK_EVENT);
    u32 page = env->event_page;
    env->event_page = 0;
    word_unlock(&env->event_lock, LOCK_EVENT);
    if (page)
        page_end_use(page, PAGE_RING, PAGE_DATA);
}

s64 call_event_bind(u64 user, u32 page) {
    struct env *env;
    s64 error = 0;

    TRY(env_lock_target(user, RIGHT_MANAGE, &env));
    if (!page)
        event_release(env);
    else
        error = env->event_page ? E_BUSY : page_use(page, env->self, PAGE_RING, UINT32_MAX);
    if (page && !error) {
        struct event_ring *ring = page_ptr(page);
        ring->produced = env->event_count = 0;
        ring->consumed = ring->lost = 0;
        word_lock(&env->event_lock, LOCK_EVENT);
        env->event_page = page;
        word_unlock(&env->event_lock, LOCK_EVENT);
    }
    env_unlock(env);
    return error;
}
