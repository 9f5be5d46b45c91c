/* Pages and capabilities: what each call does when it is used as intended. */
#include "guest.h"

#define ALL (RIGHT_READ | RIGHT_WRITE | RIGHT_OWN)

/* A page that the free map says is free. */
static u32 some_free_page(void) {
    const struct info *info = machine_info();
    u32 words = (info->pages + 63) / 64;
    static const u64 *map;

    if (!map)
        map = memory_map(info->free_map, (words * 8 + RT_PAGE - 1) / RT_PAGE, 0, 0);
    CHECK(map);
    for (u32 i = words; i-- > 0;)
        if (map[i])
            return i * 64 + (u32)__builtin_ctzll(map[i]);
    FAIL("no page is free");
}

static struct cap cap_for(u32 page, u32 count, u8 rights, u32 holder) {
    struct cap c = {.type = CAP_PAGE, .rights = rights, .name = page, .count = count};

    if (holder)
        c = tied_to(c, holder);
    OK(sys_cap_derive(0, &c));
    return c;
}

/* An allocation makes a zeroed DATA page of the caller, with a new generation and a capability. */
TEST(page_alloc_any) {
    struct cap cap;
    u32 before = free_pages(), mine = self()->pages;
    u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, &cap));

    EQUAL(free_pages(), before - 1);
    EQUAL(self()->pages, mine + 1);
    EQUAL(type_of(page), PAGE_DATA);
    EQUAL(page_of(page)->owner, rt_self());
    EQUAL(page_of(page)->generation, cap.generation);
    CHECK(cap.type == CAP_PAGE && cap.rights == ALL && cap.name == page && cap.count == 1 &&
          !cap.holder);
    const u64 *word = (const u64 *)mapped(page, 1, 0);
    for (u32 i = 0; i < 512; i++)
        EQUAL(word[i], 0);
}

/* A free page can be had by its name, once. */
TEST(page_alloc_by_name) {
    u32 page = some_free_page();

    EQUAL(sys_page_alloc(0, page, 1, 0, 0), page);
    EQUAL(sys_page_alloc(0, page, 1, 0, 0), E_NOT_FREE);
    EQUAL(sys_page_alloc(0, page - 1, 2, 0, 0), E_NOT_FREE);
    OK(sys_page_free(0, page, 1));
    EQUAL(sys_page_alloc(0, page, 1, 0, 0), page);
}

/* A run with an alignment. */
TEST(page_alloc_aligned) {
    for (u32 order = 0; order <= 9; order++) {
        u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 3, order, 0));
        EQUAL(page % (1u << order), 0);
        for (u32 i = 0; i < 3; i++)
            EQUAL(page_of(page + i)->owner, rt_self());
    }
    u32 large = (u32)OK(sys_page_alloc(0, PAGE_ANY, PAGES_A_CALL, 9, 0));
    EQUAL(large % 512, 0);
    OK(sys_page_free(0, large, PAGES_A_CALL));
}

/* A page, or a run, of a colour: its number is that, modulo a power of two. */
TEST(page_alloc_coloured) {
    for (u32 colour = 0; colour < 16; colour++) {
        u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 4 | colour << 8, 0));
        EQUAL(page % 16, colour);
        page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 5, 4 | colour << 8, 0));
        EQUAL(page % 16, colour);
        EQUAL(page_of(page + 4)->owner, rt_self());
    }
    EQUAL(sys_page_alloc(0, PAGE_ANY, 1, 4 | 16 << 8, 0), E_BAD_ARGUMENT); /* there is no such colour */
    EQUAL(sys_page_alloc(0, some_free_page(), 1, 4 | 1 << 8, 0), E_BAD_ARGUMENT);
}

/* No environment owns more pages than its creator allowed. */
TEST(page_alloc_limit) {
    u32 left = self()->page_limit - self()->pages;

    for (; left > 300; left -= 300)
        OK(sys_page_alloc(0, PAGE_ANY, 300, 0, 0));
    EQUAL(sys_page_alloc(0, PAGE_ANY, left + 1, 0, 0), E_LIMIT);
    OK(sys_page_alloc(0, PAGE_ANY, left, 0, 0));
    EQUAL(sys_page_alloc(0, PAGE_ANY, 1, 0, 0), E_LIMIT);
    EQUAL(self()->pages, self()->page_limit);
}

/* What a page held before is gone when it is allocated again, and so is its capability. */
TEST(page_alloc_fresh) {
    struct cap old, new;
    u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, &old));
    u64 va = mapped(page, 1, MAP_WRITE);

    memset((void *)va, 0xee, RT_PAGE);
    memory_unmap((void *)va, 1);
    OK(sys_page_free(&old, page, 1));
    EQUAL(sys_page_alloc(0, page, 1, 0, &new), page);
    CHECK(new.generation > old.generation);
    EQUAL(sys_page_free(&old, page, 1), E_BAD_CAPABILITY);
    OK(memory_map_at(va, page, 1, MAP_WRITE, &new));
    for (u32 i = 0; i < 512; i++)
        EQUAL(((u64 *)va)[i], 0);
}

/* A page that is mapped cannot be freed, and then no page of its run is. */
TEST(page_free_mapped) {
    u32 page = page_alloc(4), before = free_pages();
    u64 va = mapped(page + 3, 1, 0);

    before = free_pages();
    EQUAL(sys_page_free(0, page, 4), E_BUSY);
    EQUAL(free_pages(), before);
    memory_unmap((void *)va, 1);
    EQUAL(sys_page_free(0, page, 4), 0);
    EQUAL(free_pages(), before + 4);
    EQUAL(sys_page_free(0, page, 4), E_NO_RIGHT);
}

/* A given page changes hands with mappings and capabilities; the taker's limit holds. */
TEST(page_give) {
    struct peer other = bare_env(4, 0);
    struct cap cap;
    u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 3, 0, &cap));
    u64 *at = (u64 *)mapped(page, 1, MAP_WRITE);

    at[0] = 77;
    EQUAL(sys_page_give(0, page, 3, &other.cap), E_LIMIT);
    EQUAL(page_of(page)->owner, rt_self());
    EQUAL(sys_page_give(0, page, 2, &other.cap), 0);
    EQUAL(page_of(page)->owner, other.env);
    EQUAL(at[0], 77);
    EQUAL(sys_page_free(0, page + 1, 1), E_NO_RIGHT);
    EQUAL(sys_page_give(&cap, page, 1, 0), 0);
    EQUAL(page_of(page)->owner, rt_self());
    EQUAL(sys_page_free(&cap, page + 1, 1), 0);
    end_peer(&other);
}

/* Revoking voids what was handed out; mappings stay. */
TEST(page_revoke) {
    struct cap cap;
    u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 2, 0, &cap));
    u64 va = address(2);

    OK(memory_map_at(va, page, 1, MAP_WRITE, &cap));
    EQUAL(sys_page_revoke(0, page, 2), 0);
    EQUAL(update(UPDATE_MAP, 0, va + RT_PAGE, page, 1, 0, &cap), E_BAD_CAPABILITY);
    EQUAL(sys_page_revoke(&cap, page, 1), E_BAD_CAPABILITY);
    *(u64 *)va = 1;
    cap = cap_for(page, 2, ALL, 0);
    EQUAL(update(UPDATE_MAP, 0, va + RT_PAGE, page + 1, 1, 0, &cap), 0);
}

/* Derived capabilities have fewer rights and pages, never more, and keep their holder. */
TEST(cap_derive) {
    u32 page = page_alloc(4);
    struct cap all = cap_for(page, 4, ALL, 0), c = all;

    c = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ, .name = page + 1, .count = 2};
    OK(sys_cap_derive(&all, &c));
    struct cap wider = {
        .type = CAP_PAGE, .rights = RIGHT_READ | RIGHT_WRITE, .name = page + 1, .count = 2};
    EQUAL(sys_cap_derive(&c, &wider), E_NO_RIGHT);
    wider.rights = RIGHT_READ;
    wider.count = 3;
    EQUAL(sys_cap_derive(&c, &wider), E_BAD_CAPABILITY);
    wider.count = 2;
    wider.name = page;
    EQUAL(sys_cap_derive(&c, &wider), E_BAD_CAPABILITY);
    struct cap other = {.type = CAP_ENV, .rights = RIGHT_READ, .name = page + 1, .count = 1};
    EQUAL(sys_cap_derive(&c, &other), E_BAD_CAPABILITY);
    struct cap mine = cap_for(page, 1, ALL, rt_self());
    struct cap bearer = {.type = CAP_PAGE, .rights = RIGHT_READ, .name = page, .count = 1};
    EQUAL(sys_cap_derive(&mine, &bearer), E_NO_RIGHT);
    EQUAL(sys_page_free(&c, page + 1, 1), E_NO_RIGHT);
}

/* A capability with a holder serves nobody else. */
TEST(cap_holder) {
    struct peer other = bare_env(4, 0);
    u32 page = page_alloc(1);
    struct cap theirs = cap_for(page, 1, ALL, other.env);

    EQUAL(sys_page_free(&theirs, page, 1), E_BAD_CAPABILITY);
    EQUAL(page_of(page)->owner, rt_self());
    theirs.generation = page_of(other.env)->generation + 1; /* is not what is there */
    EQUAL(sys_cap_derive(0, &theirs), E_BAD_ARGUMENT);
    theirs.generation = 0;
    EQUAL(sys_cap_derive(0, &theirs), E_BAD_ARGUMENT);
    end_peer(&other);
}

/* Pages of several generations are one run only for who owns them. */
TEST(cap_derive_generations) {
    u32 page = page_alloc(2);
    struct cap c = {.type = CAP_PAGE, .rights = ALL, .name = page, .count = 2};

    OK(sys_page_revoke(0, page + 1, 1));
    EQUAL(sys_cap_derive(0, &c), E_BAD_ARGUMENT);
    EQUAL(c.tag, 0);
    OK(sys_page_revoke(0, page, 2));
    EQUAL(sys_cap_derive(0, &c), 0);
}
