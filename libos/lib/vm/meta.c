/* The library's own memory. Its pages may be taken too, and then it could not even look up where
 * they went; so which page lies where is kept here, outside of it, and a page that is missed is
 * brought back before anything else is done. */
#include "base/memory.h"
#include "vm/parts.h"

#define META_PAGES 8192 /* addresses */
#define PATIENCE 10000000

static u64 base;
static u32 next;               /* first address that was never handed out, in pages */
static u32 page_at[META_PAGES];

u64 meta_reserve(u32 pages) {
    if (!base)
        base = memory_reserve(META_PAGES);
    if (pages > META_PAGES - next)
        return 0;
    next += pages;
    return base + (next - pages) * RT_PAGE;
}

s64 meta_map(u64 va, u32 page) {
    s64 error = memory_map_at(va, page, 1, MAP_WRITE, 0);

    if (error == E_LIMIT && evict(RUN))
        error = memory_map_at(va, page, 1, MAP_WRITE, 0);
    if (!error)
        page_at[(va - base) / RT_PAGE] = page;
    return error;
}

void *meta(u32 pages) {
    u64 va = meta_reserve(pages);

    for (u32 i = 0, got; va && i < pages; i++) {
        u32 page = pages_take(1, &got);
        if (page && !meta_map(va + i * RT_PAGE, page))
            continue;
        if (page)
            page_drop(page);
        meta_free((void *)va, i);
        return NULL;
    }
    return (void *)va;
}

void meta_free(void *at, u32 pages) {
    for (u32 i = 0; i < pages; i++) {
        char *va = (char *)at + i * RT_PAGE;
        u32 *page = &page_at[((u64)va - base) / RT_PAGE];
        memory_unmap(va, 1);
        page_drop(*page);
        *page = 0;
    }
}

/* The contents that were saved in page `saved`, in a new page at the same address. */
static bool bring_back(u32 place, u32 saved) {
    u64 va = base + place * RT_PAGE;
    struct cap cap;
    s64 page = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);

    if (page < 0)
        page = stock_take();
    if (page <= 0 || memory_map_at(va, (u32)page, 1, MAP_WRITE, 0))
        return false;
    page_at[place] = (u32)page;
    if (!saved || saved_view(saved, &cap) ||
        memory_map_at(vm.window + 3 * RT_PAGE, saved, 1, 0, &cap))
        return false;
    memcpy((void *)va, (void *)(vm.window + 3 * RT_PAGE), RT_PAGE);
    memory_unmap((void *)(vm.window + 3 * RT_PAGE), 1);
    return true;
}

bool meta_lost(const struct loss *l) {
    if (l->resource != RESOURCE_PAGES)
        return true;
    for (u32 i = 0; i < next; i++)
        if (page_at[i] == l->name)
            return bring_back(i, l->saved);
    return true;
}

bool meta_fault(u64 va) {
    u64 place = (va - base) / RT_PAGE;

    if (!base || va < base || place >= next || !page_at[place])
        return false;
    u32 page = page_at[place];
    for (u32 tries = 0; tries < PATIENCE && page_at[place] == page; tries++) {
        if (!memory_map_at(base + place * RT_PAGE, page, 1, MAP_WRITE, 0))
            return true; /* only its translation had gone */
        if (!losses_see_meta())
            return false;
    }
    return page_at[place] != page;
}
