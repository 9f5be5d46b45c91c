/* Copy-on-write between two regions, and sharing with other environments by capability. */
#include "vm/parts.h"

static u32 number_of(const struct vm_region *r) { return (u32)((r->at - vm.base) / RT_PAGE); }

/* From now on a write to the page makes a copy. */
static void mark_copy(u32 number) {
    struct vm_block *b = block_of(number);
    struct vm_frame *f = frame_of(number);

    if (bit(b->copy, number))
        return;
    set_bit(b->copy, number);
    if (!bit(b->mapped, number))
        return;
    keep_dirty(number, f);
    queue(UPDATE_PROTECT, address_of(number), 0, 1, 0, 0);
}

/* ---------------------------------------------------------------- two regions */

static bool share_page(u32 from, u32 to) {
    struct vm_frame *f = frame_of(from);

    if (!f || (!f->page && !f->place)) /* untouched: both begin with zeros */
        return true;
    if (f->refs == UINT16_MAX)
        return false;
    u32 *at = vm.shape->make(to);
    u32 *source = vm.shape->find(from); /* again: `make` may have moved it, or evicted the page */
    if (!at)
        return false;
    if (!source || !*source)
        return true;
    mark_copy(from);
    f = &vm.frame[*source];
    f->refs++;
    *at = *source;
    set_bit(block_of(to)->copy, to);
    return true;
}

struct vm_region *vm_copy(struct vm_region *r) {
    struct vm_region *copy = NULL;

    vm_enter();
    copy = r->caps ? NULL : vm_make_hidden(r->pages, r);
    u32 from = number_of(r), to = copy ? number_of(copy) : 0;
    bool good = copy;
    for (u64 i = 0; good && i < r->pages; i++)
        good = share_page(from + (u32)i, to + (u32)i);
    queue_flush();
    vm_leave();
    if (good || !copy)
        return copy;
    vm_end(copy);
    return NULL;
}

/* ---------------------------------------------------------------- other environments */

static s64 export_run(u32 page, u32 count, u32 access, const struct cap *to, struct cap *cap) {
    *cap = (struct cap){.type = CAP_PAGE,
                        .rights = access == VM_WRITE ? RIGHT_READ | RIGHT_WRITE : RIGHT_READ,
                        .holder = to ? to->name : 0,
                        .name = page,
                        .count = count,
                        .generation = to ? to->generation : 0};
    return sys_cap_derive(0, cap);
}

/* Pages in a row with one generation, from page i of the region on. */
static u32 run_of(u32 number, u32 most) {
    const struct page *pages = vm.page_array;
    u32 page = frame_of(number)->page, n = 1;

    while (n < most && frame_of(number + n)->page == page + n &&
           pages[page + n].generation == pages[page].generation)
        n++;
    return n;
}

/* Every page gets a frame in memory that stays there. */
static s64 bring_all(u32 number, u32 pages, u32 access) {
    for (u32 i = 0; i < pages; i++) {
        struct vm_frame *f;
        if (!vm_bring_in(number + i, access == VM_WRITE) || !(f = frame_of(number + i)) || !f->page)
            return E_LIMIT;
        if (f->flags & FRAME_FOREIGN)
            return E_NO_RIGHT;
        f->flags |= FRAME_EXPORTED;
        if (access != VM_WRITE)
            mark_copy(number + i);
    }
    queue_flush();
    return 0;
}

s64 vm_export(struct vm_region *r, u64 first, u64 pages, u32 access, const struct cap *to, struct cap *cap,
              u32 most) {
    u32 number = number_of(r) + (u32)first, done = 0, runs = 0;

    if (!pages || first >= r->pages || pages > r->pages - first ||
        (access != VM_READ && access != VM_WRITE))
        return E_BAD_ARGUMENT;
    vm_enter();
    vm.settled = false;
    s64 error = bring_all(number, (u32)pages, access);
    for (; !error && done < pages; runs++) {
        u32 n = run_of(number + done, (u32)pages - done);
        error = runs == most
                    ? E_FULL
                    : export_run(frame_of(number + done)->page, n, access, to, &cap[runs]);
        done += n;
    }
    vm_leave();
    return error ? error : (s64)runs;
}

void vm_settle(void) { vm.settled = true; }

static s64 import_page(u32 number, u32 page, u32 cap_place, bool copy) {
    struct vm_block *b = block_of(number);
    struct vm_frame *f = frame_make(number, page, 0, FRAME_FOREIGN | FRAME_CONTENT);

    if (!f)
        return E_LIMIT;
    f->place = cap_place;
    if (copy)
        set_bit(b->copy, number);
    else if (!(region_of(number)->cap[cap_place].rights & RIGHT_WRITE))
        clear_bit(b->write, number);
    return vm_map_frame(number, f);
}

struct vm_region *vm_import(const struct cap *cap, u32 count, bool copy) {
    u64 pages = 0;
    s64 error = 0;

    for (u32 i = 0; i < count; i++)
        pages += cap[i].count;
    if (!count || count > VM_CAPS)
        return NULL;
    vm_enter();
    struct vm_region *r = vm_make_hidden(pages, NULL);
    u32 number = r ? number_of(r) : 0;
    for (u32 i = 0; r && i < count; i++) {
        r->cap[r->caps++] = cap[i];
        for (u32 n = 0; n < cap[i].count && !error; n++)
            error = import_page(number++, cap[i].name + n, i, copy);
    }
    vm_leave();
    if (!error || !r)
        return r;
    vm_end(r);
    return NULL;
}
