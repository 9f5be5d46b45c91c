/* Translates verified programs into x86-64 code: two passes of the same emitter, the first of which
 * only finds out where each instruction's code begins. The code does not depend on its address and
 * reaches the kernel only through its struct code_run.
 *
 *   r0 rax   r1 rdi   r2 rsi   r3 rdx   r4 r9    r5 r8   the ABI's arguments, but r4 keeps rcx free
 *   r6 rbx   r7 r12   r8 r14   r9 r15   r10 rbp          saved across calls
 *   rcx, r10, r11 are scratch; r13 is the struct code_run
 *
 * A function's frame of the program is in code_run.stack; the machine's stack has only return
 * addresses and saved registers, and is a multiple of 16 wherever a helper is called. */
#include "code/code.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum { RUN = R13, TEMP = R11, TEMP2 = R10, TEMP3 = RCX, NO_REGISTER = 0xff };
static const u8 host[11] = {RAX, RDI, RSI, RDX, R9, R8, RBX, R12, R14, R15, RBP};

/* Second bytes of conditional jumps; flipping bit 0 turns the condition round. */
enum { CC_B = 0x82, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_L = 0x8c, CC_GE, CC_LE, CC_G };

#define RETRY_COST 8 /* instructions of the budget, as for a helper */

#define RUN_OFFSET(field) ((s32)offsetof(struct code_run, field))

static void put(struct code_jit *j, u64 bytes, u32 count) {
    for (u32 n = 0; n < count; n++, j->at++)
        if (j->out && j->at < j->size)
            j->out[j->at] = (u8)(bytes >> 8 * n);
}

/* An opcode: up to 3 bytes, the first of which is the lowest. prefix 0: none. */
static void put_opcode(struct code_jit *j, u8 prefix, bool wide, bool byte, u8 reg, u8 index_or_base,
                       u32 opcode) {
    u8 rex = (u8)(0x40 | wide << 3 | (reg >> 3 & 1) << 2 | (index_or_base >> 3 & 1));
    if (prefix)
        put(j, prefix, 1);
    if (rex != 0x40 || byte)
        put(j, rex, 1);
    put(j, opcode, opcode > 0xff ? 2 : 1);
}

/* reg and rm are registers. Two-byte opcodes are written 0xNN0f. */
static void op_rr(struct code_jit *j, bool wide, u32 opcode, u8 reg, u8 rm) {
    put_opcode(j, 0, wide, false, reg, rm, opcode);
    put(j, 0xc0 | (reg & 7) << 3 | (rm & 7), 1);
}

/* The memory operand is [base + offset]. size: 1, 2 or 4 set what the opcode itself does not. */
static void op_memory(struct code_jit *j, u8 prefix, u32 size, u32 opcode, u8 reg, u8 base, s32 offset) {
    bool near = offset >= -128 && offset < 128;
    put_opcode(j, prefix, size == 8, size == 1, reg, base, opcode);
    put(j, (near ? 0x40 : 0x80) | (reg & 7) << 3 | (base & 7), 1);
    if ((base & 7) == RSP)
        put(j, 0x24, 1);
    put(j, (u32)offset, near ? 1 : 4);
}

/* op r/m, imm: extension is ADD's, OR's ... number in the group. */
static void op_imm(struct code_jit *j, bool wide, u8 extension, u8 rm, s32 imm) {
    bool near = imm >= -128 && imm < 128;
    op_rr(j, wide, near ? 0x83 : 0x81, extension, rm);
    put(j, (u32)imm, near ? 1 : 4);
}

static void move(struct code_jit *j, bool wide, u8 to, u8 from) { op_rr(j, wide, 0x89, from, to); }

static void move_imm(struct code_jit *j, u8 to, u64 value) {
    if (value == 0) {
        op_rr(j, false, 0x31, to, to);
    } else if (value == (u32)value) {
        put_opcode(j, 0, false, false, 0, to, 0xb8 | (to & 7));
        put(j, value, 4);
    } else if ((s64)value == (s32)value) {
        op_rr(j, true, 0xc7, 0, to);
        put(j, value, 4);
    } else {
        put_opcode(j, 0, true, false, 0, to, 0xb8 | (to & 7));
        put(j, value, 8);
    }
}

static void run_load(struct code_jit *j, u8 to, s32 offset) {
    op_memory(j, 0, 8, 0x8b, to, RUN, offset);
}

static void jump(struct code_jit *j, u32 opcode, u64 target) {
    put(j, opcode, opcode > 0xff ? 2 : 1);
    put(j, (u32)(target - (j->at + 4)), 4);
}

static void jump_if(struct code_jit *j, u8 condition, u64 target) {
    jump(j, (u32)condition << 8 | 0x0f, target);
}

/* A short jump forwards, to where land() is called with what this returns. */
static u64 skip_if(struct code_jit *j, u8 condition) {
    put(j, condition - 0x10, 1);
    put(j, 0, 1);
    return j->at;
}

static void land(struct code_jit *j, u64 from) {
    if (j->out && from <= j->size)
        j->out[from - 1] = (u8)(j->at - from);
}

static void emit_charge(struct code_jit *j, u32 cost) {
    op_memory(j, 0, 8, 0x81, 5, RUN, RUN_OFFSET(budget)); /* sub */
    put(j, cost, 4);
    jump_if(j, CC_L, j->stop[CODE_BUDGET]);
}

/* ---------------------------------------------------------------- arithmetic */
/* Division spares no registers but its own: what it needs of rax and rdx is put aside. */
static void emit_divide(struct code_jit *j, const struct code_insn *i) {
    bool wide = bpf_class(i) == BPF_ALU64, sign = i->offset, modulo = bpf_code(i) == BPF_MOD;
    u8 dst = host[i->dst];
    u64 minus_one = 0, done[2];
    if (i->op & BPF_X)
        move(j, wide, TEMP, host[i->src]);
    else
        move_imm(j, TEMP, wide ? (u64)(s64)i->imm : (u32)i->imm);
    op_rr(j, wide, 0x85, TEMP, TEMP);
    u64 zero = skip_if(j, CC_E);
    if (sign) { /* the machine traps on the smallest number by -1 */
        op_imm(j, wide, 7, TEMP, -1);
        minus_one = skip_if(j, CC_E);
    }
    move(j, true, TEMP2, RDX);
    move(j, true, TEMP3, RAX);
    move(j, wide, RAX, dst);
    if (sign)
        put(j, wide ? 0x9948 : 0x99, wide ? 2 : 1); /* cqo, cdq */
    else
        op_rr(j, false, 0x31, RDX, RDX);
    op_rr(j, wide, 0xf7, sign ? 7 : 6, TEMP);
    move(j, wide, TEMP, modulo ? RDX : RAX);
    move(j, true, RAX, TEMP3);
    move(j, true, RDX, TEMP2);
    move(j, wide, dst, TEMP);
    put(j, 0xeb, 2);
    done[0] = done[1] = j->at;
    if (sign) {
        land(j, minus_one);
        if (modulo)
            op_rr(j, false, 0x31, dst, dst);
        else
            op_rr(j, wide, 0xf7, 3, dst);
        put(j, 0xeb, 2);
        done[1] = j->at;
    }
    land(j, zero);
    if (!modulo)
        op_rr(j, false, 0x31, dst, dst);
    else if (!wide)
        move(j, false, dst, dst);
    land(j, done[0]);
    land(j, done[1]);
}

static void emit_shift(struct code_jit *j, const struct code_insn *i) {
    bool wide = bpf_class(i) == BPF_ALU64;
    u8 extension = bpf_code(i) == BPF_LSH ? 4 : bpf_code(i) == BPF_RSH ? 5 : 7;
    if (i->op & BPF_X) {
        move(j, false, RCX, host[i->src]);
        op_rr(j, wide, 0xd3, extension, host[i->dst]);
    } else {
        op_rr(j, wide, 0xc1, extension, host[i->dst]);
        put(j, (u32)i->imm & (wide ? 63 : 31), 1);
    }
}

static void emit_byte_swap(struct code_jit *j, const struct code_insn *i) {
    u8 dst = host[i->dst];
    bool swap = bpf_class(i) == BPF_ALU64 || i->op & BPF_X;
    if (i->imm == 16) {
        if (swap) {
            put_opcode(j, 0x66, false, false, 1, dst, 0xc1); /* ror dst, 8 */
            put(j, 0xc0 | 1 << 3 | (dst & 7), 1);
            put(j, 8, 1);
        }
        op_rr(j, false, 0xb70f, dst, dst); /* movzx */
    } else if (swap) {
        put_opcode(j, 0, i->imm == 64, false, 0, dst, (u32)(0xc8 | (dst & 7)) << 8 | 0x0f);
    } else if (i->imm == 32) {
        move(j, false, dst, dst);
    }
}

static void emit_move(struct code_jit *j, const struct code_insn *i) {
    bool wide = bpf_class(i) == BPF_ALU64;
    u8 dst = host[i->dst], src = host[i->src];
    if (!(i->op & BPF_X))
        move_imm(j, dst, wide ? (u64)(s64)i->imm : (u32)i->imm);
    else if (i->offset == 32)
        op_rr(j, true, 0x63, dst, src);
    else if (i->offset == 16)
        op_rr(j, wide, 0xbf0f, dst, src);
    else if (i->offset == 8) {
        put_opcode(j, 0, wide, true, dst, src, 0xbe0f);
        put(j, 0xc0 | (dst & 7) << 3 | (src & 7), 1);
    } else
        move(j, wide, dst, src);
}

/* The opcode `op r/m, reg` of an operation; its number in the group of immediates is this / 8. */
static u8 simple_opcode(u8 code) {
    static const u8 table[16] = {[BPF_ADD >> 4] = 0x01, [BPF_OR >> 4] = 0x09, [BPF_AND >> 4] = 0x21,
                                 [BPF_SUB >> 4] = 0x29, [BPF_XOR >> 4] = 0x31};
    return table[code >> 4];
}

static void emit_alu(struct code_jit *j, const struct code_insn *i) {
    bool wide = bpf_class(i) == BPF_ALU64;
    u8 dst = host[i->dst], code = bpf_code(i);
    switch (code) {
    case BPF_DIV:
    case BPF_MOD: emit_divide(j, i); break;
    case BPF_LSH:
    case BPF_RSH:
    case BPF_ARSH: emit_shift(j, i); break;
    case BPF_END: emit_byte_swap(j, i); break;
    case BPF_MOV: emit_move(j, i); break;
    case BPF_NEG: op_rr(j, wide, 0xf7, 3, dst); break;
    case BPF_MUL:
        if (i->op & BPF_X) {
            op_rr(j, wide, 0xaf0f, dst, host[i->src]);
        } else {
            op_rr(j, wide, 0x69, dst, dst);
            put(j, (u32)i->imm, 4);
        }
        break;
    default:
        if (i->op & BPF_X)
            op_rr(j, wide, simple_opcode(code), host[i->src], dst);
        else
            op_imm(j, wide, simple_opcode(code) / 8, dst, i->imm);
    }
}

/* ---------------------------------------------------------------- memory */
/* Ends the run if [base + offset, + size) is not in the window that the mark names. */
static void emit_check(struct code_jit *j, const struct code_insn *i, const struct code_mark *mark,
                       u8 base) {
    u32 size = bpf_size(i), w = (mark->check & ~CODE_CHECK_BELOW) - 1u;
    bool below = mark->check & CODE_CHECK_BELOW;
    if (mark->check) {
        op_memory(j, 0, 8, 0x8d, TEMP, base, i->offset + (below ? 0 : (s32)size)); /* lea */
        op_memory(j, 0, 8, 0x2b, TEMP, RUN, RUN_OFFSET(window[w].base));
        if (below) { /* a distance below 0 is huge: adding carries, or it stays huge */
            op_imm(j, true, 0, TEMP, (s32)size);
            jump_if(j, CC_B, j->stop[CODE_ACCESS]);
        }
        op_memory(j, 0, 8, 0x3b, TEMP, RUN, RUN_OFFSET(window[w].length));
        jump_if(j, CC_A, j->stop[CODE_ACCESS]);
    }
    if (mark->flags & CODE_MARK_ALIGN) {
        op_memory(j, 0, 8, 0x8d, TEMP, base, i->offset);
        op_rr(j, false, 0xf7, 0, TEMP);
        put(j, size - 1, 4);
        jump_if(j, CC_NE, j->stop[CODE_ACCESS]);
    }
}

static void emit_load(struct code_jit *j, const struct code_insn *i) {
    u8 dst = host[i->dst], src = host[i->src];
    u32 size = bpf_size(i);
    if (bpf_mode(i) == BPF_MEMSX)
        op_memory(j, 0, 8, size == 4 ? 0x63 : size == 2 ? 0xbf0f : 0xbe0f, dst, src, i->offset);
    else
        op_memory(j, 0, size == 8 ? 8 : 4, size >= 4 ? 0x8b : size == 2 ? 0xb70f : 0xb60f, dst, src,
                  i->offset);
}

static void emit_store(struct code_jit *j, const struct code_insn *i) {
    u32 size = bpf_size(i);
    bool imm = bpf_class(i) == BPF_ST;
    u32 opcode = (imm ? 0xc6 : 0x88) | (size > 1);
    op_memory(j, size == 2 ? 0x66 : 0, size, opcode, imm ? 0 : host[i->src], host[i->dst],
              i->offset);
    if (imm)
        put(j, (u32)i->imm, size < 4 ? size : 4);
}

/* fetch-or, -and, -xor: there is no such instruction, so it is tried until nobody interferes. The first try is
 * charged with the instruction, each other here: whoever interferes for ever ends the run with BUDGET. */
static void emit_fetch_loop(struct code_jit *j, const struct code_insn *i) {
    u32 size = bpf_size(i);
    bool wide = size == 8;
    u8 src = host[i->src];
    op_memory(j, 0, 8, 0x8d, TEMP2, host[i->dst], i->offset);
    move(j, true, TEMP3, RAX);
    op_memory(j, 0, size, 0x8b, RAX, TEMP2, 0);
    u64 again = j->at;
    move(j, wide, TEMP, RAX);
    op_rr(j, wide, simple_opcode((u8)(i->imm & 0xf0)), src == RAX ? TEMP3 : src, TEMP);
    op_memory(j, 0xf0, size, 0xb10f, TEMP, TEMP2, 0);
    u64 alone = skip_if(j, CC_E);
    emit_charge(j, RETRY_COST);
    jump(j, 0xe9, again);
    land(j, alone);
    if (src != RAX) {
        move(j, wide, src, RAX);
        move(j, true, RAX, TEMP3);
    }
}

static void emit_atomic(struct code_jit *j, const struct code_insn *i) {
    u32 size = bpf_size(i);
    u8 dst = host[i->dst], src = host[i->src];
    u8 code = (u8)(i->imm & 0xf0);
    if (i->imm == BPF_XCHG) {
        op_memory(j, 0, size, 0x87, src, dst, i->offset);
    } else if (i->imm == BPF_CMPXCHG) {
        op_memory(j, 0xf0, size, 0xb10f, src, dst, i->offset);
        if (size == 4) /* it leaves rax as it was if they were equal */
            move(j, false, RAX, RAX);
    } else if (!(i->imm & BPF_FETCH)) {
        op_memory(j, 0xf0, size, simple_opcode(code), src, dst, i->offset);
    } else if (code == BPF_ADD) {
        op_memory(j, 0xf0, size, 0xc10f, src, dst, i->offset);
    } else {
        emit_fetch_loop(j, i);
    }
}

static void emit_memory(struct code_jit *j, const struct code_insn *i, const struct code_mark *mark) {
    bool load = bpf_class(i) == BPF_LDX;
    emit_check(j, i, mark, host[load ? i->src : i->dst]);
    if (load)
        emit_load(j, i);
    else if (bpf_mode(i) == BPF_ATOMIC)
        emit_atomic(j, i);
    else
        emit_store(j, i);
}

/* ---------------------------------------------------------------- control */
static u8 condition_of(u8 code) {
    static const u8 table[16] = {
        [BPF_JEQ >> 4] = CC_E,   [BPF_JNE >> 4] = CC_NE,  [BPF_JSET >> 4] = CC_NE,
        [BPF_JGT >> 4] = CC_A,   [BPF_JGE >> 4] = CC_AE,  [BPF_JLT >> 4] = CC_B,
        [BPF_JLE >> 4] = CC_BE,  [BPF_JSGT >> 4] = CC_G,  [BPF_JSGE >> 4] = CC_GE,
        [BPF_JSLT >> 4] = CC_L,  [BPF_JSLE >> 4] = CC_LE,
    };
    return table[code >> 4];
}

static void emit_branch(struct code_jit *j, const struct code_insn *i, u32 at) {
    bool wide = bpf_class(i) == BPF_JMP, set = bpf_code(i) == BPF_JSET;
    u8 dst = host[i->dst];
    s64 target = bpf_target(i, at);
    u64 place = j->program->mark[target].at;
    if (target <= at)
        emit_charge(j, (u32)(at - target + 1));
    if (bpf_code(i) == BPF_JA) {
        if (target != at + 1)
            jump(j, 0xe9, place);
        return;
    }
    if (i->op & BPF_X) {
        op_rr(j, wide, set ? 0x85 : 0x39, host[i->src], dst);
    } else if (set) {
        op_rr(j, wide, 0xf7, 0, dst);
        put(j, (u32)i->imm, 4);
    } else if (i->imm == 0) {
        op_rr(j, wide, 0x85, dst, dst);
    } else {
        op_imm(j, wide, 7, dst, i->imm);
    }
    jump_if(j, condition_of(bpf_code(i)), place);
}

static void emit_call(struct code_jit *j, const struct code_insn *i, u32 at) {
    const struct code_program *p = j->program;
    if (bpf_is_local_call(i)) {
        op_imm(j, true, 0, RBP, CODE_FRAME);
        jump(j, 0xe8, p->function[p->mark[bpf_target(i, at)].function].entry);
        op_imm(j, true, 5, RBP, CODE_FRAME);
        return;
    }
    const struct code_helper *helper = &p->profile->helper[i->imm - 1];
    bool plain = !code_takes_memory(helper); /* then there is nothing to check */
    if (plain) {
        emit_charge(j, helper->cost);
        move_imm(j, TEMP, (u64)(uintptr_t)helper->function);
    } else {
        op_memory(j, 0, 4, 0xc7, 0, RUN, RUN_OFFSET(helper));
        put(j, (u32)i->imm | (u32)p->mark[at].check << 8, 4);
        run_load(j, TEMP, RUN_OFFSET(call));
    }
    move(j, true, RCX, R9); /* the ABI's fourth argument */
    move(j, true, R9, RUN); /* and its sixth */
    op_rr(j, false, 0xff, 2, TEMP);
    op_memory(j, 0, 4, 0x83, 7, RUN, RUN_OFFSET(status)); /* cmp */
    put(j, CODE_DONE, 1);
    jump_if(j, CC_NE, j->stop[CODE_DONE]);
}

/* Saves (or restores, in reverse order) what a function uses; always an odd number of registers,
 * which with the return address keeps the stack aligned. */
static void emit_saved(struct code_jit *j, u32 function, bool restore) {
    u8 list[7], count = 0;
    if (function == 0)
        list[count++] = RUN;
    for (u32 r = 6; r <= 10; r++)
        if (j->used[function] & 1u << r && (r < 10 || function == 0))
            list[count++] = host[r];
    if (count % 2 == 0)
        list[count++] = TEMP;
    for (u32 n = 0; n < count; n++) {
        u8 reg = list[restore ? count - 1 - n : n];
        put_opcode(j, 0, false, false, 0, reg, (restore ? 0x58 : 0x50) | (reg & 7));
    }
}

/* The main function's entry: the run comes in rdi. */
static void emit_start(struct code_jit *j) {
    const struct code_profile *profile = j->program->profile;
    move(j, true, RUN, RDI);
    op_memory(j, 0, 8, 0xc7, 0, RUN, RUN_OFFSET(budget));
    put(j, profile->budget - j->program->function[0].end, 4);
    if (j->program->functions > 1)
        op_memory(j, 0, 8, 0x89, RSP, RUN, RUN_OFFSET(stack_pointer));
    if (j->used[0] & 1 << 10)
        op_memory(j, 0, 8, 0x8d, RBP, RUN, RUN_OFFSET(stack) + CODE_FRAME);
    for (u32 n = 0; n < CODE_ARGUMENTS; n++) {
        u8 index = profile->start[n].index, reg = host[n + 1];
        switch (profile->start[n].kind) {
        case CODE_SCALAR: run_load(j, reg, RUN_OFFSET(value) + 8 * index); break;
        case CODE_POINTER: run_load(j, reg, RUN_OFFSET(window) + 16 * index); break;
        case CODE_LENGTH: run_load(j, reg, RUN_OFFSET(window) + 16 * index + 8); break;
        case CODE_CONTEXT: move(j, true, reg, RUN); break;
        }
    }
}

static void emit_function(struct code_jit *j, struct code_function *f, u32 number) {
    f->entry = (u32)j->at;
    emit_saved(j, number, false);
    if (number == 0)
        emit_start(j);
    else
        emit_charge(j, f->end - f->start);
}

static void emit_exit(struct code_jit *j, u32 function) {
    emit_saved(j, function, true);
    put(j, 0xc3, 1);
}

static void emit_one(struct code_jit *j, u32 at) {
    const struct code_insn *i = &j->program->insn[at];
    const struct code_mark *mark = &j->program->mark[at];
    if (!(mark->flags & CODE_MARK_REACHED))
        jump(j, 0xe9, j->stop[CODE_ESCAPED]);
    else if (bpf_is_alu(i))
        emit_alu(j, i);
    else if (i->op == BPF_LDDW)
        move_imm(j, host[i->dst], (u64)(u32)i[1].imm << 32 | (u32)i->imm);
    else if (!bpf_is_jump(i))
        emit_memory(j, i, mark);
    else if (bpf_code(i) == BPF_EXIT)
        emit_exit(j, mark->function);
    else if (bpf_code(i) == BPF_CALL)
        emit_call(j, i, at);
    else
        emit_branch(j, i, at);
}

/* The ways out. A helper that stopped the run has already said why. */
static void emit_stops(struct code_jit *j) {
    for (u32 status = CODE_BUDGET; status <= CODE_ESCAPED; status++) {
        j->stop[status] = (u32)j->at;
        op_memory(j, 0, 4, 0xc7, 0, RUN, RUN_OFFSET(status));
        put(j, status, 4);
        put(j, 0xeb, 1);
        put(j, j->stop[CODE_DONE] - (j->at + 1), 1);
    }
    j->stop[CODE_DONE] = (u32)j->at;
    move_imm(j, RAX, 0);
    if (j->program->functions > 1)
        op_memory(j, 0, 8, 0x8b, RSP, RUN, RUN_OFFSET(stack_pointer));
    emit_exit(j, 0);
}

/* Goes on with a pass for so many instructions; true: it is over. */
static bool emit_some(struct code_jit *j, u32 steps) {
    struct code_program *p = j->program;
    for (; j->next < p->count && steps > 0; j->next++, steps--) {
        struct code_mark *mark = &p->mark[j->next];
        if (mark->flags & CODE_MARK_INNER)
            continue;
        if (mark->flags & CODE_MARK_FUNCTION)
            emit_function(j, &p->function[mark->function], mark->function);
        mark->at = (u32)j->at;
        emit_one(j, j->next);
    }
    if (j->next == p->count)
        emit_stops(j);
    return j->next == p->count;
}

void code_jit_start(struct code_jit *j, struct code_program *p, u8 *to, u64 size) {
    memset(j, 0, sizeof(*j));
    j->program = p;
    j->to = to;
    j->size = size;
    for (u32 at = 0; at < p->count; at++)
        j->used[p->mark[at].function] |= (u16)(1u << p->insn[at].dst | 1u << p->insn[at].src);
    for (u32 f = 1; f < p->functions; f++) /* a run may be stopped in any function */
        j->used[0] |= (u16)(j->used[f] | 1 << 10);
}

s64 code_jit_step(struct code_jit *j, u32 steps) {
    if (!emit_some(j, steps))
        return E_AGAIN;
    if (j->out || !j->to)
        return (s64)j->at;
    if (j->at > j->size)
        return E_FULL;
    j->out = j->to; /* now that it is known where everything will be */
    j->at = j->next = 0;
    return E_AGAIN;
}
