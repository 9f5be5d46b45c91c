/* Arithmetic and conditions of RFC 9669, section 4, in C without undefined behaviour. */
#include "code/alu.h"

u64 code_extend(u64 value, u32 size, bool sign) {
    u32 drop = 64 - 8 * size;
    return sign ? (u64)((s64)(value << drop) >> drop) : value << drop >> drop;
}

/* Division by zero gives 0, and the smallest number divided by -1 itself. */
static u64 divide(u64 a, u64 b, bool sign) {
    if (b == 0)
        return 0;
    if (!sign)
        return a / b;
    return b == ~0ull ? 0 - a : (u64)((s64)a / (s64)b);
}

u64 code_alu(const struct code_insn *i, u64 a, u64 b) {
    bool narrow = bpf_class(i) == BPF_ALU;
    bool sign = i->offset == 1;
    u8 code = bpf_code(i);
    if (code == BPF_END) /* to little endian: only cuts off */
        return !narrow || i->op & BPF_X ? __builtin_bswap64(a) >> (64 - i->imm) : code_extend(a, (u32)i->imm / 8, false);
    if (narrow) {
        bool extend = sign || code == BPF_ARSH;
        a = code_extend(a, 4, extend);
        b = code_extend(b, 4, extend);
    }
    u32 shift = b & (narrow ? 31 : 63);
    u64 result = 0;
    switch (code) {
    case BPF_ADD: result = a + b; break;
    case BPF_SUB: result = a - b; break;
    case BPF_MUL: result = a * b; break;
    case BPF_DIV: result = divide(a, b, sign); break;
    case BPF_MOD: result = a - divide(a, b, sign) * b; break;
    case BPF_OR: result = a | b; break;
    case BPF_AND: result = a & b; break;
    case BPF_XOR: result = a ^ b; break;
    case BPF_LSH: result = a << shift; break;
    case BPF_RSH: result = a >> shift; break;
    case BPF_ARSH: result = (u64)((s64)a >> shift); break;
    case BPF_NEG: result = 0 - a; break;
    case BPF_MOV: result = i->offset ? code_extend(b, (u32)i->offset / 8, true) : b; break;
    }
    return narrow ? (u32)result : result;
}

bool code_condition(const struct code_insn *i, u64 a, u64 b) {
    if (bpf_class(i) == BPF_JMP32) { /* the order of sign-extended values is the same, both ways */
        a = code_extend(a, 4, true);
        b = code_extend(b, 4, true);
    }
    switch (bpf_code(i)) {
    case BPF_JA: return true;
    case BPF_JEQ: return a == b;
    case BPF_JNE: return a != b;
    case BPF_JGT: return a > b;
    case BPF_JGE: return a >= b;
    case BPF_JLT: return a < b;
    case BPF_JLE: return a <= b;
    case BPF_JSGT: return (s64)a > (s64)b;
    case BPF_JSGE: return (s64)a >= (s64)b;
    case BPF_JSLT: return (s64)a < (s64)b;
    case BPF_JSLE: return (s64)a <= (s64)b;
    default: return (a & b) != 0; /* BPF_JSET */
    }
}
