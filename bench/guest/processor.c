/* Environments: an address space with a thread that runs and ends. */
#include "bench.h"

extern char short_life[], short_life_end[];

/* Addresses in the new space; all in the 2 MiB of the code page, so one table of each level
 * does. */
#define CONTEXT_AT ((u64)short_life + 0x10000)
#define STACK_AT ((u64)short_life + 0x20000)
enum { CONTEXT_PAGE, STACK_PAGE, TABLE3, TABLE2, TABLE1, GIVEN_PAGES };

static struct cap code;        /* of the page with short_life */
static struct context *window; /* where a new context page is filled in */

static s64 fill_context(u32 page, const struct cap *cap) {
    struct update u = {.op = UPDATE_MAP,
                       .flags = MAP_WRITE,
                       .va = (u64)window,
                       .page = page,
                       .count = 1,
                       .cap = (u64)cap};
    s64 error = sys_space_update(0, &u, 1);

    if (error)
        return error;
    window->self = CONTEXT_AT;
    window->transfer = (u64)short_life;
    window->transfer_stack = STACK_AT + RT_PAGE;
    u = (struct update){.op = UPDATE_UNMAP, .va = (u64)window, .count = 1};
    return sys_space_update(0, &u, 1);
}

static s64 fill_space(const struct cap *env, u32 page) {
    u64 va = (u64)short_life;
    struct update u[] = {
        {.op = UPDATE_BIND_TABLE, .level = 3, .va = va, .page = page + TABLE3, .count = 1},
        {.op = UPDATE_BIND_TABLE, .level = 2, .va = va, .page = page + TABLE2, .count = 1},
        {.op = UPDATE_BIND_TABLE, .level = 1, .va = va, .page = page + TABLE1, .count = 1},
        {.op = UPDATE_MAP,
         .flags = MAP_EXECUTE,
         .va = va,
         .page = code.name,
         .count = 1,
         .cap = (u64)&code},
        {.op = UPDATE_MAP,
         .flags = MAP_WRITE,
         .va = CONTEXT_AT,
         .page = page + CONTEXT_PAGE,
         .count = 1},
        {.op = UPDATE_MAP,
         .flags = MAP_WRITE,
         .va = STACK_AT,
         .page = page + STACK_PAGE,
         .count = 1},
    };

    return sys_space_update(env, u, ARRAY_SIZE(u));
}

/* Made, run until it ends itself, destroyed. */
static void live(u64 n) {
    static const struct env_spec spec = {.name = "short", .page_limit = GIVEN_PAGES + 2};

    while (n--) {
        struct cap env, pages;
        u32 two = (u32)OK(sys_page_alloc(0, PAGE_ANY, 2, 0, 0));
        u32 name = (u32)OK(sys_env_create(two, two + 1, &spec, &env));
        u32 page = (u32)OK(sys_page_alloc(&env, PAGE_ANY, GIVEN_PAGES, 0, &pages));
        CHECK(!fill_context(page + CONTEXT_PAGE, &pages) && !fill_space(&env, page));
        OK(sys_context_bind(&env, 0, page + CONTEXT_PAGE));
        struct rt_message message = {0};
        CHECK(rt_transfer(name, TRANSFER_CALL, &message) == E_DEAD);
        OK(rt_destroy(&env));
    }
}
ROW(env_life, "environment") {
    CHECK(((u64)short_life & 0x1fffff) + 0x30000 < 0x200000);
    code = (struct cap){
        .type = CAP_PAGE, .rights = RIGHT_READ, .count = 1, .name = memory_page_of(short_life)};
    OK(sys_cap_derive(0, &code));
    if (!window) {
        u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, 0)); /* for the tables */
        window = memory_map(page, 1, 0, 0);
        memory_unmap(window, 1);
    }
    measure(50, live);
}
