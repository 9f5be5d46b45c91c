/* Batches of updates, and the tables that translations need. */
#include "base/memory.h"
#include "vm/parts.h"

struct vm_view vm_view;
struct vm_queue vm_queue;

static s64 bind_one(u64 va, u8 level) {
    struct vm_run run;

    if (!pages_take(1, &run))
        return E_LIMIT;
    struct update u = {.op = UPDATE_BIND_TABLE, .level = level, .va = va, .page = run.page, .count = 1};
    s64 failed = sys_space_update(0, &u, 1);
    s64 error = failed < 0 ? failed : u.result;
    if (error) {
        page_drop(run.page, run.generation);
    } else if (level == 1) {
        struct vm_block *b = block_of((u32)((va - vm.base) / RT_PAGE));
        b->table = run.page;
        b->generation = run.generation;
    }
    return error;
}

/* What the view shows of a block: its table, or zeros. */
static s64 view_map(u32 block, u32 page) {
    u64 va = (u64)vm_view.entry + block * RT_PAGE;
    s64 error;

    memory_unmap((void *)va, 1);
    for (u32 tries = 0; (error = memory_map_at(va, page, 1, 0, 0)) && tries < 2; tries++)
        evict(RUN); /* the view's own tables need pages too */
    return error;
}

s64 bind_block(u32 number) {
    u64 va = address_of(number);
    s64 error = bind_one(va, 1);

    for (u8 level = 3; level > 1 && error == E_NO_TABLE; level--) {
        error = bind_one(va, level);
        if (!error || error == E_MAPPED)
            error = bind_one(va, 1);
    }
    return error ? error : view_map(number / BLOCK_PAGES, block_of(number)->table);
}

void unbind_block(u32 block) {
    struct vm_block *b = vm.block[block];

    memory_unmap((char *)vm_view.entry + block * RT_PAGE, 1);
    if (update_one(UPDATE_UNBIND_TABLE, 1, address_of(block * BLOCK_PAGES), 0, 1, 0, 0))
        return;
    page_drop(b->table, b->generation);
    b->table = 0;
    memset(b->mapped, 0, sizeof b->mapped);
}

s64 view_fault(u64 va) {
    u32 block = (u32)((va - (u64)vm_view.entry) / RT_PAGE);
    struct vm_block *b = vm.block[block];

    if (losses_waiting() && !vm.busy)
        losses_take();
    s64 error = b && b->table ? view_map(block, b->table) : E_NO_TABLE;
    return error ? view_map(block, vm.zero_page)
                 : 0; /* the table was taken, and losses_take will see it */
}

/* The view's own tables are bound from the start: without memory it could not show where there
 * is some. */
s64 view_init(void) {
    s64 error = 0;

    for (u32 block = 0; block < vm.pages / BLOCK_PAGES && !error; block += BLOCK_PAGES)
        error = memory_map_at((u64)vm_view.entry + block * RT_PAGE, vm.zero_page, 1, 0, 0);
    return error;
}

s64 update_one(u8 op, u8 level, u64 va, u32 page, u32 count, u32 flags, const struct cap *cap) {
    struct update u = {.op = op, .level = level, .flags = (u16)flags, .va = va, .page = page,
                       .count = count, .cap = (u64)cap};
    s64 failed = sys_space_update(0, &u, 1);

    return failed < 0 ? failed : u.result;
}

u32 queue_flush(void) {
    u32 count = vm_queue.count;

    vm_queue.count = 0;
    return count ? (u32)memory_update(0, vm_queue.element, count) : 0;
}

void queue(u8 op, u64 va, u32 page, u32 count, u32 flags, const struct cap *cap) {
    *queue_place() = (struct update){.op = op, .flags = (u16)flags, .va = va, .page = page,
                                     .count = count, .cap = (u64)cap};
}
