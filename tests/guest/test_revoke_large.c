/* Mappings of 2 MiB: made, used, protected, removed, and broken by repossession. */
#include "revoke_puppet.h"

#define LARGE 512
#define VA 0x690000000000ull /* where nothing else is */

/* The tables of level 3 and 2 for VA. */
static void bind_tables(void) {
    EQUAL(update(UPDATE_BIND_TABLE, 3, VA, page_alloc(1), 1, 0, 0), 0);
    EQUAL(update(UPDATE_BIND_TABLE, 2, VA, page_alloc(1), 1, 0, 0), 0);
}

static u32 run_of_pages(void) { return (u32)OK(sys_page_alloc(0, PAGE_ANY, LARGE, 9, 0)); }

static void all_have(u32 first, u32 bindings) {
    for (u32 i = 0; i < LARGE; i++)
        EQUAL(bindings_of(first + i), bindings);
}

/* One entry maps 512 pages, of which each has one binding; the kernel reaches user memory through it like through any other. */
TEST(space_large) {
    u32 first = run_of_pages();

    EQUAL(update(UPDATE_MAP, 1, VA, first, 1, MAP_WRITE, 0), E_NO_TABLE);
    bind_tables();
    EQUAL(update(UPDATE_MAP, 1, VA, first, 1, MAP_WRITE, 0), 0);
    all_have(first, 1);
    EQUAL(sys_page_free(0, first + 100, 1), E_BUSY);
    *(volatile u64 *)(VA + 0x1ff008) = 77;
    u64 *last = (u64 *)mapped(first + 511, 1, 0);
    EQUAL(last[1], 77);
    memory_unmap(last, 1);
    struct cap *cap = (struct cap *)(VA + 0x5ff0); /* across two of its pages */
    *cap = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ, .name = first, .count = LARGE};
    EQUAL(sys_cap_derive(0, cap), 0);
    EQUAL(sys_cap_derive(cap, cap), 0);
    EQUAL(sys_sleep(rt_tsc() + milliseconds(1), (const u64 *)(VA + 0x7000), 0), 1);
    EQUAL(sys_sleep(NEVER, (const u64 *)(VA + 0x1ff008), 76), 0);

    EQUAL(update(UPDATE_MAP, 1, VA, first, 1, 0, 0), E_MAPPED);
    EQUAL(update(UPDATE_MAP, 0, VA, first, 1, 0, 0), E_NO_TABLE);
    EQUAL(update(UPDATE_BIND_TABLE, 1, VA, page_alloc(1), 1, 0, 0), E_MAPPED);
    EQUAL(update(UPDATE_UNBIND_TABLE, 1, VA, 0, 1, 0, 0), E_NOT_MAPPED);
    EQUAL(update(UPDATE_UNBIND_TABLE, 2, VA, 0, 1, 0, 0), E_BUSY);
    EQUAL(update(UPDATE_PROTECT, 0, VA, 0, 1, 0, 0), E_NOT_MAPPED);
    EQUAL(update(UPDATE_UNMAP, 0, VA, 0, 512, 0, 0), 0);
    EQUAL(*(volatile u64 *)(VA + 0x1ff008), 77);

    EQUAL(update(UPDATE_PROTECT, 1, VA, 0, 1, 0, 0), 0);
    EQUAL(try_write(VA + 0x3000), 14);
    EQUAL(sys_cap_derive(cap, cap), E_BAD_ADDRESS);
    EQUAL(update(UPDATE_PROTECT, 1, VA, 0, 1, MAP_WRITE, 0), 0);
    EQUAL(try_write(VA + 0x3000), 32);
    EQUAL(update(UPDATE_CLEAN, 1, VA, 0, 1, 0, 0), 0);
    EQUAL(try_write(VA + 0x3000), 32);
    EQUAL(update(UPDATE_UNMAP, 1, VA, 0, 1, 0, 0), 0);
    EQUAL(try_read(VA), 14);
    all_have(first, 0);
}

/* What is not 512 DATA pages in a row that the caller may map, at addresses and numbers that fit, is refused and leaves nothing bound. */
TEST(space_large_refused) {
    struct peer e = bare_env(8, 0);
    u32 first = run_of_pages();

    bind_tables();
    EQUAL(update(UPDATE_MAP, 1, VA + RT_PAGE, first, 1, 0, 0), E_BAD_ARGUMENT);
    EQUAL(update(UPDATE_MAP, 1, VA, first + 1, 1, 0, 0), E_BAD_ARGUMENT);
    EQUAL(update(UPDATE_MAP, 1, VA, first, 2, 0, 0), E_BAD_ARGUMENT);
    EQUAL(update(UPDATE_MAP, 2, VA, first, 1, 0, 0), E_BAD_ARGUMENT);
    EQUAL(update(UPDATE_MAP, 1, VA, 0xfffffe00, 1, 0, 0), E_BAD_ARGUMENT);
    EQUAL(update(UPDATE_PROTECT, 1, VA, 0, 1, 0, 0), E_NOT_MAPPED);
    EQUAL(update(UPDATE_UNMAP, 1, VA, 0, 1, 0, 0), 0);
    struct cap cap = {.type = CAP_PAGE, .rights = RIGHT_READ, .name = first, .count = LARGE};
    OK(sys_cap_derive(0, &cap));
    EQUAL(update(UPDATE_MAP, 1, VA, first, 1, MAP_WRITE, &cap), E_NO_RIGHT);
    cap.count--;
    OK(sys_cap_derive(0, &cap));
    EQUAL(update(UPDATE_MAP, 1, VA, first, 1, 0, &cap), E_BAD_CAPABILITY);
    OK(sys_page_give(0, first + 300, 1, &e.cap));
    EQUAL(update(UPDATE_MAP, 1, VA, first, 1, 0, 0), E_NO_RIGHT);
    all_have(first, 0);
    OK(sys_event_bind(0, first + 200));
    EQUAL(update(UPDATE_MAP, 1, VA, first, 1, 0, 0), E_WRONG_TYPE);
    OK(sys_event_bind(0, 0));
    all_have(first, 0);
    end_peer(&e);
}

/* Taking one page breaks the large mapping; the other 511 stay its owner's, who can map them again. */
TEST(repossess_large) {
    static struct puppet p;
    start_puppet(&p, 0, 0);
    OK(sys_env_limit(&p.peer.cap, 1100, 4));
    u32 first = (u32)OK(order_call(&p, PAGE_ALLOC, 0, PAGE_ANY, LARGE, 9)), tables = puppet_pages(&p, 2);
    struct update *u = (struct update *)p.scratch;

    u[0] = (struct update){.op = UPDATE_BIND_TABLE, .level = 3, .va = VA, .page = tables, .count = 1};
    u[1] = (struct update){.op = UPDATE_BIND_TABLE, .level = 2, .va = VA, .page = tables + 1, .count = 1};
    u[2] = (struct update){.op = UPDATE_MAP, .level = 1, .flags = MAP_WRITE, .va = VA, .page = first, .count = 1};
    u[3] = u[2];
    u[3].va += 0x200000;
    EQUAL(order_call(&p, SPACE_UPDATE, 0, p.orders->scratch, 3), 0); /* as many pages as one call handles */
    EQUAL(order_call(&p, SPACE_UPDATE, 0, p.orders->scratch + 3 * sizeof *u, 1), 0);
    all_have(first, 2);
    EQUAL(order_write(&p, VA + 0x9000, 5), 0);
    ask_now(&p, RESOURCE_PAGES, 3);
    EQUAL(take(&p, RESOURCE_PAGES, tables + 1), E_BUSY);
    EQUAL(take(&p, RESOURCE_PAGES, first + 7), 0);
    EQUAL(order_read(&p, VA + 0x9000), UNREADABLE);
    EQUAL(order_read(&p, VA + 0x200000), UNREADABLE);
    all_have(first, 0);
    EQUAL(page_of(first + 8)->owner, p.peer.env);
    EQUAL(take(&p, RESOURCE_PAGES, tables + 1), 0);
    end_puppet(&p);
}

/* An environment that ends with large mappings leaves nothing bound. */
TEST(space_large_ends) {
    page_of(rt_self()); /* the page array needs tables, in a large machine many */
    u32 before = free_pages();
    struct peer e = bare_env(600, 0);
    u32 first = (u32)OK(sys_page_alloc(&e.cap, PAGE_ANY, LARGE, 9, 0));
    struct update u[3] = {
        {.op = UPDATE_BIND_TABLE, .level = 3, .va = VA, .page = (u32)OK(sys_page_alloc(&e.cap, PAGE_ANY, 1, 0, 0)), .count = 1},
        {.op = UPDATE_BIND_TABLE, .level = 2, .va = VA, .page = (u32)OK(sys_page_alloc(&e.cap, PAGE_ANY, 1, 0, 0)), .count = 1},
        {.op = UPDATE_MAP, .level = 1, .va = VA, .page = first, .count = 1},
    };

    EQUAL(sys_space_update(&e.cap, u, 3), 0);
    end_peer(&e);
    EQUAL(page_of(first)->state, PAGE_FREE);
    CHECK(free_pages() + 2 >= before);
}
