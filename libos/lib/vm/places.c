/* Places to save contents in, and losses.
 *
 * A place is one page of a swap server. Up to SAVES of them are posted in the loss page, for the
 * kernel to save in when it takes pages by force; others this library uses itself. Of the places
 * that the kernel has used, a loss says which contents are there; one that no loss names is free
 * again. */
#include "base/memory.h"
#include "vm/parts.h"
#include "vm/swap.h"

#define TAKE 32 /* pages asked of the server at a time */

enum { PLACE_UNUSED, PLACE_FREE, PLACE_POSTED, PLACE_USED };
struct place {
    struct cap cap;
    u32 state;
    u32 next; /* of the free ones */
};

static struct place *place; /* 1 to places - 1 */
static u32 places, most_places, free_places, free_count;
static u32 server;
static struct losses *losses;
static u32 posted[SAVES];
static u64 used;      /* places of the loss page that were seen as used */
static u64 losses_seen;
static u64 losses_before; /* of env.losses, those from before the loss page was bound */
static u64 missed;        /* and those that found no room in it */

/* ---------------------------------------------------------------- places */

static bool more_places(void) {
    struct cap run;
    u32 want = most_places - places < TAKE ? most_places - places : TAKE;

    if (!want || swap_take(server, want, &run))
        return false;
    for (u32 i = 0; i < run.count && places < most_places; i++) {
        struct cap one = run;
        one.name = run.name + i;
        one.count = 1;
        if (sys_cap_derive(&run, &one))
            return false;
        place[places].cap = one;
        place[places].state = PLACE_USED;
        place_free(places++);
    }
    return free_count;
}

u32 place_take(void) {
    if (!server || (!free_count && !more_places()))
        return 0;
    u32 taken = free_places;
    free_places = place[taken].next;
    free_count--;
    place[taken].state = PLACE_USED;
    return taken;
}

void place_free(u32 n) {
    place[n].state = PLACE_FREE;
    place[n].next = free_places;
    free_places = n;
    free_count++;
}

void place_forget(u32 n) { place[n].state = PLACE_UNUSED; }

const struct cap *place_cap(u32 n) { return &place[n].cap; }

s64 saved_view(u32 page, struct cap *cap) { return swap_view(server, page, cap); }

s64 place_view(u32 n, struct cap *cap) {
    s64 error = swap_view(server, place[n].cap.name, cap);

    return error || cap->name == place[n].cap.name ? error : E_BAD_CAPABILITY;
}

static void post(void) {
    while (losses && losses->posted - used < SAVES) {
        u32 n = place_take();
        if (!n)
            return;
        place[n].state = PLACE_POSTED;
        losses->save[losses->posted % SAVES] = place[n].cap;
        posted[losses->posted % SAVES] = n;
        __atomic_store_n(&losses->posted, losses->posted + 1, __ATOMIC_RELEASE);
    }
}

s64 vm_swap(u32 swap_server, u32 most) {
    struct vm_run run;

    if (server || !swap_server || !most)
        return E_BAD_ARGUMENT;
    vm_enter();
    place = meta((u32)(((most + 1) * sizeof(struct place) + RT_PAGE - 1) / RT_PAGE));
    losses = place && pages_take(1, &run) ? memory_map(run.page, 1, MAP_WRITE, 0) : NULL;
    s64 error = losses ? sys_loss_bind(0, run.page) : E_LIMIT;
    if (!error) {
        server = swap_server;
        most_places = most + 1;
        places = 1;
        losses_seen = losses_before = vm.env->losses;
        post();
    }
    vm_leave();
    return error;
}

/* ---------------------------------------------------------------- losses */

bool losses_waiting(void) {
    return __atomic_load_n(&vm.env->losses, __ATOMIC_RELAXED) != losses_seen;
}

/* The place whose page has this number, among those that the kernel has used. */
static u32 place_of(u32 page, u64 to) {
    for (u64 n = used; n != to; n++)
        if (page && place[posted[n % SAVES]].cap.name == page)
            return posted[n % SAVES];
    return 0;
}

static const struct loss *find_loss(const struct loss *loss, u32 count, u32 page, u64 generation) {
    for (u32 i = 0; i < count; i++)
        if (loss[i].resource == RESOURCE_PAGES && loss[i].name == page && (!generation || loss[i].generation == generation))
            return &loss[i];
    return NULL;
}

static void lose_frame(struct vm_frame *f, u32 saved) {
    bool astray = f->flags & FRAME_ASTRAY;

    if (!astray) /* the kernel has removed the translation, with all that it said */
        clear_bit(block_of(f->number)->mapped, f->number);
    vm.counts.resident--;
    f->page = 0;
    if (f->place)
        place_free(f->place);
    f->place = saved;
    f->flags = (f->flags & FRAME_ASTRAY) | FRAME_CONTENT | FRAME_DIRTY;
    vm_view.dropped = 1;
    if (saved) {
        place[saved].state = PLACE_USED;
        vm.counts.saved++;
    } else {
        vm.counts.lost++;
        if (!astray && f->refs == 1 && region_of(f->number)->flags & VM_DISCARD)
            frame_release(f->number);
    }
}

/* A table went, and with it what it said of its pages: they may all be modified. */
static void lose_table(u32 n) {
    struct vm_block *b = vm.block[n];

    memset(b->mapped, 0, sizeof b->mapped);
    b->table = 0;
    vm_view.dropped = 1;
    for (u32 i = 0; i < BLOCK_PAGES; i++) {
        struct vm_frame *f = frame_of(n * BLOCK_PAGES + i);
        if (!f || f->flags & FRAME_FOREIGN || !f->page)
            continue;
        f->flags = (f->flags & (u16)~FRAME_FILLED) | FRAME_CONTENT | FRAME_DIRTY;
        if (f->place)
            place_free(f->place);
        f->place = 0;
    }
}

/* `by_owner`: some losses are not in the list, so the page array has to tell. */
static void see_frames(const struct loss *loss, u32 count, u64 to, bool by_owner) {
    u64 some = 0; /* a bit for each remainder of a lost page's number */

    for (u32 i = 0; i < count; i++)
        some |= 1ull << loss[i].name % 64;
    for (u32 i = 1; i < vm.made; i++) {
        struct vm_frame *f = &vm.frame[i];
        if (!f->refs || !f->page || f->flags & FRAME_FOREIGN)
            continue;
        const struct loss *l = some >> f->page % 64 & 1 ? find_loss(loss, count, f->page, f->generation) : NULL;
        if (l || (by_owner && !is_held(f->page, f->generation)))
            lose_frame(f, l ? place_of(l->saved, to) : 0);
    }
}

static void see_tables(const struct loss *loss, u32 count, bool by_owner) {
    for (u32 n = 0; n < vm.pages / BLOCK_PAGES; n++) {
        const struct vm_block *b = vm.block[n];
        if (b && b->table &&
            (find_loss(loss, count, b->table, b->generation) || (by_owner && !is_held(b->table, b->generation))))
            lose_table(n);
    }
}

/* How many losses stand in the loss page, once all of the `seen` ones that find room there do:
 * the kernel counts a loss before it writes it. */
static u64 written_of(u64 seen) {
    for (;;) {
        u64 written = __atomic_load_n(&losses->written, __ATOMIC_ACQUIRE);
        u64 should = seen - losses_before - missed;
        if ((s64)(written - should) >= 0)
            return written;
        if (written - losses->read >= LOSSES) {
            missed += should - written;
            return written;
        }
    }
}

/* Places are used in the order of the losses. So those before the last that a loss named are
 * done with, and the ones after it may belong to losses that are being written. */
static void see_places(u64 to) {
    while (to != used && place[posted[(to - 1) % SAVES]].state == PLACE_POSTED)
        to--;
    for (; used != to; used++)
        if (place[posted[used % SAVES]].state == PLACE_POSTED)
            place_free(posted[used % SAVES]);
}

bool losses_see_meta(void) {
    u64 written = losses ? __atomic_load_n(&losses->written, __ATOMIC_ACQUIRE) : 0;
    bool good = true;

    for (u64 n = losses ? losses->read : 0; n != written; n++)
        good &= meta_lost(&losses->loss[n % LOSSES]);
    return good;
}

void losses_take(void) {
    static struct loss loss[LOSSES];
    u64 seen = __atomic_load_n(&vm.env->losses, __ATOMIC_ACQUIRE), missed_before = missed,
        to = used;
    u32 count = 0;

    losses_seen = seen;
    if (losses) {
        u64 written = written_of(seen);
        losses_see_meta();
        for (; losses->read + count != written; count++)
            loss[count] = losses->loss[(losses->read + count) % LOSSES];
        to = __atomic_load_n(&losses->used, __ATOMIC_ACQUIRE);
        __atomic_store_n(&losses->read, written, __ATOMIC_RELEASE);
    }
    bool by_owner = !losses || missed != missed_before;
    see_tables(loss, count, by_owner); /* first, for it still knows the frames' pages */
    see_frames(loss, count, to, by_owner);
    stock_check();
    see_places(to);
    post();
}
