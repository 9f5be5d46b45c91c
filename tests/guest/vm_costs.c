/* What the paths of libos/lib/vm cost. With `costs=1` on the command line and QEMU's `-icount
 * shift=0` the TSC counts instructions, and this prints them; without, it only walks the paths. */
#include "guest.h"
#include "vm/vm.h"

#define PAGES 100
#define PAGE(r, i) ((volatile u64 *)((r)->at + (i) * RT_PAGE))

static struct vm_region *region;
static volatile u64 sink;

static void say(const char *shape, const char *what, u64 ticks, u64 times) {
    if (number_argument("costs", 0))
        print("cost: %s %s %lu\n", shape, what, ticks / times);
}

static u64 empty(void) {
    u64 begin = rt_tsc();

    return rt_tsc() - begin;
}

/* Appel and Li's programs: the handler opens the page and, in the first, closes another. */
static bool close_next;

static bool open_page(struct vm_region *r, u64 address, u32 why) {
    u64 index = (address - r->at) / RT_PAGE;
    struct vm_change change[2] = {{PAGE(r, index), 1, VM_WRITE},
                                  {PAGE(r, (index + 1) % PAGES), 1, VM_READ}};

    (void)why;
    return !vm_protect_all(change, close_next ? 2 : 1);
}

static u64 write_all(u64 from, u64 to) {
    u64 begin = rt_tsc();

    for (u64 i = from; i < to; i++)
        PAGE(region, i)[0] = i;
    return rt_tsc() - begin;
}

static void touch_costs(const char *shape) {
    struct vm_region *single = vm_make(512, NULL),
                     *ahead = vm_make(512, &(struct vm_region){.ahead = 16});

    CHECK(single && ahead);
    region = single;
    write_all(0, 64);
    say(shape, "first touch", write_all(64, 64 + 256), 256);
    region = ahead;
    write_all(0, 64);
    say(shape, "first touch, 16 ahead", write_all(64, 64 + 256), 256);
    struct vm_region *copy = vm_copy(single);
    CHECK(copy);
    region = copy;
    write_all(0, 1);
    say(shape, "copy on write", write_all(1, 65), 64);
    vm_end(copy);
    vm_end(single);
    vm_end(ahead);
}

static void protect_costs(const char *shape) {
    u64 begin, none = empty();

    begin = rt_tsc();
    OK(vm_protect(PAGE(region, 3), 1, VM_READ));
    say(shape, "prot1", rt_tsc() - begin - none, 1);
    begin = rt_tsc();
    OK(vm_protect(PAGE(region, 0), PAGES, VM_READ));
    say(shape, "prot100", rt_tsc() - begin - none, 1);
    begin = rt_tsc();
    OK(vm_protect(PAGE(region, 0), PAGES, VM_WRITE));
    say(shape, "unprot100", rt_tsc() - begin - none, 1);
    begin = rt_tsc();
    sink = vm_dirty(PAGE(region, 5));
    say(shape, "dirty", rt_tsc() - begin - none, 1);
}

static void appel_costs(const char *shape) {
    OK(vm_protect(PAGE(region, 0), 1, VM_READ));
    close_next = true;
    say(shape, "appel1", write_all(0, PAGES), PAGES);
    close_next = false;
    u64 begin = rt_tsc();
    OK(vm_protect(PAGE(region, 0), PAGES, VM_READ));
    write_all(0, PAGES);
    say(shape, "appel2", rt_tsc() - begin, PAGES);
}

/* The same calls without the library. */
static void kernel_costs(void) {
    u64 begin, none = empty();
    struct update u = {.op = UPDATE_PROTECT, .va = region->at, .count = 1};

    begin = rt_tsc();
    sys_null();
    say("kernel", "null call", rt_tsc() - begin - none, 1);
    begin = rt_tsc();
    EQUAL(sys_space_update(0, &u, 1), 0);
    say("kernel", "protect 1", rt_tsc() - begin - none, 1);
    u.count = PAGES;
    begin = rt_tsc();
    EQUAL(sys_space_update(0, &u, 1), 0);
    say("kernel", "protect 100", rt_tsc() - begin - none, 1);
    u.flags = MAP_WRITE;
    EQUAL(sys_space_update(0, &u, 1), 0);
    begin = rt_tsc();
    u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 16, 0, 0));
    say("kernel", "page_alloc 16, a page", rt_tsc() - begin - none, 16);
    u = (struct update){
        .op = UPDATE_MAP, .va = region->at + 256 * RT_PAGE, .page = page, .count = 1};
    begin = rt_tsc();
    EQUAL(sys_space_update(0, &u, 1), 0);
    say("kernel", "map 1", rt_tsc() - begin - none, 1);
    u = (struct update){.op = UPDATE_UNMAP, .va = region->at + 256 * RT_PAGE, .count = 1};
    begin = rt_tsc();
    EQUAL(sys_space_update(0, &u, 1), 0);
    say("kernel", "unmap 1", rt_tsc() - begin - none, 1);
    begin = rt_tsc();
    OK(sys_page_free(0, page, 1));
    say("kernel", "page_free 1", rt_tsc() - begin - none, 1);
    OK(sys_page_free(0, page + 1, 15));
}

static void costs(const struct vm_shape *shape) {
    OK(vm_init(&(struct vm_options){.shape = shape}));
    print_to(&start_item("console", 0)->cap);
    touch_costs(shape->name);
    region = vm_make(PAGES, &(struct vm_region){.denied = open_page});
    CHECK(region);
    write_all(0, PAGES);
    protect_costs(shape->name);
    protect_costs(shape->name);
    appel_costs(shape->name);
    kernel_costs();
}
TEST(vm_costs_radix, .needs = NEED_CONSOLE) { costs(&vm_radix); }
TEST(vm_costs_hashed, .needs = NEED_CONSOLE) { costs(&vm_hashed); }
