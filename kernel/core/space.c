/* Batched updates of address spaces.
 *
 * A present entry at level 1 is one binding of the page that it maps, a large one at level 2 is one of each
 * of its 512 pages; a bound table is one binding of the table page. Order, so that a page is never free while some CPU can reach it: bind the
 * page, then check that the authority still holds, then write the entry; and the other way round, clear
 * the entry, flush it from every CPU, then unbind. */
#include "core/space.h"

#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/revoke.h"
#include "core/shootdown.h"
#include "core/user.h"
#include "targe/call_table.h"
#include "x86/mmu.h"

#define LARGE 512 /* pages of a large mapping */

static u32 index_of(u64 va, u32 level) { return va >> (3 + 9 * level) & 511; }
static u64 *table_of(u64 entry) { return phys_ptr((phys){entry & PTE_ADDRESS}); }
static u32 page_of(u64 entry) { return page_of_phys((phys){entry & PTE_ADDRESS}); }

/* A table leaves the space. */
static void forget_leaf(struct env *env) { env->leaf_covers = ~0ull; }

void space_kernel_half(u32 root, bool there) {
    static const u64 at[] = {DIRECT_BASE, DEVICE_BASE, KERNEL_BASE};

    for (u32 i = 0; i < ARRAY_SIZE(at); i++)
        ((u64 *)page_ptr(root))[index_of(at[i], 4)] = there ? kernel_root[index_of(at[i], 4)] : 0;
}

void space_prepare(struct env *env) {
    forget_leaf(env);
    space_kernel_half(env->root, true);
}

/* The table of `level` that covers va, or NULL. */
static inline u64 *find_table(u32 root, u64 va, u32 level) {
    u64 *table = page_ptr(root);

#pragma GCC unroll 3
    for (u32 l = 4; l > level; l--) {
        u64 entry = table[index_of(va, l)];
        if (unlikely((entry & (l == 2 ? PTE_PRESENT | PTE_LARGE : PTE_PRESENT)) != PTE_PRESENT))
            return NULL;
        table = table_of(entry);
    }
    return table;
}

static NOINLINE u64 *find_leaf(struct env *env, u64 va) {
    u64 *table = find_table(env->root, va, 1);

    if (table) {
        env->leaf = (u64)table;
        env->leaf_covers = va / (LARGE * PAGE_SIZE);
    }
    return table;
}

/* The entry of level 1 for va, or NULL where there is no table; env's lock is held. The table that was used last is
 * remembered: a walk costs more than all the rest. */
static inline u64 *leaf_entry(struct env *env, u64 va) {
    u64 *table = likely(env->leaf_covers == va / (LARGE * PAGE_SIZE)) ? (u64 *)env->leaf : find_leaf(env, va);

    return likely(table) ? &table[index_of(va, 1)] : NULL;
}

/* The entry of a level for va, or NULL where there is no table. */
static u64 *entry_at(u32 root, u64 va, u32 level) {
    u64 *table = find_table(root, va, level);

    return table ? &table[index_of(va, level)] : NULL;
}

static bool is_large(u64 entry) { return (entry & (PTE_PRESENT | PTE_LARGE)) == (PTE_PRESENT | PTE_LARGE); }

u64 space_translate(u32 root, u64 at) {
    const u64 *table = page_ptr(root);

    for (u32 level = 4;; level--) {
        u64 entry = __atomic_load_n(&table[index_of(at, level)], __ATOMIC_SEQ_CST);
        if (!(entry & PTE_PRESENT) || level == 1)
            return entry & PTE_PRESENT ? entry : 0;
        if (entry & PTE_LARGE)
            return entry + at % (LARGE * PAGE_SIZE) / PAGE_SIZE * PAGE_SIZE;
        table = table_of(entry);
    }
}

/* What bits of map_flag need of what was granted. */
static inline u64 wanted(u32 flags) { return flags * PTE_MAY_WRITE; }
_Static_assert(MAP_WRITE * PTE_MAY_WRITE == PTE_MAY_WRITE && MAP_EXECUTE * PTE_MAY_WRITE == PTE_MAY_EXECUTE, "wanted");

/* And what they are in an entry. */
static inline u64 access_of(u32 flags) { return (flags & MAP_WRITE ? PTE_WRITE : 0) | (flags & MAP_EXECUTE ? 0 : mmu_nx); }

static u32 span_of(const struct update *u) { return u->level ? LARGE : u->count; }

/* The part of an update's range from its page i on that one table has: its entries, or NULL where there is no table. */
static inline u64 *part_of(struct env *env, const struct update *u, u32 i, u32 *count) {
    u64 va = u->va + i * PAGE_SIZE;

    if (unlikely(u->level)) {
        u64 *entry = entry_at(env->root, va, 2);
        *count = 1;
        return entry && is_large(*entry) ? entry : NULL;
    }
    *count = (u32)min_u64(u->count - i, 512 - index_of(va, 1));
    return leaf_entry(env, va);
}

/* From here until they are let go the entries are not present but hold the address; else such an entry is 0. */
static inline u64 hide_entries(u64 *entry, u32 count) {
    u64 any = 0;

    for (u64 *end = entry + count; entry < end; entry++) {
        any |= *entry;
        *(volatile u64 *)entry = *entry & ~PTE_PRESENT;
    }
    return any;
}

/* How many entries of a table are present stands in the table's state. */
static inline void count_entries(const u64 *entry, u64 more) {
    __atomic_fetch_add(&page_array[page_of_phys(ptr_phys(entry))].state, more * STATE_ONE_PIN, __ATOMIC_SEQ_CST);
}

static u32 entries_of(u32 table) { return STATE_ENTRIES(page_state(page_get(table))); }

static inline void let_go(u64 *entry, u32 count) {
    const u64 *first = entry;
    u64 gone = 0;

    for (u64 *end = entry + count; entry < end; entry++) {
        u64 was = *entry;
        if (!was || was & PTE_PRESENT)
            continue;
        *entry = 0;
        page_unbind(page_of(was));
        gone++;
    }
    count_entries(first, -gone);
}

static NOINLINE void unmap(struct env *env, u64 va, u32 count) {
    const struct update u = {.va = va, .count = count};
    u64 any = 0, *entry;
    u32 n;

    for (u32 i = 0; i < count; i += n)
        if ((entry = part_of(env, &u, i, &n)))
            any |= hide_entries(entry, n);
    if (!any)
        return;
    shootdown(env, va, count);
    for (u32 i = 0; i < count; i += n)
        if ((entry = part_of(env, &u, i, &n)))
            let_go(entry, n);
}

/* What PROTECT may give later to a mapping of a page of this type (PTE_MAY_...), or an error if an environment may not map
 * it, with a capability or as its owner. */
static inline s64 permitted(const struct env *env, const struct page *p, u8 type, const struct cap *cap) {
    if (likely(type == PAGE_DATA && !cap))
        return page_owner(p) == env->self ? (s64)(PTE_MAY_EXECUTE | PTE_MAY_WRITE) : E_NO_RIGHT;
    if (cap && (type == PAGE_DATA || type == PAGE_DEVICE)) {
        u64 granted = (type == PAGE_DATA ? PTE_MAY_EXECUTE : 0) | (cap->rights & RIGHT_WRITE ? PTE_MAY_WRITE : 0);
        return page_generation(p) == cap->generation ? (s64)granted : E_BAD_CAPABILITY;
    }
    if (type == PAGE_CONTEXT || type == PAGE_RING || type == PAGE_DEVICE)
        return page_owner(p) == env->self ? (s64)PTE_MAY_WRITE : E_NO_RIGHT;
    if (type == PAGE_TABLE)
        return page_owner(p) == env->self ? 0 : E_NO_RIGHT;
    return type == PAGE_ENV || type == PAGE_FLOW || type == PAGE_EXPOSED ? 0 : E_WRONG_TYPE;
}

/* One binding more of a page of this type: what is granted, or an error. */
static NOINLINE s64 bind(const struct env *env, u32 page, u8 type, u32 flags, const struct cap *cap) {
    const struct page *p = page_get(page);
    s64 granted = permitted(env, p, type, cap);

    if (granted >= 0 && wanted(flags) & ~(u64)granted)
        return E_NO_RIGHT;
    if (granted >= 0 && page_is_taken(page))
        revoke_let_go(env, page);
    TRY(granted < 0 ? granted : page_bind(page, type));
    granted = permitted(env, p, type, cap); /* now it can no longer change its type */
    if (granted < 0)
        page_unbind(page);
    return granted;
}

/* Maps pages from u->page + *done on, and counts them there. A page of DATA of the environment's own is the common case; with
 * its lock held the page stays its own. */
static inline s64 map_entries(struct env *env, const struct update *u, const struct cap *cap, u64 *entry, u32 count, u32 *done) {
    u64 bits = PTE_PRESENT | PTE_USER | access_of(u->flags);
    u32 table = page_of_phys(ptr_phys(entry)), page = u->page + *done;

    for (u64 *end = entry + count; entry < end; entry++, page++, ++*done) {
        struct page *p = page_get(page);
        if (unlikely(*entry & PTE_PRESENT))
            return E_MAPPED;
        if (unlikely(!p))
            return E_BAD_ARGUMENT;
        s64 granted = PTE_MAY_WRITE | PTE_MAY_EXECUTE;
        u8 type = PAGE_DATA;
        if (unlikely(cap || page_owner(p) != env->self || page_bind(page, PAGE_DATA))) {
            type = page_type(p); /* read once: what was permitted is what is bound */
            granted = bind(env, page, type, u->flags, cap);
            if (granted < 0)
                return granted;
            granted |= type == PAGE_DEVICE ? PTE_UNCACHED : 0;
        }
        __atomic_store_n(entry, (u64)page << PAGE_SHIFT | bits | (u64)granted, __ATOMIC_RELEASE);
        if (likely(type != PAGE_TABLE))
            p->where = table; /* where repossession looks first */
    }
    return 0;
}

/* ---------------------------------------------------------------- large mappings */

static NOINLINE s64 map_large(struct env *env, const struct update *u, const struct cap *cap) {
    u64 *entry = entry_at(env->root, u->va, 2);
    s64 granted = 0;

    if (!entry)
        return E_NO_TABLE;
    if (*entry & PTE_PRESENT)
        return E_MAPPED;
    if (!page_get(u->page) || !page_get(u->page + LARGE - 1))
        return E_BAD_ARGUMENT;
    for (u32 i = 0; i < LARGE; i++) {
        granted = bind(env, u->page + i, PAGE_DATA, u->flags, cap);
        if (granted < 0) {
            page_unbind_all(NULL, u->page, i);
            return granted;
        }
    }
    __atomic_store_n(entry, (u64)u->page << PAGE_SHIFT | PTE_PRESENT | PTE_USER | PTE_LARGE | access_of(u->flags) | (u64)granted, __ATOMIC_SEQ_CST);
    count_entries(entry, 1);
    for (u32 i = 0; i < LARGE; i++)
        page_get(u->page + i)->where = page_of_phys(ptr_phys(entry));
    return 0;
}

static void remove_large(struct env *env, u64 *entry, u64 va) {
    u32 first = page_of(*entry);

    __atomic_store_n(entry, 0, __ATOMIC_SEQ_CST);
    count_entries(entry, -1ull);
    shootdown(env, va, LARGE);
    page_unbind_all(NULL, first, LARGE);
}

static NOINLINE s64 map_range(struct env *env, const struct update *u, const struct cap *cap) {
    s64 error = 0;
    u32 n;

    for (u32 i = 0, done = 0; i < u->count && !error; i += n) {
        u64 *entry = part_of(env, u, i, &n);
        error = entry ? map_entries(env, u, cap, entry, n, &done) : E_NO_TABLE;
        if (likely(entry))
            count_entries(entry, done - i);
        if (unlikely(error && done))
            unmap(env, u->va, done);
    }
    return error;
}

static NOINLINE s64 map_with(struct env *env, const struct update *u) {
    struct cap cap;

    TRY(cap_present(u->cap, CAP_PAGE, RIGHT_READ, &cap));
    if (u->page < cap.name || (u64)u->page + span_of(u) > (u64)cap.name + cap.count)
        return E_BAD_CAPABILITY;
    return u->level ? map_large(env, u, &cap) : map_range(env, u, &cap);
}

/* ---------------------------------------------------------------- bits of mappings */

/* The bits that all of some entries have; at least one. */
static inline u64 common(const u64 *entry, u64 count) {
    const u64 *end = entry + count;
    u64 all = ~0ull;

    do
        all &= *entry;
    while (++entry < end);
    return all;
}

/* Only who holds the lock changes these bits, but the CPU may set accessed and dirty bits at any time. */
static inline void set_access(u64 *entry, u64 count, u32 flags) {
    u64 access = access_of(flags), *end = entry + count;

    do
        __atomic_fetch_xor(entry, (*entry ^ access) & (PTE_WRITE | PTE_NX), __ATOMIC_SEQ_CST);
    while (++entry < end);
}

static NOINLINE s64 protect(struct env *env, const struct update *u) {
    u32 n, count = u->level ? 1 : u->count;
    u64 all = ~0ull, *entry;

    for (u32 i = 0; i < count; i += n) {
        entry = part_of(env, u, i, &n);
        all &= entry ? common(entry, n) : 0;
    }
    u64 needed = PTE_PRESENT | wanted(u->flags);
    if ((all & needed) != needed)
        return all & PTE_PRESENT ? E_NO_RIGHT : E_NOT_MAPPED;
    for (u32 i = 0; i < count; i += n) {
        entry = part_of(env, u, i, &n);
        set_access(entry, n, u->flags);
    }
    shootdown(env, u->va, span_of(u));
    return 0;
}

/* A CPU that still knows a page as dirty would not say so again: so this is flushed too. */
static NOINLINE s64 clean(struct env *env, const struct update *u) {
    u64 any = 0, *entry;
    u32 n, count = u->level ? 1 : u->count;

    for (u32 i = 0; i < count; i += n) {
        entry = part_of(env, u, i, &n);
        for (u32 k = 0; entry && k < n; k++)
            if (entry[k] & (PTE_ACCESSED | PTE_DIRTY))
                any |= __atomic_fetch_and(&entry[k], ~(PTE_ACCESSED | PTE_DIRTY), __ATOMIC_SEQ_CST);
    }
    if (any)
        shootdown(env, u->va, span_of(u));
    return 0;
}

static NOINLINE s64 bind_table(struct env *env, const struct update *u) {
    u64 was, *entry = entry_at(env->root, u->va, u->level + 1u);

    if (!entry)
        return E_NO_TABLE;
    if (*entry & PTE_PRESENT)
        return E_MAPPED;
    TRY(page_retype_from(u->page, env->self, PAGE_DATA, (u16)(PAGE_TABLE | u->level << 8), 0, &was));
    page_zero(u->page, was);
    page_get(u->page)->where = page_of_phys(ptr_phys(entry));
    s64 error = page_bind(u->page, PAGE_TABLE);
    ASSERT(!error);
    __atomic_store_n(entry, (u64)u->page << PAGE_SHIFT | PTE_PRESENT | PTE_WRITE | PTE_USER, __ATOMIC_SEQ_CST);
    count_entries(entry, 1);
    return 0;
}

/* Takes a table with no tables in it out of its parent. */
static void detach(struct env *env, u64 *entry) {
    u32 table = page_of(*entry), work = 512;

    __atomic_store_n(entry, 0, __ATOMIC_SEQ_CST);
    count_entries(entry, -1ull);
    forget_leaf(env);
    shootdown(env, 0, PAGES_A_CALL); /* wherever in the space: from here on no CPU reaches what it maps */
    space_empty_table(table, &work);
    page_get(table)->where = 0;
    page_end_use(table, PAGE_TABLE, DATA_ZERO);
}

static NOINLINE s64 unbind_table(struct env *env, const struct update *u) {
    u64 *entry = entry_at(env->root, u->va, u->level + 1u);

    if (!entry || !(*entry & PTE_PRESENT) || *entry & PTE_LARGE)
        return E_NOT_MAPPED;
    u32 page = page_of(*entry);
    if (STATE_BINDINGS(page_state(page_get(page))) > 1) /* its owner still maps it */
        return E_BUSY;
    if (u->level > 1 && entries_of(page))
        return E_BUSY;
    detach(env, entry);
    return 0;
}

static inline s64 apply(struct env *env, const struct update *u) {
    bool on_pages = u->op != UPDATE_BIND_TABLE && u->op != UPDATE_UNBIND_TABLE;
    u64 *entry;
    u32 n;

    if (unlikely(u->va % PAGE_SIZE || u->count - 1 >= PAGES_A_CALL || u->va > USER_TOP - u->count * PAGE_SIZE ||
                 u->flags & ~(MAP_WRITE | MAP_EXECUTE)))
        return E_BAD_ARGUMENT;
    if (on_pages && u->level && (u->level != 1 || u->count != 1 || u->va % (LARGE * PAGE_SIZE) ||
                                 u->va > USER_TOP - LARGE * PAGE_SIZE || u->page % LARGE))
        return E_BAD_ARGUMENT;
    if (!on_pages && (u->level < 1 || u->level > 3 || u->flags || u->count != 1 || u->cap))
        return E_BAD_ARGUMENT;
    switch (u->op) {
    case UPDATE_PROTECT:
        return u->page || u->cap ? E_BAD_ARGUMENT : protect(env, u);
    case UPDATE_MAP:
        if (u->cap)
            return map_with(env, u);
        return u->level ? map_large(env, u, NULL) : map_range(env, u, NULL);
    case UPDATE_UNMAP:
        if (u->flags || u->page || u->cap)
            return E_BAD_ARGUMENT;
        if (!u->level)
            unmap(env, u->va, u->count);
        else if ((entry = part_of(env, u, 0, &n)))
            remove_large(env, entry, u->va);
        return 0;
    case UPDATE_CLEAN:
        return u->flags || u->page || u->cap ? E_BAD_ARGUMENT : clean(env, u);
    case UPDATE_BIND_TABLE: return bind_table(env, u);
    case UPDATE_UNBIND_TABLE: return u->page ? E_BAD_ARGUMENT : unbind_table(env, u);
    default: return E_BAD_ARGUMENT;
    }
}

s64 space_apply(struct env *env, const struct update *u) { return apply(env, u); }

/* One large mapping with a page that is taken goes as a whole. */
void space_remove_taken(struct env *env, u32 table) {
    u32 level = STATE_LEVEL(page_state(page_get(table))), left = level <= 2 ? entries_of(table) : 0, end = 0;
    u64 *entry = page_ptr(table);

    for (u32 i = 0; left && i < 512; i++) {
        if (!(entry[i] & PTE_PRESENT))
            continue;
        left--;
        if (level == 2 && is_large(entry[i]) && page_any_taken(NULL, page_of(entry[i]), LARGE))
            remove_large(env, &entry[i], 0);
        else if (level == 1 && page_is_taken(page_of(entry[i])) && hide_entries(&entry[i], 1))
            end = i + 1;
    }
    if (!end)
        return;
    shootdown(env, 0, PAGES_A_CALL); /* wherever in the space: all is flushed */
    let_go(entry, end);
}

void space_detach_table(struct env *env, u32 table) {
    const struct page *p = page_get(table);
    u64 *entry = page_ptr(p->where);

    if (!p->where || (STATE_LEVEL(page_state(p)) > 1 && entries_of(table)))
        return;
    for (u64 *end = entry + 512; entry < end; entry++)
        if (*entry & PTE_PRESENT && !(*entry & PTE_LARGE) && page_of(*entry) == table) {
            detach(env, entry);
            return;
        }
}

bool space_empty_table(u32 table, u32 *work) {
    u64 *entry = page_ptr(table);
    u32 count, gone = 0, all = entries_of(table);

    for (; gone < all; entry++) {
        CHECK(entry < (u64 *)page_ptr(table) + 512);
        if (!(*entry & PTE_PRESENT))
            continue;
        count = is_large(*entry) ? LARGE : 1;
        if (count > *work)
            break;
        *work -= count;
        page_unbind_all(NULL, page_of(*entry), count);
        *entry = 0;
        gone++;
    }
    count_entries(page_ptr(table), -(u64)gone);
    return gone == all;
}

static inline bool is_plain(const struct words *w) {
    return ((u32)w->head & ~((MAP_WRITE | MAP_EXECUTE) << 16)) == UPDATE_PROTECT;
}

/* PROTECT of pages that the table that was used last maps, with nothing wrong about it: the number of pages, and all but
 * flushing is done. Or 0, and nothing was done. */
static inline u64 protect_plain(struct env *env, const struct words *w) {
    u64 n = w->pages >> 32 | w->pages << 32; /* the page, which is to be 0, above the count */
    u32 flags = (u32)w->head >> 16;
    u64 needed = PTE_PRESENT | wanted(flags);

    if (unlikely(w->cap || n - 1 >= LARGE || w->va & ~USER_TOP || index_of(w->va, 1) + n > LARGE ||
                 env->leaf_covers != w->va / (LARGE * PAGE_SIZE)))
        return 0;
    u64 *entry = (u64 *)env->leaf + index_of(w->va, 1);
    if (unlikely((common(entry, n) & needed) != needed))
        return 0;
    set_access(entry, n, flags);
    return n;
}
_Static_assert((USER_TOP & (USER_TOP + PAGE_SIZE)) == 0 && USER_TOP % PAGE_SIZE == 0, "USER_TOP is a mask");

/* Tells the result of an element that failed: 1, or an error if that cannot be written. */
static NOINLINE s64 report(u64 at, s32 result) {
    s64 error = user_write(at + offsetof(struct update, result), &result, sizeof result);

    return error ? error : 1;
}

/* Any element: 0, or as report. */
static NOINLINE s64 update_one(struct env *env, u64 at, u64 head, u64 va, u64 pages, u64 cap) {
    struct words w = {head, va, pages, cap};
    struct update u;
    s64 result = E_DEAD;

    memcpy(&u, &w, sizeof u);
    env_lock(env);
    if (likely(env->state == ENV_LIVE))
        result = apply(env, &u);
    env_unlock(env);
    return likely(!result) ? 0 : report(at, (s32)result);
}

/* What an element takes of a call's UPDATE_PAGES; one that is refused at once counts as one page. */
static inline u64 work_of(const struct words *w) {
    u64 span = w->head >> 8 & 0xff ? LARGE : w->pages >> 32;

    if ((u8)w->head >= UPDATE_BIND_TABLE && (u8)w->head <= UPDATE_UNBIND_TABLE)
        span = (u8)w->head == UPDATE_BIND_TABLE ? 1 : LARGE;
    return span - 1 < PAGES_A_CALL ? span : 1;
}

static NOINLINE s64 update_many(u64 user, u64 batch, u32 count) {
    struct env *target;
    s64 failed = 0;

    TRY(env_target(user, RIGHT_MANAGE, &target));
    struct env *const env = target; /* in a register */
    if (count - 1 >= UPDATES_A_CALL || batch % 8)
        return E_BAD_ARGUMENT;
    u64 left = UPDATE_PAGES;
    for (u32 i = 0; i < count; i++, batch += sizeof(struct update)) {
        struct words w;
        if (!user_has(batch, sizeof(struct update)) || !user_element(batch, &w))
            return i ? failed + (s64)(count - i) : E_BAD_ADDRESS;
        if (likely(is_plain(&w) && w.pages >> 32 <= left)) {
            env_lock(env);
            u64 done = env->state == ENV_LIVE ? protect_plain(env, &w) : 0;
            if (likely(done))
                shootdown(env, w.va, (u32)done);
            env_unlock(env);
            left -= done;
            if (likely(done))
                continue;
        }
        u64 work = work_of(&w); /* after one that is too much no other is done: they may build on each other */
        s64 result = work > left ? report(batch, E_AGAIN) : update_one(env, batch, w.head, w.va, w.pages, w.cap);
        left = work > left ? 0 : left - work;
        if (result < 0)
            return result;
        failed += result;
    }
    return failed;
}

static NOINLINE s64 finish_protect(struct env *env) {
    shootdown_others(env);
    env_unlock(env);
    return 0;
}

/* One PROTECT is what a library OS does most: it takes the straight way, without a call but to read the element, so that
 * no register needs to be saved. */
s64 call_space_update(u64 user, u64 batch, u32 count) {
    struct env *env = current_env();
    struct words w;

    if (unlikely(user || count != 1 || batch % 8 || !user_has(batch, sizeof(struct update))))
        return update_many(user, batch, count);
    if (unlikely(!user_element(batch, &w)))
        return E_BAD_ADDRESS;
    if (!is_plain(&w))
        return update_one(env, batch, w.head, w.va, w.pages, w.cap);
    if (unlikely(!env_try_lock(env)))
        return update_many(0, batch, 1);
    u64 n = likely(env->state == ENV_LIVE) ? protect_plain(env, &w) : 0;
    if (unlikely(!n)) {
        env_unlock(env);
        return update_many(0, batch, 1);
    }
    flush_local(w.va, n);
    if (cpu_count > 1)
        return finish_protect(env);
    env_unlock(env);
    return 0;
}
