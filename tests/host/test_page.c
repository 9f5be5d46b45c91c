/* Page accounting: who owns each page, what holds it, and what is free, against a model. */
// sources: tests/host/fake.c kernel/core/page.c kernel/core/page_calls.c kernel/core/cap.c
// sources: kernel/core/space.c
#include "fake.h"

#include "targe/call_table.h"

/* The lists of owners, their counts, the free map and the number of free pages agree with the
 * array. */
static void check_all(void) {
    u32 listed[PAGES] = {0}, unused = 0;
    const u32 envs[] = {ALICE, BOB};

    for (u32 i = 0; i < ARRAY_SIZE(envs); i++) {
        const struct env *e = env_of(envs[i]);
        u32 count = 0, prev = 0;
        for (u32 page = e->first_page; page; page = page_get(page)->next) {
            assert_int_equal(page_owner(page_get(page)), e->self);
            assert_int_equal(page_get(page)->prev, prev);
            assert_int_equal(listed[page]++, 0);
            prev = page;
            count++;
        }
        assert_int_equal(count, e->pages);
    }
    for (u32 page = 0; page < PAGES; page++) {
        bool is_free = page_type(page_get(page)) == PAGE_FREE;
        assert_int_equal(page_free_word(page) >> page % 64 & 1, is_free);
        assert_int_equal(listed[page], page_owner(page_get(page)) != 0);
        unused += is_free;
    }
    assert_int_equal(unused, page_free_count());
    assert_int_equal(locks_held, 0);
}

/* What is taken is zero, new, and its owner's; what is freed can be had again. */
static void test_take_and_free(void **state) {
    (void)state;
    struct env *alice = env_of(ALICE);
    u32 before = page_free_count();
    u32 page = take(3);

    assert_int_equal(page_free_count(), before - 3);
    assert_int_equal(page_owner(page_get(page)), ALICE);
    assert_int_equal(page_type(page_get(page)), PAGE_DATA);
    u64 generation = page_generation(page_get(page));
    assert_true(generation > 1);
    assert_int_equal(page_bind(page, PAGE_DATA), 0); /* as who writes to it must */
    memset(page_ptr(page), 0xee, PAGE_SIZE);
    page_unbind(page);
    check_all();
    assert_int_equal(page_take(alice, page, 1, 0), E_NOT_FREE);
    assert_int_equal(call_page_free(0, page, 3), 0);
    assert_int_equal(page_free_count(), before);
    assert_true(page_generation(page_get(page)) > generation);
    assert_int_equal(page_take(alice, page, 1, 0), page);
    for (u32 i = 0; i < PAGE_SIZE; i++)
        assert_int_equal(((u8 *)page_ptr(page))[i], 0);
    check_all();
}

static bool is_zero(u32 page) {
    for (u32 i = 0; i < PAGE_SIZE; i++)
        if (((u8 *)page_ptr(page))[i])
            return false;
    return true;
}

/* A page is known to be zero until something is bound to it or pins it, or it becomes something else; what is not known
 * to be zero is filled with zeros before it is used again. */
static void test_known_to_be_zero(void **state) {
    (void)state;
    for (u32 how = 0; how < 4; how++) {
        u32 page = take(1);
        assert_true(page_state(page_get(page)) == (PAGE_DATA | STATE_ZERO) && is_zero(page));
        if (how == 1) {
            page_bind(page, PAGE_DATA);
            page_unbind(page);
        } else if (how == 2) {
            page_pin(page);
            page_unpin(page);
        } else if (how == 3) {
            page_retype(page, ALICE, PAGE_DATA, PAGE_CONTEXT, 0);
            page_retype(page, ALICE, PAGE_CONTEXT, PAGE_DATA, 0);
        }
        assert_int_equal(!(page_state(page_get(page)) & STATE_ZERO), how > 0);
        if (how)
            memset(page_ptr(page), 0xee, PAGE_SIZE);
        assert_int_equal(call_page_free(0, page, 1), 0);
        assert_true(page_state(page_get(page)) == (how ? PAGE_FREE : PAGE_FREE | STATE_ZERO));
        assert_int_equal(page_take(env_of(ALICE), page, 1, 0), page);
        assert_true(is_zero(page));
        u64 was = 0;
        page_bind(page, PAGE_DATA);
        memset(page_ptr(page), 0xee, PAGE_SIZE);
        page_unbind(page);
        assert_int_equal(page_retype_from(page, ALICE, PAGE_DATA, PAGE_TABLE | 1 << 8, 0, &was), 0);
        page_zero(page, was);
        assert_true(is_zero(page));
        assert_int_equal(page_retype(page, ALICE, PAGE_TABLE, DATA_ZERO, 0), 0);
        assert_int_equal(call_page_free(0, page, 1), 0);
    }
    check_all();
}

/* All memory can be taken, each page once. */
static void test_exhaustion(void **state) {
    (void)state;
    struct env *alice = env_of(ALICE);
    u32 before = page_free_count();
    static u8 got[PAGES];

    memset(got, 0, sizeof(got));
    for (u32 i = 0; i < before; i++)
        assert_int_equal(got[take(1)]++, 0);
    assert_int_equal(page_take(alice, PAGE_ANY, 1, 0), E_NOT_FREE);
    assert_int_equal(page_free_count(), 0);
    for (u32 page = FIRST; page < PAGES; page++)
        assert_int_equal(call_page_free(0, page, 1), 0);
    assert_int_equal(page_free_count(), before);
    check_all();
}

/* Runs of every length and alignment, also across the words of the map. */
static void test_runs(void **state) {
    (void)state;
    struct env *alice = env_of(ALICE);

    for (u32 count = 1; count <= PAGES_A_CALL; count += count < 140 ? 1 : 31)
        for (u32 order = 0; order <= 9; order++) {
            s64 page = page_take(alice, PAGE_ANY, count, order);
            assert_true(page > 0);
            assert_int_equal(page % (1 << order), 0);
            assert_int_equal(call_page_free(0, (u32)page, count), 0);
        }
    for (u32 first = 60; first < 70; first++)
        for (u32 count = 1; count < 140; count += 13) {
            assert_int_equal(page_take(alice, first, count, 0), first);
            assert_int_equal(call_page_free(0, first, count), 0);
        }
    assert_int_equal(page_take(alice, PAGE_ANY, 1, 18), E_NOT_FREE);
    assert_int_equal(page_take(alice, PAGES - 1, 2, 0), E_NOT_FREE);
    assert_int_equal(page_take(alice, 0xfffffff0, 32, 0), E_NOT_FREE);
    check_all();
}

/* A run of which one page is taken is not taken at all. */
static void test_run_is_whole_or_nothing(void **state) {
    (void)state;
    struct env *alice = env_of(ALICE);

    for (u32 taken = 100; taken < 300; taken += 7) {
        assert_int_equal(page_take(alice, taken, 1, 0), taken);
        u32 before = page_free_count();
        assert_int_equal(page_take(alice, 100, 200, 0), E_NOT_FREE);
        assert_int_equal(page_free_count(), before);
        check_all();
        assert_int_equal(call_page_free(0, taken, 1), 0);
    }
    assert_int_equal(page_take(alice, 100, 200, 0), 100);
}

/* Whether there is a run of free pages of this kind, one page after the other. */
static bool has_run(u32 count, u32 order, u32 colour) {
    for (u32 first = colour, n; first + count <= PAGES; first += 1u << order) {
        for (n = 0; n < count && page_type(page_get(first + n)) == PAGE_FREE; n++)
            ;
        if (n == count)
            return true;
    }
    return false;
}

/* In memory with any holes, a run is found if and only if there is one. */
static void test_runs_between_holes(void **state) {
    (void)state;
    struct env *alice = env_of(ALICE);
    u32 found = 0, missed = 0;

    for (u32 round = 0; round < 2000; round++) {
        u32 count = 1 + (u32)chance(chance(4) ? 12 : 200), order = (u32)chance(8), colour = (u32)chance(1u << order);
        u32 every = 1 + (u32)chance(40);
        for (u32 page = FIRST; round % 50 == 0 && page < PAGES; page++) /* other holes */
            if (page_type(page_get(page)) == PAGE_FREE && !chance(every))
                assert_int_equal(page_take(alice, page, 1, 0), page);
            else if (page_type(page_get(page)) == PAGE_DATA && chance(every))
                assert_int_equal(page_release(alice, page, PAGE_DATA), 0);
        bool there = has_run(count, order, colour);
        s64 page = page_take(alice, PAGE_ANY, count, order | colour << 8);
        if (!there) {
            assert_true(page == E_NOT_FREE || page == E_LIMIT);
            missed++;
            continue;
        }
        found++;
        assert_true(page >= FIRST && page + count <= PAGES && (page & ((1u << order) - 1)) == colour);
        for (u32 i = 0; i < count; i++)
            if (chance(3))
                assert_int_equal(page_release(alice, (u32)page + i, PAGE_DATA), 0);
    }
    assert_true(found > 100 && missed > 100);
    check_all();
}

/* Limits hold for taking and for being given. */
static void test_limits(void **state) {
    (void)state;
    struct env *alice = env_of(ALICE), *bob = env_of(BOB);

    alice->page_limit = alice->pages + 2;
    assert_int_equal(page_take(alice, PAGE_ANY, 3, 0), E_LIMIT);
    u32 page = take(2);
    assert_int_equal(page_take(alice, PAGE_ANY, 1, 0), E_LIMIT);
    bob->page_limit = bob->pages + 1;
    assert_int_equal(page_move(alice, bob, page, 2), E_LIMIT);
    assert_int_equal(page_move(alice, bob, page, 1), 0);
    assert_int_equal(page_owner(page_get(page)), BOB);
    alice->page_limit = 0; /* below what it owns */
    assert_int_equal(page_take(alice, PAGE_ANY, 1, 0), E_LIMIT);
    alice->page_limit = PAGES;
    alice->state = ENV_STOPPED;
    assert_int_equal(page_take(alice, PAGE_ANY, 1, 0), E_DEAD);
    assert_int_equal(page_move(bob, alice, page, 1), E_DEAD);
    check_all();
}

/* A page that is bound or pinned is not freed, and gets no other use than what allows it. */
static void test_holds(void **state) {
    (void)state;
    u32 page = take(2);

    assert_int_equal(page_bind(page, PAGE_TABLE), E_WRONG_TYPE);
    assert_int_equal(page_bind(page, PAGE_DATA), 0);
    assert_int_equal(call_page_free(0, page, 2), E_BUSY);
    assert_int_equal(page_retype(page, ALICE, PAGE_DATA, PAGE_TABLE, 0), E_BUSY);
    assert_int_equal(page_retype(page, ALICE, PAGE_DATA, PAGE_RING, 1), 0);
    assert_int_equal(call_page_free(0, page, 1), E_WRONG_TYPE);
    assert_int_equal(page_pin(page), E_WRONG_TYPE);
    assert_int_equal(page_retype(page, ALICE, PAGE_RING, PAGE_DATA, 1), 0);
    page_unbind(page);
    assert_int_equal(page_pin(page), 0);
    assert_int_equal(call_page_free(0, page, 1), E_BUSY);
    assert_int_equal(page_retype(page, ALICE, PAGE_DATA, PAGE_RING, UINT32_MAX), E_BUSY);
    page_unpin(page);
    assert_int_equal(page_retype(page, BOB, PAGE_DATA, PAGE_RING, 0), E_NO_RIGHT);
    assert_int_equal(page_retype(PAGES, ALICE, PAGE_DATA, PAGE_RING, 0), E_NO_RIGHT);
    assert_int_equal(call_page_free(0, page, 2), 0);
}

/* Counts do not run over into their neighbours. */
static void test_counts_are_bounded(void **state) {
    (void)state;
    u32 page = take(1);

    for (u32 i = 0; i < 65535; i++)
        assert_int_equal(page_pin(page), 0);
    assert_int_equal(page_pin(page), E_BUSY);
    page_get(page)->state |= (u64)UINT32_MAX << 32;
    assert_int_equal(page_bind(page, PAGE_DATA), E_BUSY);
    assert_int_equal(page_type(page_get(page)), PAGE_DATA);
}

/* Who has no right to pages neither frees, gives nor revokes them, and nothing changes. */
static void test_others_pages(void **state) {
    (void)state;
    u32 page = take(2);
    u64 generation = page_generation(page_get(page));

    act_as(BOB);
    assert_int_equal(call_page_free(0, page, 1), E_NO_RIGHT);
    assert_int_equal(call_page_give(0, page, 1, 0), E_NO_RIGHT);
    assert_int_equal(call_page_revoke(0, page, 1), E_NO_RIGHT);
    u64 weak = (u64)cap_for(CAP_PAGE, RIGHT_READ | RIGHT_WRITE, 0, page, 2);
    assert_int_equal(call_page_free(weak, page, 1), E_NO_RIGHT);
    assert_int_equal(call_page_give(weak, page, 1, 0), E_NO_RIGHT);
    assert_int_equal(page_generation(page_get(page)), generation);
    u64 strong = (u64)cap_for(CAP_PAGE, ALL, BOB, page, 2);
    assert_int_equal(call_page_give(strong, page, 3, 0), E_BAD_CAPABILITY);
    assert_int_equal(call_page_give(strong, page, 1, 0), 0);
    assert_int_equal(page_owner(page_get(page)), BOB);
    assert_int_equal(call_page_revoke(strong, page + 1, 1), 0);
    assert_int_equal(call_page_free(strong, page + 1, 1), E_BAD_CAPABILITY);
    check_all();
}

/* Many random operations, by both, against what a simple model says must come of each. */
static void test_random(void **state) {
    (void)state;
    static u32 owner[PAGES], bound[PAGES];

    memset(owner, 0, sizeof(owner));
    memset(bound, 0, sizeof(bound));
    for (u32 round = 0; round < 30000; round++) {
        u32 who = chance(2) ? ALICE : BOB, page = FIRST + (u32)chance(200),
            count = 1 + (u32)chance(6);
        bool can = true, mine = true, unbound = true;
        act_as(who);
        for (u32 i = 0; i < count; i++) {
            can &= !owner[page + i];
            mine &= owner[page + i] == who;
            unbound &= !bound[page + i];
        }
        switch (chance(4)) {
        case 0:
            assert_int_equal(page_take(current_env(), page, count, 0),
                             can ? (s64)page : E_NOT_FREE);
            for (u32 i = 0; i < count && can; i++)
                owner[page + i] = who;
            break;
        case 1:
            assert_int_equal(call_page_free(0, page, count), !mine      ? E_NO_RIGHT
                                                             : !unbound ? E_BUSY
                                                                        : 0);
            for (u32 i = 0; i < count && mine && unbound; i++)
                owner[page + i] = 0;
            break;
        case 2:
            assert_int_equal(
                call_page_give(0, page, count,
                               (u64)cap_for(CAP_ENV, RIGHT_MANAGE, 0, who ^ ALICE ^ BOB, 1)),
                mine ? 0 : E_NO_RIGHT);
            for (u32 i = 0; i < count && mine; i++)
                owner[page + i] = who ^ ALICE ^ BOB;
            break;
        default:
            if (bound[page]) {
                page_unbind(page);
                bound[page]--;
            } else {
                assert_int_equal(page_bind(page, PAGE_DATA), owner[page] ? 0 : E_WRONG_TYPE);
                bound[page] += owner[page] != 0;
            }
        }
        if (round % 500 == 0)
            check_all();
    }
    check_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_take_and_free, fake_start),
        cmocka_unit_test_setup(test_known_to_be_zero, fake_start),
        cmocka_unit_test_setup(test_exhaustion, fake_start),
        cmocka_unit_test_setup(test_runs, fake_start),
        cmocka_unit_test_setup(test_run_is_whole_or_nothing, fake_start),
        cmocka_unit_test_setup(test_runs_between_holes, fake_start),
        cmocka_unit_test_setup(test_limits, fake_start),
        cmocka_unit_test_setup(test_holds, fake_start),
        cmocka_unit_test_setup(test_counts_are_bounded, fake_start),
        cmocka_unit_test_setup(test_others_pages, fake_start),
        cmocka_unit_test_setup(test_random, fake_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
