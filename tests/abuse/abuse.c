/* Support for the tests of abuse. */
#include "abuse.h"

u8 *arena(void) {
    static u8 *memory;

    if (!memory)
        memory = (u8 *)mapped(page_alloc(ARENA_PAGES), ARENA_PAGES, MAP_WRITE);
    return memory;
}

static u64 sum(u64 seed, const volatile void *from, size_t bytes) {
    const volatile u64 *word = from;

    for (size_t i = 0; i < bytes / 8; i++)
        seed = (seed << 7 | seed >> 57) ^ word[i] * 0x9e3779b97f4a7c15ull;
    return seed;
}

/* All but what only saves the kernel work: that a page is known to be zero is forgotten when it is bound for a moment. */
static u64 sum_pages(void) {
    const u64 times = 0x9e3779b97f4a7c15ull;
    u64 s = 3;

    for (const struct page *p = machine_pages(), *end = p + machine_info()->pages; p < end; p++) {
        const volatile u64 *word = (const volatile u64 *)p; /* there may be millions */
        s = (s ^ (word[0] & ~((u64)FLAG_ZERO << 8))) * times + word[1];
        s = (s ^ word[2]) * times + word[3];
    }
    return s;
}
_Static_assert(offsetof(struct page, state) == 0 && sizeof(struct page) == 32, "four words");

static u64 sum_env(const struct env *e) {
    const u64 word[] = {e->creator,     e->state,       e->root,       e->pages, e->page_limit,
                        e->slices,      e->slice_limit, e->first_page, e->flows, e->event_page,
                        e->event_count, e->children,    e->end_reason};
    u64 s = sum(1, word, sizeof word);

    for (u32 i = 0; i < machine_info()->cpus; i++)
        s = s * 31 + e->context[i].page + ((u64)e->context[i].caller << 32) + e->context[i].peer;
    return s;
}

struct picture take_picture(bool whole) {
    const struct info *info = machine_info();
    struct picture p = {.env = sum_env(self()),
                        .memory = sum(2, arena(), ARENA_PAGES * RT_PAGE),
                        .free_pages = free_pages(),
                        .first_env = info->first_env,
                        .first_flow = info->first_flow};

    if (whole)
        p.pages = sum_pages();
    for (u32 n = 0; n < info->cpus; n++)
        for (u32 i = 0; i < SLOTS; i++)
            p.slices =
                p.slices * 31 + ((const volatile struct slices *)machine_slices(n))->slot[i].owner;
    return p;
}

void same_picture(const struct picture *before, bool whole, const char *what, u32 which) {
    struct picture now = take_picture(whole);
    const char *changed = now.env != before->env                 ? "this environment"
                          : now.slices != before->slices         ? "a slice"
                          : now.memory != before->memory         ? "memory"
                          : now.free_pages != before->free_pages ? "the free pages"
                          : now.first_env != before->first_env   ? "the environments"
                          : now.first_flow != before->first_flow ? "the flows"
                          : whole && now.pages != before->pages  ? "the page array"
                                                                 : NULL;
    if (changed)
        FAIL("%s, case %u, changed %s", what, which, changed);
}

u64 half_mapped(void) {
    static u64 va;

    if (!va) {
        va = address(2);
        OK(memory_map_at(va, page_alloc(1), 1, MAP_WRITE, 0));
    }
    return va;
}

u64 random_number(u64 *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

/* Fills a page of another environment and maps it there. */
static u32 fill(const struct peer *p, u64 va, u32 flags, const void *content, u32 bytes) {
    static u64 window;
    struct cap cap;
    u32 page = (u32)OK(sys_page_alloc(&p->cap, PAGE_ANY, 1, 0, &cap));

    if (!window)
        window = address(1);
    OK(memory_map_at(window, page, 1, MAP_WRITE, &cap));
    memcpy((void *)window, content, bytes);
    memory_unmap((void *)window, 1);
    OK(memory_map_for(&p->cap, va, page, 1, flags, 0));
    return page;
}

struct peer mini_env(const struct context *context, const void *code, u32 cpu) {
    struct peer p = bare_env(16, 1);
    static const u8 nothing[8];

    fill(&p, MINI_CODE, MAP_EXECUTE, code, 256);
    fill(&p, MINI_STACK, MAP_WRITE, nothing, sizeof nothing);
    u32 page = fill(&p, MINI_CONTEXT, MAP_WRITE, context, sizeof *context);
    OK(sys_context_bind(&p.cap, cpu, page));
    OK(sys_slice_alloc(&p.cap, cpu, PAGE_ANY));
    return p;
}
