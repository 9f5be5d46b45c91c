/* What the memory calls cost, in instructions, with the caller's side: only when the TSC counts those (`icount=1` on the
 * command line). The limits leave a twentieth, so that no change loses unnoticed what others won. */
#include "guest.h"

#define PAGES 100
#define TIMES 32

static u64 region;
static u32 first;
static bool counted, failed;

static void limit(const char *what, u64 ticks, u64 most) {
    if (!counted)
        return;
    print("count: %s %lu, at most %lu\n", what, ticks, most);
    failed |= ticks > most;
}

static s64 one(u8 op, u64 at, u32 page, u32 count, u16 flags) {
    struct update u = {.op = op, .va = at, .page = page, .count = count, .flags = flags};

    return sys_space_update(0, &u, 1);
}

/* The mean of TIMES times; `code` is done, and then `undo`, which is not counted. */
#define COST(what, most, code, undo) \
    do { \
        u64 sum_ = 0; \
        for (u32 i_ = 0; i_ < TIMES; i_++) { \
            u64 t_ = rt_tsc(); \
            s64 result_ = (s64)(code); \
            sum_ += rt_tsc() - t_; \
            OK(result_); \
            undo; \
        } \
        limit(what, sum_ / TIMES, most); \
    } while (0)

static s64 two(u16 flags) {
    struct update u[2] = {{.op = UPDATE_PROTECT, .va = region, .count = 1, .flags = flags},
                          {.op = UPDATE_PROTECT, .va = region + RT_PAGE, .count = 1}};

    return sys_space_update(0, u, 2);
}

static void soil(u64 at) { *(volatile u8 *)at = 1; }

static void protecting(void) {
    OK(one(UPDATE_MAP, region, first, PAGES, MAP_WRITE));
    OK(one(UPDATE_PROTECT, region, 0, 1, 0));
    COST("protect one page", 145, one(UPDATE_PROTECT, region, 0, 1, 0), OK(one(UPDATE_PROTECT, region, 0, 1, MAP_WRITE)));
    COST("unprotect one page", 145, one(UPDATE_PROTECT, region, 0, 1, MAP_WRITE), OK(one(UPDATE_PROTECT, region, 0, 1, 0)));
    COST("protect two by one call", 335, two(MAP_WRITE), OK(two(0)));
    COST("protect 100 pages", 1290, one(UPDATE_PROTECT, region, 0, PAGES, 0), OK(one(UPDATE_PROTECT, region, 0, PAGES, MAP_WRITE)));
    OK(one(UPDATE_UNMAP, region, 0, PAGES, 0));
}

static void mapping(void) {
    COST("map one page", 292, one(UPDATE_MAP, region, first, 1, MAP_WRITE), OK(one(UPDATE_UNMAP, region, 0, 1, 0)));
    COST("map 16 pages", 985, one(UPDATE_MAP, region, first, 16, MAP_WRITE), OK(one(UPDATE_UNMAP, region, 0, 16, 0)));
    OK(one(UPDATE_MAP, region, first, 1, MAP_WRITE));
    COST("unmap one page", 305, one(UPDATE_UNMAP, region, 0, 1, 0), OK(one(UPDATE_MAP, region, first, 1, MAP_WRITE)));
    OK(one(UPDATE_UNMAP, region, 0, 1, 0));
}

static u32 got, run;

static s64 allocate(u32 count) { return got = (u32)sys_page_alloc(0, PAGE_ANY, count, 0, 0); }

/* Gives back pages that the kernel has to fill with zeros before the next has them. */
static void give_back(u32 count) {
    OK(one(UPDATE_MAP, region, got, count, MAP_WRITE));
    for (u32 i = 0; i < count; i++)
        soil(region + i * RT_PAGE);
    OK(one(UPDATE_UNMAP, region, 0, count, 0));
    OK(sys_page_free(0, got, count));
}

static void allocating(void) {
    COST("allocate a page, zeroed", 765, allocate(1), give_back(1));
    COST("allocate 16 pages, zeroed", 16 * 512 + 1180, allocate(16), give_back(16));
    run = page_alloc(TIMES);
    COST("free a page", 340, sys_page_free(0, run++, 1), );
}

TEST(memory_cost, .needs = NEED_CONSOLE) {
    struct cap console = item("console");

    print_to(&console);
    counted = number_argument("icount", 0);
    region = address(512);
    first = page_alloc(PAGES);
    protecting();
    mapping();
    allocating();
    CHECK(!failed);
}
