/* Mapping the exposed pages. What the kernel keeps for ever (info, page array, slices, traces) is mapped
 * once. An environment or a flow can go, and the kernel then breaks the mapping of its page: those are
 * mapped for as long as it takes to look, until machine_forget. */
#include "machine/machine.h"

#include "base/memory.h"

#define OBJECTS 64

static const struct info *info;
static const struct page *pages;
static const struct slices *slices[MAX_CPUS];
static const struct trace *traces[MAX_CPUS];
static struct { u32 page; const void *at; } object[OBJECTS];
static u32 objects;
static u64 window; /* addresses for the objects, used again and again */
static u32 zeros;  /* a page of them, for objects that went while they were looked at */

const struct info *machine_info(void) {
    if (!info)
        info = memory_map(rt_first->info, 1, 0, 0);
    return info;
}

const struct page *machine_pages(void) {
    if (!pages) {
        u64 bytes = machine_info()->pages * sizeof(struct page);
        pages = memory_map(machine_info()->array, (u32)((bytes + RT_PAGE - 1) / RT_PAGE), 0, 0);
    }
    return pages;
}

const struct page *machine_page(u32 page) {
    const struct info *i = machine_info();
    static const struct page *devices;

    if (page < i->pages)
        return machine_pages() ? &pages[page] : NULL;
    for (const struct device *d = i->device; d < i->device + i->devices; d++) {
        if (page - d->first >= d->pages)
            continue;
        if (!devices) {
            const struct device *last = &i->device[i->devices - 1];
            u64 bytes = (last->index + last->pages) * sizeof(struct page);
            devices = memory_map(i->device_array, (u32)((bytes + RT_PAGE - 1) / RT_PAGE), 0, 0);
        }
        return devices ? &devices[d->index + page - d->first] : NULL;
    }
    return NULL;
}

const struct slices *machine_slices(u32 cpu) {
    if (cpu >= machine_info()->cpus)
        return NULL;
    if (!slices[cpu])
        slices[cpu] = memory_map(machine_info()->slices[cpu], 1, 0, 0);
    return slices[cpu];
}

const struct trace *machine_trace(u32 cpu) {
    if (cpu >= machine_info()->cpus)
        return NULL;
    if (!traces[cpu])
        traces[cpu] = memory_map(machine_info()->trace[cpu], sizeof(struct trace) / RT_PAGE, 0, 0);
    return traces[cpu];
}

u32 machine_free_pages(void) {
    u64 sum = machine_info()->free_at_boot;

    for (u32 n = 0; n < machine_info()->cpus; n++)
        sum += __atomic_load_n(&machine_trace(n)->free_pages, __ATOMIC_SEQ_CST);
    return (u32)sum;
}

static bool reserve(void) {
    s64 page = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);

    if (page < 0)
        return false;
    zeros = (u32)page;
    window = memory_reserve(OBJECTS);
    return true;
}

/* An object of this type, mapped; the type is looked at again once the mapping holds the page. */
static const void *map_object(u32 page, u8 type) {
    if (page >= machine_info()->pages || (u8)machine_pages()[page].state != type)
        return NULL;
    for (u32 i = 0; i < objects; i++)
        if (object[i].page == page)
            return object[i].at;
    if (!window && !reserve())
        return NULL;
    if (objects == OBJECTS)
        machine_forget();
    u64 at = window + objects * RT_PAGE;
    if (memory_map_at(at, page, 1, 0, 0))
        return NULL;
    object[objects].page = page;
    object[objects++].at = (const void *)at;
    return (u8)machine_pages()[page].state == type ? (const void *)at : NULL;
}

const struct env *machine_env(u32 page) { return map_object(page, PAGE_ENV); }
const struct flow *machine_flow(u32 page) { return map_object(page, PAGE_FLOW); }

bool machine_fault(const struct frame *frame) {
    u64 at = frame->address / RT_PAGE * RT_PAGE;

    if (frame->cause != 14 || !window || at < window || at >= window + objects * RT_PAGE)
        return false;
    return !memory_map_at(at, zeros, 1, 0, 0);
}

void machine_forget(void) {
    if (objects)
        memory_unmap((void *)window, objects);
    objects = 0;
}
