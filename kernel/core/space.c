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
#include "core/shootdown.h"
#include "core/user.h"
#include "targe/call_table.h"
#include "x86/mmu.h"

#define CHUNK 128 /* mappings removed between two flushes */
#define LARGE 512 /* pages of a large mapping */

static u32 index_of(u64 va, u32 level) { return va >> (3 + 9 * level) & 511; }
static u64 *table_of(u64 entry) { return phys_ptr((phys){entry & PTE_ADDRESS}); }
static u32 page_of(u64 entry) { return page_of_phys((phys){entry & PTE_ADDRESS}); }

void space_prepare_root(u32 root) {
    u64 *table = page_ptr(root);

    memset(table, 0, PAGE_SIZE / 2);
    memcpy(table + 256, kernel_root + 256, PAGE_SIZE / 2);
}

/* The table of `level` that covers va, or NULL. */
static u64 *find_table(u32 root, u64 va, u32 level) {
    u64 *table = page_ptr(root);

    for (u32 l = 4; l > level; l--) {
        u64 entry = table[index_of(va, l)];
        if (!(entry & PTE_PRESENT) || entry & PTE_LARGE)
            return NULL;
        table = table_of(entry);
    }
    return table;
}

u64 *space_entry(u32 root, u64 at) {
    u64 *table = find_table(root, at, 1);

    return table ? &table[index_of(at, 1)] : NULL;
}

/* The entry of level 2 for va, or NULL where there is no table. */
static u64 *large_entry(u32 root, u64 va) {
    u64 *table = find_table(root, va, 2);

    return table ? &table[index_of(va, 2)] : NULL;
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

s64 space_lookup(u32 root, u64 at) {
    u64 entry = space_translate(root, at);

    return entry ? (s64)page_of(entry) : E_BAD_ADDRESS;
}

static u32 span_of(const struct update *u) { return u->level ? LARGE : u->count; }

/* Entries that follow each other in one table. */
struct run {
    u64 *entry; /* NULL: there is no table */
    u32 count;
};

/* The entries of an update from its page i on, as far as one table has them. */
static struct run run_at(const struct env *env, const struct update *u, u32 i) {
    u64 va = u->va + i * PAGE_SIZE;

    if (u->level) {
        u64 *entry = large_entry(env->root, va);
        return (struct run){entry && is_large(*entry) ? entry : NULL, 1};
    }
    u32 there = 512 - index_of(va, 1);
    return (struct run){space_entry(env->root, va), u->count - i < there ? u->count - i : there};
}

/* Mappings taken out of a space but not yet unbound. */
struct removal {
    struct env *env;
    u64 va; /* the whole range that is being removed */
    u32 span;
    u32 count;
    u32 page[CHUNK];
};

static void remove_flush(struct removal *r) {
    shootdown(r->env, r->va, r->span);
    for (u32 i = 0; i < r->count; i++)
        page_unbind(r->page[i]);
    r->count = 0;
}

static void remove_entry(struct removal *r, u64 *entry) {
    r->page[r->count++] = page_of(*entry);
    __atomic_store_n(entry, 0, __ATOMIC_SEQ_CST);
    if (r->count == CHUNK)
        remove_flush(r);
}

/* What a mapping may be, for a page of this type: 0, or an error; *may_write says the most. */
static s64 permitted(const struct env *env, u32 page, u8 type, const struct update *u, const struct cap *cap,
                     bool *may_write) {
    struct page *p = page_get(page);
    bool owner = page_owner(p) == env->self;

    switch (type) {
    case PAGE_DATA:
        if (cap && page_generation(p) != cap->generation)
            return E_BAD_CAPABILITY;
        if (!cap && !owner)
            return E_NO_RIGHT;
        *may_write = !cap || cap->rights & RIGHT_WRITE;
        break;
    case PAGE_CONTEXT:
    case PAGE_RING:
        if (!owner || u->flags & MAP_EXECUTE)
            return E_NO_RIGHT;
        *may_write = true;
        break;
    case PAGE_TABLE:
        if (!owner)
            return E_NO_RIGHT;
        /* fall through */
    case PAGE_ENV:
    case PAGE_FLOW:
    case PAGE_EXPOSED:
        if (u->flags & MAP_EXECUTE)
            return E_NO_RIGHT;
        *may_write = false;
        break;
    default:
        return E_WRONG_TYPE;
    }
    return u->flags & MAP_WRITE && !*may_write ? E_NO_RIGHT : 0;
}

static u64 entry_bits(u16 flags, bool may_write) {
    return PTE_PRESENT | PTE_USER | (flags & MAP_WRITE ? PTE_WRITE : 0) |
           (flags & MAP_EXECUTE ? 0 : mmu_nx) | (may_write ? PTE_MAY_WRITE : 0);
}

static s64 map_one(struct env *env, const struct update *u, const struct cap *cap, u32 page, u64 *entry) {
    bool may_write = false;

    if (*entry & PTE_PRESENT)
        return E_MAPPED;
    struct page *p = page_get(page);
    if (!p)
        return E_BAD_ARGUMENT;
    u8 type = page_type(p); /* read once: what was permitted is what is bound */
    s64 error = permitted(env, page, type, u, cap, &may_write);
    if (error)
        return error;
    if (page_bind(page, type))
        return E_WRONG_TYPE;
    error = permitted(env, page, type, u, cap, &may_write); /* now it can no longer change its type */
    if (error) {
        page_unbind(page);
        return error;
    }
    __atomic_store_n(entry, (u64)page << PAGE_SHIFT | entry_bits(u->flags, may_write), __ATOMIC_SEQ_CST);
    if (page_type(p) != PAGE_TABLE)
        p->where = page_of_phys(ptr_phys(entry)); /* where repossession looks first */
    return 0;
}

static void unmap(struct env *env, u64 va, u32 count) {
    struct removal removal;
    struct update range = {.va = va, .count = count};
    struct run r;

    removal.env = env;
    removal.va = va;
    removal.span = count;
    removal.count = 0;
    for (u32 i = 0; i < count; i += r.count) {
        r = run_at(env, &range, i);
        for (u32 k = 0; r.entry && k < r.count; k++)
            if (r.entry[k] & PTE_PRESENT)
                remove_entry(&removal, &r.entry[k]);
    }
    if (removal.count)
        remove_flush(&removal);
}

/* ---------------------------------------------------------------- large mappings */

static void unbind_run(u32 first, u32 count) {
    for (u32 i = 0; i < count; i++)
        page_unbind(first + i);
}

static s64 bind_large(const struct env *env, u32 page, const struct update *u, const struct cap *cap, bool *may_write) {
    s64 error = page_get(page) ? permitted(env, page, PAGE_DATA, u, cap, may_write) : E_BAD_ARGUMENT;

    if (!error)
        error = page_bind(page, PAGE_DATA);
    if (error)
        return error;
    error = permitted(env, page, PAGE_DATA, u, cap, may_write); /* now it can no longer change its type */
    if (error)
        page_unbind(page);
    return error;
}

static s64 map_large(struct env *env, const struct update *u, const struct cap *cap) {
    u64 *entry = large_entry(env->root, u->va);
    bool may_write = false;

    if (!entry)
        return E_NO_TABLE;
    if (*entry & PTE_PRESENT)
        return E_MAPPED;
    for (u32 i = 0; i < LARGE; i++) {
        s64 error = bind_large(env, u->page + i, u, cap, &may_write);
        if (error) {
            unbind_run(u->page, i);
            return error;
        }
    }
    __atomic_store_n(entry, (u64)u->page << PAGE_SHIFT | entry_bits(u->flags, may_write) | PTE_LARGE, __ATOMIC_SEQ_CST);
    for (u32 i = 0; i < LARGE; i++)
        page_get(u->page + i)->where = page_of_phys(ptr_phys(entry));
    return 0;
}

static void remove_large(struct env *env, u64 *entry, u64 va) {
    u32 first = page_of(*entry);

    __atomic_store_n(entry, 0, __ATOMIC_SEQ_CST);
    shootdown(env, va, LARGE);
    unbind_run(first, LARGE);
}

static void unmap_large(struct env *env, u64 va) {
    u64 *entry = large_entry(env->root, va);

    if (entry && is_large(*entry))
        remove_large(env, entry, va);
}

static s64 map(struct env *env, const struct update *u) {
    struct cap cap;

    if (u->cap) {
        s64 error = cap_present(u->cap, CAP_PAGE, RIGHT_READ, &cap);
        if (error)
            return error;
        if (u->page < cap.name || (u64)u->page + span_of(u) > (u64)cap.name + cap.count)
            return E_BAD_CAPABILITY;
    }
    if (u->level)
        return map_large(env, u, u->cap ? &cap : NULL);
    struct run r;
    for (u32 i = 0; i < u->count; i += r.count) {
        r = run_at(env, u, i);
        s64 error = r.entry ? 0 : E_NO_TABLE;
        u32 k = 0;
        while (!error && k < r.count) {
            error = map_one(env, u, u->cap ? &cap : NULL, u->page + i + k, &r.entry[k]);
            k += !error;
        }
        if (error) {
            unmap(env, u->va, i + k);
            return error;
        }
    }
    return 0;
}

static s64 may_protect(const struct run *r, u16 flags) {
    u64 needed = PTE_PRESENT | (flags & MAP_WRITE ? PTE_MAY_WRITE : 0);

    for (u32 i = 0; i < r->count; i++) {
        u64 entry = r->entry[i];
        if ((entry & needed) != needed)
            return entry & PTE_PRESENT ? E_NO_RIGHT : E_NOT_MAPPED;
        if (flags & MAP_EXECUTE && page_type(page_get(page_of(entry))) != PAGE_DATA)
            return E_NO_RIGHT;
    }
    return 0;
}

static void set_protection(const struct run *r, u64 bits) {
    for (u32 i = 0; i < r->count; i++) {
        u64 old = __atomic_load_n(&r->entry[i], __ATOMIC_RELAXED), new;
        do /* the CPU may set accessed and dirty bits at any time */
            new = (old & ~(PTE_WRITE | PTE_NX)) | bits;
        while (!__atomic_compare_exchange_n(&r->entry[i], &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    }
}

static s64 protect(struct env *env, const struct update *u) {
    struct run r;

    for (u32 i = 0; i < u->count; i += r.count) {
        r = run_at(env, u, i);
        s64 error = r.entry ? may_protect(&r, u->flags) : E_NOT_MAPPED;
        if (error)
            return error;
    }
    for (u32 i = 0; i < u->count; i += r.count) {
        r = run_at(env, u, i);
        set_protection(&r, entry_bits(u->flags, false));
    }
    shootdown(env, u->va, span_of(u));
    return 0;
}

static s64 clean(struct env *env, const struct update *u) {
    u32 cleaned = 0;
    struct run r;

    for (u32 i = 0; i < u->count; i += r.count) {
        r = run_at(env, u, i);
        for (u32 k = 0; r.entry && k < r.count; k++) {
            if (!(r.entry[k] & PTE_PRESENT) || !(r.entry[k] & (PTE_ACCESSED | PTE_DIRTY)))
                continue;
            __atomic_fetch_and(&r.entry[k], ~(PTE_ACCESSED | PTE_DIRTY), __ATOMIC_SEQ_CST);
            cleaned++;
        }
    }
    if (cleaned)
        shootdown(env, u->va, span_of(u)); /* or a CPU that still knows a page as dirty would not say so again */
    return 0;
}

static s64 bind_table(struct env *env, const struct update *u) {
    u64 *parent = find_table(env->root, u->va, u->level + 1u);

    if (!parent)
        return E_NO_TABLE;
    u64 *entry = &parent[index_of(u->va, u->level + 1u)];
    if (*entry & PTE_PRESENT)
        return E_MAPPED;
    s64 error = page_retype(u->page, env->self, PAGE_DATA, (u16)(PAGE_TABLE | u->level << 8), 0);
    if (error)
        return error;
    memset(page_ptr(u->page), 0, PAGE_SIZE);
    page_get(u->page)->where = page_of_phys(ptr_phys(parent));
    error = page_bind(u->page, PAGE_TABLE);
    ASSERT(!error);
    __atomic_store_n(entry, (u64)u->page << PAGE_SHIFT | PTE_PRESENT | PTE_WRITE | PTE_USER, __ATOMIC_SEQ_CST);
    return 0;
}

static bool is_empty(const u64 *table) {
    for (u32 i = 0; i < 512; i++)
        if (table[i] & PTE_PRESENT)
            return false;
    return true;
}

static s64 unbind_table(struct env *env, const struct update *u) {
    u64 *parent = find_table(env->root, u->va, u->level + 1u);

    if (!parent)
        return E_NOT_MAPPED;
    u64 *entry = &parent[index_of(u->va, u->level + 1u)];
    if (!(*entry & PTE_PRESENT) || *entry & PTE_LARGE)
        return E_NOT_MAPPED;
    u32 page = page_of(*entry);
    u64 *table = table_of(*entry);
    if (STATE_BINDINGS(page_state(page_get(page))) > 1) /* its owner still maps it */
        return E_BUSY;
    if (u->level > 1 && !is_empty(table))
        return E_BUSY;
    if (u->level == 1) {
        u64 span = 512 * PAGE_SIZE;
        unmap(env, u->va & ~(span - 1), 512);
    }
    __atomic_store_n(entry, 0, __ATOMIC_SEQ_CST);
    shootdown(env, u->va, PAGES_A_CALL);
    page_get(page)->where = 0;
    s64 error = page_retype(page, env->self, PAGE_TABLE, PAGE_DATA, 1);
    ASSERT(!error);
    (void)error;
    page_unbind(page);
    return 0;
}

static bool is_range(u64 va, u32 count) {
    return !(va % PAGE_SIZE) && va < USER_TOP && count >= 1 && count <= PAGES_A_CALL &&
           count * PAGE_SIZE <= USER_TOP - va;
}

s64 space_apply(struct env *env, const struct update *u) {
    bool on_pages = u->op != UPDATE_BIND_TABLE && u->op != UPDATE_UNBIND_TABLE;

    if (!is_range(u->va, u->count) || u->flags & ~(MAP_WRITE | MAP_EXECUTE))
        return E_BAD_ARGUMENT;
    if (on_pages && u->level && (u->level != 1 || u->count != 1 || u->va % (LARGE * PAGE_SIZE) || u->page % LARGE))
        return E_BAD_ARGUMENT;
    if (!on_pages && (u->level < 1 || u->level > 3 || u->flags || u->count != 1 || u->cap))
        return E_BAD_ARGUMENT;
    switch (u->op) {
    case UPDATE_MAP:
        return map(env, u);
    case UPDATE_UNMAP:
        if (u->flags || u->page || u->cap)
            return E_BAD_ARGUMENT;
        if (u->level)
            unmap_large(env, u->va);
        else
            unmap(env, u->va, u->count);
        return 0;
    case UPDATE_PROTECT:
        return u->page || u->cap ? E_BAD_ARGUMENT : protect(env, u);
    case UPDATE_CLEAN:
        return u->flags || u->page || u->cap ? E_BAD_ARGUMENT : clean(env, u);
    case UPDATE_BIND_TABLE:
        return bind_table(env, u);
    case UPDATE_UNBIND_TABLE:
        return u->page ? E_BAD_ARGUMENT : unbind_table(env, u);
    default:
        return E_BAD_ARGUMENT;
    }
}

static bool any_taken(u32 first, u32 count) {
    for (u32 i = 0; i < count; i++)
        if (page_is_taken(first + i))
            return true;
    return false;
}

/* One large mapping with a page that is taken goes as a whole. */
void space_remove_taken(struct env *env, u32 table) {
    u32 level = STATE_LEVEL(page_state(page_get(table)));
    u64 *entry = page_ptr(table);
    struct removal removal = {.env = env, .span = PAGES_A_CALL}; /* wherever in the space: all is flushed */

    for (u32 i = 0; i < 512 && level <= 2; i++) {
        if (level == 2 && is_large(entry[i]) && any_taken(page_of(entry[i]), LARGE))
            remove_large(env, &entry[i], 0);
        else if (level == 1 && entry[i] & PTE_PRESENT && page_is_taken(page_of(entry[i])))
            remove_entry(&removal, &entry[i]);
    }
    if (removal.count)
        remove_flush(&removal);
}

void space_detach_table(struct env *env, u32 table) {
    struct page *p = page_get(table);
    u32 work = 512;

    if (STATE_LEVEL(page_state(p)) > 1 && !is_empty(page_ptr(table)))
        return;
    u64 *parent = p->where ? page_ptr(p->where) : NULL;
    u32 i = 0;
    while (parent && i < 512 && !(parent[i] & PTE_PRESENT && !(parent[i] & PTE_LARGE) && page_of(parent[i]) == table))
        i++;
    if (!parent || i == 512)
        return;
    __atomic_store_n(&parent[i], 0, __ATOMIC_SEQ_CST);
    shootdown(env, 0, PAGES_A_CALL); /* from here on no CPU reaches what it maps */
    space_empty_table(table, 512, &work);
    p->where = 0;
    s64 error = page_retype(table, env->self, PAGE_TABLE, PAGE_DATA, UINT32_MAX);
    ASSERT(!error);
    (void)error;
    page_unbind(table);
}

bool space_empty_table(u32 table, u32 entries, u32 *work) {
    u64 *entry = page_ptr(table);

    for (u32 i = 0; i < entries; i++) {
        if (!(entry[i] & PTE_PRESENT))
            continue;
        u32 page = page_of(entry[i]), count = is_large(entry[i]) ? LARGE : 1;
        if (count > *work)
            return false;
        *work -= count;
        entry[i] = 0;
        unbind_run(page, count);
    }
    return true;
}

/* What an element takes of a call's UPDATE_PAGES; one that is refused at once counts as one page. */
static u32 work_of(const struct update *u) {
    if (u->op == UPDATE_UNBIND_TABLE)
        return LARGE;
    u32 span = u->op == UPDATE_BIND_TABLE ? 1 : span_of(u);
    return span && span <= PAGES_A_CALL ? span : 1;
}

s64 call_space_update(u64 user, u64 batch, u32 count) {
    struct env *env;
    s64 error = env_target(user, RIGHT_MANAGE, &env);
    s64 failed = 0;

    if (error)
        return error;
    if (!count || count > UPDATES_A_CALL || batch % 8)
        return E_BAD_ARGUMENT;
    u32 left = UPDATE_PAGES;
    for (u32 i = 0; i < count; i++) {
        u64 at = batch + i * sizeof(struct update);
        struct update u;
        s32 result = 0;
        error = user_read(&u, at, sizeof u);
        if (!error) /* also finds out, before anything is done, whether a result can be written */
            error = user_write(at + offsetof(struct update, result), &result, sizeof result);
        if (error)
            return i ? (s64)(failed + count - i) : error;
        u32 work = work_of(&u);
        if (work > left) { /* nor is any element after it done: they may build on each other */
            left = 0;
            result = E_AGAIN;
        } else {
            left -= work;
            env_lock(env);
            result = env->state == ENV_LIVE ? (s32)space_apply(env, &u) : E_DEAD;
            env_unlock(env);
        }
        if (!result)
            continue;
        failed++;
        error = user_write(at + offsetof(struct update, result), &result, sizeof result);
        if (error)
            return error;
    }
    return failed;
}
