/* Capabilities: that none can be made up, and that none grows when it is derived from. */
// sources: tests/host/fake.c kernel/core/page.c kernel/core/cap.c kernel/core/space.c
#include "fake.h"

#include "core/siphash.h"
#include "targe/call_table.h"

/* SipHash-2-4 of any bytes, written from the paper and apart from the kernel's. */
static u64 plain_siphash(const u64 k[2], const u8 *in, u32 length) {
    u64 v0 = k[0] ^ 0x736f6d6570736575ull, v1 = k[1] ^ 0x646f72616e646f6dull;
    u64 v2 = k[0] ^ 0x6c7967656e657261ull, v3 = k[1] ^ 0x7465646279746573ull;
#define TURN(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define ROUND \
    v0 += v1, v2 += v3, v1 = TURN(v1, 13), v3 = TURN(v3, 16), v1 ^= v0, v3 ^= v2, \
                        v0 = TURN(v0, 32), v2 += v1, v0 += v3, v1 = TURN(v1, 17), \
                        v3 = TURN(v3, 21), v1 ^= v2, v3 ^= v0, v2 = TURN(v2, 32)
    for (u32 at = 0; at <= length; at += 8) {
        u64 m = at + 8 > length ? (u64)length << 56 : 0;
        for (u32 i = 0; i < 8 && at + i < length; i++)
            m |= (u64)in[at + i] << 8 * i;
        v3 ^= m;
        ROUND;
        ROUND;
        v0 ^= m;
    }
    v2 ^= 0xff;
    for (u32 i = 0; i < 4; i++)
        ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/* The paper's own example, and the kernel's function against ours. */
static void test_siphash(void **state) {
    (void)state;
    u64 key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908}, word[4];
    u8 text[15];

    for (u8 i = 0; i < 15; i++)
        text[i] = i;
    assert_true(plain_siphash(key, text, 15) == 0xa129ca6149be45e5ull);
    for (u32 i = 0; i < 1000; i++) {
        for (u32 k = 0; k < 4; k++)
            word[k] = chance(~0ull);
        key[0] = chance(~0ull);
        key[1] = chance(~0ull);
        assert_true(siphash24(key, word) == plain_siphash(key, (u8 *)word, 32));
    }
}

/* No bit of a capability can be changed, whether the good one was seen before or not. */
static void test_forgery(void **state) {
    (void)state;
    u32 page = take(4), owner;

    for (u32 seen = 0; seen < 2; seen++) {
        struct cap *c = cap_for(CAP_PAGE, RIGHT_READ, 0, page, 2);
        if (seen)
            assert_int_equal(cap_pages((u64)c, page, 2, RIGHT_READ, &owner), 0);
        for (u32 bit = 0; bit < 256; bit++) {
            ((u8 *)c)[bit / 8] ^= (u8)(1 << bit % 8);
            assert_int_equal(cap_pages((u64)c, page, 1, 0, &owner), E_BAD_CAPABILITY);
            ((u8 *)c)[bit / 8] ^= (u8)(1 << bit % 8);
        }
        assert_int_equal(cap_pages((u64)c, page, 2, RIGHT_READ, &owner), 0);
    }
    struct cap *zero = user(sizeof(*zero));
    for (u8 type = 1; type < 8; type++) {
        zero->type = type;
        assert_int_equal(cap_present((u64)zero, type, 0, zero), E_BAD_CAPABILITY);
    }
}

/* Type, holder, rights, run and generation must all fit. */
static void test_presenting(void **state) {
    (void)state;
    u32 page = take(4), owner;
    struct cap *c = cap_for(CAP_PAGE, RIGHT_READ | RIGHT_OWN, BOB, page + 1, 2), out;

    assert_int_equal(cap_present((u64)c, CAP_PAGE, 0, &out), E_BAD_CAPABILITY);
    act_as(BOB);
    assert_int_equal(cap_present((u64)c, CAP_PAGE, RIGHT_READ, &out), 0);
    assert_int_equal(cap_present((u64)c, CAP_ENV, RIGHT_READ, &out), E_BAD_CAPABILITY);
    assert_int_equal(cap_present((u64)c, CAP_PAGE, RIGHT_WRITE, &out), E_NO_RIGHT);
    assert_int_equal(cap_present(1, CAP_PAGE, 0, &out), E_BAD_ADDRESS);
    assert_int_equal(cap_pages((u64)c, page + 1, 2, RIGHT_OWN, &owner), 0);
    assert_int_equal(owner, ALICE);
    assert_int_equal(cap_pages((u64)c, page, 1, 0, &owner), E_BAD_CAPABILITY);
    assert_int_equal(cap_pages((u64)c, page + 2, 2, 0, &owner), E_BAD_CAPABILITY);
    assert_int_equal(cap_pages((u64)c, page + 1, 0xffffffff, 0, &owner), E_BAD_CAPABILITY);
    page_get(page + 2)->generation = page_new_generation();
    assert_int_equal(cap_pages((u64)c, page + 1, 2, 0, &owner), E_BAD_CAPABILITY);
    assert_int_equal(cap_pages((u64)c, page + 1, 1, 0, &owner), 0);
    assert_int_equal(cap_pages(0, page + 1, 1, 0, &owner), E_NO_RIGHT);
    struct cap *beyond = cap_for(CAP_PAGE, ALL, 0, PAGES - 1, 10);
    assert_int_equal(cap_pages((u64)beyond, PAGES - 1, 2, 0, &owner), E_BAD_ARGUMENT);
    assert_int_equal(cap_pages((u64)beyond, PAGES + 3, 1, 0, &owner), E_BAD_ARGUMENT);
}

/* An object's capability is void with its generation or its type. */
static void test_objects(void **state) {
    (void)state;
    struct cap *c = cap_for(CAP_ENV, RIGHT_OWN | RIGHT_MANAGE, 0, BOB, 1);
    u32 name = 0;

    assert_int_equal(cap_object((u64)c, CAP_ENV, RIGHT_MANAGE, PAGE_ENV, &name), 0);
    assert_int_equal(name, BOB);
    assert_int_equal(cap_object((u64)c, CAP_ENV, RIGHT_MANAGE, PAGE_FLOW, &name), E_BAD_CAPABILITY);
    page_get(BOB)->generation++;
    assert_int_equal(cap_object((u64)c, CAP_ENV, 0, PAGE_ENV, &name), E_BAD_CAPABILITY);
    struct cap *nowhere = cap_for(CAP_ENV, RIGHT_OWN, 0, 0xfffffff0, 1);
    assert_int_equal(cap_object((u64)nowhere, CAP_ENV, 0, PAGE_ENV, &name), E_BAD_CAPABILITY);
}

static s64 derive(const struct cap *from, struct cap want) {
    struct cap *w = user(sizeof(*w)), before = want;
    *w = want;
    s64 error = call_cap_derive((u64)from, (u64)w);
    if (error)
        assert_memory_equal(w, &before, sizeof(before));
    else
        assert_int_equal(cap_verify(w, w->type, w->rights, w->holder), 0);
    return error;
}

/* By ownership: what is owned, in full, and nothing else. */
static void test_deriving_by_ownership(void **state) {
    (void)state;
    u32 page = take(3);
    const struct cap mine = {.type = CAP_PAGE, .rights = ALL, .name = page, .count = 3};
    struct cap c = mine;

    assert_int_equal(derive(NULL, c), 0);
    c.rights = 63;
    assert_int_equal(derive(NULL, c), E_NO_RIGHT);
    c = mine;
    c.count = 0;
    assert_int_equal(derive(NULL, c), E_BAD_ARGUMENT);
    c.count = 0xffffffff;
    assert_int_equal(derive(NULL, c), E_BAD_ARGUMENT);
    c = mine;
    c.zero = 1;
    assert_int_equal(derive(NULL, c), E_BAD_ARGUMENT);
    for (u32 type = 0; type < 256; type++) {
        c = (struct cap){.type = (u8)type, .rights = RIGHT_OWN, .name = page, .count = 1};
        if (type != CAP_PAGE)
            assert_true(derive(NULL, c) < 0);
    }
    c = (struct cap){
        .type = CAP_ENV, .rights = RIGHT_OWN | RIGHT_MANAGE, .name = ALICE, .count = 1};
    assert_int_equal(derive(NULL, c), 0);
    act_as(BOB);
    assert_int_equal(derive(NULL, c), E_NO_RIGHT);
    assert_int_equal(derive(NULL, mine), E_NO_RIGHT);
    for (u32 type = CAP_CONSOLE; type <= CAP_MACHINE; type++)
        for (u32 right = 1; right < 64; right *= 2)
            assert_true(
                derive(NULL, (struct cap){.type = (u8)type, .rights = (u8)right, .count = 1}) < 0);
}

/* From another: whatever is asked for, what is got is not more in any respect. */
static void test_deriving_never_widens(void **state) {
    (void)state;
    u32 page = take(8), got = 0;

    for (u32 i = 0; i < 20000; i++) {
        u32 first = page + (u32)chance(4), count = 1 + (u32)chance(4);
        struct cap from =
                       *cap_for(CAP_PAGE, (u8)chance(8), (u32)chance(3) ? 0 : ALICE, first, count),
                   *at = user(sizeof(from));
        struct cap want = {.type = chance(20) ? CAP_PAGE : (u8)chance(8),
                           .rights = (u8)chance(8),
                           .name = page + (u32)chance(8),
                           .count = (u32)chance(6),
                           .holder = (u32)(chance(2)   ? 0
                                           : chance(2) ? ALICE
                                                       : BOB)};
        *at = from;
        if (want.holder)
            want.generation = page_generation(page_get(want.holder)) + !chance(10);
        if (derive(at, want))
            continue;
        got++;
        assert_true(want.holder != BOB || want.generation == page_generation(page_get(BOB)));
        assert_int_equal(want.type, CAP_PAGE);
        assert_int_equal(want.rights & ~from.rights, 0);
        assert_true(want.name >= first && want.count && want.name + want.count <= first + count);
        assert_true(!from.holder || want.holder == from.holder);
    }
    assert_true(got > 500);
}

/* What is owned no more, or revoked, gives nothing. */
static void test_deriving_from_void(void **state) {
    (void)state;
    u32 page = take(2);
    struct cap *c = cap_for(CAP_PAGE, ALL, 0, page, 2);
    struct cap want = {.type = CAP_PAGE, .rights = RIGHT_READ, .name = page, .count = 1};

    assert_int_equal(derive(c, want), 0);
    page_get(page)->generation = page_new_generation();
    assert_int_equal(derive(c, want), E_BAD_CAPABILITY);
    want.name = page + 1;
    assert_int_equal(derive(c, want), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_siphash, fake_start),
        cmocka_unit_test_setup(test_forgery, fake_start),
        cmocka_unit_test_setup(test_presenting, fake_start),
        cmocka_unit_test_setup(test_objects, fake_start),
        cmocka_unit_test_setup(test_deriving_by_ownership, fake_start),
        cmocka_unit_test_setup(test_deriving_never_widens, fake_start),
        cmocka_unit_test_setup(test_deriving_from_void, fake_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
