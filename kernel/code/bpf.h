/* The instruction set of RFC 9669: encoding only. An opcode is class | source | operation, or
 * class | size | mode. */
#pragma once
#include "lib/base.h"

struct code_insn {
    u8 op;
    u8 dst : 4, src : 4;
    int16_t offset;
    s32 imm;
};

enum { BPF_LD, BPF_LDX, BPF_ST, BPF_STX, BPF_ALU, BPF_JMP, BPF_JMP32, BPF_ALU64 };
enum { BPF_K = 0x00, BPF_X = 0x08 };
enum { BPF_W = 0x00, BPF_H = 0x08, BPF_B = 0x10, BPF_DW = 0x18 };
enum { BPF_IMM = 0x00, BPF_MEM = 0x60, BPF_MEMSX = 0x80, BPF_ATOMIC = 0xc0 };
enum {
    BPF_ADD = 0x00, BPF_SUB = 0x10, BPF_MUL = 0x20, BPF_DIV = 0x30, BPF_OR = 0x40, BPF_AND = 0x50,
    BPF_LSH = 0x60, BPF_RSH = 0x70, BPF_NEG = 0x80, BPF_MOD = 0x90, BPF_XOR = 0xa0,
    BPF_MOV = 0xb0, BPF_ARSH = 0xc0, BPF_END = 0xd0,
};
enum {
    BPF_JA = 0x00, BPF_JEQ = 0x10, BPF_JGT = 0x20, BPF_JGE = 0x30, BPF_JSET = 0x40, BPF_JNE = 0x50,
    BPF_JSGT = 0x60, BPF_JSGE = 0x70, BPF_CALL = 0x80, BPF_EXIT = 0x90, BPF_JLT = 0xa0,
    BPF_JLE = 0xb0, BPF_JSLT = 0xc0, BPF_JSLE = 0xd0,
};
enum { BPF_FETCH = 0x01, BPF_XCHG = 0xe1, BPF_CMPXCHG = 0xf1 }; /* in imm of BPF_ATOMIC */
enum { BPF_LDDW = BPF_LD | BPF_DW | BPF_IMM }; /* the one instruction that takes two slots */
enum { BPF_CALL_HELPER, BPF_CALL_LOCAL };      /* in src of BPF_CALL */

static inline u8 bpf_class(const struct code_insn *i) { return i->op & 7; }
static inline u8 bpf_code(const struct code_insn *i) { return i->op & 0xf0; }
static inline u8 bpf_mode(const struct code_insn *i) { return i->op & 0xe0; }
static inline u32 bpf_size(const struct code_insn *i) {
    static const u8 size[] = {4, 2, 1, 8};
    return size[i->op >> 3 & 3];
}
static inline bool bpf_is_alu(const struct code_insn *i) {
    return bpf_class(i) == BPF_ALU || bpf_class(i) == BPF_ALU64;
}
static inline bool bpf_is_jump(const struct code_insn *i) {
    return bpf_class(i) == BPF_JMP || bpf_class(i) == BPF_JMP32;
}
/* A jump that stays in the function: conditional or not, but no call and no exit. */
static inline bool bpf_is_branch(const struct code_insn *i) {
    return bpf_is_jump(i) && bpf_code(i) != BPF_CALL && bpf_code(i) != BPF_EXIT;
}
/* The instruction at `at` is a branch or a local call: where it goes. May lie outside. */
static inline s64 bpf_target(const struct code_insn *i, u32 at) {
    bool wide = i->op == (BPF_JMP32 | BPF_JA) || bpf_code(i) == BPF_CALL;
    return (s64)at + 1 + (wide ? i->imm : i->offset);
}
static inline bool bpf_is_local_call(const struct code_insn *i) {
    return i->op == (BPF_JMP | BPF_CALL) && i->src == BPF_CALL_LOCAL;
}
