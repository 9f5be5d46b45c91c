/* Updates of spaces on fake memory: what each does to the tables, what holds each page, and in
 * which order. */
// sources: tests/host/fake.c kernel/core/page.c kernel/core/cap.c kernel/core/space.c
#include "fake.h"

#include "targe/call_table.h"
#include "x86/mmu.h"

#define VA 0x40000000ull

static s64 apply(u8 op, u8 level, u64 va, u32 page, u32 count, u16 flags, const struct cap *cap) {
    struct update *u = user(sizeof(*u));
    *u = (struct update){.op = op,
                         .level = level,
                         .flags = flags,
                         .va = va,
                         .page = page,
                         .count = count,
                         .cap = (u64)cap};
    s64 failed = call_space_update(0, (u64)u, 1);
    assert_int_equal(locks_held, 0);
    if (failed < 0)
        return failed;
    assert_int_equal(failed, u->result != 0);
    return u->result;
}
static s64 map(u64 va, u32 page, u32 count, u16 flags) {
    return apply(UPDATE_MAP, 0, va, page, count, flags, NULL);
}
static s64 unmap(u64 va, u32 count) { return apply(UPDATE_UNMAP, 0, va, 0, count, 0, NULL); }

/* Tables for 512 pages at VA. */
static void bind_tables(u64 va, u32 table[4]) {
    for (u8 level = 3; level >= 1; level--) {
        table[level] = take(1);
        assert_int_equal(apply(UPDATE_BIND_TABLE, level, va, table[level], 1, 0, NULL), 0);
    }
}

/* The entry that maps an address, found by a walk of the test's own; NULL where there is no table. */
static u64 *space_entry(u32 root, u64 at) {
    u64 *table = page_ptr(root);

    for (u32 level = 4; level > 1; level--) {
        u64 entry = table[at >> (3 + 9 * level) & 511];
        if ((entry & (PTE_PRESENT | (level == 2 ? PTE_LARGE : 0))) != PTE_PRESENT)
            return NULL;
        table = phys_ptr((phys){entry & PTE_ADDRESS});
    }
    return &table[at >> 12 & 511];
}

static u64 entry_at(u32 root, u64 va) {
    u64 *entry = space_entry(root, va);
    return entry ? *entry : 0;
}

/* Counts what the tables of both hold, by walking them, and compares with the page array. */
static u32 counted[PAGES];
static void count_table(u32 table, u32 level) {
    const u64 *entry = page_ptr(table);
    u32 present = 0;

    for (u32 i = 0; i < (level == 4 ? 256 : 512); i++) {
        if (!(entry[i] & PTE_PRESENT)) {
            assert_int_equal(entry[i], 0);
            continue;
        }
        present++;
        u32 page = page_of_phys((phys){entry[i] & PTE_ADDRESS});
        assert_true(page < PAGES);
        counted[page]++;
        assert_true(entry[i] & PTE_USER);
        if (level > 1) {
            assert_int_equal(page_type(page_get(page)), PAGE_TABLE);
            assert_int_equal(STATE_LEVEL(page_state(page_get(page))), level - 1);
            assert_int_equal(page_get(page)->where, table);
            count_table(page, level - 1);
            continue;
        }
        u8 type = page_type(page_get(page));
        assert_true(type != PAGE_FREE && type != PAGE_KERNEL && type != PAGE_ABSENT);
        if (entry[i] & PTE_WRITE) {
            assert_int_equal(type, PAGE_DATA);
            assert_true(entry[i] & PTE_MAY_WRITE);
        }
    }
    assert_int_equal(STATE_ENTRIES(page_state(page_get(table))), present);
}
static void check_bindings(void) {
    memset(counted, 0, sizeof(counted));
    counted[ALICE_ROOT] = counted[BOB_ROOT] = 1;
    count_table(ALICE_ROOT, 4);
    count_table(BOB_ROOT, 4);
    for (u32 page = 0; page < PAGES; page++)
        assert_int_equal(STATE_BINDINGS(page_state(page_get(page))), counted[page]);
    for (u32 i = 256; i < 512; i++)
        assert_true(((u64 *)page_ptr(ALICE_ROOT))[i] == kernel_root[i]);
}

/* Each flag is one bit of the entry, and nothing is executable that need not be. */
static void test_entries(void **state) {
    (void)state;
    u32 table[4], page = take(4);
    const u64 base = PTE_PRESENT | PTE_USER | PTE_MAY_WRITE | PTE_MAY_EXECUTE;

    bind_tables(VA, table);
    for (u16 flags = 0; flags < 4; flags++) {
        assert_int_equal(map(VA + flags * PAGE_SIZE, page + flags, 1, flags), 0);
        u64 should = (u64)(page + flags) << 12 | base | (flags & MAP_WRITE ? PTE_WRITE : 0) |
                     (flags & MAP_EXECUTE ? 0 : PTE_NX);
        assert_true(entry_at(ALICE_ROOT, VA + flags * PAGE_SIZE) == should);
    }
    check_bindings();
    assert_int_equal(apply(UPDATE_PROTECT, 0, VA, 0, 4, MAP_EXECUTE, NULL), 0);
    for (u32 i = 0; i < 4; i++)
        assert_true(entry_at(ALICE_ROOT, VA + i * PAGE_SIZE) == ((u64)(page + i) << 12 | base));
    assert_int_equal(unmap(VA, 4), 0);
    check_bindings();
    assert_int_equal(space_translate(ALICE_ROOT, VA), 0);
}

static s64 protect(u64 va, u32 count, u16 flags) {
    return apply(UPDATE_PROTECT, 0, va, 0, count, flags, NULL);
}

/* PROTECT of a range in one table and of one in two, of entries that differ: each has what was asked for, accessed and
 * dirty bits and all else stay, and what fails changes nothing. */
static void test_protect(void **state) {
    (void)state;
    u32 table[4], more = take(1), page = take(512);
    const u64 also = PTE_ACCESSED | PTE_DIRTY, changed = PTE_WRITE | PTE_NX;

    bind_tables(VA, table);
    assert_int_equal(apply(UPDATE_BIND_TABLE, 1, VA + 512 * PAGE_SIZE, more, 1, 0, NULL), 0);
    for (u64 at = 0; at < 1024; at += 256)
        for (u32 count = 1; count <= 512; count += 73) {
            u64 va = VA + at * PAGE_SIZE;
            if (at + count > 1024)
                continue;
            assert_int_equal(map(va, page, count, MAP_WRITE), 0);
            for (u32 i = 0; i < count; i += 3)
                assert_int_equal(protect(va + i * PAGE_SIZE, 1, MAP_EXECUTE), 0);
            for (u32 i = 0; i < count; i += 2)
                *space_entry(ALICE_ROOT, va + i * PAGE_SIZE) |= also;
            for (u16 flags = 0; flags < 4; flags++) {
                u64 before = entry_at(ALICE_ROOT, va);
                assert_int_equal(protect(va, count, flags), 0);
                for (u32 i = 0; i < count; i++)
                    assert_true(entry_at(ALICE_ROOT, va + i * PAGE_SIZE) ==
                                ((u64)(page + i) << 12 | PTE_PRESENT | PTE_USER | PTE_MAY_WRITE |
                                 PTE_MAY_EXECUTE | (i % 2 ? 0 : also) | (flags & MAP_WRITE ? PTE_WRITE : 0) |
                                 (flags & MAP_EXECUTE ? 0 : PTE_NX)));
                assert_true(((before ^ entry_at(ALICE_ROOT, va)) & ~changed) == 0);
            }
            u64 first = entry_at(ALICE_ROOT, va);
            if (count < 512 && at + count < 1024)
                assert_int_equal(protect(va, count + 1, 0), E_NOT_MAPPED);
            assert_true(entry_at(ALICE_ROOT, va) == first);
            assert_int_equal(unmap(va, count), 0);
        }
    assert_int_equal(protect(VA + 1000 * PAGE_SIZE, 100, 0), E_NOT_MAPPED);
    check_bindings();
}

/* The table that was used last is remembered, but not when it has left the space. */
static void test_table_remembered(void **state) {
    (void)state;
    u32 table[4], page = take(2), other = take(1);

    bind_tables(VA, table);
    for (u32 round = 0; round < 3; round++) {
        u32 now = round & 1 ? other : table[1];
        assert_int_equal(map(VA, page, 1, MAP_WRITE), 0);
        assert_int_equal(protect(VA, 1, 0), 0);
        assert_true(entry_at(ALICE_ROOT, VA) == ((u64 *)page_ptr(now))[0]);
        page_set_vital(now, round == 1); /* a vital one may be taken out too */
        if (round < 2)
            assert_int_equal(apply(UPDATE_UNBIND_TABLE, 1, VA, 0, 1, 0, NULL), 0);
        else
            space_detach_table(env_of(ALICE), now);
        page_set_vital(now, false);
        assert_true(page_state(page_get(now)) == (PAGE_DATA | STATE_ZERO));
        assert_int_equal(protect(VA, 1, MAP_WRITE), E_NOT_MAPPED);
        assert_int_equal(map(VA, page, 1, 0), E_NO_TABLE);
        assert_int_equal(unmap(VA, 1), 0);
        for (u32 i = 0; i < 512; i++)
            assert_int_equal(((u64 *)page_ptr(now))[i], 0);
        assert_int_equal(apply(UPDATE_BIND_TABLE, 1, VA, round & 1 ? table[1] : other, 1, 0, NULL), 0);
    }
    check_bindings();
}

static u32 flushes, flushed_page;
static u64 flushed_va;
static void note_flush(struct env *env, u64 va, u32 count) {
    assert_int_equal(env->self, ALICE);
    if (count < 512) /* more is the whole space */
        assert_true(flushed_va >= va && flushed_va < va + count * PAGE_SIZE);
    /* The entry is gone already, and the page is still held. */
    assert_false(entry_at(ALICE_ROOT, flushed_va) & PTE_PRESENT);
    assert_int_equal(STATE_BINDINGS(page_state(page_get(flushed_page))), flushes++ ? 0 : 1);
}

/* A page is let go only after every CPU has forgotten how to reach it. */
static void test_order_of_unmapping(void **state) {
    (void)state;
    u32 table[4];

    bind_tables(VA, table);
    flushed_page = take(1);
    for (u32 i = 0; i < 500; i += 99) {
        flushed_va = VA + i * PAGE_SIZE;
        assert_int_equal(map(flushed_va, flushed_page, 1, MAP_WRITE), 0);
        on_shootdown = note_flush;
        flushes = 0;
        assert_int_equal(unmap(VA, 512), 0);
        on_shootdown = NULL;
        assert_int_equal(flushes, 1);
        assert_int_equal(STATE_BINDINGS(page_state(page_get(flushed_page))), 0);
    }
    assert_int_equal(map(flushed_va, flushed_page, 1, 0), 0);
    on_shootdown = note_flush;
    flushes = 0;
    assert_int_equal(apply(UPDATE_UNBIND_TABLE, 1, VA, 0, 1, 0, NULL), 0);
    assert_true(flushes >= 1);
}

static void count_flush(struct env *env, u64 va, u32 count) {
    (void)env;
    (void)va;
    (void)count;
    flushes++;
}

/* A great many are removed in pieces, with few flushes; nothing to remove needs none. */
static void test_flushes(void **state) {
    (void)state;
    u32 table[4];

    bind_tables(VA, table);
    u32 page = take(512);
    assert_int_equal(map(VA, page, 512, 0), 0);
    check_bindings();
    on_shootdown = count_flush;
    flushes = 0;
    assert_int_equal(unmap(VA, 512), 0);
    assert_true(flushes >= 1 && flushes <= 5);
    flushes = 0;
    assert_int_equal(unmap(VA, 512), 0);
    assert_int_equal(flushes, 0);
    check_bindings();
}

/* Mapping is whole or nothing, wherever it fails. */
static void test_failure_changes_nothing(void **state) {
    (void)state;
    u32 table[4], page = take(40);

    bind_tables(VA, table);
    for (u32 at = 0; at < 40; at += 3) {
        assert_int_equal(map(VA + at * PAGE_SIZE, page, 1, 0), 0);
        assert_int_equal(map(VA, page, 40, MAP_WRITE), E_MAPPED);
        for (u32 i = 0; i < 40; i++)
            assert_int_equal((entry_at(ALICE_ROOT, VA + i * PAGE_SIZE) & PTE_PRESENT) != 0,
                             i == at);
        assert_int_equal(unmap(VA, 40), 0);
    }
    assert_int_equal(map(VA + 500 * PAGE_SIZE, page, 40, 0), E_NO_TABLE);
    check_bindings();
    assert_int_equal(map(VA + 511 * PAGE_SIZE, page, 1, 0), 0);
    assert_int_equal(apply(UPDATE_PROTECT, 0, VA + 510 * PAGE_SIZE, 0, 2, MAP_WRITE, NULL),
                     E_NOT_MAPPED);
    assert_false(entry_at(ALICE_ROOT, VA + 511 * PAGE_SIZE) & PTE_WRITE);
}

/* What a page's type lets be done with it, by its owner and by others. */
static void test_types(void **state) {
    (void)state;
    u32 table[4], page = take(3);

    bind_tables(VA, table);
    static const struct {
        u16 to;
        s64 read, write, execute, other;
    } row[] = {
        {PAGE_DATA, 0, 0, 0, E_NO_RIGHT},
        {PAGE_TABLE, 0, E_NO_RIGHT, E_NO_RIGHT, E_NO_RIGHT},
        {PAGE_ENV, 0, E_NO_RIGHT, E_NO_RIGHT, 0},
        {PAGE_CONTEXT, 0, 0, E_NO_RIGHT, E_NO_RIGHT},
        {PAGE_FLOW, 0, E_NO_RIGHT, E_NO_RIGHT, 0},
        {PAGE_RING, 0, 0, E_NO_RIGHT, E_NO_RIGHT},
        {PAGE_CODE, E_WRONG_TYPE, E_WRONG_TYPE, E_WRONG_TYPE, E_WRONG_TYPE},
        {PAGE_DEVICE, 0, 0, E_NO_RIGHT, E_NO_RIGHT},
        {PAGE_KERNEL, E_WRONG_TYPE, E_WRONG_TYPE, E_WRONG_TYPE, E_WRONG_TYPE},
        {PAGE_EXPOSED, 0, E_NO_RIGHT, E_NO_RIGHT, 0},
        {PAGE_ABSENT, E_WRONG_TYPE, E_WRONG_TYPE, E_WRONG_TYPE, E_WRONG_TYPE},
        {PAGE_FREE, E_WRONG_TYPE, E_WRONG_TYPE, E_WRONG_TYPE, E_WRONG_TYPE},
    };
    for (u32 i = 0; i < ARRAY_SIZE(row); i++) {
        page_get(page)->state = row[i].to;
        assert_int_equal(map(VA, page, 1, 0), row[i].read);
        unmap(VA, 1);
        assert_int_equal(map(VA, page, 1, MAP_WRITE), row[i].write);
        unmap(VA, 1);
        assert_int_equal(map(VA, page, 1, MAP_EXECUTE), row[i].execute);
        unmap(VA, 1);
        page_get(page)->owner = BOB;
        assert_int_equal(map(VA, page, 1, 0), row[i].other);
        unmap(VA, 1);
        page_get(page)->owner = ALICE;
    }
    assert_int_equal(map(VA, PAGES, 1, 0), E_BAD_ARGUMENT);
    assert_int_equal(map(VA, PAGES - 1, 2, 0), E_WRONG_TYPE);
}

/* A capability maps as far as its rights go, and PROTECT never goes further. */
static void test_granted(void **state) {
    (void)state;
    u32 page = take(2);

    act_as(BOB);
    u32 table[4];
    bind_tables(VA, table);
    struct cap *read = cap_for(CAP_PAGE, RIGHT_READ, 0, page, 2),
               *write = cap_for(CAP_PAGE, RIGHT_READ | RIGHT_WRITE, 0, page, 1);
    struct cap *blind = cap_for(CAP_PAGE, RIGHT_WRITE, 0, page, 1);
    assert_int_equal(apply(UPDATE_MAP, 0, VA, page, 1, 0, blind), E_NO_RIGHT);
    assert_int_equal(apply(UPDATE_MAP, 0, VA, page, 2, MAP_WRITE, read), E_NO_RIGHT);
    assert_int_equal(apply(UPDATE_MAP, 0, VA, page, 2, 0, read), 0);
    assert_int_equal(apply(UPDATE_PROTECT, 0, VA, 0, 2, MAP_WRITE, NULL), E_NO_RIGHT);
    assert_int_equal(unmap(VA, 2), 0);
    assert_int_equal(apply(UPDATE_MAP, 0, VA, page, 2, 0, write), E_BAD_CAPABILITY);
    assert_int_equal(apply(UPDATE_MAP, 0, VA, page, 1, 0, write), 0);
    assert_int_equal(apply(UPDATE_PROTECT, 0, VA, 0, 1, MAP_WRITE, NULL), 0);
    page_get(page)->generation = page_new_generation();
    assert_int_equal(apply(UPDATE_MAP, 0, VA + PAGE_SIZE, page, 1, 0, write), E_BAD_CAPABILITY);
    check_bindings();
}

/* Elements with a field that is out of range change nothing. */
static void test_bad_elements(void **state) {
    (void)state;
    u32 table[4], page = take(1);
    static const u64 va[] = {
        1, VA + 8, USER_TOP, USER_TOP - 0x800, 0xffff800000000000, 0xfffffffffffff000, 1ull << 63};
    static const u32 count[] = {0, PAGES_A_CALL + 1, 0x80000000, 0xffffffff};

    bind_tables(VA, table);
    for (u8 op = 0; op < 8; op++) {
        u8 level = op >= UPDATE_BIND_TABLE;
        u32 of = op == UPDATE_MAP || op == UPDATE_BIND_TABLE ? page : 0;
        for (u32 i = 0; i < ARRAY_SIZE(va); i++)
            assert_int_equal(apply(op, level, va[i], of, 1, 0, NULL), E_BAD_ARGUMENT);
        for (u32 i = 0; i < ARRAY_SIZE(count); i++)
            assert_int_equal(apply(op, level, VA, of, count[i], 0, NULL), E_BAD_ARGUMENT);
        assert_int_equal(apply(op, level, VA, of, 1, 4, NULL), E_BAD_ARGUMENT);
        assert_int_equal(apply(op, level ? 4 : 2, VA, of, 1, 0, NULL), E_BAD_ARGUMENT);
    }
    assert_int_equal(map(USER_TOP - PAGE_SIZE, page, 2, 0), E_BAD_ARGUMENT);
    assert_int_equal(map(USER_TOP - PAGE_SIZE, page, 1, 0), E_NO_TABLE);
    check_bindings();
}

/* The pages of a batch that cannot be read or written stay as they were. */
static void test_bad_batches(void **state) {
    (void)state;
    struct update *u = user(sizeof(*u));

    assert_int_equal(call_space_update(0, (u64)u, 0), E_BAD_ARGUMENT);
    assert_int_equal(call_space_update(0, (u64)u, UPDATES_A_CALL + 1), E_BAD_ARGUMENT);
    assert_int_equal(call_space_update(0, (u64)u + 4, 1), E_BAD_ARGUMENT);
    assert_int_equal(call_space_update(0, 0, 1), E_BAD_ADDRESS);
    assert_int_equal(call_space_update((u64)cap_for(CAP_ENV, RIGHT_OWN, 0, BOB, 1), (u64)u, 1),
                     E_NO_RIGHT);
}

/* Thousands of random updates by both: the tables and the page array always agree. */
static void test_random(void **state) {
    (void)state;
    u32 page = take(60), theirs;

    act_as(BOB);
    theirs = take(60);
    for (u32 i = 0; i < 20000; i++) {
        bool alice = chance(2);
        act_as(alice ? ALICE : BOB);
        u8 op = (u8)(1 + chance(5)), level = (u8)(op >= UPDATE_BIND_TABLE ? 1 + chance(3) : 0);
        u64 va = VA + chance(3) * (512 * PAGE_SIZE) + chance(12) * PAGE_SIZE;
        u32 any = (u32)(chance(2) ? page : theirs) + (u32)chance(60);
        u32 of = op == UPDATE_MAP || op == UPDATE_BIND_TABLE ? any : 0;
        struct cap *cap = op == UPDATE_MAP && !chance(3)
                              ? cap_for(CAP_PAGE, (u8)(1 + chance(3)), 0, any, 1)
                              : NULL;
        u32 count = level ? 1 : 1 + (u32)chance(cap ? 1 : 5);
        apply(op, level, va, of, count, level ? 0 : (u16)chance(4), cap);
        if (!chance(20))
            page_get(any)->generation = page_new_generation();
        if (i % 20 == 0)
            check_bindings();
    }
    check_bindings();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_entries, fake_start),
        cmocka_unit_test_setup(test_protect, fake_start),
        cmocka_unit_test_setup(test_table_remembered, fake_start),
        cmocka_unit_test_setup(test_order_of_unmapping, fake_start),
        cmocka_unit_test_setup(test_flushes, fake_start),
        cmocka_unit_test_setup(test_failure_changes_nothing, fake_start),
        cmocka_unit_test_setup(test_types, fake_start),
        cmocka_unit_test_setup(test_granted, fake_start),
        cmocka_unit_test_setup(test_bad_elements, fake_start),
        cmocka_unit_test_setup(test_bad_batches, fake_start),
        cmocka_unit_test_setup(test_random, fake_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
