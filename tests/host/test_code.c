/* The virtual machine for downloaded code: what each instruction computes, by hand and by a second
 * implementation, in the interpreter and as translated code; budgets; helpers; windows. */
// sources: kernel/code/alu.c tools/code/interpret.c kernel/code/jit.c kernel/code/profile.c kernel/code/run.c kernel/code/value.c kernel/code/verify.c tools/code/host.c
#define _GNU_SOURCE /* registers in signal contexts */
#include "../../tools/code/host.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>

#include <cmocka.h>

#define INSN(o, d, s, off, i) \
    ((struct code_insn){.op = (o), .dst = (d), .src = (s), .offset = (off), .imm = (i)})
#define MOV(d, i) INSN(0xb7, d, 0, 0, i)
#define LDDW(d, v) INSN(0x18, d, 0, 0, (s32)(u32)(v)), INSN(0, 0, 0, 0, (s32)((u64)(v) >> 32))
#define EXIT INSN(0x95, 0, 0, 0, 0)
#define PROGRAM(...) ((struct code_insn[]){__VA_ARGS__}), \
    (u32)ARRAY_SIZE(((struct code_insn[]){__VA_ARGS__}))

static u8 memory[64];
static struct code_run run;

/* Runs a program in both ways on the same memory. They must end alike; gives r0, or the status in
 * *status if there is a place for it. */
static u64 run_with(const struct code_profile *profile, const struct code_insn *insn, u32 count,
                    u32 *status) {
    struct host_program h;
    u8 before[sizeof(memory)], after[sizeof(memory)];
    if (!host_verify(&h, profile, insn, count))
        fail_msg("refused at %u: %s", h.program->refused_at, h.program->refusal);
    assert_true(host_translate(&h));
    memcpy(before, memory, sizeof(memory));
    code_forget_effects(&run);
    u64 a = code_interpret(h.program, &run), budget = (u64)run.budget;
    u32 ended = run.status;
    struct code_effects effects = run.effects;
    code_forget_effects(&run);
    memcpy(after, memory, sizeof(memory));
    memcpy(memory, before, sizeof(memory));
    u64 b = code_enter(h.code, &run);
    assert_int_equal(a, b);
    assert_int_equal(ended, run.status);
    if (ended != CODE_BUDGET)
        assert_int_equal(budget, run.budget);
    assert_memory_equal(after, memory, sizeof(memory));
    if (ended == CODE_DONE)
        assert_memory_equal(&effects, &run.effects, sizeof(effects));
    assert_int_not_equal(ended, CODE_ESCAPED);
    if (status)
        *status = ended;
    else
        assert_int_equal(ended, CODE_DONE);
    host_free(&h);
    return a;
}

static void start(const struct code_profile *profile) {
    code_run_start(&run, profile);
    for (u32 w = 0; w < profile->windows; w++)
        run.window[w] = (struct code_window){memory, sizeof(memory)};
}

static u64 run_program(const struct code_insn *insn, u32 count) {
    struct code_profile profile = *host_profile("conformance");
    profile.window[0].minimum = profile.window[0].maximum = sizeof(memory);
    start(&profile);
    return run_with(&profile, insn, count, NULL);
}

/* ---------------------------------------------------------------- arithmetic */
struct row {
    u8 op;
    s32 offset;
    u64 a, b, wide, narrow; /* a op b in 64 bits, and in 32 */
};

#define TOP (1ull << 63)
#define MIN32 0x80000000ull
static const struct row arithmetic[] = {
    {BPF_ADD, 0, 1, 2, 3, 3},
    {BPF_ADD, 0, ~0ull, 1, 0, 0},
    {BPF_ADD, 0, 0xffffffff, 1, 0x100000000, 0},
    {BPF_SUB, 0, 0, 1, ~0ull, 0xffffffff},
    {BPF_SUB, 0, 5, 7, (u64)-2, 0xfffffffe},
    {BPF_MUL, 0, 0x100000001, 3, 0x300000003, 3},
    {BPF_MUL, 0, ~0ull, ~0ull, 1, 1},
    {BPF_DIV, 0, 100, 7, 14, 14},
    {BPF_DIV, 0, 100, 0, 0, 0},
    {BPF_DIV, 0, ~0ull, 2, TOP - 1, 0x7fffffff},
    {BPF_DIV, 0, 0x100000007, 0x100000001, 1, 7},
    {BPF_DIV, 0, 12, 0x100000000, 0, 0},
    {BPF_DIV, 1, (u64)-100, 7, (u64)-14, (u32)-14},
    {BPF_DIV, 1, 100, (u64)-7, (u64)-14, (u32)-14},
    {BPF_DIV, 1, (u64)-100, 0, 0, 0},
    {BPF_DIV, 1, TOP, ~0ull, TOP, 0},
    {BPF_DIV, 1, MIN32, ~0ull, (u64)-0x80000000ll, 0x80000000},
    {BPF_MOD, 0, 100, 7, 2, 2},
    {BPF_MOD, 0, 0x500000064, 0, 0x500000064, 0x64},
    {BPF_MOD, 0, ~0ull, 10, 5, 5},
    {BPF_MOD, 1, (u64)-13, 3, (u64)-1, 0xffffffff},
    {BPF_MOD, 1, 13, (u64)-3, 1, 1},
    {BPF_MOD, 1, TOP, ~0ull, 0, 0},
    {BPF_MOD, 1, MIN32, ~0ull, 0, 0},
    {BPF_MOD, 1, (u64)-13, 0, (u64)-13, (u32)-13},
    {BPF_OR, 0, 0xf0f0f0f000000000, 0x0f, 0xf0f0f0f00000000f, 0x0f},
    {BPF_AND, 0, 0xffffffffffffffff, 0xff00ff00, 0xff00ff00, 0xff00ff00},
    {BPF_XOR, 0, 0xaaaaaaaaaaaaaaaa, ~0ull, 0x5555555555555555, 0x55555555},
    {BPF_LSH, 0, 1, 63, TOP, MIN32},
    {BPF_LSH, 0, 1, 64, 1, 1},
    {BPF_LSH, 0, 3, 32, 0x300000000, 3},
    {BPF_LSH, 0, 0x1234567890, 0, 0x1234567890, 0x34567890},
    {BPF_RSH, 0, TOP, 63, 1, 0},
    {BPF_RSH, 0, 0xffffffff00000000, 32, 0xffffffff, 0},
    {BPF_RSH, 0, 0x80000000, 31, 1, 1},
    {BPF_RSH, 0, 0x1234567890, 64, 0x1234567890, 0x34567890},
    {BPF_ARSH, 0, TOP, 63, ~0ull, 0},
    {BPF_ARSH, 0, 0x80000000, 31, 1, 0xffffffff},
    {BPF_ARSH, 0, (u64)-16, 2, (u64)-4, 0xfffffffc},
    {BPF_ARSH, 0, (u64)-16, 66, (u64)-4, 0xfffffffc},
    {BPF_MOV, 0, 7, 0xfedcba9876543210, 0xfedcba9876543210, 0x76543210},
    {BPF_MOV, 8, 7, 0x1280, (u64)-128, 0xffffff80},
    {BPF_MOV, 8, 7, 0x7f, 0x7f, 0x7f},
    {BPF_MOV, 16, 7, 0x128000, (u64)-32768, 0xffff8000},
};

/* Every row in every pair of registers, wide and narrow, and with the operand as a constant. */
static void test_arithmetic(void **state) {
    (void)state;
    for (u32 n = 0; n < ARRAY_SIZE(arithmetic); n++) {
        const struct row *r = &arithmetic[n];
        for (u32 pair = 0; pair < 100; pair++) {
            u8 dst = pair / 10 & 15, src = pair % 10 & 15;
            if (dst == src)
                continue;
            for (u32 wide = 0; wide < 2; wide++) {
                u8 op = (u8)(r->op | BPF_X | (wide ? BPF_ALU64 : BPF_ALU));
                u64 got = run_program(PROGRAM(LDDW(src, r->b), LDDW(dst, r->a),
                                              INSN(op, dst, src, (int16_t)r->offset, 0),
                                              INSN(0xbf, 0, dst, 0, 0), EXIT));
                if (got != (wide ? r->wide : r->narrow))
                    fail_msg("row %u, r%u r%u, wide %u: %lx", n, dst, src, wide, got);
            }
        }
        if ((s64)r->b != (s32)r->b || (r->op == BPF_MOV && r->offset))
            continue;
        for (u8 dst = 0; dst < 10; dst++) {
            for (u32 wide = 0; wide < 2; wide++) {
                u8 op = (u8)(r->op | (wide ? BPF_ALU64 : BPF_ALU));
                u64 got = run_program(PROGRAM(LDDW(dst, r->a),
                                              INSN(op, dst, 0, (int16_t)r->offset, (s32)r->b),
                                              INSN(0xbf, 0, dst, 0, 0), EXIT));
                if (got != (wide ? r->wide : r->narrow))
                    fail_msg("row %u, r%u constant, wide %u: %lx", n, dst, wide, got);
            }
        }
    }
}

/* The operand is the destination itself. */
static void test_arithmetic_same_register(void **state) {
    (void)state;
    static const struct row rows[] = {
        {BPF_ADD, 0, 9, 9, 18, 18}, {BPF_SUB, 0, 9, 9, 0, 0},
        {BPF_MUL, 0, 9, 9, 81, 81}, {BPF_DIV, 0, 9, 9, 1, 1},
        {BPF_DIV, 1, 9, 9, 1, 1},   {BPF_MOD, 0, 9, 9, 0, 0},
        {BPF_XOR, 0, 9, 9, 0, 0},   {BPF_AND, 0, 9, 9, 9, 9},
        {BPF_OR, 0, 9, 9, 9, 9},    {BPF_LSH, 0, 9, 9, 9 << 9, 9 << 9},
        {BPF_RSH, 0, 9, 9, 0, 0},   {BPF_MOV, 8, 0x80, 0, (u64)-128, 0xffffff80},
        {BPF_DIV, 0, 0, 0, 0, 0},   {BPF_MOD, 0, 0, 0, 0, 0},
    };
    for (u32 n = 0; n < ARRAY_SIZE(rows); n++) {
        for (u8 reg = 0; reg < 10; reg++) {
            for (u32 wide = 0; wide < 2; wide++) {
                u8 op = (u8)(rows[n].op | BPF_X | (wide ? BPF_ALU64 : BPF_ALU));
                u64 got = run_program(PROGRAM(LDDW(reg, rows[n].a),
                                              INSN(op, reg, reg, (int16_t)rows[n].offset, 0),
                                              INSN(0xbf, 0, reg, 0, 0), EXIT));
                if (got != (wide ? rows[n].wide : rows[n].narrow))
                    fail_msg("row %u, r%u, wide %u: %lx", n, reg, wide, got);
            }
        }
    }
}

static void test_unary(void **state) {
    (void)state;
    static const struct {
        u8 op;
        s32 offset, imm;
        u64 a, result;
    } rows[] = {
        {0x87, 0, 0, 1, ~0ull},
        {0x87, 0, 0, TOP, TOP},
        {0x84, 0, 0, 1, 0xffffffff},
        {0x84, 0, 0, 0xff00000000, 0},
        {0xd4, 0, 16, 0x1122334455667788, 0x7788},
        {0xd4, 0, 32, 0x1122334455667788, 0x55667788},
        {0xd4, 0, 64, 0x1122334455667788, 0x1122334455667788},
        {0xdc, 0, 16, 0x1122334455667788, 0x8877},
        {0xdc, 0, 32, 0x1122334455667788, 0x88776655},
        {0xdc, 0, 64, 0x1122334455667788, 0x8877665544332211},
        {0xd7, 0, 16, 0x1122334455667788, 0x8877},
        {0xd7, 0, 32, 0x1122334455667788, 0x88776655},
        {0xd7, 0, 64, 0x1122334455667788, 0x8877665544332211},
    };
    for (u32 n = 0; n < ARRAY_SIZE(rows); n++) {
        for (u8 reg = 0; reg < 10; reg++)
            assert_int_equal(run_program(PROGRAM(LDDW(reg, rows[n].a),
                                                 INSN(rows[n].op, reg, 0, 0, rows[n].imm),
                                                 INSN(0xbf, 0, reg, 0, 0), EXIT)),
                             rows[n].result);
    }
    /* movsx from 32 bits exists only wide */
    for (u32 pair = 0; pair < 100; pair++)
        assert_int_equal(run_program(PROGRAM(LDDW(pair / 10, 0x1280000000),
                                             INSN(0xbf, pair % 10, pair / 10, 32, 0),
                                             INSN(0xbf, 0, pair % 10, 0, 0), EXIT)),
                         (u64)-0x80000000ll);
}

static void test_constants(void **state) {
    (void)state;
    static const u64 values[] = {0, 1, ~0ull, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
                                 (u64)-0x80000000ll, TOP, 0x123456789abcdef0};
    for (u32 n = 0; n < ARRAY_SIZE(values); n++) {
        for (u8 reg = 0; reg < 10; reg++)
            assert_int_equal(
                run_program(PROGRAM(LDDW(reg, values[n]), INSN(0xbf, 0, reg, 0, 0), EXIT)),
                values[n]);
    }
    assert_int_equal(run_program(PROGRAM(MOV(0, -1), EXIT)), ~0ull);
    assert_int_equal(run_program(PROGRAM(INSN(0xb4, 0, 0, 0, -1), EXIT)), 0xffffffff);
}

/* ---------------------------------------------------------------- branches */
static bool expect(u8 code, u64 a, u64 b, bool wide) {
    u32 x = (u32)a, y = (u32)b;
    switch (code) {
    case BPF_JEQ: return wide ? a == b : x == y;
    case BPF_JNE: return wide ? a != b : x != y;
    case BPF_JGT: return wide ? a > b : x > y;
    case BPF_JGE: return wide ? a >= b : x >= y;
    case BPF_JLT: return wide ? a < b : x < y;
    case BPF_JLE: return wide ? a <= b : x <= y;
    case BPF_JSET: return wide ? (a & b) != 0 : (x & y) != 0;
    case BPF_JSGT: return wide ? (s64)a > (s64)b : (s32)x > (s32)y;
    case BPF_JSGE: return wide ? (s64)a >= (s64)b : (s32)x >= (s32)y;
    case BPF_JSLT: return wide ? (s64)a < (s64)b : (s32)x < (s32)y;
    default: return wide ? (s64)a <= (s64)b : (s32)x <= (s32)y;
    }
}

/* The values come from memory, so that the verifier cannot fold the branch away. */
static u64 branch(u8 op, u8 dst, u8 src, u64 a, u64 b) {
    memcpy(memory, &a, 8);
    memcpy(memory + 8, &b, 8);
    s32 imm = op & BPF_X ? 0 : (s32)b;
    return run_program(PROGRAM(INSN(0xbf, 6, 1, 0, 0), INSN(0x79, dst, 6, 0, 0),
                               op & BPF_X ? INSN(0x79, src, 6, 8, 0) : MOV(3, 0),
                               INSN(op, dst, op & BPF_X ? src : 0, 2, imm), MOV(0, 0), EXIT,
                               MOV(0, 1), EXIT));
}

static void test_branches(void **state) {
    (void)state;
    static const u8 codes[] = {BPF_JEQ, BPF_JNE, BPF_JGT, BPF_JGE, BPF_JLT, BPF_JLE,
                               BPF_JSET, BPF_JSGT, BPF_JSGE, BPF_JSLT, BPF_JSLE};
    static const u64 values[] = {0, 1, ~0ull, 5, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
                                 0x100000005, TOP, TOP - 1, (u64)-0x80000000ll};
    static const u8 registers[] = {0, 1, 4, 7, 9};
    for (u32 c = 0; c < ARRAY_SIZE(codes); c++) {
        for (u32 n = 0; n < ARRAY_SIZE(values) * ARRAY_SIZE(values); n++) {
            u64 a = values[n % ARRAY_SIZE(values)], b = values[n / ARRAY_SIZE(values)];
            u8 dst = registers[n % 5], src = registers[(n + 1 + c % 4) % 5];
            for (u32 wide = 0; wide < 2; wide++) {
                u8 op = codes[c] | (wide ? BPF_JMP : BPF_JMP32);
                assert_int_equal(branch(op | BPF_X, dst, src, a, b), expect(codes[c], a, b, wide));
                assert_int_equal(branch(op, dst, 0, a, b),
                                 expect(codes[c], a, (u64)(s64)(s32)b, wide));
            }
        }
    }
}

static void test_jumps(void **state) {
    (void)state;
    assert_int_equal(run_program(PROGRAM(MOV(0, 1), INSN(0x05, 0, 0, 1, 0), MOV(0, 2), EXIT)), 1);
    assert_int_equal(run_program(PROGRAM(MOV(0, 1), INSN(0x06, 0, 0, 0, 1), MOV(0, 2), EXIT)), 1);
    assert_int_equal(run_program(PROGRAM(MOV(0, 1), INSN(0x05, 0, 0, 0, 0), EXIT)), 1);
    /* backwards, over an exit */
    assert_int_equal(run_program(PROGRAM(INSN(0x05, 0, 0, 2, 0), MOV(0, 3), EXIT,
                                         INSN(0x05, 0, 0, -3, 0))), 3);
}

/* ---------------------------------------------------------------- memory */
static void test_loads_and_stores(void **state) {
    (void)state;
    static const struct {
        u8 load;
        u64 result;
    } rows[] = {
        {0x71, 0x88}, {0x69, 0x8788}, {0x61, 0x85868788}, {0x79, 0x8182838485868788},
        {0x91, (u64)-0x78}, {0x89, (u64)(s64)(int16_t)0x8788}, {0x81, (u64)(s64)(s32)0x85868788},
    };
    for (u32 n = 0; n < ARRAY_SIZE(rows); n++) {
        for (u32 pair = 0; pair < 100; pair++) {
            u8 dst = pair / 10 & 15, src = pair % 10 & 15;
            u64 value = 0x8182838485868788;
            memcpy(memory + 3, &value, 8);
            u64 got =
                run_program(PROGRAM(INSN(0xbf, src, 1, 0, 0), INSN(rows[n].load, dst, src, 3, 0),
                                    INSN(0xbf, 0, dst, 0, 0), EXIT));
            assert_int_equal(got, rows[n].result);
        }
    }
    static const struct {
        u8 x, k;
        u32 size;
    } stores[] = {{0x73, 0x72, 1}, {0x6b, 0x6a, 2}, {0x63, 0x62, 4}, {0x7b, 0x7a, 8}};
    for (u32 n = 0; n < ARRAY_SIZE(stores); n++) {
        u64 value = 0xf1f2f3f4f5f6f7f8, wide = (u64)-0x0a0b0c0d;
        for (u32 pair = 0; pair < 100; pair++) {
            u8 dst = pair / 10 & 15, src = pair % 10 & 15, want[12];
            if (dst == src)
                continue;
            memset(memory, 0x11, sizeof(memory));
            memset(want, 0x11, sizeof(want));
            memcpy(want + 2, &value, stores[n].size);
            run_program(PROGRAM(INSN(0xbf, dst, 1, 0, 0), LDDW(src, value),
                                INSN(stores[n].x, dst, src, 2, 0), MOV(0, 0), EXIT));
            assert_memory_equal(memory, want, sizeof(want));
            memset(want + 2, 0x11, 8);
            memcpy(want + 2, &wide, stores[n].size);
            memset(memory, 0x11, sizeof(memory));
            run_program(PROGRAM(INSN(0xbf, dst, 1, 0, 0), INSN(stores[n].k, dst, 0, 2, -0x0a0b0c0d),
                                MOV(0, 0), EXIT));
            assert_memory_equal(memory, want, sizeof(want));
        }
    }
}

/* Each atomic operation, with operand and address in every pair of registers, on a window and on
 * the stack. */
static void test_atomic(void **state) {
    (void)state;
    static const struct {
        s32 imm;
        u64 old, operand, r0, stored, stored32; /* in memory afterwards */
    } rows[] = {
        {0x00, 0xfffffffffffffff0, 0x20, 0, 0x10, 0xffffffff00000010},
        {0x01, 0x1122334455667788, 1, 0, 0x1122334455667789, 0x1122334455667789},
        {0x40, 0xf0f0, 0x0f, 0, 0xf0ff, 0xf0ff},
        {0x41, 0xf0f0, 0x0f, 0, 0xf0ff, 0xf0ff},
        {0x50, ~0ull, 0xf, 0, 0xf, 0xffffffff0000000f},
        {0x51, ~0ull, 0xf, 0, 0xf, 0xffffffff0000000f},
        {0xa0, 0xff, 0x0f, 0, 0xf0, 0xf0},
        {0xa1, 0xff, 0x0f, 0, 0xf0, 0xf0},
        {0xe1, 0x8877665544332211, 5, 0, 5, 0x8877665500000005},
        {0xf1, 0x1122334455667788, 5, 0x1122334455667788, 5, 0x1122334400000005},
        {0xf1, 0x1122334455667788, 5, 7, 0x1122334455667788, 0x1122334455667788},
    };
    for (u32 n = 0; n < ARRAY_SIZE(rows); n++) {
        for (u32 trial = 0; trial < 400; trial++) {
            u8 src = trial % 10 & 15, dst = trial / 10 % 10 & 15;
            bool wide = trial >= 200, stack = trial / 100 % 2;
            if (src == dst || dst == 0 || (src == 0 && rows[n].imm == 0xf1))
                continue;
            memcpy(memory + 8, &rows[n].old, 8);
            u8 answer = rows[n].imm == 0xf1 ? 0 : src, keep = 9, other = 6;
            while (keep == src || keep == dst)
                keep--;
            while (other == src || other == dst || other == keep)
                other--;
            /* r0 = the answer, memory[16] = what was stored */
            u64 got = run_program(PROGRAM(
                INSN(0xbf, keep, 1, 0, 0), LDDW(0, rows[n].old), INSN(0x7b, 10, 0, -16, 0),
                INSN(0xbf, dst, stack ? 10 : keep, 0, 0), INSN(0x07, dst, 0, 0, stack ? -24 : 0),
                LDDW(0, rows[n].r0), LDDW(src, rows[n].operand),
                INSN(wide ? 0xdb : 0xc3, dst, src, 8, rows[n].imm), INSN(0xbf, 0, answer, 0, 0),
                INSN(0x79, other, dst, 8, 0), INSN(0x7b, keep, other, 16, 0), EXIT));
            u64 fetched = wide ? rows[n].old : (u32)rows[n].old, stored;
            memcpy(&stored, memory + 16, 8);
            assert_int_equal(stored, wide ? rows[n].stored : rows[n].stored32);
            assert_int_equal(got, rows[n].imm & 1 ? fetched : rows[n].operand);
        }
    }
}

/* Someone else who writes a word between any two instructions of a run: each instruction traps. */
#define INTERFERENCES 1000000u
static u32 interfered; /* how often */
static bool interferes;
static void interfere(int number, siginfo_t *about, void *context) {
    (void)about;
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
    *flags = number == SIGUSR1 || interferes ? *flags | 0x100 : *flags & ~0x100ll;
    if (number == SIGTRAP && interferes && interfered++ < INTERFERENCES)
        memory[7]++;
}

/* An operation that is tried until nobody interferes is charged for each time: it ends with the budget. */
static void test_atomic_contended(void **state) {
    (void)state;
    static const s32 operations[] = {0x41, 0x51, 0xa1};
    struct sigaction action = {.sa_sigaction = interfere, .sa_flags = SA_SIGINFO}, before[2];
    const struct code_profile *profile = host_profile("handler");
    sigaction(SIGTRAP, &action, &before[0]);
    sigaction(SIGUSR1, &action, &before[1]);
    for (u32 n = 0; n < ARRAY_SIZE(operations); n++) {
        struct host_program h;
        start(profile);
        assert_true(host_verify(&h, profile,
                                PROGRAM(INSN(0x79, 3, 1, 16, 0), MOV(2, 1), INSN(0xdb, 3, 2, 0, operations[n]), MOV(0, 1), EXIT)));
        assert_true(host_translate(&h));
        interfered = 0;
        interferes = true;
        raise(SIGUSR1);
        u64 result = code_enter(h.code, &run);
        interferes = false; /* the next instruction is the last that traps */
        assert_int_equal(result, 0);
        assert_int_equal(run.status, CODE_BUDGET);
        assert_in_range(interfered, profile->budget / 8, INTERFERENCES - 1);
        assert_int_equal(code_enter(h.code, &run), 1); /* and alone, it is done at once */
        assert_int_equal(run.status, CODE_DONE);
        host_free(&h);
    }
    sigaction(SIGTRAP, &before[0], NULL);
    sigaction(SIGUSR1, &before[1], NULL);
}

/* ---------------------------------------------------------------- functions, loops, budget */
static void test_local_calls(void **state) {
    (void)state;
    /* r6 to r9 and the stack of the caller survive; r1 to r5 are passed */
    assert_int_equal(
        run_program(PROGRAM(MOV(6, 6), MOV(7, 7), MOV(8, 8), MOV(9, 9), INSN(0x7a, 10, 0, -8, 77),
                            MOV(1, 1), MOV(2, 2), MOV(3, 3), MOV(4, 4), MOV(5, 5),
                            INSN(0x85, 0, 1, 0, 7), INSN(0x0f, 0, 6, 0, 0), INSN(0x0f, 0, 7, 0, 0),
                            INSN(0x0f, 0, 8, 0, 0), INSN(0x0f, 0, 9, 0, 0),
                            INSN(0x79, 1, 10, -8, 0), INSN(0x0f, 0, 1, 0, 0), EXIT,
                            /* function: sum of its arguments */
                            INSN(0xbf, 0, 1, 0, 0), INSN(0x0f, 0, 2, 0, 0), INSN(0x0f, 0, 3, 0, 0),
                            INSN(0x0f, 0, 4, 0, 0), INSN(0x0f, 0, 5, 0, 0), MOV(6, 0), MOV(7, 0),
                            MOV(8, 0), MOV(9, 0), INSN(0x7a, 10, 0, -8, 1), EXIT)),
        15 + 30 + 77);
    /* a window may be passed, and come back */
    memory[5] = 42;
    assert_int_equal(run_program(PROGRAM(INSN(0x85, 0, 1, 0, 2), INSN(0x71, 0, 0, 4, 0), EXIT,
                                         INSN(0xbf, 0, 1, 0, 0), INSN(0x07, 0, 0, 0, 1), EXIT)),
                     42);
}

static void test_deepest_calls(void **state) {
    (void)state;
    struct code_insn insn[CODE_DEPTH * 4];
    u32 count = 0;
    for (u32 level = 0; level < CODE_DEPTH - 1; level++) {
        insn[count++] = INSN(0x7a, 10, 0, -512, (s32)level);
        insn[count++] = INSN(0x85, 0, 1, 0, 2);
        insn[count++] = INSN(0x07, 0, 0, 0, 1);
        insn[count++] = EXIT;
    }
    insn[count++] = MOV(0, 100);
    insn[count++] = EXIT;
    assert_int_equal(run_program(insn, count), 100 + CODE_DEPTH - 1);
}

static void test_loop(void **state) {
    (void)state;
    /* 1 + 2 + ... + 1000 */
    assert_int_equal(run_program(PROGRAM(MOV(0, 0), MOV(1, 1000), INSN(0x0f, 0, 1, 0, 0),
                                         INSN(0x17, 1, 0, 0, 1), INSN(0x55, 1, 0, -3, 0), EXIT)),
                     500500);
}

/* A run takes no more instructions than its budget, to the instruction in a loop. */
static void test_budget(void **state) {
    (void)state;
    struct code_profile profile = *host_profile("predicate");
    u32 status;
    for (s32 rounds = 1; rounds < 40; rounds++) {
        profile.budget = 3 + 2 * 20 + 1; /* what comes before and after, 20 rounds of 2 */
        start(&profile);
        run_with(&profile, PROGRAM(MOV(0, rounds), INSN(0x17, 0, 0, 0, 1), INSN(0x55, 0, 0, -2, 0),
                                   EXIT), &status);
        assert_int_equal(status, rounds <= 20 ? CODE_DONE : CODE_BUDGET);
    }
    start(&profile); /* for ever */
    run_with(&profile, PROGRAM(MOV(0, 0), INSN(0x05, 0, 0, -1, 0), EXIT), &status);
    assert_int_equal(status, CODE_BUDGET);
    start(&profile); /* out of a function */
    run_with(&profile,
             PROGRAM(INSN(0x85, 0, 1, 0, 1), EXIT, INSN(0x85, 0, 1, 0, 1), EXIT, MOV(6, 0),
                     INSN(0x05, 0, 0, -1, 0)),
             &status);
    assert_int_equal(status, CODE_BUDGET);
}

/* ---------------------------------------------------------------- windows */
/* Reads `size` bytes at offset r1 + i of a packet of n bytes: works exactly if they are there. */
static void test_window_bounds(void **state) {
    (void)state;
    const struct code_profile *profile = host_profile("predicate");
    static const u8 loads[] = {0x71, 0x69, 0x61, 0x79};
    for (s32 n = 0; n <= 16; n++) {
        for (s32 at = -3; at <= 18; at++) {
            for (u32 size = 0; size < 4; size++) {
                u32 status;
                bool inside = at >= 0 && at + (1 << size) <= n;
                start(profile);
                run.window[0] = (struct code_window){memory + 20, (u64)n};
                run_with(profile, PROGRAM(INSN(loads[size], 0, 1, (int16_t)at, 0), EXIT), &status);
                assert_int_equal(status, inside ? CODE_DONE : CODE_ACCESS);
                run_with(profile, PROGRAM(INSN(0x07, 1, 0, 0, at + 7),
                                          INSN(loads[size], 0, 1, -7, 0), EXIT), &status);
                assert_int_equal(status, inside ? CODE_DONE : CODE_ACCESS);
            }
        }
    }
}

/* A number that is not known until the program runs moves the pointer, by anything at all. */
static void test_window_index(void **state) {
    (void)state;
    struct code_profile profile = *host_profile("predicate");
    profile.start[2] = (struct code_start){CODE_SCALAR, 0};
    profile.values = 1;
    static const u64 index[] = {0, 1, 15, 16, 17, ~0ull, ~0ull - 8, TOP, 1ull << 32, 1ull << 48};
    for (u32 n = 0; n < ARRAY_SIZE(index); n++) {
        u32 status;
        start(&profile);
        run.window[0].length = 17;
        run.value[0] = index[n];
        run_with(&profile, PROGRAM(INSN(0x0f, 1, 3, 0, 0), INSN(0x69, 0, 1, 0, 0), EXIT), &status);
        assert_int_equal(status, index[n] <= 15 ? CODE_DONE : CODE_ACCESS);
    }
}

/* After a look at the length nothing is checked any more. */
static void test_window_proved(void **state) {
    (void)state;
    struct host_program h;
    const struct code_insn insn[] = {INSN(0xb7, 0, 0, 0, 0), INSN(0xa5, 2, 0, 2, 14),
                                     INSN(0x69, 0, 1, 12, 0), INSN(0x71, 3, 1, 13, 0), EXIT};
    assert_true(host_verify(&h, host_profile("predicate"), insn, ARRAY_SIZE(insn)));
    assert_int_equal(h.program->mark[2].check, 0);
    assert_int_equal(h.program->mark[2].window, 1);
    assert_int_equal(h.program->mark[3].check, 0);
    host_free(&h);
    const struct code_insn more[] = {INSN(0xb7, 0, 0, 0, 0), INSN(0xa5, 2, 0, 1, 14),
                                     INSN(0x69, 0, 1, 13, 0), EXIT};
    assert_true(host_verify(&h, host_profile("predicate"), more, ARRAY_SIZE(more)));
    assert_int_equal(h.program->mark[2].check, 1);
    host_free(&h);
}

static void test_context(void **state) {
    (void)state;
    const struct code_profile *profile = host_profile("handler");
    start(profile);
    run.value[1] = 1000;
    run.window[1] = (struct code_window){memory + 8, 8};
    memory[3] = 5;
    u64 got = run_with(profile,
                       PROGRAM(INSN(0x79, 2, 1, 0, 0), INSN(0x79, 3, 1, 8, 0),
                               INSN(0x79, 4, 1, 128 + 8, 0), INSN(0x79, 5, 1, 16, 0),
                               INSN(0x71, 0, 2, 3, 0), INSN(0x0f, 0, 3, 0, 0),
                               INSN(0x0f, 0, 4, 0, 0), INSN(0x7b, 5, 0, 0, 0), EXIT),
                       NULL);
    assert_int_equal(got, 5 + sizeof(memory) + 1000);
    assert_memory_equal(memory + 8, &got, 8);
}

/* The helpers of handlers: sums as RFC 1071 has them; copies between windows and the stack. */
static void test_helpers(void **state) {
    (void)state;
    const struct code_profile *profile = host_profile("handler");
    static const u8 example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    u32 status;
    start(profile);
    memcpy(memory, example, 8);
    run.window[0] = (struct code_window){memory, 8};
    run.window[1] = (struct code_window){memory + 16, 8};
    run.window[2].length = 0;
    assert_int_equal(run_with(profile, PROGRAM(INSN(0x79, 1, 1, 0, 0), MOV(2, 8), MOV(3, 0),
                                               INSN(0x85, 0, 0, 0, 1), EXIT), NULL), 0xddf2);
    assert_int_equal(run_with(profile, PROGRAM(INSN(0x79, 2, 1, 0, 0), INSN(0x79, 1, 1, 16, 0),
                                               MOV(3, 8), MOV(4, 0), INSN(0x85, 0, 0, 0, 2), EXIT),
                              NULL), 0xddf2);
    assert_memory_equal(memory + 16, example, 8);
    /* to the stack, and read there */
    u64 first;
    memcpy(&first, example, 8);
    assert_int_equal(run_with(profile, PROGRAM(INSN(0x79, 2, 1, 0, 0), INSN(0xbf, 1, 10, 0, 0),
                                               INSN(0x07, 1, 0, 0, -8), MOV(3, 8), MOV(4, 0),
                                               INSN(0x85, 0, 0, 0, 2), INSN(0x79, 0, 10, -8, 0),
                                               EXIT), NULL), first);
    /* a window that is too short stops the run */
    for (s32 size = 7; size <= 10; size++) {
        run_with(profile, PROGRAM(INSN(0x79, 1, 1, 0, 0), MOV(2, size), MOV(3, 0),
                                  INSN(0x85, 0, 0, 0, 1), EXIT), &status);
        assert_int_equal(status, size <= 8 ? CODE_DONE : CODE_ACCESS);
    }
    run_with(profile, PROGRAM(INSN(0x79, 1, 1, 0, 0), MOV(2, -1), MOV(3, 0), INSN(0x85, 0, 0, 0, 1),
                              EXIT), &status);
    assert_int_equal(status, CODE_ACCESS);
    /* A pointer to a window that was moved to the run's own stack, to replace a pointer that is kept there. */
    u64 there = (u64)&run.stack[CODE_FRAME - 8] - (u64)run.window[1].base;
    run_with(profile, PROGRAM(INSN(0x79, 6, 1, 16, 0), INSN(0x79, 2, 1, 0, 0), INSN(0x7b, 10, 6, -8, 0),
                              INSN(0x18, 5, 0, 0, (s32)there), INSN(0, 0, 0, 0, (s32)(there >> 32)),
                              INSN(0xbf, 1, 6, 0, 0), INSN(0x0f, 1, 5, 0, 0), MOV(3, 8), MOV(4, 0),
                              INSN(0x85, 0, 0, 0, 2), MOV(0, 0), EXIT), &status);
    assert_int_equal(status, CODE_ACCESS);
}

/* What a handler asks for is kept for the end of the run; what cannot be stops it. */
static void test_effects(void **state) {
    (void)state;
    const struct code_profile *profile = host_profile("handler");
    static u64 shared[4];
    u32 status;
    start(profile);
    run.window[1] = (struct code_window){(u8 *)shared, sizeof(shared)};
    run_with(profile, PROGRAM(INSN(0xbf, 6, 1, 0, 0), MOV(1, 60), MOV(2, 34), MOV(3, 6), INSN(0x85, 0, 0, 0, 3), /* send(60, 34, 6) */
                              INSN(0x79, 1, 6, 16, 0), INSN(0x07, 1, 0, 0, 24), MOV(2, 8),
                              INSN(0x85, 0, 0, 0, 4), /* attach(memory + 24, 8) */
                              INSN(0x85, 0, 0, 0, 5), /* wake() */
                              MOV(1, 7), MOV(2, 9), INSN(0x85, 0, 0, 0, 6), /* event(7, 9) */
                              MOV(1, 16), MOV(2, 11), INSN(0x85, 0, 0, 0, 7), /* publish(16, 11) */
                              EXIT), &status);
    assert_int_equal(status, CODE_DONE);
    assert_int_equal(run.effects.frame.length, 60);
    assert_int_equal(run.effects.frame.checksum_start, 34);
    assert_int_equal(run.effects.frame.checksum_offset, 6);
    assert_int_equal(run.effects.frame.pieces, 0);
    assert_int_equal(run.effects.attached, 8);
    assert_int_equal(run.effects.attached_at, 24);
    assert_true(run.effects.wake && run.effects.event);
    assert_int_equal(run.effects.a, 7);
    assert_int_equal(run.effects.b, 9);
    assert_int_equal(run.effects.published, 1);
    assert_ptr_equal(run.effects.publish[0].at, &shared[2]);
    assert_int_equal(run.effects.publish[0].value, 11);
    assert_int_equal(shared[2], 0);
    for (u32 which = 1; which <= 3; which++) { /* what no frame can have stops it */
        run_with(profile, PROGRAM(MOV(1, 0xffff), MOV(2, 0xffff), MOV(3, 0xffff), INSN(0x85, 0, 0, 0, 3), EXIT), &status);
        assert_int_equal(status, CODE_DONE);
        assert_int_equal(run.effects.frame.length, 0xffff);
        struct code_insn large[] = {MOV(1, 1), MOV(2, 1), MOV(3, 1), INSN(0x07, which, 0, 0, 0xffff), INSN(0x85, 0, 0, 0, 3), EXIT};
        run_with(profile, large, ARRAY_SIZE(large), &status);
        assert_int_equal(status, CODE_ACCESS);
    }
    for (s32 at = 0; at <= 40; at++) {
        run_with(profile, PROGRAM(MOV(1, at), MOV(2, 11), INSN(0x85, 0, 0, 0, 7), EXIT), &status);
        assert_int_equal(status, at % 8 == 0 && at < 32 ? CODE_DONE : CODE_ACCESS);
    }
    for (u32 times = PUBLISHES; times <= PUBLISHES + 1; times++) {
        struct code_insn program[3 * (PUBLISHES + 1) + 1];
        for (u32 i = 0; i < times; i++)
            memcpy(&program[3 * i], (struct code_insn[]){MOV(1, 0), MOV(2, 0), INSN(0x85, 0, 0, 0, 7)},
                   3 * sizeof(*program));
        program[3 * times] = (struct code_insn)EXIT;
        run_with(profile, program, 3 * times + 1, &status);
        assert_int_equal(status, times == PUBLISHES ? CODE_DONE : CODE_ACCESS);
    }
    /* only memory can be attached: not the packet, not the stack, nothing behind the end */
    static const struct { s32 window, offset, size; } attached[] = {{16, 0, 32}, {16, 0, 33}, {16, 32, 0}, {0, 0, 8}};
    for (u32 i = 0; i < ARRAY_SIZE(attached); i++) {
        run_with(profile, PROGRAM(INSN(0x79, 1, 1, (int16_t)attached[i].window, 0),
                                  INSN(0x07, 1, 0, 0, attached[i].offset), MOV(2, attached[i].size),
                                  INSN(0x85, 0, 0, 0, 4), EXIT), &status);
        assert_int_equal(status, i % 2 ? CODE_ACCESS : CODE_DONE);
    }
}

/* Copying and summing at every size, place and overlap, against the definition. */
static void test_copy(void **state) {
    (void)state;
    const struct code_helper *helper = host_profile("handler")->helper;
    u8 from[64], to[64];
    for (u32 n = 0; n < sizeof(from); n++)
        from[n] = (u8)(n * 37 + 11);
    for (u32 size = 0; size <= 40; size++) {
        for (u32 at = 0; at < 8; at++) {
            for (u32 move = 0; move < 20; move++) {
                u64 sum = 0xfff0;
                memcpy(to, from, sizeof(to));
                for (u32 n = 0; n < size; n++)
                    sum += n % 2 ? from[at + n] : (u32)from[at + n] << 8;
                sum = (sum & 0xffff) + (sum >> 16);
                sum = (sum & 0xffff) + (sum >> 16);
                assert_int_equal(helper[0].function((u64)from + at, size, 0xfff0, 0, 0, NULL), sum);
                assert_int_equal(helper[1].function((u64)to + move, (u64)to + at, size, 0xfff0, 0, NULL), sum);
                assert_memory_equal(to + move, from + at, size);
                assert_memory_equal(to, from, move);
                if (move + size < sizeof(to))
                    assert_memory_equal(to + move + size, from + move + size, sizeof(to) - move - size);
            }
        }
    }
}

/* An unaligned atomic operation stops the run. */
static void test_unaligned_atomic(void **state) {
    (void)state;
    struct code_profile profile = *host_profile("conformance");
    static u64 aligned[2];
    for (s32 at = 0; at <= 8; at++) {
        for (u32 wide = 0; wide < 2; wide++) {
            u32 status;
            start(&profile);
            run.window[0] = (struct code_window){(u8 *)aligned, sizeof(aligned)};
            run_with(&profile,
                     PROGRAM(MOV(0, 1), INSN(wide ? 0xdb : 0xc3, 1, 0, (int16_t)at, 0), EXIT),
                     &status);
            assert_int_equal(status, at % (wide ? 8 : 4) ? CODE_ACCESS : CODE_DONE);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_arithmetic_same_register),
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_jumps),
        cmocka_unit_test(test_loads_and_stores),
        cmocka_unit_test(test_atomic),
        cmocka_unit_test(test_atomic_contended),
        cmocka_unit_test(test_local_calls),
        cmocka_unit_test(test_deepest_calls),
        cmocka_unit_test(test_loop),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_window_bounds),
        cmocka_unit_test(test_window_index),
        cmocka_unit_test(test_window_proved),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_helpers),
        cmocka_unit_test(test_effects),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_unaligned_atomic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
