/* See fuzz_code.h. */
#include "fuzz_code.h"

/* Helpers of every kind of argument, beside those that real profiles have. */
static u64 helper_fill(u64 to, u64 size, u64 byte, u64 d, u64 e, struct code_run *run) {
    (void)d, (void)e, (void)run;
    memset((void *)to, (int)byte, size);
    return size;
}

static u64 helper_sum(u64 from, u64 size, u64 c, u64 d, u64 e, struct code_run *run) {
    (void)c, (void)d, (void)e, (void)run;
    u64 sum = 0;
    for (u64 n = 0; n < size; n++)
        sum = sum * 31 + ((const u8 *)from)[n];
    return sum;
}

static u64 helper_mix(u64 a, u64 b, u64 c, u64 d, u64 e, struct code_run *run) {
    if (a == 0x7f)
        run->status = CODE_STOPPED;
    return a + 3 * b + 5 * c + 7 * d + 11 * e;
}

static const struct code_helper helpers[] = {
    {"fill", {CODE_WRITE, CODE_SIZE, CODE_SCALAR}, 4, helper_fill},
    {"sum", {CODE_READ, CODE_SIZE}, 4, helper_sum},
    {"mix", {CODE_SCALAR, CODE_SCALAR, CODE_SCALAR, CODE_SCALAR, CODE_SCALAR}, 1, helper_mix},
};

static const struct code_profile everything = {
    .name = "everything",
    .budget = 2000,
    .stores = true,
    .start = {{CODE_CONTEXT, 0}, {CODE_POINTER, 1}, {CODE_LENGTH, 1}, {CODE_POINTER, 0},
              {CODE_SCALAR, 1}},
    .windows = 3,
    .values = 2,
    .window = {{"fixed", true, 16, 16}, {"memory", true, 0, 64}, {"constant", false, 4, 64}},
    .helper = helpers,
    .helpers = ARRAY_SIZE(helpers),
};

static const u8 opcodes[] = {
    /* arithmetic: 64 and 32 bits, immediate and register */
    0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x57, 0x5f, 0x67, 0x6f, 0x77, 0x7f,
    0x87, 0x97, 0x9f, 0xa7, 0xaf, 0xb7, 0xbf, 0xc7, 0xcf, 0xd7, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c,
    0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac, 0xb4,
    0xbc, 0xc4, 0xcc, 0xd4, 0xdc,
    /* memory, twice: it is what matters */
    0x61, 0x69, 0x71, 0x79, 0x81, 0x89, 0x91, 0x62, 0x6a, 0x72, 0x7a, 0x63, 0x6b, 0x73, 0x7b, 0xc3,
    0xdb, 0x61, 0x69, 0x71, 0x79, 0x62, 0x72, 0x7a, 0x63, 0x73, 0x7b, 0x7b, 0x79, 0xdb, 0x0f, 0x0f,
    0x07, 0x1f,
    /* jumps */
    0x05, 0x06, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x55, 0x5d, 0x65, 0x6d, 0x75, 0x7d,
    0xa5, 0xad, 0xb5, 0xbd, 0xc5, 0xcd, 0xd5, 0xdd, 0x16, 0x1e, 0x26, 0x2e, 0x36, 0x3e, 0x46, 0x4e,
    0x56, 0x5e, 0x66, 0x6e, 0x76, 0x7e, 0xa6, 0xae, 0xb6, 0xbe, 0xc6, 0xce, 0xd6, 0xde,
    /* calls, exit, a wide constant */
    0x85, 0x85, 0x85, 0x95, 0x18,
};

static const s32 constants[] = {
    0,    1,    -1,     2,      3,         4,         7,       8,          15, 16,  31,
    32,   48,   63,     64,     100,       255,       256,     0x7f,       -8, -16, -64,
    -511, -512, 0x7fff, 0xffff, INT32_MAX, INT32_MIN, 0x10000, 0x12345678, 5,  10};

static s32 constant(u8 byte) { return constants[byte % ARRAY_SIZE(constants)]; }

static void shape_memory(struct code_insn *i, u8 byte) {
    bool stack = (bpf_class(i) == BPF_LDX ? i->src : i->dst) == 10;
    i->offset = stack ? (int16_t)(-8 * (byte % 65) + (byte & 0x80 ? byte % 7 : 0))
                      : (int16_t)(byte % 72 - (byte > 200 ? 8 : 0));
    if (bpf_class(i) != BPF_ST && bpf_mode(i) != BPF_ATOMIC)
        i->imm = 0;
    if (bpf_mode(i) == BPF_ATOMIC) {
        static const s32 atomics[] = {0, 1, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1};
        i->imm = atomics[byte % ARRAY_SIZE(atomics)];
        i->offset &= ~7;
    }
}

static void shape_jump(struct code_insn *i, u8 a, u8 b) {
    s32 distance = a % 24 - 6;
    if (bpf_code(i) == BPF_CALL) {
        i->dst = 0;
        i->src = a & 1;
        i->offset = 0;
        i->imm = i->src ? b : 1 + b % 3;
    } else if (bpf_code(i) == BPF_EXIT) {
        *i = (struct code_insn){.op = i->op};
    } else if (bpf_code(i) == BPF_JA) {
        *i = (struct code_insn){.op = i->op};
        if (bpf_class(i) == BPF_JMP)
            i->offset = (int16_t)distance;
        else
            i->imm = distance;
    } else {
        i->offset = (int16_t)distance;
        i->imm = i->op & BPF_X ? 0 : constant(b);
    }
}

static void shape_alu(struct code_insn *i, u8 a) {
    u8 code = bpf_code(i);
    bool x = i->op & BPF_X;
    i->imm = x ? 0 : i->imm;
    if (code == BPF_DIV || code == BPF_MOD)
        i->offset = a & 1;
    if (code == BPF_MOV && x && a % 4)
        i->offset =
            (int16_t)(8 << (a % (bpf_class(i) == BPF_ALU64 ? 3 : 2)) & (a & 0x40 ? 0 : 0xff));
    if (code == BPF_END)
        i->imm = 16 << a % 3;
    if (code == BPF_NEG)
        i->imm = 0;
    if (code == BPF_NEG || code == BPF_END || !x)
        i->src = 0;
}

static void put(struct shaped *s, u8 op, u8 dst, u8 src, int16_t offset, s32 imm) {
    s->insn[s->count++] = (struct code_insn){
        .op = op, .dst = dst & 15, .src = src & 15, .offset = offset, .imm = imm};
}

/* Makes registers 0 and 6 to 9 readable, and some of the stack. */
static void prologue(struct shaped *s, u8 byte) {
    if (!(byte & 1))
        return;
    put(s, 0xb7, 0, 0, 0, byte);
    put(s, 0xbf, 6, 1, 0, 0);
    put(s, 0xbf, 7, 10, 0, 0);
    put(s, 0xb7, 8, 0, 0, 8);
    if (s->profile->start[0].kind == CODE_CONTEXT) {
        put(s, 0x79, 9, 1, (int16_t)(16 * (byte >> 1 & 1)), 0);
        put(s, 0x79, 8, 1, (int16_t)(16 * (byte >> 1 & 1) + 8), 0);
    } else {
        put(s, 0xbf, 9, 1, 0, 0);
        put(s, 0xbf, 8, 2, 0, 0);
    }
    put(s, 0x7a, 10, 0, -8, byte);
    put(s, 0x7b, 10, 9, -16, 0);
}

static void shape_insn(struct shaped *s, const u8 *data) {
    struct code_insn i = {.op = opcodes[data[0] % ARRAY_SIZE(opcodes)],
                          .dst = data[1] % 11 & 15, .src = (data[1] >> 4) % 11 & 15,
                          .imm = constant(data[3])};
    if (i.op == BPF_LDDW) {
        put(s, i.op, i.dst, 0, 0, i.imm);
        put(s, 0, 0, 0, 0, constant(data[2]));
        return;
    }
    if (bpf_is_alu(&i))
        shape_alu(&i, data[2]);
    else if (bpf_is_jump(&i))
        shape_jump(&i, data[2], data[3]);
    else
        shape_memory(&i, data[2]);
    if (bpf_class(&i) == BPF_ST || (bpf_is_jump(&i) && !(i.op & BPF_X) && bpf_code(&i) != BPF_CALL))
        i.src = 0;
    s->insn[s->count++] = i;
}

/* Bends jumps so that they stay in their function, and calls so that they reach a later one. */
static void bend(struct shaped *s, const u32 *start, u32 functions) {
    for (u32 f = 0; f < functions; f++) {
        for (u32 at = start[f]; at < start[f + 1]; at++) {
            struct code_insn *i = &s->insn[at];
            u32 later = functions - f - 1;
            if (i->op == BPF_LDDW) {
                at++;
            } else if (bpf_is_local_call(i) && later) {
                i->imm = (s32)(start[f + 1 + (u8)i->imm % later] - at - 1);
            } else if (bpf_is_local_call(i)) {
                i->src = BPF_CALL_HELPER;
                i->imm = 1 + (u8)i->imm % 3;
            } else if (bpf_is_branch(i)) {
                s64 target = bpf_target(i, at);
                bool inside = target >= start[f] && target < start[f + 1];
                if (inside && (target == 0 || s->insn[target - 1].op != BPF_LDDW))
                    continue;
                s32 distance = (s32)(start[f + 1] - 1 - at - 1);
                if (i->op == (BPF_JMP32 | BPF_JA))
                    i->imm = distance;
                else
                    i->offset = (int16_t)distance;
            }
        }
    }
}

bool shape(struct shaped *s, const u8 *data, size_t size) {
    if (size < 12)
        return false;
    const struct code_profile *profiles[] = {&everything, &everything, host_profile("handler"),
                                             host_profile("predicate"), &everything};
    *s = (struct shaped){.profile = profiles[data[0] % ARRAY_SIZE(profiles)], .seed = data[1] + 1};
    for (u32 w = 0; w < s->profile->windows; w++) {
        const struct code_window_type *type = &s->profile->window[w];
        u32 most = type->maximum < 64 ? type->maximum : 64;
        s->length[w] = type->minimum + data[2 + w] % (most - type->minimum + 1);
    }
    size_t insns = min_u64((size - 8) / 4, SHAPED_INSNS);
    u32 start[5] = {0}, functions = 1 + data[7] % 4;
    prologue(s, data[5]);
    for (u32 f = 0; f < functions; f++) {
        start[f] = f ? s->count : 0;
        if (f)
            put(s, 0xb7, 0, 0, 0, (s32)f);
        for (size_t n = insns * f / functions; n < insns * (f + 1) / functions; n++)
            shape_insn(s, data + 8 + 4 * n);
        put(s, 0x95, 0, 0, 0, 0);
    }
    start[functions] = s->count;
    bend(s, start, functions);
    return true;
}
