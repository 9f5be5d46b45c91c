/* Environments: what a library operating system runs in. The structure is the ENV page, which
 * everybody may read. Pointers to one are looked up anew in each kernel entry: env_destroy
 * waits until no CPU is inside an entry that began before (see quiesce). */
#pragma once
#include "core/cpu.h"
#include "core/lock.h"
#include "core/memory.h"

static inline struct env *env_of(u32 page) { return page_ptr(page); } /* of a page known to be an ENV page */
struct env *env_live(u32 page); /* NULL unless a live environment's page */

/* The CPUs that have an environment's space loaded, a bit each. */
u64 env_active(const struct env *e);

/* Interrupts the other CPUs that have its space loaded: they look at its life and at the upcalls that wait for it. */
void env_chase(struct env *e);

/* Sets bits of `pending` in the records for all CPUs. */
void env_mark(struct env *e, u8 what);
/* What `count` CPUs load to enter the space; takes a PCID where there are any. */
void env_set_roots(struct env *e, u32 count);
static inline void env_lock(struct env *e) { word_lock(&e->lock, LOCK_ENV); }
static inline bool env_try_lock(struct env *e) { return word_try_lock(&e->lock, LOCK_ENV); }
static inline void env_unlock(struct env *e) { word_unlock(&e->lock, LOCK_ENV); }
void env_lock_two(struct env *a, struct env *b); /* which may be the same */
void env_unlock_two(struct env *a, struct env *b);

/* The environment that a call is about: the caller (user 0) or a capability's with `rights`. */
s64 env_presented(u64 user, u8 rights, struct env **out);
static inline s64 env_target(u64 user, u8 rights, struct env **out) {
    *out = current_env();
    return likely(!user) ? 0 : env_presented(user, rights, out);
}
/* The same, and locks it; E_DEAD if it ended meanwhile. With an error nothing is locked. */
s64 env_lock_target(u64 user, u8 rights, struct env **out);

/* Stops an environment and tells its creator. It may be the current one: then the caller must
 * not return to it (schedule()). */
void env_end(struct env *e, u32 reason, u64 code);

/* Whether this is an environment whose creator is the current one. */
bool env_is_child(u32 page);
/* Gives a child of an environment that is being destroyed another creator. No lock may be held. */
void env_pass_on(struct env *child, const struct env *dying);

/* Uses a DATA page of the environment, whose lock is held, as its context on a CPU: 0, E_BUSY or as page_use. */
s64 env_bind_context(struct env *e, u32 n, u32 page);

/* Makes an environment of two DATA pages of `creator`, which are zeroed. */
s64 env_make(struct env *creator, u32 page, u32 root, const struct env_spec *spec);
