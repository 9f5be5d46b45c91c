/* Memory management that only grows. */
#include "base/memory.h"

#define FIRST 0x100000000ull

static u64 next_address = FIRST;

s64 memory_update(const struct cap *env, struct update *u, u32 count) {
    s64 failed = 0;

    while (count) { /* the kernel leaves what is too much for one call */
        s64 result = sys_space_update(env, u, count);
        if (result <= 0)
            return result ? result : failed;
        for (; count && u->result != E_AGAIN; u++, count--)
            failed += u->result != 0;
    }
    return failed;
}

static s64 update(const struct cap *env, struct update *u) {
    s64 failed = sys_space_update(env, u, 1);

    return failed < 0 ? failed : u->result;
}

/* Gives the table of a level that covers va, unless there is one. */
static s64 bind_table(const struct cap *env, u64 va, u8 level) {
    struct update u = {.op = UPDATE_BIND_TABLE, .level = level, .va = va, .count = 1};
    struct cap cap;
    s64 page = sys_page_alloc(env, PAGE_ANY, 1, 0, &cap);

    if (page < 0)
        return page;
    u.page = (u32)page;
    s64 error = update(env, &u);
    if (error)
        sys_page_free(&cap, (u32)page, 1);
    return error == E_MAPPED ? 0 : error;
}

static s64 map_part(const struct cap *env, struct update *u) {
    s64 error = update(env, u);

    for (u8 level = 3; level && error == E_NO_TABLE; level--) {
        s64 table = bind_table(env, u->va, level);
        if (table)
            return table;
        error = update(env, u);
    }
    return error;
}

s64 memory_map_for(const struct cap *env, u64 va, u32 page, u32 count, u32 flags, const struct cap *cap) {
    while (count) { /* in parts that one table covers */
        u32 part = (u32)(512 - va / RT_PAGE % 512);
        part = part < count ? part : count;
        struct update u = {.op = UPDATE_MAP, .flags = (u16)flags, .va = va, .page = page,
                           .count = part, .cap = (u64)cap};
        s64 error = map_part(env, &u);
        if (error)
            return error;
        va += part * RT_PAGE;
        page += part;
        count -= part;
    }
    return 0;
}

s64 memory_map_at(u64 va, u32 page, u32 count, u32 flags, const struct cap *cap) {
    return memory_map_for(0, va, page, count, flags, cap);
}

u64 memory_reserve(u64 pages) {
    u64 va = next_address;

    next_address += pages * RT_PAGE;
    return va;
}

void *memory_map(u32 page, u32 count, u32 flags, const struct cap *cap) {
    u64 va = memory_reserve(count);

    return memory_map_at(va, page, count, flags, cap) ? NULL : (void *)va;
}

void memory_unmap(void *at, u32 count) {
    for (u32 part; count; count -= part, at = (char *)at + part * RT_PAGE) {
        part = count < PAGES_A_CALL ? count : PAGES_A_CALL;
        struct update u = {.op = UPDATE_UNMAP, .va = (u64)at, .count = part};
        update(0, &u);
    }
}

void *memory_alloc_run(u32 pages, u32 *first) {
    s64 page = sys_page_alloc(0, PAGE_ANY, pages, 0, 0);

    if (page < 0)
        return NULL;
    *first = (u32)page;
    return memory_map((u32)page, pages, MAP_WRITE, 0);
}

void *memory_alloc(u32 pages) {
    u64 va = memory_reserve(pages);

    for (u32 done = 0; done < pages; done++) {
        s64 page = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);
        if (page < 0 || memory_map_at(va + done * RT_PAGE, (u32)page, 1, MAP_WRITE, 0))
            return NULL;
    }
    return (void *)va;
}

/* ---- reading the page tables. Tables that were mapped are remembered, each in a place of its own,
 * so that looking at many does not use up addresses, and with them tables. */

#define VIEWS 256
#define PRESENT 1
#define ADDRESS 0x000ffffffffff000ull

static u32 view[VIEWS]; /* the table that is mapped there; 0: none */

static const u64 *view_table(u32 table) {
    static u64 window;
    u32 slot = table % VIEWS;

    if (!window)
        window = memory_reserve(VIEWS);
    u64 va = window + slot * RT_PAGE;
    if (view[slot] != table) {
        if (view[slot])
            memory_unmap((void *)va, 1);
        view[slot] = memory_map_at(va, table, 1, 0, 0) ? 0 : table;
    }
    return view[slot] ? (const u64 *)va : NULL;
}

u32 memory_page_of(const void *at) {
    static u32 root;
    u64 va = (u64)at;

    if (!root) {
        const struct env *self = memory_map(rt_self(), 1, 0, 0);
        if (!self)
            return 0;
        root = self->root;
        memory_unmap((void *)self, 1);
    }
    u32 page = root;
    for (int level = 4; level >= 1; level--) {
        const u64 *table = view_table(page);
        u64 entry = table ? table[va >> (3 + 9 * level) & 511] : 0;
        if (!(entry & PRESENT))
            return 0;
        page = (u32)((entry & ADDRESS) / RT_PAGE);
    }
    return page;
}
