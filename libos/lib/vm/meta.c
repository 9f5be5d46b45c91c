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
static u64 generation_at[META_PAGES];

u64 meta_reserve(u32 pages) {
    if (!base)
        base = memory_reserve(META_PAGES);
    if (pages > META_PAGES - next)
        return 0;
    next += pages;
    return base + (next - pages) * RT_PAGE;
}

static void note(u32 place, const struct vm_run *run) {
    page_at[place] = run->page;
    generation_at[place] = run->generation;
}

s64 meta_map(u64 va, const struct vm_run *run) {
    s64 error = memory_map_at(va, run->page, 1, MAP_WRITE, 0);

    if (error == E_LIMIT && evict(RUN))
        error = memory_map_at(va, run->page, 1, MAP_WRITE, 0);
    if (!error)
        note((u32)((va - base) / RT_PAGE), run);
    return error;
}

void *meta(u32 pages) {
    u64 va = meta_reserve(pages);

    for (u32 i = 0; va && i < pages; i++) {
        struct vm_run run;
        bool taken = pages_take(1, &run);
        if (taken && !meta_map(va + i * RT_PAGE, &run))
            continue;
        if (taken)
            page_drop(run.page, run.generation);
        meta_free((void *)va, i);
        return NULL;
    }
    return (void *)va;
}

void meta_free(void *at, u32 pages) {
    for (u32 i = 0; i < pages; i++) {
        char *va = (char *)at + i * RT_PAGE;
        u64 place = ((u64)va - base) / RT_PAGE;
        memory_unmap(va, 1);
        page_drop(page_at[place], generation_at[place]);
        page_at[place] = 0;
    }
}

/* The contents that were saved in page `saved`, in a new page at the same address. */
static bool bring_back(u32 place, u32 saved) {
    u64 va = base + place * RT_PAGE;
    struct cap cap;
    s64 page = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);
    struct vm_run run = {page < 0 ? 0 : generation_of((u32)page), (u32)page, 1};

    if (page >= 0 && !run.generation) /* somebody is taking it already */
        sys_page_free(0, (u32)page, 1);
    if (!run.generation && !stock_take(&run))
        return false;
    if (memory_map_at(va, run.page, 1, MAP_WRITE, 0))
        return false;
    note(place, &run);
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
        if (page_at[i] == l->name && generation_at[i] == l->generation)
            return bring_back(i, l->saved);
    return true;
}

bool meta_fault(u64 va) {
    u64 place = (va - base) / RT_PAGE;

    if (!base || va < base || place >= next || !page_at[place])
        return false;
    u64 generation = generation_at[place];
    for (u32 tries = 0; tries < PATIENCE && generation_at[place] == generation; tries++) {
        if (is_held(page_at[place], generation) && !memory_map_at(base + place * RT_PAGE, page_at[place], 1, MAP_WRITE, 0))
            return true; /* only its translation had gone */
        if (!losses_see_meta())
            return false;
    }
    return generation_at[place] != generation;
}
