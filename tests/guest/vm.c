/* Virtual memory as a library (libos/lib/vm): both shapes, every kind of fault, and pages that
 * go. */
#include "guest.h"
#include "vm/swap.h"
#include "vm/swap_server.h"
#include "vm/parts.h"

#define PAGE(r, i) ((volatile u64 *)((r)->at + (i) * RT_PAGE))
#define LARGE 3000 /* pages: more than six blocks */

static void start_vm(const struct vm_shape *shape) {
    OK(vm_init(&(struct vm_options){.shape = shape}));
}

static struct vm_region *region(u64 pages, const struct vm_region *want) {
    struct vm_region *r = vm_make(pages, want);

    CHECK(r);
    return r;
}

static bool is_zero(const volatile u64 *page) {
    for (u32 i = 0; i < RT_PAGE / 8; i++)
        if (page[i])
            return false;
    return true;
}

static u64 mark_of(u64 i) { return i * 0x9e3779b97f4a7c15ull + 1; }

static void mark(struct vm_region *r, u64 from, u64 to) {
    for (u64 i = from; i < to; i++)
        PAGE(r, i)[i % 512] = mark_of(i);
}

static void check_marks(struct vm_region *r, u64 from, u64 to) {
    for (u64 i = from; i < to; i++)
        if (PAGE(r, i)[i % 512] != mark_of(i))
            FAIL("page %lu has %lx", i, PAGE(r, i)[i % 512]);
}

/* ---------------------------------------------------------------- demand zero */
static void demand_zero(const struct vm_shape *shape) {
    start_vm(shape);
    struct vm_region *r = region(LARGE, NULL),
                     *ahead = region(100, &(struct vm_region){.ahead = 16});
    u32 before = self()->pages;

    for (u32 i = 0; i < LARGE; i += 7)
        CHECK(is_zero(PAGE(r, i)));
    mark(r, 0, LARGE);
    check_marks(r, 0, LARGE);
    EQUAL(vm_counts()->resident, LARGE);
    for (u32 i = 0; i < 100; i++)
        CHECK(is_zero(PAGE(ahead, i)));
    EQUAL(vm_counts()->fresh, LARGE + 100);
    CHECK(vm_counts()->faults < LARGE + 20);
    vm_end(r);
    vm_end(ahead);
    EQUAL(vm_counts()->resident, 0);
    CHECK(self()->pages < before + 200);
    r = region(10, NULL); /* addresses are used again, and pages are zero again */
    for (u32 i = 0; i < 10; i++)
        CHECK(is_zero(PAGE(r, i)));
}
TEST(vm_demand_zero_radix) { demand_zero(&vm_radix); }
TEST(vm_demand_zero_hashed) { demand_zero(&vm_hashed); }

/* ---------------------------------------------------------------- handlers and protection */
static volatile u64 denials, last_address;
static volatile u32 last_why;

static bool allow(struct vm_region *r, u64 address, u32 why) {
    (void)r;
    denials++;
    last_address = address;
    last_why = why;
    OK(vm_protect((void *)(address & ~(RT_PAGE - 1)), 1, VM_WRITE));
    return true;
}

static void expect_denial(u64 count, const volatile void *at, u32 why) {
    EQUAL(denials, count);
    EQUAL(last_address, (u64)at);
    EQUAL(last_why, why);
}

static void protection(const struct vm_shape *shape) {
    start_vm(shape);
    struct vm_region *r = region(1000, &(struct vm_region){.denied = allow});

    mark(r, 0, 1000);
    OK(vm_protect(PAGE(r, 0), 1000, VM_READ));
    check_marks(r, 0, 1000);
    EQUAL(denials, 0);
    PAGE(r, 600)[3] = 5;
    expect_denial(1, PAGE(r, 600) + 3, VM_DENIED_WRITE);
    PAGE(r, 600)[3] = 6;
    EQUAL(denials, 1);
    OK(vm_protect(PAGE(r, 500), 100, VM_NONE)); /* across two blocks */
    check_marks(r, 550, 551);
    expect_denial(2, &PAGE(r, 550)[550 % 512], VM_DENIED_READ);
    check_marks(r, 0, 500);
    EQUAL(denials, 2);
    PAGE(r, 700)[0] = 1;
    EQUAL(denials, 3);
    struct vm_change change[3] = {
        {PAGE(r, 500), 100, VM_WRITE}, {PAGE(r, 10), 1, VM_READ}, {PAGE(r, 700), 1, VM_READ}};
    OK(vm_protect_all(change, 3));
    mark(r, 500, 600);
    EQUAL(denials, 3);
    PAGE(r, 10)[0] = 1;
    PAGE(r, 700)[0] = 1;
    EQUAL(denials, 5);
    EQUAL(vm_protect(PAGE(r, 999), 2, VM_READ), E_BAD_ARGUMENT);
    EQUAL(vm_protect((char *)PAGE(r, 0) + 8, 1, VM_READ), E_BAD_ARGUMENT);
    struct vm_region *untouched = region(20, &(struct vm_region){.denied = allow});
    OK(vm_protect(PAGE(untouched, 0), 20, VM_READ));
    CHECK(is_zero(PAGE(untouched, 4)));
    PAGE(untouched, 4)[0] = 1;
    EQUAL(denials, 6);
}
TEST(vm_protection_radix) { protection(&vm_radix); }
TEST(vm_protection_hashed) { protection(&vm_hashed); }

TEST(vm_unhandled_denial, .ends = END_FAULT) {
    start_vm(NULL);
    struct vm_region *r = region(1, NULL);

    OK(vm_protect(PAGE(r, 0), 1, VM_READ));
    PAGE(r, 0)[0] = 1;
}

TEST(vm_outside_regions, .ends = END_FAULT) {
    start_vm(NULL);
    struct vm_region *r = region(1, NULL);

    PAGE(r, 0)[0] = 1;
    PAGE(r, 1)[0] = 1;
}

static void give_numbers(struct vm_region *r, u64 index, void *page) {
    struct vm_region *other = r->own;

    for (u32 i = 0; i < RT_PAGE / 8; i++)
        ((u64 *)page)[i] = mark_of(index) + PAGE(other, index)[i]; /* a fault inside a fault */
}

TEST(vm_fill) {
    start_vm(NULL);
    struct vm_region *zeros = region(50, NULL);
    struct vm_region *r = region(50, &(struct vm_region){.fill = give_numbers, .own = zeros});

    for (u32 i = 0; i < 50; i++)
        EQUAL(PAGE(r, i)[i], mark_of(i));
    for (u32 i = 0; i < 50; i++)
        CHECK(!vm_dirty(PAGE(r, i)));
    EQUAL(vm_counts()->fresh, 100);
}

/* ---------------------------------------------------------------- dirty */
TEST(vm_dirty_pages) {
    start_vm(NULL);
    struct vm_region *r = region(600, NULL);

    CHECK(!vm_dirty(PAGE(r, 599))); /* without a table */
    for (u32 i = 0; i < 600; i++)
        (void)PAGE(r, i)[0];
    for (u32 i = 0; i < 600; i += 3)
        PAGE(r, i)[1] = 1;
    for (u32 i = 0; i < 600; i++)
        EQUAL(vm_dirty(PAGE(r, i)), i % 3 == 0);
    OK(vm_protect(PAGE(r, 0), 600, VM_NONE)); /* what was unmapped is remembered */
    for (u32 i = 0; i < 600; i++)
        EQUAL(vm_dirty(PAGE(r, i)), i % 3 == 0);
    OK(vm_protect(PAGE(r, 0), 600, VM_WRITE));
    OK(vm_clean(PAGE(r, 0), 600));
    for (u32 i = 0; i < 600; i++)
        CHECK(!vm_dirty(PAGE(r, i)));
    PAGE(r, 5)[0] = 1;
    CHECK(vm_dirty(PAGE(r, 5)));
}

/* ---------------------------------------------------------------- sharing */
static void copy_on_write(const struct vm_shape *shape) {
    start_vm(shape);
    struct vm_region *a = region(700, NULL);

    mark(a, 0, 600);
    u64 resident = vm_counts()->resident;
    struct vm_region *b = vm_copy(a);
    CHECK(b);
    check_marks(b, 0, 600);
    check_marks(a, 0, 600);
    EQUAL(vm_counts()->resident, resident);
    PAGE(a, 3)[100] = 77;
    PAGE(b, 4)[100] = 78;
    PAGE(b, 650)[0] = 79;
    EQUAL(PAGE(b, 3)[100], 0);
    EQUAL(PAGE(a, 4)[100], 0);
    EQUAL(PAGE(a, 650)[0], 0);
    EQUAL(vm_counts()->copies, 2);
    PAGE(b, 3)[100] = 80; /* alone by now: no copy */
    EQUAL(vm_counts()->copies, 2);
    EQUAL(PAGE(a, 3)[100], 77);
    check_marks(a, 0, 600);
    check_marks(b, 0, 600);
    struct vm_region *c = vm_copy(b);
    vm_end(b);
    check_marks(c, 0, 600);
    EQUAL(PAGE(c, 4)[100], 78);
    PAGE(c, 5)[101] = 1;
    vm_end(a);
    check_marks(c, 0, 600);
    mark(c, 0, 700);
    vm_end(c);
    EQUAL(vm_counts()->resident, 0);
}
TEST(vm_copy_radix) { copy_on_write(&vm_radix); }
TEST(vm_copy_hashed) { copy_on_write(&vm_hashed); }

/* words: 0: child ready; 1: parent has written; 2: child has written; caps 0..3: runs; order 0:
 * how many */
ROLE(vm_fork_child) {
    start_vm(&vm_hashed);
    wait_for(&up->order[1], 1);
    struct cap cap[VM_CAPS];
    memcpy(cap, up->cap, sizeof cap);
    struct vm_region *r = vm_import(cap, (u32)up->order[0], true);
    CHECK(r);
    __atomic_store_n(&up->word[0], 1, __ATOMIC_SEQ_CST);
    wait_for(&up->word[1], 1);
    check_marks(r, 0, 40);
    for (u32 i = 0; i < 40; i++)
        EQUAL(PAGE(r, i)[600 % 512 + 1], 0); /* what the parent wrote since is not seen */
    mark(r, 0, 20);
    PAGE(r, 7)[9] = 9;
    struct vm_region *both = vm_import((const struct cap *)&up->cap[VM_CAPS], 1, false);
    CHECK(both);
    EQUAL(PAGE(both, 0)[0], 0x1234);
    PAGE(both, 0)[1] = 0x5678;
    __atomic_store_n(&up->word[2], 1, __ATOMIC_SEQ_CST);
    wait_for(&up->word[3], 1);
    check_marks(r, 0, 40);
    EQUAL(PAGE(r, 7)[9], 9);
}

static void settle_child(struct peer *p) {
    __atomic_store_n(&down->word[3], 1, __ATOMIC_SEQ_CST);
    pause_for(50);
    end_peer(p);
    vm_settle();
}

TEST(vm_fork_between_environments) {
    struct peer p;

    start_vm(NULL);
    struct vm_region *r = region(40, &(struct vm_region){.ahead = 16}), *shared = region(1, NULL);
    mark(r, 0, 40);
    PAGE(shared, 0)[0] = 0x1234;
    start_peer(&p, "vm_fork_child", 0);
    s64 runs = OK(vm_export(r, 0, 40, VM_READ, &p.cap, (struct cap *)down->cap, VM_CAPS));
    EQUAL(OK(vm_export(shared, 0, 1, VM_WRITE, &p.cap, (struct cap *)&down->cap[VM_CAPS], 1)), 1);
    down->order[0] = (u64)runs;
    __atomic_store_n(&down->order[1], 1, __ATOMIC_SEQ_CST);
    wait_for(&down->word[0], 1);
    for (u32 i = 0; i < 40; i++)
        PAGE(r, i)[600 % 512 + 1] = 5;
    EQUAL(vm_counts()->copies, 40);
    __atomic_store_n(&down->word[1], 1, __ATOMIC_SEQ_CST);
    wait_for(&down->word[2], 1);
    EQUAL(PAGE(r, 7)[9], 0);
    EQUAL(PAGE(shared, 0)[1], 0x5678);
    settle_child(&p);
    u32 before = self()->pages;
    vm_end(r); /* orphans can go now, too */
    vm_give(200);
    CHECK(self()->pages + 80 <= before);
}

/* ---------------------------------------------------------------- pages that go */
static volatile u64 filled;

static void fill_block(struct vm_region *r, u64 index, void *page) {
    (void)r;
    filled++;
    for (u32 i = 0; i < RT_PAGE / 8; i++)
        ((u64 *)page)[i] = mark_of(index) ^ i;
}

static void check_blocks(struct vm_region *r, u64 from, u64 to) {
    for (u64 n = from; n < to; n++)
        for (u32 i = 0; i < RT_PAGE / 8; i += 31)
            EQUAL(PAGE(r, n)[i], mark_of(n) ^ i);
}

/* More addresses than pages: old ones make room. */
static void more_than_there_is(const struct vm_shape *shape) {
    self(); /* mapped while there is a page for its table */
    start_vm(shape);
    struct vm_region *r =
        region(6000, &(struct vm_region){.flags = VM_DISCARD, .fill = fill_block});

    for (u32 round = 0; round < 2; round++)
        check_blocks(r, 0, 6000);
    CHECK(filled > 6000);
    CHECK(vm_counts()->discarded > 3000);
    CHECK(self()->pages <= self()->page_limit);
}
TEST(vm_evict_radix) { more_than_there_is(&vm_radix); }
TEST(vm_evict_hashed) { more_than_there_is(&vm_hashed); }

TEST(vm_give_clean_first) {
    start_vm(NULL);
    struct vm_region *clean =
        region(200, &(struct vm_region){.flags = VM_DISCARD, .fill = fill_block});
    struct vm_region *dirty = region(200, NULL);

    mark(dirty, 0, 200);
    check_blocks(clean, 0, 200);
    u32 before = self()->pages;
    CHECK(vm_give(100) >= 100);
    CHECK(self()->pages + 100 <= before);
    check_marks(dirty, 0, 200);
    EQUAL(vm_counts()->saves, 0);
    check_blocks(clean, 0, 200);
    CHECK(vm_give(5000) < 300); /* what cannot be saved stays */
    check_marks(dirty, 0, 200);
    check_blocks(clean, 0, 200);
}

ROLE(vm_swap_server) {
    swap_serve((u32)up->order[8]);
    __atomic_store_n(&up->word[8], 1, __ATOMIC_SEQ_CST);
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

/* It serves the environments of its CPU. */
static void start_server(struct peer *p, u32 pages, u32 cpu) {
    down->order[8] = pages;
    start_peer(p, "vm_swap_server", cpu);
    wait_for(&down->word[8], 1);
}

TEST(vm_swap_protocol) {
    struct peer server;
    struct cap run, seen;

    start_server(&server, 50, 0);
    OK(swap_take(server.env, 40, &run));
    EQUAL(run.count, 40);
    EQUAL(run.rights, RIGHT_READ | RIGHT_WRITE);
    EQUAL(run.holder, rt_self());
    EQUAL(swap_take(server.env, 40, &seen), E_FULL);
    EQUAL(swap_take(server.env, 65, &seen), E_BAD_ARGUMENT);
    u64 *at = memory_map(run.name, 1, MAP_WRITE, &run);
    CHECK(at);
    at[5] = 55;
    OK(swap_view(server.env, run.name, &seen));
    EQUAL(seen.rights, RIGHT_READ);
    u64 *view = memory_map(seen.name, 1, 0, &seen);
    CHECK(view && view[5] == 55);
    EQUAL(swap_view(server.env, run.name + 40, &seen), E_NO_RIGHT);
    EQUAL(swap_return(server.env, run.name, 1), E_BUSY); /* still mapped */
    memory_unmap(at, 1);
    memory_unmap(view, 1);
    OK(swap_return(server.env, run.name, 40));
    EQUAL(swap_return(server.env, run.name, 1), E_NO_RIGHT);
    CHECK(memory_map_at((u64)at, run.name, 1, 0, &run)); /* its capability is void */
    end_peer(&server);
}

static void save_and_reload(const struct vm_shape *shape) {
    struct peer server;

    start_server(&server, 300, 0);
    start_vm(shape);
    struct vm_region *r = region(200, NULL);
    OK(vm_swap(server.env, 260));
    mark(r, 0, 200);
    vm_give(150);
    CHECK(vm_counts()->saves >= 100);
    CHECK(vm_counts()->saved >= 100);
    check_marks(r, 0, 200);
    CHECK(vm_counts()->reloads >= 100);
    u64 saves = vm_counts()->saves;
    vm_give(150); /* what was only read since is saved already */
    CHECK(vm_counts()->saves <= saves + 100);
    struct vm_region *copy = vm_copy(r); /* of pages that are not in memory, too */
    CHECK(copy);
    mark(copy, 0, 100);
    check_marks(copy, 0, 200);
    check_marks(r, 0, 200);
    vm_end(copy);
    vm_end(r);
    EQUAL(vm_counts()->saved, 0);
    EQUAL(vm_counts()->resident, 0);
    end_peer(&server);
}
TEST(vm_save_radix) { save_and_reload(&vm_radix); }
TEST(vm_save_hashed) { save_and_reload(&vm_hashed); }

/* ---------------------------------------------------------------- the kernel asks, the kernel
 * takes */
ROLE(vm_asked) {
    start_vm(&vm_radix);
    struct vm_region *clean =
        region(200, &(struct vm_region){.flags = VM_DISCARD, .fill = fill_block});
    struct vm_region *dirty = region(50, NULL);
    mark(dirty, 0, 50);
    if (up->order[2]) /* it never answers */
        rt_on_revoke(NULL);
    up->order[3] = memory_page_of((void *)vm.frame);
    up->order[4] = memory_page_of((void *)vm.block);
    if (sibling("vm_swap_server"))
        OK(vm_swap(sibling("vm_swap_server"), 200));
    mark(dirty, 0, 50);
    check_blocks(clean, 0, 200);
    __atomic_store_n(&up->word[0], 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&up->word[1], __ATOMIC_SEQ_CST)) {
        check_marks(dirty, 0, 50);
        check_blocks(clean, 0, 200);
        PAGE(dirty, up->word[2] % 50)[511] = up->word[2];
        EQUAL(PAGE(dirty, up->word[2] % 50)[511], up->word[2]);
        __atomic_fetch_add(&up->word[2], 1, __ATOMIC_SEQ_CST);
    }
    up->word[3] = vm_counts()->given;
    up->word[4] = vm_counts()->reloads;
    up->word[5] = vm_counts()->lost;
    __atomic_store_n(&up->word[6], 1, __ATOMIC_SEQ_CST);
}

static void await_given(struct event_ring *events, u32 env) {
    struct event event;

    do
        CHECK(next_event(events, &event, 5000));
    while (event.type != EVENT_GIVEN);
    EQUAL(event.env, env);
}

TEST(vm_gives_when_asked) {
    struct event_ring *events = bind_events();
    struct peer p;

    start_peer(&p, "vm_asked", 0);
    wait_for(&down->word[0], 1);
    u32 free = free_pages();
    for (u32 round = 1; round <= 5; round++) {
        OK(sys_revoke(&p.cap, RESOURCE_PAGES, 60, rt_tsc() + milliseconds(5000)));
        await_given(events, p.env);
        u64 rounds = __atomic_load_n(&down->word[2], __ATOMIC_SEQ_CST);
        wait_for(&down->word[2], rounds + 2); /* and goes on as before */
    }
    (void)free;
    __atomic_store_n(&down->word[1], 1, __ATOMIC_SEQ_CST);
    wait_for(&down->word[6], 1);
    CHECK(down->word[3] >= 300);
    EQUAL(down->word[5], 0);
    end_peer(&p);
}

static bool may_be_taken(u32 page) {
    u64 state = page_of(page)->state;

    return (u8)state == PAGE_DATA && !(state >> 8 & FLAG_VITAL);
}

/* The kernel goes on giving out pages behind this one, on this CPU: it is asked for by its colour, of which there is one
 * where there is no more than a gigabyte. */
static void look_from(u32 page) {
    OK(sys_page_free(0, (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 18 | page % (1 << 18) << 8, 0)), 1));
}

static bool numbers_again; /* what was taken is what its loser is given next */
static u32 given_again;    /* and so often it was */

/* The newest pages of an environment, which its list begins with, are taken; the rest is the
 * program. */
static u32 take_newest(struct peer *p, u32 count) {
    static struct taking taking[TAKINGS_A_CALL];
    const struct env *env = machine_env(p->env);
    u32 n = 0, taken = 0, first = PAGE_ANY;

    for (u32 i = 0; i < TAKINGS_A_CALL; i++) /* those of last time */
        given_again += taking[i].name && !taking[i].result && page_of(taking[i].name)->owner == p->env;
    memset(taking, 0, sizeof taking);
    for (u32 page = env->first_page; page && n < count; page = page_of(page)->next)
        if (may_be_taken(page))
            taking[n++] = (struct taking){.resource = RESOURCE_PAGES, .name = page};
    machine_forget();
    OK(sys_repossess(&p->cap, taking, n));
    for (u32 i = 0; i < n; i++) {
        if (taking[i].result)
            continue;
        taken++;
        first = taking[i].name < first ? taking[i].name : first;
        OK(sys_page_free(0, taking[i].name, 1));
    }
    if (numbers_again && taken)
        look_from(first);
    return taken;
}

/* Two pages of the library's own structures, by name. */
static void take_structures(struct peer *p) {
    struct taking taking[2] = {{.resource = RESOURCE_PAGES, .name = (u32)down->order[3]},
                               {.resource = RESOURCE_PAGES, .name = (u32)down->order[4]}};

    OK(sys_revoke(&p->cap, RESOURCE_PAGES, 2, 0));
    EQUAL(sys_repossess(&p->cap, taking, 2), 0);
    CHECK(taking[0].saved && taking[1].saved);
    OK(sys_page_free(0, taking[0].name, 1));
    OK(sys_page_free(0, taking[1].name, 1));
    if (numbers_again)
        look_from(taking[0].name);
    u64 rounds = __atomic_load_n(&down->word[2], __ATOMIC_SEQ_CST);
    wait_for(&down->word[2], rounds + 2);
}

/* ---- a page that is taken, and saved, while it is being filled */
static void fill_in_two(struct vm_region *r, u64 index, void *page) {
    fill_block(r, index, page);
    if (up->word[1])
        return;
    memset((char *)page + RT_PAGE / 2, 0, RT_PAGE / 2);
    up->order[5] = memory_page_of(page);
    __atomic_store_n(&up->word[1], 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&up->word[2], __ATOMIC_SEQ_CST))
        pause_for(1);
    fill_block(r, index, page);
}

ROLE(vm_taken_half_filled) {
    start_vm(&vm_radix);
    rt_on_revoke(NULL);
    struct vm_region *r = region(2, &(struct vm_region){.flags = VM_DISCARD, .fill = fill_in_two});
    OK(vm_swap(sibling("vm_swap_server"), 60));
    check_blocks(r, 0, 2);
    vm_give(1000);
    EQUAL(vm_counts()->resident, 0);
    check_blocks(r, 0, 2);
    up->word[4] = vm_counts()->reloads;
    up->word[5] = filled;
    __atomic_store_n(&up->word[6], 1, __ATOMIC_SEQ_CST);
}

TEST(vm_taken_while_filled) {
    struct peer server, p;

    start_server(&server, 400, 0);
    start_peer(&p, "vm_taken_half_filled", 0);
    wait_for(&down->word[1], 1);
    struct taking taking = {.resource = RESOURCE_PAGES, .name = (u32)down->order[5]};
    OK(sys_revoke(&p.cap, RESOURCE_PAGES, 1, 0));
    EQUAL(sys_repossess(&p.cap, &taking, 1), 0);
    CHECK(taking.saved);
    __atomic_store_n(&down->word[2], 1, __ATOMIC_SEQ_CST);
    wait_for(&down->word[6], 1);
    EQUAL(down->word[4], 1); /* in the middle; afterwards it is filled again */
    CHECK(down->word[5] >= 5);
    end_peer(&p);
    end_peer(&server);
}

/* Whatever is newest may go; the application does not notice. */
static void taken_by_force(u32 cpu) {
    struct peer server, p;

    start_server(&server, 400, cpu);
    down->order[2] = 1;
    start_peer(&p, "vm_asked", cpu);
    wait_for(&down->word[0], 1);
    u32 taken = 0;
    take_structures(&p);
    for (u32 round = 0; round < 14; round++) {
        s64 asked = sys_revoke(&p.cap, RESOURCE_PAGES, 16, 0);
        if (asked != E_BUSY)
            OK(asked);
        taken += take_newest(&p, 16);
        u64 rounds = __atomic_load_n(&down->word[2], __ATOMIC_SEQ_CST);
        wait_for(&down->word[2], rounds + 2);
    }
    __atomic_store_n(&down->word[1], 1, __ATOMIC_SEQ_CST);
    wait_for(&down->word[6], 1);
    CHECK(taken > 30);
    CHECK(down->word[4]);
    EQUAL(down->word[5], 0);
    end_peer(&p);
    end_peer(&server);
}
TEST(vm_taken_by_force, .seconds = 40) { taken_by_force(0); }
TEST(vm_taken_numbers_again, .seconds = 40) {
    numbers_again = true;
    taken_by_force(0);
    CHECK(given_again > 30 || machine_info()->pages > 1 << 18);
}
TEST(vm_taken_from_another_cpu, .cpus = 2, .seconds = 40) { taken_by_force(1); }
