/* Address spaces: every operation and level, and what the processor makes of it. */
#include "guest.h"

#define PAGE_FAULT 14
#define MISSING 0x600000000000ull /* no tables there */
#define PTE_ACCESSED 0x20
#define PTE_DIRTY 0x40

static struct caught fault(void (*code)(u64), u64 at) {
    struct caught c;

    CHECK(attempt(code, at, &c));
    return c;
}
static void do_read(u64 at) { (void)*(volatile u8 *)at; }
static void do_write(u64 at) { *(volatile u8 *)at = 1; }
static void do_execute(u64 at) { ((void (*)(void))at)(); }

/* Mapping, unmapping and the errors of both. */
TEST(space_map) {
    u32 page = page_alloc(2);
    u64 va = address(4);

    EQUAL(update(UPDATE_MAP, 0, MISSING, page, 1, 0, 0), E_NO_TABLE);
    EQUAL(update(UPDATE_MAP, 0, va, page, 2, MAP_WRITE, 0), 0);
    EQUAL(bindings_of(page), 1);
    *(u64 *)(va + RT_PAGE) = 5;
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, 0, 0), E_MAPPED);
    EQUAL(update(UPDATE_MAP, 0, va + 2 * RT_PAGE, page + 1, 1, 0, 0), 0);
    EQUAL(*(u64 *)(va + 2 * RT_PAGE), 5);
    EQUAL(bindings_of(page + 1), 2);
    EQUAL(update(UPDATE_UNMAP, 0, va, 0, 4, 0, 0), 0);
    EQUAL(bindings_of(page), 0);
    EQUAL(bindings_of(page + 1), 0);
    EQUAL(try_read(va), PAGE_FAULT);
    EQUAL(update(UPDATE_UNMAP, 0, va, 0, 4, 0, 0), 0);
}

/* The processor enforces what a mapping allows, and says what was tried. */
TEST(space_rights) {
    u32 page = page_alloc(1);
    u64 va = address(1);

    struct caught c = fault(do_read, va + 0x123);
    CHECK(c.cause == PAGE_FAULT && c.error == 4 && c.address == va + 0x123);
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, 0, 0), 0);
    EQUAL(try_read(va), 32);
    c = fault(do_write, va + 0x456);
    CHECK(c.cause == PAGE_FAULT && c.error == 7 && c.address == va + 0x456);
    c = fault(do_execute, va);
    CHECK(c.cause == PAGE_FAULT && c.error == 0x15 && c.address == va && c.rip == va);
    EQUAL(update(UPDATE_PROTECT, 0, va, 0, 1, MAP_WRITE, 0), 0);
    EQUAL(try_write(va), 32);
    *(u8 *)va = 0xc3; /* ret */
    EQUAL(update(UPDATE_PROTECT, 0, va, 0, 1, MAP_EXECUTE, 0), 0);
    EQUAL(try_execute(va), 32);
    EQUAL(try_write(va), PAGE_FAULT);
    EQUAL(update(UPDATE_PROTECT, 0, va, 0, 1, 0, 0), 0);
    EQUAL(try_execute(va), PAGE_FAULT);
}

/* A mapping made under a capability for reading never becomes writable. */
TEST(space_protect_granted) {
    u32 page = page_alloc(1);
    u64 va = address(2);
    struct cap cap = {.type = CAP_PAGE, .rights = RIGHT_READ, .name = page, .count = 1};

    OK(sys_cap_derive(0, &cap));
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, MAP_WRITE, &cap), E_NO_RIGHT);
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, 0, &cap), 0);
    EQUAL(update(UPDATE_PROTECT, 0, va, 0, 1, MAP_WRITE, 0), E_NO_RIGHT);
    EQUAL(update(UPDATE_PROTECT, 0, va, 0, 2, 0, 0), E_NOT_MAPPED);
    EQUAL(try_write(va), PAGE_FAULT);
}

/* Tables of each level are bound and taken out again; a table that is needed stays. */
TEST(space_tables) {
    u64 va = MISSING + 0x12345000;
    u32 table[4] = {0, page_alloc(1), page_alloc(1), page_alloc(1)}, page = page_alloc(1);

    EQUAL(update(UPDATE_BIND_TABLE, 2, va, table[2], 1, 0, 0), E_NO_TABLE);
    for (u8 level = 3; level >= 1; level--) {
        EQUAL(update(UPDATE_BIND_TABLE, level, va, table[level], 1, 0, 0), 0);
        EQUAL(type_of(table[level]), PAGE_TABLE);
        EQUAL(page_of(table[level])->state >> 8 & 0xff, level);
        EQUAL(update(UPDATE_BIND_TABLE, level, va, page, 1, 0, 0), E_MAPPED);
    }
    EQUAL(page_of(table[1])->where, table[2]);
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, MAP_WRITE, 0), 0);
    *(u64 *)va = 9;
    EQUAL(update(UPDATE_UNBIND_TABLE, 3, va, 0, 1, 0, 0), E_BUSY);
    EQUAL(update(UPDATE_UNBIND_TABLE, 2, va, 0, 1, 0, 0), E_BUSY);
    EQUAL(update(UPDATE_UNBIND_TABLE, 1, va, 0, 1, 0, 0), 0);
    EQUAL(bindings_of(page), 0);
    EQUAL(try_read(va), PAGE_FAULT);
    EQUAL(update(UPDATE_UNBIND_TABLE, 2, va, 0, 1, 0, 0), 0);
    EQUAL(update(UPDATE_UNBIND_TABLE, 2, va, 0, 1, 0, 0), E_NOT_MAPPED);
    EQUAL(update(UPDATE_UNBIND_TABLE, 3, va, 0, 1, 0, 0), 0);
    for (u8 level = 1; level <= 3; level++)
        EQUAL(sys_page_free(0, table[level], 1), 0);
    EQUAL(sys_page_free(0, page, 1), 0);
}

/* Only an unmapped DATA page of the environment becomes a table, and only one. */
TEST(space_table_pages) {
    u64 va = MISSING;
    u32 page = page_alloc(1);
    u64 at = mapped(page, 1, MAP_WRITE);

    EQUAL(update(UPDATE_BIND_TABLE, 3, va, page, 1, 0, 0), E_BUSY);
    EQUAL(update(UPDATE_BIND_TABLE, 3, va, self()->root, 1, 0, 0), E_WRONG_TYPE);
    EQUAL(update(UPDATE_BIND_TABLE, 3, va, rt_self(), 1, 0, 0), E_WRONG_TYPE);
    EQUAL(update(UPDATE_BIND_TABLE, 3, va, 1, 1, 0, 0), E_NO_RIGHT);
    EQUAL(update(UPDATE_BIND_TABLE, 4, va, page, 1, 0, 0), E_BAD_ARGUMENT);
    EQUAL(update(UPDATE_BIND_TABLE, 0, va, page, 1, 0, 0), E_BAD_ARGUMENT);
    memory_unmap((void *)at, 1);
    EQUAL(update(UPDATE_BIND_TABLE, 3, va, page, 1, 0, 0), 0);
    EQUAL(update(UPDATE_BIND_TABLE, 3, va + (1ull << 39), page, 1, 0, 0), E_WRONG_TYPE);
    EQUAL(sys_page_free(0, page, 1), E_WRONG_TYPE);
}

/* An element that fails changes nothing, and the next goes on. */
TEST(space_partial_failure) {
    u32 page = page_alloc(4);
    u64 va = address(8);
    struct update u[3] = {
        {.op = UPDATE_MAP, .va = va, .page = page, .count = 4},
        {.op = UPDATE_MAP, .va = va, .page = page, .count = 1, .flags = MAP_WRITE},
        {.op = 99, .va = va, .count = 1},
    };

    EQUAL(update(UPDATE_MAP, 0, va + 3 * RT_PAGE, page, 1, 0, 0), 0);
    EQUAL(sys_space_update(0, u, 3), 2);
    EQUAL(u[0].result, E_MAPPED);
    EQUAL(u[1].result, 0);
    EQUAL(u[2].result, E_BAD_ARGUMENT);
    EQUAL(bindings_of(page), 2);
    EQUAL(bindings_of(page + 1), 0);
    EQUAL(bindings_of(page + 2), 0);
    EQUAL(try_read(va + RT_PAGE), PAGE_FAULT);
    EQUAL(try_write(va), 32);
}

/* A batch of the greatest length, each element at its place. */
TEST(space_batch) {
    static struct update u[UPDATES_A_CALL];
    u32 page = page_alloc(UPDATES_A_CALL);
    u64 va = address(UPDATES_A_CALL);

    for (u32 i = 0; i < UPDATES_A_CALL; i++)
        u[i] = (struct update){.op = UPDATE_MAP,
                               .va = va + i * RT_PAGE,
                               .page = page + UPDATES_A_CALL - 1 - i,
                               .count = 1,
                               .flags = MAP_WRITE};
    EQUAL(sys_space_update(0, u, UPDATES_A_CALL), 0);
    for (u32 i = 0; i < UPDATES_A_CALL; i++)
        *(u64 *)(va + i * RT_PAGE) = i;
    memory_unmap((void *)va, UPDATES_A_CALL);
    EQUAL(update(UPDATE_MAP, 0, va, page, UPDATES_A_CALL, 0, 0), 0);
    for (u32 i = 0; i < UPDATES_A_CALL; i++)
        EQUAL(*(u64 *)(va + i * RT_PAGE), UPDATES_A_CALL - 1 - i);
}

/* A call handles so many pages; what is left over is told, in order, and done by the next call. */
TEST(space_batch_budget) {
    enum { ELEMENTS = 6, PAGES_EACH = 400, DONE = UPDATE_PAGES / PAGES_EACH };
    static struct update u[ELEMENTS + 1];
    u32 page = page_alloc(PAGES_EACH);
    u64 va = address(512 * ELEMENTS);

    for (u32 i = 0; i < ELEMENTS; i++)
        u[i] = (struct update){
            .op = UPDATE_MAP, .va = va + i * 512 * RT_PAGE, .page = page, .count = PAGES_EACH};
    u[ELEMENTS] = (struct update){.op = UPDATE_UNMAP, .va = va, .count = 1};
    EQUAL(sys_space_update(0, u, ELEMENTS + 1), ELEMENTS + 1 - DONE);
    for (u32 i = 0; i <= ELEMENTS; i++) /* the small one is not done before its turn, either */
        EQUAL(u[i].result, i < DONE ? 0 : E_AGAIN);
    EQUAL(bindings_of(page), DONE);
    EQUAL(memory_update(0, u + DONE, ELEMENTS + 1 - DONE), 0);
    EQUAL(bindings_of(page), ELEMENTS - 1);
    EQUAL(bindings_of(page + PAGES_EACH - 1), ELEMENTS);
    /* What is refused at once uses up nothing. */
    for (u32 i = 0; i < ELEMENTS; i++)
        u[i] = (struct update){.op = UPDATE_UNMAP, .va = va, .count = PAGES_A_CALL + 1};
    u[ELEMENTS] = (struct update){.op = UPDATE_UNMAP, .va = va, .count = PAGES_A_CALL};
    EQUAL(sys_space_update(0, u, ELEMENTS + 1), ELEMENTS);
    EQUAL(u[ELEMENTS].result, 0);
    EQUAL(bindings_of(page), ELEMENTS - 1);
}

/* Whoever owns a table reads in it what the processor notes: accessed and dirty. */
TEST(space_table_bits) {
    u32 page = page_alloc(1);
    u64 va = address(1), at = va;
    u32 table = self()->root;
    const volatile u64 *entry = NULL;

    for (int level = 4; level >= 1; level--) {
        entry = (const volatile u64 *)mapped(table, 1, 0) + (at >> (3 + 9 * level) & 511);
        table = (u32)(*entry >> 12);
    }
    EQUAL(*entry, 0);
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, MAP_WRITE, 0), 0);
    EQUAL(*entry >> 12 & 0xffffffff, page);
    EQUAL(*entry & (PTE_ACCESSED | PTE_DIRTY), 0);
    do_read(va);
    EQUAL(*entry & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED);
    do_write(va);
    EQUAL(*entry & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED | PTE_DIRTY);
    EQUAL(try_write((u64)entry), PAGE_FAULT);
    EQUAL(update(UPDATE_PROTECT, 0, (u64)entry & ~(RT_PAGE - 1), 0, 1, MAP_WRITE, 0), E_NO_RIGHT);
}

/* Everybody may read what the kernel exposes, and nobody write or execute it. */
TEST(space_exposed) {
    const struct info *info = machine_info();
    const u32 page[] = {rt_context(0)->info, info->array,    info->free_map,
                        info->slices[0],     info->trace[0], info->trace[0] + 4,
                        rt_self(),           self()->root,   info->first_flow};
    u64 va = address(1);

    for (u32 i = 0; i < ARRAY_SIZE(page); i++) {
        EQUAL(update(UPDATE_MAP, 0, va, page[i], 1, MAP_WRITE, 0), E_NO_RIGHT);
        EQUAL(update(UPDATE_MAP, 0, va, page[i], 1, MAP_EXECUTE, 0), E_NO_RIGHT);
        EQUAL(update(UPDATE_MAP, 0, va, page[i], 1, 0, 0), 0);
        EQUAL(try_read(va), 32);
        EQUAL(try_write(va), PAGE_FAULT);
        EQUAL(try_execute(va), PAGE_FAULT);
        EQUAL(update(UPDATE_PROTECT, 0, va, 0, 1, MAP_WRITE, 0), E_NO_RIGHT);
        EQUAL(update(UPDATE_PROTECT, 0, va, 0, 1, MAP_EXECUTE, 0), E_NO_RIGHT);
        EQUAL(update(UPDATE_UNMAP, 0, va, 0, 1, 0, 0), 0);
    }
}

/* Pages of the kernel, and pages that are not there, are mapped by nobody. */
TEST(space_private) {
    u64 va = address(1);
    u32 kinds = 0;

    for (u32 page = 0; page < machine_info()->pages; page++) {
        u8 type = type_of(page);
        if (type != PAGE_KERNEL && type != PAGE_FREE && type != PAGE_ABSENT)
            continue;
        if (page > 4096 && page % 64) /* not all of them */
            continue;
        EQUAL(update(UPDATE_MAP, 0, va, page, 1, 0, 0), E_WRONG_TYPE);
        kinds |= 1u << type;
    }
    CHECK(kinds >> PAGE_KERNEL & 1 && kinds >> PAGE_FREE & 1);
    EQUAL(update(UPDATE_MAP, 0, va, machine_info()->pages, 1, 0, 0), E_BAD_ARGUMENT);
}

/* With MANAGE one changes the space of another environment, of pages that it owns. */
TEST(space_of_another) {
    struct peer other = bare_env(8, 0);
    u32 mine = page_alloc(1);
    struct update u = {.op = UPDATE_MAP, .va = 0x400000, .page = mine, .count = 1};

    OK(memory_map_for(&other.cap, 0x400000, (u32)OK(sys_page_alloc(&other.cap, PAGE_ANY, 1, 0, 0)),
                      1, MAP_WRITE, 0));
    u.va += RT_PAGE;
    EQUAL(sys_space_update(&other.cap, &u, 1), 1);
    EQUAL(u.result, E_NO_RIGHT);
    struct cap cap = {.type = CAP_PAGE, .rights = RIGHT_READ, .name = mine, .count = 1};
    OK(sys_cap_derive(0, &cap));
    u.cap = (u64)&cap;
    EQUAL(sys_space_update(&other.cap, &u, 1), 0);
    EQUAL(bindings_of(mine), 1);
    EQUAL(sys_page_free(0, mine, 1), E_BUSY);
    end_peer(&other);
    EQUAL(sys_page_free(0, mine, 1), 0);
}
