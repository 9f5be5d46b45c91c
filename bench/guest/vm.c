/* The virtual-memory rows through libos/lib/vm, with each of its two structures: a radix tree, and an
 * inverted page table, which is nothing but another library. Each row has an environment of its
 * own, since the library takes over exceptions and a part of the address space. */
#include "bench.h"
#include "vm/vm.h"

#define PAGES 100u
#define FRESH 256u
#define PAGE(i) ((volatile char *)(region->at + (i) * RT_PAGE))

static struct vm_region *region;
static u64 closed; /* appel1: the page to be closed at the next fault */
static bool close_another;
static volatile u64 sink;

static bool open_page(struct vm_region *r, u64 address, u32 why) {
    u64 index = (address - r->at) / RT_PAGE;
    struct vm_change change[2] = {{PAGE(index), 1, VM_WRITE}, {PAGE(closed), 1, VM_READ}};

    (void)why;
    closed = index;
    return !vm_protect_all(change, close_another ? 2 : 1);
}

static void set_up(const struct vm_shape *shape) {
    OK(vm_init(&(struct vm_options){.shape = shape}));
    region = vm_make(PAGES, &(struct vm_region){.denied = open_page});
    CHECK(region);
    for (u64 i = 0; i < PAGES; i++)
        PAGE(i)[0] = 1;
}

/* ---- first touch */
static void touch_fresh(u64 n, u64 *sum) {
    while (n) {
        u64 part = n < FRESH ? n : FRESH;
        region = vm_make(FRESH, NULL);
        CHECK(region);
        u64 t = rt_tsc();
        for (u64 i = 0; i < part; i++)
            PAGE(i)[0] = 1;
        *sum += rt_tsc() - t;
        vm_end(region);
        n -= part;
    }
}

/* ---- protect */
static void protect_part(u64 n, u64 *sum, u64 count, bool protecting) {
    while (n--) {
        u64 t0 = rt_tsc();
        OK(vm_protect(PAGE(0), count, VM_READ));
        u64 t1 = rt_tsc();
        OK(vm_protect(PAGE(0), count, VM_WRITE));
        u64 t2 = rt_tsc();
        *sum += protecting ? t1 - t0 : t2 - t1;
        for (u64 i = 0; i < count; i++)
            PAGE(i)[0] = 1;
    }
}
static void do_prot1(u64 n, u64 *sum) { protect_part(n, sum, 1, true); }
static void do_prot100(u64 n, u64 *sum) { protect_part(n, sum, PAGES, true); }
static void do_unprot100(u64 n, u64 *sum) { protect_part(n, sum, PAGES, false); }

/* ---- dirty */
static void ask_dirty(u64 n) {
    while (n--)
        sink = vm_dirty(PAGE(random_next() % PAGES));
}

/* ---- appel1, appel2 */
static void appel1(u64 n) {
    while (n--) {
        u64 page;
        do
            page = random_next() % PAGES;
        while (page == closed);
        PAGE(page)[0] = 1;
    }
}
static u32 order[PAGES];

static void appel2(u64 n) {
    while (n--) {
        OK(vm_protect(PAGE(0), PAGES, VM_READ));
        for (u32 i = 0; i < PAGES; i++)
            PAGE(order[i])[0] = 1;
    }
}
static void measure_appel2(void) {
    for (u32 i = 0; i < PAGES; i++)
        order[i] = i;
    for (u32 i = PAGES - 1; i > 0; i--) {
        u32 k = random_next() % (i + 1), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
    measure_parts(5, PAGES, appel2);
}
static void measure_appel1(void) {
    close_another = true;
    OK(vm_protect(PAGE(0), PAGES, VM_READ));
    OK(vm_protect(PAGE(0), 1, VM_WRITE));
    measure(500, appel1);
}

/* One row of the library. */
#define LIBRARY_ROW(shape, name, unit, measuring)                                                  \
    ROW(vm_##shape##_##name, unit) {                                                               \
        if (!alone())                                                                              \
            return;                                                                                \
        set_up(&vm_##shape);                                                                       \
        measuring;                                                                                 \
        serve();                                                                                   \
    }
#define ROWS(shape)                                                                                \
    LIBRARY_ROW(shape, touch, "page", measure_sum(512, touch_fresh))                               \
    LIBRARY_ROW(shape, dirty, "query", measure(3000, ask_dirty))                                   \
    LIBRARY_ROW(shape, prot1, "call", measure_sum(500, do_prot1))                                  \
    LIBRARY_ROW(shape, prot100, "100 pages", measure_sum(200, do_prot100))                         \
    LIBRARY_ROW(shape, unprot100, "100 pages", measure_sum(200, do_unprot100))                     \
    LIBRARY_ROW(shape, appel1, "page", measure_appel1())                                           \
    LIBRARY_ROW(shape, appel2, "page", measure_appel2())
ROWS(radix)
ROWS(hashed)
