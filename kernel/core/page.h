/* The page array: who owns each physical page, as what, and how many bindings and pins hold it.
 *
 * `state` of a descriptor (type, flags, pins, bindings) changes only by one compare-and-swap, so a
 * page is bound, pinned, retyped or freed atomically and without a lock. Owner, generation and
 * the list of an environment's pages change under that environment's lock. A page that is bound
 * or pinned can be neither freed nor given another use. The flags of a TABLE are its level. */
#pragma once
#include "lib/base.h"

#define STATE_TYPE(s) ((u8)(s))
#define STATE_LEVEL(s) ((u32)((s) >> 8) & 7) /* of a TABLE */
#define STATE_ZERO ((u64)FLAG_ZERO << 8)
#define STATE_TAKEN ((u64)FLAG_TAKEN << 8)
#define STATE_VITAL ((u64)FLAG_VITAL << 8)
#define STATE_PINS(s) (STATE_TYPE(s) == PAGE_TABLE ? 0 : (u16)((s) >> 16))
#define STATE_ENTRIES(s) ((u16)((s) >> 16)) /* of a TABLE: entries that are present */
#define STATE_BINDINGS(s) ((u32)((s) >> 32))
#define DATA_ZERO (u16)(PAGE_DATA | FLAG_ZERO << 8) /* for page_retype: of what is known to be zero */
#define STATE_ONE_PIN (1ull << 16)
#define STATE_ONE_BINDING (1ull << 32)

extern struct page *page_array;
extern u32 page_count; /* elements */
extern struct page *device_array; /* of the pages of devices, where those stand that lie beyond: see info->device */
extern u32 device_count;          /* its elements */

/* At boot, before pages can be allocated: sets up an array whose pages are all ABSENT. */
void page_init(struct page *array, u64 *free_map, u32 count);
/* At boot: says what a page is. FREE ones can be allocated from then on. */
void page_declare(u32 page, u8 type, u32 owner);

/* Whether `owner` has all of these pages: 0, E_BAD_ARGUMENT if there are no such pages, E_NO_RIGHT. */
s64 page_owned(u32 owner, u32 name, u32 count);
/* All registers survive it, so that those who ask for a page of memory save none. */
#ifdef HOST_TEST
#define SPARING
#else
#define SPARING __attribute__((no_caller_saved_registers, cold))
#endif
SPARING struct page *page_get_device(u32 page);
static inline struct page *page_get(u32 page) { /* NULL: no such page */
    return likely(page < page_count) ? &page_array[page] : page_get_device(page);
}
u64 page_free_word(u32 page); /* of the free map, the 64 bits of which it has one */
/* What can hold other pages: by mappings, by a ring and its buffers, by a sleeper on one of their words. */
static inline bool page_holds(u8 type) { return (1u << PAGE_TABLE | 1u << PAGE_FLOW | 1u << PAGE_ENV) >> type & 1; }
#define HOLDER_SUM 32768
extern u8 *holder_count;
extern u32 *holder_sum;
/* Counted before it is one and until it is none, so that none is ever passed over. */
static inline void page_count_holder(u32 page, u8 type, s32 more) {
    if (!page_holds(type) || page >= page_count)
        return;
    __atomic_fetch_add(&holder_sum[page / HOLDER_SUM], more, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&holder_count[page / 64], more, __ATOMIC_SEQ_CST);
}
u32 page_next_holder(u32 page); /* one after it, between which and it is none */
static inline u64 page_state(const struct page *p) { return __atomic_load_n(&p->state, __ATOMIC_SEQ_CST); }
static inline u8 page_type(const struct page *p) { return STATE_TYPE(page_state(p)); }
static inline u64 page_generation(const struct page *p) {
    return __atomic_load_n(&p->generation, __ATOMIC_SEQ_CST);
}
static inline u32 page_owner(const struct page *p) { return __atomic_load_n(&p->owner, __ATOMIC_SEQ_CST); }

/* One more of what holds a page, a count in its state whose bits are `all`, if it has this type still: 0, E_WRONG_TYPE, or
 * E_BUSY when it is being taken or has too many. */
static inline s64 page_hold(u32 page, u8 type, u64 all) {
    struct page *p = page_get(page);
    u64 old = page_state(p);

    do {
        if (unlikely(STATE_TYPE(old) != type || type == PAGE_FREE))
            return E_WRONG_TYPE;
        if (unlikely((old & all) == all || old & STATE_TAKEN))
            return E_BUSY;
    } while (!__atomic_compare_exchange_n(&p->state, &old, (old + (all & -all)) & ~STATE_ZERO, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return 0;
}
static inline s64 page_bind(u32 page, u8 type) { return page_hold(page, type, (u64)UINT32_MAX << 32); }
static inline void page_unbind(u32 page) {
    ASSERT(STATE_BINDINGS(page_state(page_get(page))) > 0);
    __atomic_fetch_sub(&page_get(page)->state, STATE_ONE_BINDING, __ATOMIC_SEQ_CST);
}
/* Of many: those listed, or (NULL) from the first on. */
static inline void page_unbind_all(const u32 *page, u32 first, u32 count) {
    while (count--)
        page_unbind(page ? page[count] : first + count);
}
static inline s64 page_pin(u32 page) { return page_hold(page, PAGE_DATA, (u64)UINT16_MAX << 16); } /* by a device */
void page_unpin(u32 page);

/* Sets or clears FLAG_VITAL; the owner's lock is held. 0, or E_BUSY if it is set already or the page is being taken. */
s64 page_set_vital(u32 page, bool vital);
static inline bool page_is_taken(u32 page) {
    struct page *p = page_get(page);
    return p && page_state(p) & STATE_TAKEN;
}
/* One of a list, or NULL: of a run. */
static inline bool page_any_taken(const u32 *page, u32 first, u32 count) {
    while (count && !page_is_taken(page ? page[count - 1] : first + count - 1))
        count--;
    return count;
}
/* Sets FLAG_TAKEN, so that no binding and no pin is added: 0 (also if it is set) or E_VITAL. Its owner's lock is held. */
s64 page_take_begin(u32 page);
/* Ends it. With `taker`: the page, which nothing holds, becomes its DATA; both locks are held. */
void page_take_end(u32 page, struct env *from, struct env *taker);

/* Changes the use of a page that `owner` owns, to a type and, shifted by 8, its flags: 0, E_NO_RIGHT, E_WRONG_TYPE, or E_BUSY when it is
 * pinned or has more than `bindings` bindings, or is DATA that is being taken. */
s64 page_change(u32 page, u32 owner, u8 from, u16 to, u32 bindings, u64 *was); /* without counting holders */
static inline s64 page_retype_from(u32 page, u32 owner, u8 from, u16 to, u32 bindings, u64 *was) { /* *was: the state before */
    page_count_holder(page, (u8)to, 1);
    s64 error = page_change(page, owner, from, to, bindings, was);
    page_count_holder(page, error ? (u8)to : from, -1);
    return error;
}
static inline s64 page_retype(u32 page, u32 owner, u8 from, u16 to, u32 bindings) {
    u64 was;
    return page_retype_from(page, owner, from, to, bindings, &was);
}
/* Fills it with zeros, if that state does not say that it is. */
void page_zero(u32 page, u64 was);
/* Begins a use of a DATA page that `owner` owns and that has at most so many bindings, which holds it by one more: 0 or as
 * page_retype. */
s64 page_use(u32 page, u32 owner, u8 type, u32 bindings);
/* Ends that use: the page is DATA again, or as `to` says. As long as it is in use it does not change hands, so this cannot fail. */
void page_end_use(u32 page, u8 type, u16 to);

/* Allocates count pages for env, by name or PAGE_ANY aligned to 2^order; zeroed, one new
 * generation. Takes env's lock. The first page, or E_NOT_FREE, E_LIMIT, E_DEAD. */
s64 page_take(struct env *env, u32 name, u32 count, u32 order);
/* Frees pages of env, whose lock is held, as far as they are DATA without binding or pin, also ones that are being taken: how many. */
u32 page_release_run(struct env *env, u32 name, u32 count);
/* One of this type, a TABLE with nothing in it: 0 or E_BUSY. */
s64 page_release(struct env *env, u32 page, u8 type);
/* Here is what the next allocation on this CPU may well use, if it is in the same line of the map as what it would use. */
void page_look_from(u32 page);
/* Moves pages that `from` owns to `to`; both locks held. With an error nothing moved. */
s64 page_move(struct env *from, struct env *to, u32 name, u32 count);
/* Puts a page into, or takes it out of, an environment's list; env's lock held. */
void page_link(struct env *env, u32 page);
void page_unlink(struct env *env, u32 page);
/* How many pages are free. Exact only when no other CPU allocates. */
u32 page_free_count(void);
/* A generation that no page and no capability has had. */
u64 page_new_generation(void);
