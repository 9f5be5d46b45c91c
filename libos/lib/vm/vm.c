/* Regions, faults, protection, and what is done when the kernel asks. */
#include "vm/vm.h"

#include "base/memory.h"
#include "machine/machine.h"
#include "vm/parts.h"

#define DEFAULT_PAGES (1u << 18)
#define DEFAULT_FRAMES 16384
#define PAGE_FAULT 14
#define FAULT_WRITE 2
#define TRIES 8
#define PATIENCE 10000000
#define BLOCKS_A_PAGE (RT_PAGE / sizeof(struct vm_block))

/* Kept out of what is done most often, which then needs few registers. */
#define RARE __attribute__((noinline))

struct vm vm;
static struct vm_options options;
static struct vm_block *free_block; /* linked by their first word */

const struct vm_counts *vm_counts(void) { return &vm.counts; }

/* ---------------------------------------------------------------- one at a time */

static void see_to_requests(void) {
    u32 left;

    while (vm.noted) {
        vm.noted = false;
        vm.busy = true;
        if (losses_waiting())
            losses_take();
        left = vm.env->request[RESOURCE_PAGES].left;
        if (left) {
            vm.busy = false;
            vm_give(left);
        }
        vm.busy = false;
    }
}

void vm_enter(void) { vm.busy = true; }

void vm_leave(void) {
    vm.busy = false;
    if (vm.noted)
        see_to_requests();
}

static void on_revoke(struct frame *frame, u64 cause) {
    vm.noted = true;
    if (!vm.busy)
        see_to_requests();
    if (options.revoke)
        options.revoke(frame, cause);
}

/* ---------------------------------------------------------------- blocks and regions */

static struct vm_block *block_make(void) {
    if (!free_block) {
        struct vm_block *more = meta(1);
        for (u32 i = 0; more && i < BLOCKS_A_PAGE; i++) {
            more[i].mapped[0] = (u64)free_block;
            free_block = &more[i];
        }
    }
    struct vm_block *b = free_block;
    if (b) {
        free_block = (struct vm_block *)b->mapped[0];
        memset(b, 0, sizeof *b);
        memset(b->write, 255, sizeof b->write);
    }
    return b;
}

static void block_free(u32 n) {
    struct vm_block *b = vm.block[n];

    if (!b)
        return;
    if (b->table)
        unbind_block(n);
    vm.block[n] = NULL;
    b->mapped[0] = (u64)free_block;
    free_block = b;
}

/* So many blocks in a row that no region has; the number of blocks if there are none. */
static u64 find_blocks(u64 count) {
    u64 first = 0, all = vm.pages / BLOCK_PAGES;

    for (u64 n = 0; n < all && n - first < count; n++)
        if (vm.block[n])
            first = n + 1;
    return all - first < count ? all : first;
}

static u32 find_region(void) {
    for (u32 i = 1; i < VM_REGIONS; i++) /* 0 is no region */
        if (!vm.region[i].pages)
            return i;
    return 0;
}

struct vm_region *vm_make_hidden(u64 pages, const struct vm_region *want) {
    u64 count = (pages + BLOCK_PAGES - 1) / BLOCK_PAGES, first = find_blocks(count);
    u32 number = find_region();

    if (!pages || !number || first == vm.pages / BLOCK_PAGES)
        return NULL;
    for (u64 n = first; n < first + count; n++) {
        vm.block[n] = block_make();
        if (!vm.block[n]) {
            while (n-- > first)
                block_free((u32)n);
            return NULL;
        }
        vm.block[n]->region = number;
        vm.block[n]->pages = (u32)(pages - (n - first) * BLOCK_PAGES < BLOCK_PAGES ? pages - (n - first) * BLOCK_PAGES : BLOCK_PAGES);
        vm.block[n]->flags = want && want->flags & VM_EXECUTE ? MAP_EXECUTE : 0;
    }
    struct vm_region *r = &vm.region[number];
    *r = want ? *want : (struct vm_region){0};
    r->at = vm.base + first * BLOCK_PAGES * RT_PAGE;
    r->pages = pages;
    r->number = number;
    r->caps = 0;
    if (!r->ahead || r->ahead > RUN)
        r->ahead = r->ahead ? RUN : 1;
    return r;
}

struct vm_region *vm_make(u64 pages, const struct vm_region *want) {
    vm_enter();
    struct vm_region *r = vm_make_hidden(pages, want);
    vm_leave();
    return r;
}

void vm_end(struct vm_region *r) {
    u32 first = (u32)((r->at - vm.base) / RT_PAGE);

    vm_enter();
    for (u32 number = first; number < first + r->pages; number++)
        unmap_page(number, NULL);
    queue_flush();
    for (u32 number = first; number < first + r->pages; number++)
        frame_release(number);
    for (u32 n = first / BLOCK_PAGES; n <= (first + r->pages - 1) / BLOCK_PAGES; n++)
        block_free(n);
    r->pages = 0;
    vm_leave();
}

/* ---------------------------------------------------------------- translations */

static u32 flags_of(u32 number) {
    struct vm_block *b = block_of(number);
    bool write = bit(b->write, number) && !bit(b->copy, number);

    return (write ? MAP_WRITE : 0u) | b->flags;
}

static s64 map_run(u32 number, u32 page, u32 count, u32 flags, const struct cap *cap) {
    s64 error = update_one(UPDATE_MAP, 0, address_of(number), page, count, flags, cap);

    if (error == E_NO_TABLE) {
        error = bind_block(number);
        if (!error)
            error = update_one(UPDATE_MAP, 0, address_of(number), page, count, flags, cap);
    }
    if (!error)
        for (u32 i = 0; i < count; i++)
            set_bit(block_of(number)->mapped, number + i);
    return error;
}

/* Makes the kernel know a page that is in memory. What it knows already is brought up to date. */
s64 vm_map_frame(u32 number, struct vm_frame *f) {
    const struct cap *cap = f->flags & FRAME_FOREIGN ? &region_of(number)->cap[f->place] : NULL;

    if (f->refs == 1 && f->flags & FRAME_ASTRAY) {
        f->number = number;
        f->flags &= (u16)~FRAME_ASTRAY;
    }
    s64 error = map_run(number, f->page, 1, flags_of(number), cap);

    if (error != E_MAPPED)
        return error;
    set_bit(block_of(number)->mapped, number);
    return update_one(UPDATE_PROTECT, 0, address_of(number), 0, 1, flags_of(number), 0);
}

/* ---------------------------------------------------------------- bringing pages in */

/* How many pages from this one on are as untouched and may be used in the same way. */
static u32 untouched(u32 number, u32 most) {
    const struct vm_region *r = region_of(number);
    u32 first = (u32)((r->at - vm.base) / RT_PAGE), n = 1;
    u32 here = BLOCK_PAGES - number % BLOCK_PAGES, flags = flags_of(number);

    most = most < here ? most : here;
    while (n < most && number + n < first + r->pages && flags_of(number + n) == flags &&
           !bit(block_of(number)->hidden, number + n) && !frame_of(number + n))
        n++;
    return n;
}

static bool fill(u32 number) {
    struct vm_region *r = region_of(number);
    void *page = (void *)address_of(number);

    frame_of(number)->flags |= FRAME_BUSY;
    vm_leave();
    r->fill(r, (address_of(number) - r->at) / RT_PAGE, page);
    vm_enter();
    struct vm_frame *f = frame_of(number);
    if (!f || !f->page) /* taken by force meanwhile: the next access finds out */
        return true;
    f->flags = (f->flags & (u16)~FRAME_BUSY) | FRAME_FILLED | FRAME_CONTENT;
    if (f->place) /* taken and saved meanwhile, and brought back: what was saved was half filled */
        place_free(f->place);
    f->place = 0;
    queue(UPDATE_CLEAN, address_of(number), 0, 1, 0, 0);
    queue(UPDATE_PROTECT, address_of(number), 0, 1, flags_of(number), 0);
    queue_flush();
    return true;
}

static bool bring_fresh(u32 number) {
    struct vm_region *r = region_of(number);
    u32 got, most = r->fill || r->ahead == 1 ? 1 : untouched(number, r->ahead);
    struct vm_run run;

    if (!pages_take(most, &run))
        return false;
    got = run.count;
    for (u32 i = 0; i < got; i++)
        if (!frame_make(number + i, run.page + i, run.generation, FRAME_BUSY)) { /* busy: not evicted by the next */
            for (u32 rest = i; rest < got; rest++)
                page_drop(run.page + rest, run.generation);
            got = i;
        }
    s64 error =
        got ? map_run(number, run.page, got, r->fill ? MAP_WRITE : flags_of(number), 0) : E_LIMIT;
    for (u32 i = 0; i < got; i++) {
        frame_of(number + i)->flags &= (u16)~FRAME_BUSY;
        if (error)
            frame_release(number + i);
    }
    vm.counts.fresh += error ? 0 : got;
    return !error && (!r->fill || fill(number));
}

/* Copies a page that is mapped at `from` or, with a capability, of this number, into a fresh
 * one. */
static bool copied(u64 from, u32 source, const struct cap *cap, struct vm_run *run) {
    u64 to = vm.window + 2 * RT_PAGE;

    if (!pages_take(1, run))
        return false;
    if (memory_map_at(to, run->page, 1, MAP_WRITE, 0) ||
        (cap && memory_map_at(from, source, 1, 0, cap))) {
        memory_unmap((void *)to, 1);
        page_drop(run->page, run->generation);
        return false;
    }
    memcpy((void *)to, (void *)from, RT_PAGE);
    queue(UPDATE_UNMAP, to, 0, cap ? 2 : 1, 0, 0);
    if (!vm.torn)
        return true;
    vm.torn = false; /* the source has gone: its mapping is the scratch page's now */
    queue(UPDATE_UNMAP, from, 0, 1, 0, 0);
    queue_flush();
    page_drop(run->page, run->generation);
    return false;
}

/* Contents that were saved come back; the saved copy stays good until the page is modified. */
static bool bring_saved(u32 number) {
    struct cap cap;
    struct vm_run run;
    struct vm_frame *f = frame_of(number);

    if (place_view(f->place, &cap) || !copied(vm.window + 3 * RT_PAGE, cap.name, &cap, &run))
        return false;
    queue_flush();
    f->page = run.page;
    f->generation = run.generation;
    vm.counts.saved--;
    vm.counts.resident++;
    vm.counts.reloads++;
    return true;
}

static bool is_still_shared(struct vm_frame *f) {
    if (f->refs > 1 || f->flags & FRAME_FOREIGN)
        return true;
    if (!(f->flags & FRAME_EXPORTED))
        return false;
    bool alone = vm.settled && vm.page_array[f->page].state >> 32 <= 1;
    if (alone && !sys_page_revoke(0, f->page, 1)) { /* nobody can map it any more */
        f->generation = generation_of(f->page);
        f->flags &= (u16)~FRAME_EXPORTED;
        return false;
    }
    return true;
}

/* Gives a page of its own to a page that is to be written. */
static bool unshare(u32 number) {
    struct vm_block *b = block_of(number);
    struct vm_frame *f = frame_of(number);

    if (!is_still_shared(f)) {
        clear_bit(b->copy, number);
        return !vm_map_frame(number, f);
    }
    s64 error =
        bit(b->mapped, number) && vm_view.entry[number] & PTE_PRESENT ? 0 : vm_map_frame(number, f);
    struct vm_run run;
    if (error || !copied(address_of(number), 0, NULL, &run))
        return false;
    unmap_page(number, NULL);
    queue_flush();
    frame_release(number);
    f = frame_make(number, run.page, run.generation, FRAME_CONTENT | FRAME_DIRTY);
    if (!f) {
        page_drop(run.page, run.generation);
        return false;
    }
    vm_view.dropped = 1;
    vm.counts.copies++;
    clear_bit(b->copy, number);
    return !vm_map_frame(number, f);
}

static bool is_lost(const struct vm_frame *f) { return !f->page && !f->place; }

bool vm_bring_in(u32 number, bool write) {
    struct vm_frame *f = frame_of(number);

    if (!f)
        return bring_fresh(number);
    if (is_lost(f) || (!f->page && !bring_saved(number)))
        return false;
    return write && bit(block_of(number)->copy, number) ? unshare(number)
                                                        : !vm_map_frame(number, f);
}

/* ---------------------------------------------------------------- faults */

/* The region's handler decides. A page that was lost begins anew if it says so. */
static bool ask(u32 number, u64 address, u32 why) {
    struct vm_region *r = region_of(number);

    if (!r->denied || !r->denied(r, address, why))
        return false;
    if (why == VM_LOST) {
        vm_enter();
        frame_release(number);
        vm_leave();
    }
    return true;
}

/* A page that is just being taken is gone from the space before its loss is written. */
static void await_loss(u32 number) {
    struct vm_frame *f = frame_of(number);
    u32 page = f && !(f->flags & FRAME_FOREIGN) ? f->page : 0;

    for (u32 n = 0; page && n < PATIENCE && !losses_waiting(); n++) {
        const volatile struct page *p = &vm.page_array[page];
        if (p->owner == vm.env->self && !(p->state >> 8 & FLAG_TAKEN))
            return;
    }
}

/* While the library copies, the page can be taken by another CPU: a scratch page stands in. */
RARE static bool tear(u64 address) {
    if (vm.torn || !(block_at(address) || address - vm.window < 4 * RT_PAGE))
        return false;
    vm.torn = true;
    return !memory_map_at(address & ~(RT_PAGE - 1), vm.scratch, 1, MAP_WRITE, 0);
}

/* The library's own memory, and what is none of it. */
RARE static bool fault_elsewhere(u64 address) {
    u64 view = address - (u64)vm_view.entry;

    return view < vm.pages * sizeof(u64) ? !view_fault(address) : meta_fault(address);
}

/* What is allowed, and not there yet or not any more. */
RARE static bool fault_missing(u32 number, u64 address, bool write) {
    vm_enter();
    vm.counts.faults++;
    bool good = false;
    for (u32 tries = 0; tries < TRIES && !good; tries++) { /* pages may be taken meanwhile */
        if (tries)
            await_loss(number);
        if (losses_waiting())
            losses_take();
        good = vm_bring_in(number, write);
    }
    struct vm_frame *f = frame_of(number);
    bool lost = !good && f && is_lost(f);
    vm_leave();
    return good || (lost && ask(number, address, VM_LOST));
}

static inline bool fault(u64 address, bool write) {
    struct vm_block *b = block_at(address);

    if (!b)
        return fault_elsewhere(address) || (vm.busy && tear(address));
    if (vm.busy)
        return tear(address);
    u32 number = number_at(address);
    if (bit(b->hidden, number) || (write && !bit(b->write, number)))
        return ask(number, address, write ? VM_DENIED_WRITE : VM_DENIED_READ);
    return fault_missing(number, address, write);
}

/* A fault that nobody wants ends the environment, as if there were no handler. */
static void on_exception(struct frame *frame) {
    if (frame->cause == PAGE_FAULT && fault(frame->address, frame->error & FAULT_WRITE))
        return;
    if (options.exception)
        options.exception(frame);
    else
        rt_on_exception(NULL);
}

/* ---------------------------------------------------------------- protection */

/* The mask of the bits [from, to) that lie in word w. */
static u64 mask_of(u32 w, u32 from, u32 to) {
    u32 low = from > w * 64 ? from - w * 64 : 0, high = to < w * 64 + 64 ? to - w * 64 : 64;

    return (high == 64 ? ~0ull : (1ull << high) - 1) & (~0ull << low);
}

/* Tells the kernel of the part of a block whose translations it has: in runs. */
static void protect_mapped(u32 first, u32 from, u32 to) {
    struct vm_block *b = block_of(first);

    while (from < to) {
        u32 run = 0, flags = flags_of(first + from);
        if (!bit(b->mapped, from)) {
            from++;
            continue;
        }
        while (from + run < to && bit(b->mapped, from + run) &&
               flags_of(first + from + run) == flags)
            run++;
        queue(UPDATE_PROTECT, address_of(first + from), 0, run, flags, 0);
        from += run;
    }
}

static void hide(u32 first, u32 from, u32 to) {
    for (; from < to; from++)
        unmap_page(first + from, frame_of(first + from));
}

/* The pages [from, to) of the block whose first page is `first`. */
static void protect_block(u32 first, u32 from, u32 to, u32 access) {
    struct vm_block *b = block_of(first);
    u64 unmapped = 0, copied_some = 0;

    for (u32 w = from / 64; w <= (to - 1) / 64; w++) {
        u64 mask = mask_of(w, from, to);
        b->write[w] = access == VM_WRITE ? b->write[w] | mask : b->write[w] & ~mask;
        b->hidden[w] = access == VM_NONE ? b->hidden[w] | mask : b->hidden[w] & ~mask;
        unmapped |= ~b->mapped[w] & mask;
        copied_some |= b->copy[w] & mask;
    }
    if (access == VM_NONE)
        hide(first, from, to);
    else if (unmapped || copied_some)
        protect_mapped(first, from, to);
    else
        queue(UPDATE_PROTECT, address_of(first + from), 0, to - from, flags_of(first + from), 0);
}

/* Some translation was not there any more: each page's own entry says whether it is. */
RARE static void protect_again(const struct vm_change *change, u32 count) {
    for (u32 i = 0; i < count; i++) {
        u32 number = (u32)(((u64)change[i].at - vm.base) / RT_PAGE);
        for (u64 n = 0; n < change[i].pages; n++, number++) {
            if (!bit(block_of(number)->mapped, number))
                continue;
            if (vm_view.entry[number] & PTE_PRESENT)
                queue(UPDATE_PROTECT, address_of(number), 0, 1, flags_of(number), 0);
            else
                clear_bit(block_of(number)->mapped, number);
        }
    }
    queue_flush();
}

static inline bool is_good(const struct vm_change *c) {
    u64 at = (u64)c->at;
    const struct vm_block *b = block_at(at);

    if (at % RT_PAGE || !b || c->access > VM_WRITE || c->access == (VM_WRITE & ~VM_READ))
        return false;
    const struct vm_region *r = &vm.region[b->region];
    return c->pages == 1 || (c->pages && c->pages <= (r->at + r->pages * RT_PAGE - at) / RT_PAGE);
}

/* What the kernel knows of access that is not VM_NONE. */
static inline u32 map_flag(u32 access) { return access >> 1; }
_Static_assert(VM_READ >> 1 == 0 && VM_WRITE >> 1 == MAP_WRITE, "map_flag");

/* The common case: one page that the kernel knows and that is not shared. False: it is not that. */
static inline bool protect_page(const struct vm_change *c) {
    u32 number = number_at((u64)c->at), word = number / 64 % 8;
    struct vm_block *b = block_of(number);
    u64 mask = 1ull << number % 64;

    if (c->pages != 1 || c->access == VM_NONE || (b->mapped[word] & ~b->copy[word] & mask) == 0)
        return false;
    b->write[word] = (b->write[word] & ~mask) | (u64)map_flag(c->access) << number % 64;
    *queue_place() = (struct update){.op = UPDATE_PROTECT, .flags = (u16)(b->flags | map_flag(c->access)), .va = (u64)c->at, .count = 1};
    return true;
}

RARE static void protect_range(const struct vm_change *c) {
    u32 number = number_at((u64)c->at);

    for (u64 left = c->pages; left;) {
        u32 from = number % BLOCK_PAGES;
        u32 part = left < BLOCK_PAGES - from ? (u32)left : BLOCK_PAGES - from;
        protect_block(number - from, from, from + part, c->access);
        number += part;
        left -= part;
    }
}

static inline __attribute__((always_inline)) s64 protect_all(const struct vm_change *change, u32 count) {
    for (u32 i = 0; i < count; i++)
        if (!is_good(&change[i]))
            return E_BAD_ARGUMENT;
    vm_enter();
    for (u32 i = 0; i < count; i++)
        if (!protect_page(&change[i]))
            protect_range(&change[i]);
    if (queue_flush())
        protect_again(change, count);
    vm_leave();
    return 0;
}

s64 vm_protect_all(const struct vm_change *change, u32 count) { return protect_all(change, count); }

s64 vm_protect(const volatile void *at, u64 pages, u32 access) {
    struct vm_change change = {at, pages, access};

    return protect_all(&change, 1);
}

/* ---------------------------------------------------------------- dirty pages */

bool vm_dirty_unmapped(u64 number) {
    struct vm_frame *f = frame_of((u32)number);

    return f && f->flags & FRAME_DIRTY;
}

s64 vm_clean(const volatile void *at, u64 pages) {
    struct vm_change range = {at, pages, VM_READ};

    if (!is_good(&range))
        return E_BAD_ARGUMENT;
    vm_enter();
    u32 number = (u32)(((u64)at - vm.base) / RT_PAGE);
    for (u64 i = 0; i < pages; i++) {
        struct vm_frame *f = frame_of(number + (u32)i);
        if (!f)
            continue;
        keep_dirty(number + (u32)i, f);
        f->flags &= (u16)~FRAME_DIRTY;
    }
    for (u64 done = 0, part; done < pages; done += part) {
        part = pages - done < PAGES_A_CALL ? pages - done : PAGES_A_CALL;
        queue(UPDATE_CLEAN, address_of(number + (u32)done), 0, (u32)part, 0, 0);
    }
    queue_flush();
    vm_leave();
    return 0;
}

/* ---------------------------------------------------------------- start */

/* Addresses whose first is a multiple of what one table covers. */
static u64 reserve_blocks(u64 pages) {
    u64 size = BLOCK_PAGES * RT_PAGE;

    return (memory_reserve(pages + BLOCK_PAGES) + size - 1) & ~(size - 1);
}

s64 vm_init(const struct vm_options *given) {
    struct vm_run zero, scratch;

    options = *given;
    vm = (struct vm){.shape = options.shape ? options.shape : &vm_radix, .frames = options.frames};
    vm.pages = (options.pages ? options.pages : DEFAULT_PAGES) / BLOCK_PAGES * BLOCK_PAGES;
    vm.frames = vm.frames ? vm.frames : DEFAULT_FRAMES;
    vm.env = memory_map(rt_self(), 1, 0, 0);
    vm.page_array = machine_pages();
    if (!vm.env || !vm.page_array || !vm.pages || vm.pages >> 28)
        return vm.pages >> 28 ? E_BAD_ARGUMENT : E_LIMIT;
    vm.base = reserve_blocks(vm.pages);
    vm_view =
        (struct vm_view){.base = vm.base, .entry = (u64 *)reserve_blocks(vm.pages / BLOCK_PAGES)};
    vm.window = memory_reserve(4);
    vm.frame =
        (struct vm_frame *)meta_reserve((u32)(vm.frames * sizeof(struct vm_frame) / RT_PAGE + 1));
    vm.block = meta((u32)((vm.pages / BLOCK_PAGES * sizeof *vm.block + RT_PAGE - 1) / RT_PAGE));
    if (!vm.frame || !vm.block || !pages_take(1, &zero) || !pages_take(1, &scratch))
        return E_LIMIT;
    vm.zero_page = zero.page;
    vm.scratch = scratch.page;
    if (view_init() || !vm.shape->init(vm.pages))
        return E_LIMIT;
    rt_on_exception(on_exception);
    rt_on_revoke(on_revoke);
    return 0;
}

s64 vm_vital(const void *at) {
    static u32 next;
    u32 page = memory_page_of(at);

    if (!page || next == VITALS)
        return page ? E_LIMIT : E_BAD_ADDRESS;
    s64 error = sys_vital_set(next, page);
    next += !error;
    return error;
}
