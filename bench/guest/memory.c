/* Memory: the rows of Appel and Li on the interface itself, pages, and first touch. */
#include "bench.h"

#define PAGES 100
#define TOUCHED 256 /* pages of a first-touch sample */
#define DIRTY 64    /* the bit in a page-table entry */

/* 2 MiB of addresses under a table of this environment's own, which it also maps to read it. */
static char *region;
static const u64 *table;
static u32 pages_from; /* the first of 512 pages that are mapped there, as far as `mapped` says */
static u32 mapped;

static s64 update(u8 op, void *at, u32 page, u32 count, u16 flags) {
    struct update u = {.op = op, .va = (u64)at, .page = page, .count = count, .flags = flags};

    return sys_space_update(0, &u, 1) ? u.result : 0;
}

static void protect(void *at, u32 count, u16 flags) {
    if (update(UPDATE_PROTECT, at, 0, count, flags))
        fail(__FILE__, __LINE__, "protect", 0);
}

/* The region with `count` pages mapped, writable and dirty. */
static void set_up(u32 count) {
    if (!region) {
        region = (char *)((memory_reserve(1024) + 0x1fffff) & ~0x1fffffull);
        u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, 0));
        OK(memory_map_at((u64)region - RT_PAGE, page, 1, 0, 0)); /* the tables above it */
        struct update bind = {.op = UPDATE_BIND_TABLE,
                              .level = 1,
                              .va = (u64)region,
                              .count = 1,
                              .page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, 0))};
        if (sys_space_update(0, &bind, 1))
            fail(__FILE__, __LINE__, "bind a table", bind.result);
        table = memory_map(bind.page, 1, 0, 0);
        pages_from = (u32)OK(sys_page_alloc(0, PAGE_ANY, 512, 0, 0));
        CHECK(table);
    }
    if (mapped)
        OK(update(UPDATE_UNMAP, region, 0, 512, 0));
    mapped = count;
    if (count)
        OK(update(UPDATE_MAP, region, pages_from, count, MAP_WRITE));
    for (u32 i = 0; i < count; i++)
        region[i * RT_PAGE] = 1;
}

/* ---- dirty: a load from the page table, which every library OS may map */
static u64 seen;
static void ask_dirty(u64 n) {
    u64 count = 0;

    while (n--)
        count += (table[random_next() % PAGES] & DIRTY) != 0;
    seen = count;
}
ROW(dirty, "query") {
    set_up(PAGES);
    OK(update(UPDATE_UNMAP, region + RT_PAGE, 0, 1, 0));
    OK(update(UPDATE_MAP, region + RT_PAGE, pages_from + 1, 1, MAP_WRITE));
    CHECK((table[0] & DIRTY) && !(table[1] & DIRTY));
    measure(3000, ask_dirty);
}

/* ---- protect */
static void protect_part(u64 n, u64 *sum, char *at, u32 count, bool protecting) {
    while (n--) {
        u64 t0 = rt_tsc();
        protect(at, count, 0);
        u64 t1 = rt_tsc();
        protect(at, count, MAP_WRITE);
        u64 t2 = rt_tsc();
        *sum += protecting ? t1 - t0 : t2 - t1;
        for (u32 i = 0; i < count; i++)
            at[i * RT_PAGE] = 1;
    }
}
static void do_prot1(u64 n, u64 *sum) { protect_part(n, sum, region + 50 * RT_PAGE, 1, true); }
static void do_unprot1(u64 n, u64 *sum) { protect_part(n, sum, region + 50 * RT_PAGE, 1, false); }
static void do_prot100(u64 n, u64 *sum) { protect_part(n, sum, region, PAGES, true); }
static void do_unprot100(u64 n, u64 *sum) { protect_part(n, sum, region, PAGES, false); }
ROW(prot1, "call") {
    set_up(PAGES);
    measure_sum(500, do_prot1);
}
ROW(unprot1, "call") {
    set_up(PAGES);
    measure_sum(500, do_unprot1);
}
ROW(prot100, "100 pages") {
    set_up(PAGES);
    measure_sum(200, do_prot100);
}
ROW(unprot100, "100 pages") {
    set_up(PAGES);
    measure_sum(200, do_unprot100);
}

/* ---- appel1, appel2 */
static volatile u32 open_page; /* appel1: the one that may be written */
static volatile u64 faults;

static void on_fault1(struct frame *frame) {
    u32 page = (u32)((frame->address - (u64)region) / RT_PAGE);
    struct update u[2] = {
        {.op = UPDATE_PROTECT, .va = (u64)region + page * RT_PAGE, .count = 1, .flags = MAP_WRITE},
        {.op = UPDATE_PROTECT, .va = (u64)region + open_page * RT_PAGE, .count = 1},
    };

    if (sys_space_update(0, u, 2))
        fail(__FILE__, __LINE__, "protect", u[0].result);
    open_page = page;
    faults++;
}
static void appel1_touches(u64 n) {
    u64 want = faults + n;

    while (n--) {
        u32 page;
        do
            page = random_next() % PAGES;
        while (page == open_page);
        *(volatile char *)(region + page * RT_PAGE) = 1;
    }
    CHECK(faults == want);
}
ROW(appel1, "page") {
    set_up(PAGES);
    protect(region + RT_PAGE, PAGES - 1, 0);
    open_page = 0;
    rt_on_exception(on_fault1);
    measure(500, appel1_touches);
    rt_on_exception(NULL);
}

static u32 order[PAGES];

static void on_fault2(struct frame *frame) {
    protect((void *)(frame->address & ~(RT_PAGE - 1)), 1, MAP_WRITE);
    faults++;
}
static void appel2_rounds(u64 n) {
    u64 want = faults + n * PAGES;

    while (n--) {
        protect(region, PAGES, 0);
        for (u32 i = 0; i < PAGES; i++)
            *(volatile char *)(region + order[i] * RT_PAGE) = 1;
    }
    CHECK(faults == want);
}
ROW(appel2, "page") {
    set_up(PAGES);
    for (u32 i = 0; i < PAGES; i++)
        order[i] = i;
    for (u32 i = PAGES - 1; i > 0; i--) {
        u32 k = random_next() % (i + 1), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
    rt_on_exception(on_fault2);
    measure_parts(5, PAGES, appel2_rounds);
    rt_on_exception(NULL);
}

/* ---- first touch: the handler allocates zeroed pages, one or a run, and maps them */
#define RUN 16 /* of two pages or more, those from a multiple of their number on */

static u32 given[512];
static u32 ahead; /* pages a fault */

static void on_first_touch(struct frame *frame) {
    u64 at = frame->address & ~(ahead * RT_PAGE - 1);
    s64 page = sys_page_alloc(0, PAGE_ANY, ahead, 0, 0);

    if (page < 0 || update(UPDATE_MAP, (void *)at, (u32)page, ahead, MAP_WRITE))
        fail(__FILE__, __LINE__, "first touch", page);
    given[(at - (u64)region) / RT_PAGE] = (u32)page;
}
static void touch(u64 n, u64 *sum) {
    for (u64 done = 0; done < n; done += TOUCHED) {
        u64 t = rt_tsc();
        for (u32 i = 0; i < TOUCHED; i++)
            *(volatile char *)(region + i * RT_PAGE) = 1;
        *sum += rt_tsc() - t;
        OK(update(UPDATE_UNMAP, region, 0, TOUCHED, 0));
        for (u32 i = 0; i < TOUCHED; i += ahead)
            OK(sys_page_free(0, given[i], ahead));
    }
}
static void first_touch(u32 pages) {
    set_up(0);
    ahead = pages;
    rt_on_exception(on_first_touch);
    measure_sum(TOUCHED, touch);
    rt_on_exception(NULL);
}
ROW(first_touch, "page") { first_touch(RUN); }
ROW(first_touch_one, "page") { first_touch(1); }

/* ---- pages: what each call costs; the same rows are run in machines of several sizes */
/* A page that was used before: the kernel knows one that was not to be zero still. */
static void soil(u32 page) {
    OK(update(UPDATE_MAP, region, page, 1, MAP_WRITE));
    *(volatile char *)region = 1;
    OK(update(UPDATE_UNMAP, region, 0, 1, 0));
}
static void allocate(u64 n, u64 *sum) {
    for (u64 i = 0; i < n; i++) {
        u64 t = rt_tsc();
        s64 page = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);
        *sum += rt_tsc() - t;
        CHECK(page >= 0);
        soil((u32)page);
        OK(sys_page_free(0, (u32)page, 1));
    }
}
static void release(u64 n, u64 *sum) {
    for (u64 i = 0; i < n; i++) {
        u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, 0));
        soil(page);
        u64 t = rt_tsc();
        OK(sys_page_free(0, page, 1));
        *sum += rt_tsc() - t;
    }
}
static void map_unmap(u64 n, u64 *sum, bool mapping) {
    for (u64 i = 0; i < n; i++) {
        u64 t0 = rt_tsc();
        OK(update(UPDATE_MAP, region, pages_from, 1, MAP_WRITE));
        u64 t1 = rt_tsc();
        OK(update(UPDATE_UNMAP, region, 0, 1, 0));
        u64 t2 = rt_tsc();
        *sum += mapping ? t1 - t0 : t2 - t1;
    }
}
static void do_map(u64 n, u64 *sum) { map_unmap(n, sum, true); }
static void do_unmap(u64 n, u64 *sum) { map_unmap(n, sum, false); }
static void use_page(u64 n) {
    while (n--) {
        u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, 0));
        OK(update(UPDATE_MAP, region, page, 1, MAP_WRITE));
        *(volatile char *)region = 1;
        OK(update(UPDATE_UNMAP, region, 0, 1, 0));
        OK(sys_page_free(0, page, 1));
    }
}
ROW(page_alloc, "page, zeroed") {
    set_up(0);
    measure_sum(500, allocate);
}
ROW(page_free, "page") {
    set_up(0);
    measure_sum(500, release);
}
ROW(page_map, "page") {
    set_up(0);
    measure_sum(500, do_map);
}
ROW(page_unmap, "page") {
    set_up(0);
    measure_sum(500, do_unmap);
}
ROW(page_use, "allocate, map, touch, unmap, free") {
    set_up(0);
    measure(500, use_page);
}
