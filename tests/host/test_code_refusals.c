/* What the verifier refuses, each with its reason and place, and what it just still accepts. */
// sources: kernel/code/alu.c tools/code/interpret.c kernel/code/jit.c kernel/code/profile.c kernel/code/run.c kernel/code/value.c kernel/code/verify.c tools/code/host.c
#include "../../tools/code/host.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define I(o, d, s, off, i) {.op = (o), .dst = (d), .src = (s), .offset = (off), .imm = (i)}
#define MOV(d, i) I(0xb7, d, 0, 0, i)
#define COPY(d, s) I(0xbf, d, s, 0, 0)
#define ADD(d, i) I(0x07, d, 0, 0, i)
#define LOAD(d, s, off) I(0x79, d, s, off, 0)
#define STORE(d, s, off) I(0x7b, d, s, off, 0)
#define HELPER(n) I(0x85, 0, 0, 0, n)
#define CALL(n) I(0x85, 0, 1, 0, n)
#define EXIT I(0x95, 0, 0, 0, 0)
#define OK MOV(0, 0), EXIT

static u64 never(u64 a, u64 b, u64 c, u64 d, u64 e, struct code_run *run) {
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)run;
    return 0;
}

static const struct code_helper helpers[] = {
    {"number", {CODE_SCALAR}, 1, never},
    {"read", {CODE_READ, CODE_SIZE}, 1, never},
    {"write", {CODE_WRITE, CODE_SIZE}, 1, never},
};

/* r1: context, r2: a window that can be written, r3: one that cannot, r4: a number. */
static const struct code_profile profile = {
    .name = "test",
    .budget = 100,
    .stores = true,
    .start = {{CODE_CONTEXT, 0}, {CODE_POINTER, 0}, {CODE_POINTER, 1}, {CODE_SCALAR, 0}},
    .windows = 2,
    .values = 1,
    .window = {{"open", true, 16, 64}, {"closed", false, 16, 64}},
    .helper = helpers,
    .helpers = ARRAY_SIZE(helpers),
};

struct refusal {
    const char *why; /* a part of the reason; NULL: it is accepted */
    u32 at;
    struct code_insn insn[12];
};

static const char form[] = "no such instruction";
static const char unset[] = "reads a register that has no value";
static const char computes[] = "computes with a pointer";
static const char frame[] = "outside its stack frame";
static const char unwritten[] = "stack that was not written";
static const char compares[] = "compares a pointer";
static const char may_not[] = "the profile does not let it write";

static void run_table(const struct refusal *table, u32 count) {
    for (u32 n = 0; n < count; n++) {
        struct host_program h;
        u32 length = ARRAY_SIZE(table[n].insn);
        while (length && !memcmp(&table[n].insn[length - 1], &(struct code_insn){.op = 0}, 8))
            length--;
        bool good = host_verify(&h, &profile, table[n].insn, length);
        const char *why = h.program->refusal;
        if (good != !table[n].why)
            fail_msg("row %u: %s", n, good ? "accepted" : why);
        if (!good && (h.program->refused_at != table[n].at || !strstr(why, table[n].why)))
            fail_msg("row %u: at %u: %s", n, h.program->refused_at, why);
        host_free(&h);
    }
}
#define RUN(table) run_table(table, ARRAY_SIZE(table))

/* Every opcode that RFC 9669 does not define, and every reserved field. */
static void test_form(void **state) {
    (void)state;
    static const struct refusal table[] = {
        {form, 0, {I(0xb7, 11, 0, 0, 0), EXIT}},      {form, 0, {I(0xbf, 0, 11, 0, 0), EXIT}},
        {form, 0, {I(0xb7, 0, 1, 0, 0), EXIT}},       {form, 0, {I(0xb7, 0, 0, 1, 0), EXIT}},
        {form, 0, {I(0xbf, 0, 1, 0, 1), EXIT}},       {form, 0, {I(0xbf, 0, 1, 24, 0), EXIT}},
        {form, 0, {I(0xbc, 0, 1, 32, 0), EXIT}},      {form, 0, {I(0xb7, 0, 0, 8, 0), EXIT}},
        {form, 0, {I(0x07, 0, 0, 1, 0), EXIT}},       {form, 0, {I(0x37, 0, 0, 2, 0), EXIT}},
        {form, 0, {I(0x8f, 0, 0, 0, 0), EXIT}},       {form, 0, {I(0x87, 0, 0, 0, 1), EXIT}},
        {form, 0, {I(0x87, 0, 1, 0, 0), EXIT}},       {form, 0, {I(0xd4, 0, 0, 0, 8), EXIT}},
        {form, 0, {I(0xdf, 0, 0, 0, 16), EXIT}},      {form, 0, {I(0xdc, 0, 1, 0, 16), EXIT}},
        {form, 0, {I(0xe7, 0, 0, 0, 0), EXIT}},       {form, 0, {I(0xf4, 0, 0, 0, 0), EXIT}},
        {form, 0, {I(0x8d, 0, 2, 0, 0), EXIT}},       {form, 0, {I(0x86, 0, 0, 0, 1), EXIT}},
        {form, 0, {I(0x96, 0, 0, 0, 0), EXIT}},       {form, 0, {I(0x9d, 0, 0, 0, 0), EXIT}},
        {form, 0, {I(0x85, 0, 2, 0, 1), EXIT}},       {form, 0, {I(0x85, 1, 0, 0, 1), EXIT}},
        {form, 0, {I(0x95, 0, 0, 0, 1), EXIT}},       {form, 0, {I(0x05, 0, 0, 0, 1), EXIT}},
        {form, 0, {I(0x06, 0, 0, 1, 0), EXIT}},       {form, 0, {I(0x0d, 0, 0, 0, 0), EXIT}},
        {form, 0, {I(0xe5, 0, 0, 0, 0), EXIT}},       {form, 0, {I(0x15, 0, 1, 0, 0), EXIT}},
        {form, 0, {I(0x1d, 0, 1, 0, 1), EXIT}},       {form, 0, {I(0x79, 0, 2, 0, 1), EXIT}},
        {form, 0, {I(0x99, 0, 2, 0, 0), EXIT}},       {form, 0, {I(0x7b, 2, 4, 0, 1), EXIT}},
        {form, 0, {I(0x7a, 2, 1, 0, 0), EXIT}},       {form, 0, {I(0xd3, 2, 4, 0, 0), EXIT}},
        {form, 0, {I(0xcb, 2, 4, 0, 0), EXIT}},       {form, 0, {I(0xdb, 2, 4, 0, 0xe0), EXIT}},
        {form, 0, {I(0xdb, 2, 4, 0, 0xf0), EXIT}},    {form, 0, {I(0xdb, 2, 4, 0, 0x10), EXIT}},
        {form, 0, {I(0xdb, 2, 4, 0, 0x101), EXIT}},   {form, 0, {I(0x20, 0, 0, 0, 0), EXIT}},
        {form, 0, {I(0x28, 0, 0, 0, 0), EXIT}},       {form, 0, {I(0x40, 0, 1, 0, 0), EXIT}},
        {form, 0, {I(0x18, 0, 1, 0, 0), I(0, 0, 0, 0, 1), EXIT}},
        {form, 0, {I(0x18, 0, 0, 1, 0), I(0, 0, 0, 0, 1), EXIT}},
        {form, 0, {I(0x18, 0, 0, 0, 0), I(0, 1, 0, 0, 1), EXIT}},
        {form, 0, {I(0x18, 0, 0, 0, 0), I(0, 0, 1, 0, 1), EXIT}},
        {form, 0, {I(0x18, 0, 0, 0, 0), I(0, 0, 0, 1, 1), EXIT}},
        {form, 0, {I(0x18, 0, 0, 0, 0), EXIT}},       {form, 1, {MOV(0, 0), I(0x18, 0, 0, 0, 0)}},
        {form, 0, {I(0, 0, 0, 0, 1), EXIT}},
        {"r10 cannot", 0, {MOV(10, 0), EXIT}},        {"r10 cannot", 0, {LOAD(10, 2, 0), EXIT}},
        {"r10 cannot", 0, {I(0xdb, 2, 10, 0, 0x01), EXIT}},
        {"r10 cannot", 0, {I(0x18, 10, 0, 0, 0), I(0, 0, 0, 0, 0), EXIT}},
        {"no helper", 0, {HELPER(0), EXIT}},          {"no helper", 0, {HELPER(4), EXIT}},
        {"no helper", 0, {HELPER(-1), EXIT}},         {"a program has 1 to", 0, {I(0, 0, 0, 0, 0)}},
    };
    RUN(table);
}

static void test_flow(void **state) {
    (void)state;
    static const struct refusal table[] = {
        {"jumps out of", 1, {MOV(0, 0), I(0x05, 0, 0, 1, 0), EXIT}},
        {"jumps out of", 0, {I(0x05, 0, 0, -2, 0), EXIT}},
        {"jumps out of", 0, {I(0x06, 0, 0, 0, INT32_MAX), EXIT}},
        {"jumps out of", 0, {I(0x06, 0, 0, 0, INT32_MIN), EXIT}},
        {"jumps out of", 0, {I(0x15, 4, 0, 1, 0), I(0x18, 0, 0, 0, 0), I(0, 0, 0, 0, 0), EXIT}},
        {"jumps out of", 0, {CALL(7), EXIT}},
        {"does not end", 0, {MOV(0, 0)}},
        {"does not end", 1, {I(0x05, 0, 0, 0, 0), I(0x15, 4, 0, -2, 0)}},
        {"another function", 1, {MOV(0, 0), I(0x05, 0, 0, 1, 0), CALL(-1), EXIT}},
        {"does not end", 2, {CALL(2), EXIT, MOV(0, 0), OK}},
        {"another function", 3, {CALL(1), EXIT, MOV(0, 0), I(0x05, 0, 0, -3, 0)}},
        {"too deep", 0, {CALL(-1), EXIT}},
        {"too deep", 2, {CALL(1), EXIT, CALL(-1), EXIT}},
        {NULL, 0, {MOV(0, 0), I(0x05, 0, 0, -2, 0)}},
        {NULL, 0, {OK, MOV(5, 5), EXIT}},
    };
    RUN(table);
}

static void test_registers(void **state) {
    (void)state;
    static const struct refusal table[] = {
        {unset, 0, {COPY(0, 5), EXIT}},
        {unset, 0, {ADD(0, 1), EXIT}},
        {unset, 0, {I(0x15, 6, 0, 0, 0), OK}},
        {unset, 0, {I(0x1d, 4, 6, 0, 0), OK}},
        {unset, 0, {STORE(2, 9, 0), OK}},
        {unset, 0, {I(0xdb, 2, 5, 0, 0), OK}},
        {unset, 0, {I(0xdb, 2, 4, 0, 0xf1), OK}}, /* r0 is compared */
        {unset, 0, {I(0x87, 7, 0, 0, 0), OK}},
        {unset, 2, {COPY(1, 4), HELPER(1), COPY(0, 1), EXIT}},
        /* set on one path only */
        {unset, 2, {I(0x15, 4, 0, 1, 0), MOV(5, 1), COPY(0, 5), EXIT}},
        {unset, 4, {COPY(5, 2), I(0x15, 4, 0, 1, 0), MOV(5, 1), MOV(0, 0), COPY(0, 5), EXIT}},
        /* a function does not see r6, and sets what its caller reads only in r0 */
        {unset, 3, {MOV(6, 1), CALL(1), EXIT, COPY(0, 6), EXIT}},
        {unset, 1, {CALL(2), COPY(0, 1), EXIT, OK}},
        {unset, 1, {CALL(2), ADD(0, 1), EXIT, EXIT}},
        {"exits without a number", 0, {EXIT}},
        {"exits without a number", 1, {COPY(0, 2), EXIT}},
        {"exits without a number", 1, {COPY(0, 10), EXIT}},
        {"exits without a number", 1, {COPY(0, 1), EXIT}},
        {"exits without a number", 1, {CALL(1), EXIT, COPY(0, 2), EXIT}},
        {NULL, 0, {MOV(6, 1), CALL(2), COPY(0, 6), EXIT, EXIT}},
    };
    RUN(table);
}

static void test_pointers(void **state) {
    (void)state;
    static const struct refusal table[] = {
        {computes, 0, {I(0x57, 2, 0, 0, -8), OK}},
        {computes, 0, {I(0x27, 2, 0, 0, 2), OK}},
        {computes, 0, {I(0x04, 2, 0, 0, 1), OK}},
        {computes, 0, {I(0xbc, 0, 2, 0, 0), EXIT}},
        {computes, 0, {I(0xbf, 0, 2, 32, 0), EXIT}},
        {computes, 0, {I(0x0f, 2, 3, 0, 0), OK}},
        {computes, 0, {I(0x1f, 2, 3, 0, 0), OK}},
        {computes, 0, {I(0x1f, 4, 2, 0, 0), OK}},
        {computes, 0, {I(0x87, 2, 0, 0, 0), OK}},
        {computes, 0, {I(0xdc, 2, 0, 0, 64), OK}},
        {computes, 0, {I(0x1f, 2, 10, 0, 0), OK}},
        {computes, 0, {I(0xaf, 2, 2, 0, 0), OK}},
        {computes, 0, {I(0xdb, 2, 3, 0, 0), OK}},
        {computes, 1, {COPY(0, 2), I(0xdb, 2, 4, 0, 0xf1), OK}},
        {computes, 1, {STORE(10, 2, -8), I(0xdb, 10, 4, -8, 1), OK}},
        {compares, 0, {I(0x15, 2, 0, 0, 0), OK}},
        {compares, 0, {I(0x1d, 2, 3, 0, 0), OK}},
        {compares, 0, {I(0x1d, 2, 4, 0, 0), OK}},
        {compares, 0, {I(0x1d, 4, 2, 0, 0), OK}},
        {compares, 0, {I(0x1e, 2, 2, 0, 0), OK}},
        {compares, 0, {I(0x4d, 2, 2, 0, 0), OK}},
        {compares, 0, {I(0x2d, 2, 10, 0, 0), OK}},
        {"puts pointers in order", 2, {COPY(5, 2), I(0x0f, 5, 4, 0, 0), I(0x2d, 5, 2, 0, 0), OK}},
        {"where others could", 0, {STORE(2, 3, 0), OK}},
        {"where others could", 0, {STORE(2, 10, 0), OK}},
        {"where others could", 0, {STORE(2, 1, 0), OK}},
        {"where others could", 0, {I(0x63, 2, 3, 0, 0), OK}},
        {"only whole", 0, {I(0x63, 10, 2, -8, 0), OK}},
        {"only whole", 0, {STORE(10, 2, -12), OK}},
        {NULL, 0, {COPY(5, 2), I(0x0f, 5, 4, 0, 0), I(0x1d, 5, 2, 0, 0), OK}},
        {NULL,
         0,
         {COPY(5, 2), ADD(5, 4), I(0x2d, 5, 2, 0, 0), I(0x1f, 5, 2, 0, 0), COPY(0, 5), EXIT}},
        {NULL, 0, {STORE(10, 2, -8), LOAD(5, 10, -8), I(0x71, 0, 5, 3, 0), EXIT}},
        {NULL, 0, {I(0x0f, 4, 2, 0, 0), I(0x71, 0, 4, 0, 0), EXIT}},
    };
    RUN(table);
}

static void test_stack(void **state) {
    (void)state;
    static const struct refusal table[] = {
        {frame, 0, {I(0x7a, 10, 0, 0, 0), OK}},
        {frame, 0, {I(0x7a, 10, 0, -4, 0), OK}},
        {frame, 0, {I(0x7a, 10, 0, -513, 0), OK}},
        {frame, 0, {I(0x72, 10, 0, -513, 0), OK}},
        {frame, 0, {LOAD(0, 10, 8), EXIT}},
        {frame, 2, {COPY(5, 10), I(0x0f, 5, 4, 0, 0), I(0x72, 5, 0, -1, 0), OK}},
        {frame,
         3,
         {COPY(5, 10), I(0x57, 4, 0, 0, 8), I(0x0f, 5, 4, 0, 0), I(0x72, 5, 0, -8, 0), OK}},
        {unwritten, 0, {LOAD(0, 10, -8), EXIT}},
        {unwritten, 1, {I(0x62, 10, 0, -8, 0), LOAD(0, 10, -8), EXIT}},
        {unwritten, 1, {I(0x7a, 10, 0, -16, 0), LOAD(0, 10, -12), EXIT}},
        {unwritten, 1, {STORE(10, 2, -8), I(0x61, 0, 10, -8, 0), EXIT}},
        {unwritten, 2, {STORE(10, 2, -8), I(0x72, 10, 0, -8, 1), LOAD(0, 10, -8), EXIT}},
        {unwritten, 2, {I(0x15, 4, 0, 1, 0), I(0x7a, 10, 0, -8, 0), LOAD(0, 10, -8), EXIT}},
        {unwritten,
         5,
         {STORE(10, 2, -8), COPY(5, 10), I(0x57, 4, 0, 0, 7), I(0x1f, 5, 4, 0, 0),
          I(0x72, 5, 0, -1, 1), LOAD(0, 10, -8), EXIT}},
        {unwritten,
         4,
         {I(0x7a, 10, 0, -8, 0), COPY(5, 10), I(0x57, 4, 0, 0, 8), I(0x1f, 5, 4, 0, 0),
          LOAD(0, 5, -8), EXIT}},
        {unwritten, 2, {CALL(1), EXIT, LOAD(0, 10, -8), EXIT}},
        {"unknown or unaligned", 1, {I(0x7a, 10, 0, -8, 0), I(0xdb, 10, 4, -12, 0), OK}},
        {NULL, 0, {I(0x62, 10, 0, -8, 1), I(0x62, 10, 0, -4, 1), LOAD(0, 10, -8), EXIT}},
        {NULL, 0, {I(0x7a, 10, 0, -512, 1), LOAD(0, 10, -512), EXIT}},
        {NULL,
         0,
         {I(0x7a, 10, 0, -8, 0), COPY(5, 10), I(0x57, 4, 0, 0, 7), I(0x1f, 5, 4, 0, 0),
          I(0x71, 0, 5, -1, 0), EXIT}},
    };
    RUN(table);
}

static void test_windows(void **state) {
    (void)state;
    static const struct refusal table[] = {
        {"not a pointer", 0, {LOAD(0, 4, 0), EXIT}},   {"not a pointer", 0, {LOAD(0, 6, 0), EXIT}},
        {"not a pointer", 1, {MOV(5, 0), I(0x72, 5, 0, 0, 0), OK}},
        {may_not, 0, {I(0x72, 3, 0, 0, 0), OK}},       {may_not, 0, {I(0xdb, 3, 4, 0, 0), OK}},
        {may_not, 0, {STORE(3, 4, 0), OK}},
        {"stores to the context", 0, {I(0x7a, 1, 0, 0, 0), OK}},
        {"stores to the context", 0, {I(0xdb, 1, 4, 128, 0), OK}},
        {"read only at known", 0, {I(0x61, 0, 1, 0, 0), EXIT}},
        {"read only at known", 0, {LOAD(0, 1, 4), EXIT}},
        {"read only at known", 0, {LOAD(0, 1, -8), EXIT}},
        {"read only at known", 1, {I(0x0f, 1, 4, 0, 0), LOAD(0, 1, 0), EXIT}},
        {"has nothing there", 0, {LOAD(0, 1, 32), EXIT}},
        {"has nothing there", 0, {LOAD(0, 1, 128 + 8), EXIT}},
        {"has nothing there", 0, {LOAD(0, 1, 32000), EXIT}},
        {"not a pointer", 3, {I(0x15, 4, 0, 1, 0), COPY(2, 3), MOV(0, 0), LOAD(0, 2, 0), EXIT}},
        {NULL, 0, {LOAD(0, 1, 128), EXIT}},            {NULL, 0, {LOAD(0, 1, 8), EXIT}},
    };
    RUN(table);
}

static void test_helpers(void **state) {
    (void)state;
    static const struct refusal table[] = {
        {"wrong kind", 0, {HELPER(1), EXIT}}, /* r1 is the context */
        {unset, 2, {COPY(1, 4), HELPER(1), HELPER(1), EXIT}},
        {"wrong kind", 1, {COPY(1, 2), HELPER(1), EXIT}},
        {"wrong kind", 2, {COPY(1, 3), COPY(2, 3), HELPER(2), EXIT}},
        {"wrong kind", 1, {COPY(1, 10), HELPER(1), EXIT}},
        {"not a pointer to memory", 2, {MOV(1, 0), MOV(2, 0), HELPER(2), EXIT}},
        {"not a pointer to memory", 1, {MOV(2, 8), HELPER(2), EXIT}},
        {"would write memory", 2, {COPY(1, 3), MOV(2, 8), HELPER(3), EXIT}},
        {"would read stack", 3, {COPY(1, 10), ADD(1, -8), MOV(2, 8), HELPER(2), EXIT}},
        {"may lie outside", 3, {COPY(1, 10), ADD(1, -8), MOV(2, 9), HELPER(3), EXIT}},
        {"may lie outside", 3, {COPY(1, 10), ADD(1, -8), COPY(2, 4), HELPER(3), EXIT}},
        {"may lie outside", 3, {COPY(1, 10), ADD(1, -520), MOV(2, 8), HELPER(3), EXIT}},
        {unwritten, 5, {COPY(1, 10), ADD(1, -8), COPY(2, 4), I(0x57, 2, 0, 0, 7), HELPER(3),
                        LOAD(0, 10, -8), EXIT}},
        {NULL, 0, {COPY(1, 10), ADD(1, -8), MOV(2, 8), HELPER(3), LOAD(0, 10, -8), EXIT}},
        {NULL, 0, {COPY(1, 2), COPY(2, 4), HELPER(3), EXIT}},
        {NULL, 0, {COPY(1, 2), ADD(1, 1000), MOV(2, 8), HELPER(3), EXIT}},
    };
    RUN(table);
}

/* The hard limits: length, budget, memory, work. */
static void test_limits(void **state) {
    (void)state;
    struct host_program h;
    static struct code_insn insn[CODE_INSNS + 1];
    for (u32 n = 0; n < CODE_INSNS; n++)
        insn[n] = (struct code_insn)MOV(0, 0);
    insn[CODE_INSNS - 1] = (struct code_insn)EXIT;
    struct code_profile big = profile;
    big.budget = CODE_INSNS;
    assert_true(host_verify(&h, &big, insn, CODE_INSNS));
    host_free(&h);
    big.budget--;
    assert_false(host_verify(&h, &big, insn, CODE_INSNS));
    assert_string_equal(h.program->refusal, "longer than the budget of its profile");
    host_free(&h);
    assert_false(host_verify(&h, &big, insn, CODE_INSNS + 1));
    host_free(&h);
    u64 needed = code_verify_memory(insn, 2);
    void *memory = malloc(needed);
    insn[1] = (struct code_insn)EXIT;
    assert_int_equal(code_verify_start(&profile, insn, 2, memory, needed - 1), E_FULL);
    assert_int_equal(code_verify_start(&profile, insn, 2, memory, 0), E_FULL);
    assert_int_equal(code_verify_start(&profile, insn, 2, memory, needed), 0);
    u32 steps = 1;
    while (code_verify_step(memory, 1) == E_AGAIN)
        steps++;
    assert_in_range(steps, 2, 6);
    assert_null(((struct code_program *)memory)->refusal);
    free(memory);
}

/* Many branches are verified in time that grows with the program, not with its paths. */
static void test_many_paths(void **state) {
    (void)state;
    struct host_program h;
    static struct code_insn insn[CODE_INSNS];
    struct code_profile big = profile;
    u32 count = 0;
    big.budget = CODE_INSNS;
    insn[count++] = (struct code_insn)MOV(0, 0);
    while (count < CODE_INSNS - 2) {
        insn[count++] = (struct code_insn)I(0x15, 4, 0, 1, 7);
        insn[count++] = (struct code_insn)ADD(0, 1);
    }
    insn[count++] = (struct code_insn)EXIT;
    assert_true(host_verify(&h, &big, insn, count));
    host_free(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),     cmocka_unit_test(test_flow),
        cmocka_unit_test(test_registers), cmocka_unit_test(test_pointers),
        cmocka_unit_test(test_stack),    cmocka_unit_test(test_windows),
        cmocka_unit_test(test_helpers),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_many_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
