/* Frames, the stock of pages, and which of them are given back.
 *
 * Stock: `fresh` is a run that the kernel has zeroed and handed out; `spare` are pages that were
 * used before, and are zeroed when they come here. Pages are evicted in the order of a hand that
 * goes round the frames: first what was not touched since it last passed and costs nothing, then
 * whatever costs nothing, and last what must be saved. */
#include "base/memory.h"
#include "vm/parts.h"

static struct vm_run fresh, spare[SPARES];
static u32 spares;
static u32 orphans; /* frames of exported pages that this side no longer uses */

/* ---------------------------------------------------------------- whose a page is */

static bool is_mine(u32 page) { return vm.page_array[page].owner == vm.env->self; }

u64 generation_of(u32 page) {
    const volatile struct page *p = &vm.page_array[page];
    u64 generation = p->generation; /* read first: it changes only while FLAG_TAKEN is set */

    return !(p->state >> 8 & FLAG_TAKEN) && is_mine(page) ? generation : 0;
}

bool is_held(u32 page, u64 generation) {
    return is_mine(page) && vm.page_array[page].generation == generation;
}

static s64 hand_back(u32 page, u64 generation) {
    s64 error = is_held(page, generation) ? sys_page_free(0, page, 1) : E_NO_RIGHT;

    vm.counts.given += !error;
    return error;
}

/* ---------------------------------------------------------------- stock */

void page_drop(u32 page, u64 generation) {
    if (spares == SPARES || !is_held(page, generation) || memory_map_at(vm.window, page, 1, MAP_WRITE, 0)) {
        hand_back(page, generation);
        return;
    }
    memset((void *)vm.window, 0, RT_PAGE);
    update_one(UPDATE_UNMAP, 0, vm.window, 0, 1, 0, 0);
    if (!vm.torn)
        spare[spares++] = (struct vm_run){generation, page, 1};
    vm.torn = false;
}

static void free_frame(struct vm_frame *f) {
    *f = (struct vm_frame){.number = vm.free_frame};
    vm.free_frame = (u32)(f - vm.frame);
}

static void reap_orphans(void) {
    u32 *link = &orphans;

    while (vm.settled && *link) {
        struct vm_frame *f = &vm.frame[*link];
        if (hand_back(f->page, f->generation) == E_BUSY) {
            link = &f->number;
        } else {
            *link = f->number;
            free_frame(f);
        }
    }
}

void stock_check(void) {
    for (u32 i = 0; i < spares;)
        if (is_held(spare[i].page, spare[i].generation))
            i++;
        else
            spare[i] = spare[--spares];
    for (u32 i = 0; i < fresh.count; i++)
        if (!is_held(fresh.page + i, fresh.generation)) { /* the rest of the run is as good as any page */
            for (u32 rest = i + 1; rest < fresh.count && spares < SPARES; rest++)
                if (is_held(fresh.page + rest, fresh.generation))
                    spare[spares++] = (struct vm_run){fresh.generation, fresh.page + rest, 1};
            fresh.count = i;
        }
}

bool stock_take(struct vm_run *run) {
    if (!fresh.count && !spares)
        return false;
    *run = fresh.count ? (struct vm_run){fresh.generation, fresh.page + --fresh.count, 1} : spare[--spares];
    return true;
}

static bool allocate_run(u32 most) {
    for (u32 n = most; n; n /= 2) {
        s64 page = sys_page_alloc(0, PAGE_ANY, n, 0, 0);
        if (page < 0)
            continue;
        fresh = (struct vm_run){generation_of((u32)page), (u32)page, n};
        if (fresh.generation)
            return true;
        sys_page_free(0, (u32)page, n); /* somebody is taking it already */
        fresh.count = 0;
    }
    return false;
}

static u32 evict_to(u32 pages, bool to_stock);

bool pages_take(u32 most, struct vm_run *run) {
    if (losses_waiting())
        losses_take();
    if (!fresh.count && !spares && !vm.env->request[RESOURCE_PAGES].left) {
        reap_orphans();
        allocate_run(RUN);
    }
    if (!fresh.count && !spares)
        evict_to(RUN, true);
    if (!fresh.count)
        return stock_take(run);
    *run = fresh;
    if (run->count > most)
        run->count = most;
    fresh.page += run->count;
    fresh.count -= run->count;
    return true;
}

/* ---------------------------------------------------------------- frames */

#define FRAMES_A_PAGE (RT_PAGE / sizeof(struct vm_frame))

static bool more_frames(void) {
    struct vm_run run;

    if (vm.made >= vm.frames || !pages_take(1, &run))
        return false;
    if (meta_map((u64)&vm.frame[vm.made], &run)) { /* addresses that vm_init has reserved */
        page_drop(run.page, run.generation);
        return false;
    }
    for (u32 i = FRAMES_A_PAGE; i--;) {
        u32 f = vm.made + i;
        if (!f)
            continue; /* 0 is no frame */
        vm.frame[f].number = vm.free_frame;
        vm.free_frame = f;
    }
    vm.made += FRAMES_A_PAGE;
    return true;
}

struct vm_frame *frame_make(u32 number, u32 page, u64 generation, u16 flags) {
    if (!vm.free_frame && !more_frames())
        return NULL;
    u32 *at = vm.shape->make(number);
    if (!at)
        return NULL;
    struct vm_frame *f = &vm.frame[vm.free_frame]; /* not before: `make` may have evicted */
    *at = vm.free_frame;
    vm.free_frame = f->number;
    *f = (struct vm_frame){.generation = generation, .page = page, .number = number, .refs = 1, .flags = flags};
    vm.counts.resident += page && !(flags & FRAME_FOREIGN);
    return f;
}

struct vm_frame *frame_of(u32 number) {
    u32 *at = vm.shape->find(number);

    return at && *at ? &vm.frame[*at] : NULL;
}

/* Nothing of this environment leads to the frame any more. An exported page is kept for as long as
 * others may map it. */
static void frame_end(struct vm_frame *f) {
    if (f->page && !(f->flags & FRAME_FOREIGN)) {
        vm.counts.resident--;
        if (f->flags & FRAME_EXPORTED) {
            f->number = orphans;
            orphans = (u32)(f - vm.frame);
            reap_orphans();
            return;
        }
        page_drop(f->page, f->generation);
    }
    if (f->place && !(f->flags & FRAME_FOREIGN)) {
        vm.counts.saved -= !f->page;
        place_free(f->place);
    }
    free_frame(f);
}

void frame_release(u32 number) {
    struct vm_frame *f = frame_of(number);

    if (!f)
        return;
    vm.shape->drop(number);
    if (f->number == number)
        f->flags |= FRAME_ASTRAY;
    if (!--f->refs)
        frame_end(f);
}

/* ---------------------------------------------------------------- what translations say */

void keep_dirty(u32 number, struct vm_frame *f) {
    if (!(vm_view.entry[number] & PTE_DIRTY))
        return;
    f->flags |= FRAME_CONTENT | FRAME_DIRTY;
    f->flags &= (u16)~FRAME_FILLED;
    vm_view.dropped = 1;
    if (f->place && !(f->flags & FRAME_FOREIGN)) { /* what was saved is out of date */
        place_free(f->place);
        f->place = 0;
    }
}

void unmap_page(u32 number, struct vm_frame *f) {
    struct vm_block *b = block_of(number);

    if (!bit(b->mapped, number))
        return;
    if (f)
        keep_dirty(number, f);
    clear_bit(b->mapped, number);
    queue(UPDATE_UNMAP, address_of(number), 0, 1, 0, 0);
}

/* ---------------------------------------------------------------- eviction */

enum cost { FREE_COLD, FREE_WARM, SAVED_COLD, COSTS };

static bool is_evictable(const struct vm_frame *f) {
    return f->refs == 1 && f->page &&
           !(f->flags & (FRAME_FOREIGN | FRAME_EXPORTED | FRAME_BUSY | FRAME_ASTRAY));
}

/* Whether the contents can be had again without saving them now. */
static bool is_clean(const struct vm_frame *f, u64 pte) {
    const struct vm_region *r = region_of(f->number);

    return r->flags & VM_DISCARD ||
           (!(pte & PTE_DIRTY) &&
            (!(f->flags & FRAME_CONTENT) || f->place || f->flags & FRAME_FILLED));
}

static bool save(struct vm_frame *f, u32 place) {
    u64 to = vm.window + RT_PAGE;

    if (!bit(block_of(f->number)->mapped, f->number) && vm_map_frame(f->number, f))
        return false;
    if (memory_map_at(to, place_cap(place)->name, 1, MAP_WRITE, place_cap(place)))
        return false;
    memcpy((void *)to, (void *)address_of(f->number), RT_PAGE);
    update_one(UPDATE_UNMAP, 0, to, 0, 1, 0, 0);
    if (vm.torn) { /* gone, with its saved copy or without: losses_take will know */
        unmap_page(f->number, NULL);
        vm.torn = false;
        return false;
    }
    vm.counts.saves++;
    return true;
}

/* Takes the page out of a frame that may be evicted; false: it cannot be saved. */
static bool take_out(struct vm_frame *f, struct vm_run *run) {
    u32 number = f->number;
    u64 pte = vm_view.entry[number];

    if (!is_clean(f, pte)) {
        u32 place = place_take();
        if (!place)
            return false;
        if (!save(f, place)) {
            place_forget(place);
            return false;
        }
        unmap_page(number, f);
        f->place = place;
        f->flags |= FRAME_CONTENT;
    } else {
        unmap_page(number, f);
    }
    vm.counts.resident--;
    *run = (struct vm_run){f->generation, f->page, 1};
    f->page = 0;
    if (f->place) {
        vm.counts.saved++;
    } else {
        vm.counts.discarded++;
        frame_release(number);
    }
    return true;
}

/* Second chance: the accessed bit of what the hand passes is cleared. Clearing takes the dirty
 * bit along. */
static void pass_by(struct vm_frame *f) {
    keep_dirty(f->number, f);
    queue(UPDATE_CLEAN, address_of(f->number), 0, 1, 0, 0);
}

static bool is_wanted(struct vm_frame *f, enum cost cost) {
    if (!is_evictable(f))
        return false;
    u64 pte = vm_view.entry[f->number];
    if (!is_clean(f, pte) && cost < SAVED_COLD)
        return false;
    if (cost == FREE_COLD && pte & PTE_ACCESSED) {
        pass_by(f);
        return false;
    }
    return true;
}

/* One batch of pages that may go, unmapped: how many are in run[]. */
static u32 collect(u32 most, enum cost cost, struct vm_run *run) {
    u32 found = 0, seen = 0;

    for (; seen < vm.made && found < most; seen++) {
        vm.hand = vm.hand + 1 < vm.made ? vm.hand + 1 : 1;
        struct vm_frame *f = &vm.frame[vm.hand];
        if (is_wanted(f, cost))
            found += take_out(f, &run[found]);
    }
    queue_flush();
    return found;
}

static u32 take_spares(u32 pages) {
    u32 given = 0;

    for (struct vm_run run; given < pages && (spares || fresh.count);) {
        run = spares ? spare[--spares] : (struct vm_run){fresh.generation, fresh.page + --fresh.count, 1};
        given += !hand_back(run.page, run.generation);
    }
    return given;
}

/* Tables that map nothing, and in need any of them: what they map comes back page by page. */
static u32 take_tables(u32 pages) {
    u32 given = 0;

    for (u32 n = 0; n < vm.pages / BLOCK_PAGES && given < pages; n++) {
        struct vm_block *b = vm.block[n];
        u64 some = 0;
        for (u32 i = 0; b && i < 8; i++)
            some |= b->mapped[i];
        if (!b || !b->table || some)
            continue;
        unbind_block(n);
        given += take_spares(1);
    }
    return given;
}

static u32 evict_to(u32 pages, bool to_stock) {
    struct vm_run run[BATCH];
    u32 done = 0;

    for (enum cost cost = FREE_COLD; cost < COSTS; cost++)
        for (u32 n = 1; n && done < pages;) {
            u32 most = pages - done < BATCH ? pages - done : BATCH;
            n = collect(most, cost, run);
            for (u32 i = 0; i < n; i++) {
                if (to_stock)
                    page_drop(run[i].page, run[i].generation);
                else
                    hand_back(run[i].page, run[i].generation);
            }
            done += n;
        }
    return done;
}

u32 evict(u32 pages) { return evict_to(pages, false); }

static u32 give(u32 pages) {
    reap_orphans();
    u32 given = take_spares(pages);

    given += evict(pages - given);
    if (given < pages)
        given += take_tables(pages - given);
    return given;
}

u32 vm_give(u32 pages) {
    vm_enter();
    u32 given = give(pages);
    vm_leave();
    return given;
}
