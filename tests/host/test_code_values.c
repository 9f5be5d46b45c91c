/* The verifier's intervals, against what instructions do to the numbers in them: no result may lie
 * outside. Bounds and numbers are those where arithmetic overflows, changes sign or is cut off. */
// sources: kernel/code/alu.c kernel/code/value.c
#include "code/value.h"

#include <setjmp.h>

#include <cmocka.h>

static const s64 edge[] = {INT64_MIN,   -0x100000000, -0x80000001ll, -0x80000000ll, -3,
                           -1,          0,            1,             2,             5,
                           31,          63,           64,            0x7fffffff,    0x80000000ll,
                           0xffffffffll, 0x100000000, INT64_MAX};
#define EDGES ARRAY_SIZE(edge)

static bool has(const struct value *v, u64 n) { return (s64)n >= v->lo && (s64)n <= v->hi; }

/* Numbers of an interval between two edges: the edges in it, and their neighbours. */
static u32 members(u32 from, u32 to, u64 *list) {
    u32 count = 0;
    for (u32 n = from; n <= to; n++) {
        list[count++] = (u64)edge[n];
        if (n < to && edge[n] + 1 < edge[n + 1])
            list[count++] = (u64)edge[n] + 1;
    }
    return count;
}

static void check(const struct code_insn *i, u32 a, u32 b, u32 c, u32 d) {
    u64 left[2 * EDGES], right[2 * EDGES];
    u32 lefts = members(a, b, left), rights = members(c, d, right);
    struct value x = value_number(edge[a], edge[b]), y = value_number(edge[c], edge[d]);
    struct value result = {.lo = 0}, x_taken = x, y_taken = y, x_not = x, y_not = y;
    bool jump = bpf_is_jump(i), taken = false, not_taken = false;
    if (jump) {
        taken = value_restrict(i, true, &x_taken, &y_taken);
        not_taken = value_restrict(i, false, &x_not, &y_not);
    } else {
        result = value_alu(i, &x, &y);
        assert_true(result.kind == VALUE_NUMBER && result.lo <= result.hi);
    }
    for (u32 n = 0; n < lefts * rights; n++) {
        u64 p = left[n % lefts], q = right[n / lefts];
        bool good;
        if (!jump)
            good = has(&result, code_alu(i, p, q));
        else if (code_condition(i, p, q))
            good = taken && has(&x_taken, p) && has(&y_taken, q);
        else
            good = not_taken && has(&x_not, p) && has(&y_not, q);
        if (!good)
            fail_msg("op %02x offset %d imm %d: %lx and %lx, of [%lx %lx] and [%lx %lx]", i->op,
                     i->offset, i->imm, p, q, x.lo, x.hi, y.lo, y.hi);
    }
}

static void check_all(struct code_insn i) {
    for (u32 a = 0; a < EDGES; a++) {
        for (u32 b = a; b < EDGES; b++) {
            for (u32 c = 0; c < EDGES; c++) {
                for (u32 d = c; d < EDGES; d += 1 + (d + a) % 3)
                    check(&i, a, b, c, d);
            }
        }
    }
}

static void test_arithmetic(void **state) {
    (void)state;
    static const u8 codes[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,  BPF_AND,
                               BPF_LSH, BPF_RSH, BPF_MOD, BPF_XOR, BPF_ARSH};
    for (u32 n = 0; n < ARRAY_SIZE(codes); n++) {
        check_all((struct code_insn){.op = BPF_ALU64 | BPF_X | codes[n]});
        check_all((struct code_insn){.op = BPF_ALU | BPF_X | codes[n]});
    }
}

static void test_moves_and_signed_division(void **state) {
    (void)state;
    for (s32 offset = 0; offset <= 32; offset += offset ? offset : 8) {
        check_all((struct code_insn){.op = BPF_ALU64 | BPF_X | BPF_MOV, .offset = (int16_t)offset});
        if (offset < 32)
            check_all(
                (struct code_insn){.op = BPF_ALU | BPF_X | BPF_MOV, .offset = (int16_t)offset});
        if (offset < 32) {
            s32 width = offset ? offset * 2 : 64;
            check_all((struct code_insn){.op = BPF_ALU | BPF_END, .imm = width});
            check_all((struct code_insn){.op = BPF_ALU | BPF_X | BPF_END, .imm = width});
            check_all((struct code_insn){.op = BPF_ALU64 | BPF_END, .imm = width});
        }
    }
    for (u32 wide = 0; wide < 2; wide++) {
        u8 class = wide ? BPF_ALU64 : BPF_ALU;
        check_all((struct code_insn){.op = class | BPF_X | BPF_DIV, .offset = 1});
        check_all((struct code_insn){.op = class | BPF_X | BPF_MOD, .offset = 1});
        check_all((struct code_insn){.op = class | BPF_NEG});
    }
}

static void test_branches(void **state) {
    (void)state;
    for (u32 code = BPF_JEQ; code <= BPF_JSLE; code += 0x10) {
        if (code == BPF_CALL || code == BPF_EXIT)
            continue;
        check_all((struct code_insn){.op = (u8)(BPF_JMP | BPF_X | code)});
        check_all((struct code_insn){.op = (u8)(BPF_JMP32 | BPF_X | code)});
    }
}

/* Joining holds both; joined again and again with a widening, a value soon stays as it is. */
static void test_join(void **state) {
    (void)state;
    for (u32 n = 0; n < EDGES * EDGES; n++) {
        s64 a = edge[n / EDGES], b = edge[n % EDGES];
        for (u32 widen = 0; widen < 2; widen++) {
            struct value x = value_number(a, a), y = value_number(b, b);
            assert_int_equal(value_join(&x, &y, widen), a != b);
            assert_true(has(&x, (u64)a) && has(&x, (u64)b));
        }
    }
    for (s32 step = -1; step <= 1; step += 2) {
        struct value x = value_number(0, 0);
        u32 changes = 0;
        for (u32 n = 0; n < 100; n++) {
            struct value next = x, by = value_number(step, step);
            value_move(&next, &by, false);
            changes += value_join(&x, &next, true);
        }
        assert_in_range(changes, 1, 3);
    }
    struct value number = value_number(1, 2), window = {.kind = VALUE_WINDOW}, nothing = {.lo = 0};
    struct value x = number;
    assert_true(value_join(&x, &window, false));
    assert_int_equal(x.kind, VALUE_NONE);
    x = window;
    window.window = 1;
    assert_true(value_join(&x, &window, false));
    assert_int_equal(x.kind, VALUE_NONE);
    x = number;
    assert_true(value_join(&x, &nothing, false));
    assert_int_equal(x.kind, VALUE_NONE);
    assert_false(value_join(&x, &number, false));
}

/* What programs rely on: these must not become less exact. */
static void test_exact(void **state) {
    (void)state;
    struct value any = value_unknown(), y, x;
    y = value_number(0xff, 0xff);
    x = value_alu(&(struct code_insn){.op = BPF_ALU64 | BPF_AND}, &any, &y);
    assert_true(x.lo == 0 && x.hi == 0xff);
    y = value_number(10, 10);
    x = value_alu(&(struct code_insn){.op = BPF_ALU64 | BPF_MOD}, &any, &y);
    assert_true(x.lo == 0 && x.hi == 9);
    y = value_number(32, 32);
    x = value_number(0, 1000);
    x = value_alu(&(struct code_insn){.op = BPF_ALU64 | BPF_LSH}, &x, &y);
    x = value_alu(&(struct code_insn){.op = BPF_ALU64 | BPF_RSH}, &x, &y);
    assert_true(x.lo == 0 && x.hi == 1000);
    x = any;
    y = value_number(64, 64);
    assert_true(value_restrict(&(struct code_insn){.op = BPF_JMP | BPF_JLT}, true, &x, &y));
    assert_true(x.lo == 0 && x.hi == 63);
    x = value_number(0, 100);
    assert_true(value_restrict(&(struct code_insn){.op = BPF_JMP32 | BPF_JGT}, true, &x, &y));
    assert_true(x.lo == 65 && x.hi == 100);
    assert_false(value_restrict(&(struct code_insn){.op = BPF_JMP | BPF_JSGT}, false, &x, &y));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic), cmocka_unit_test(test_moves_and_signed_division),
        cmocka_unit_test(test_branches),   cmocka_unit_test(test_join),
        cmocka_unit_test(test_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
