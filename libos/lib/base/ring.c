/* See ring.h. */
#include "base/ring.h"

#include "base/condition.h"
#include "base/memory.h"

s64 ring_open(const struct cap *flow, u32 entries, struct ring **ring, u8 **buffers) {
    struct flow_binding binding = {.count = (entries + 1) / 2, .entries = entries};
    const struct flow *view = memory_map(flow->name, 1, 0, 0);
    u32 pages[RING_PAGES], first;

    if (binding.count > RING_PAGES)
        return E_BAD_ARGUMENT;
    *ring = memory_alloc_run(1, &binding.ring);
    *buffers = memory_alloc_run(binding.count, &first);
    if (!view || !*ring || !*buffers)
        return E_LIMIT;
    condition_from(&binding.filter, &view->receive);
    memory_unmap((void *)view, 1);
    for (u32 i = 0; i < binding.count; i++)
        pages[i] = first + i;
    binding.pages = (u64)pages;
    for (u32 i = 0; i < entries; i++)
        (*ring)->entry[i].buffer = (u16)i;
    (*ring)->posted = entries;
    return sys_flow_bind(flow, &binding);
}
