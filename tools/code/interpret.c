/* The interpreter: the oracle for translated code. It does what the verifier ordered (bounds, the
 * budget), and beyond this checks each access itself, also those that were proved: a proof that
 * does not hold ends the run with CODE_ESCAPED, and is a bug of the verifier. */
#include "code/alu.h"
#include "code/code.h"

struct caller {
    u32 back; /* where the caller goes on */
    u64 saved[4];
};

struct machine {
    const struct code_program *program;
    struct code_run *run;
    u32 at, depth;
    u64 reg[11];
    struct caller caller[CODE_DEPTH];
};

static bool stop(struct machine *m, u32 status) {
    m->run->status = status;
    return false;
}

static bool charge(struct machine *m, u64 cost) {
    m->run->budget -= (s64)cost;
    return m->run->budget >= 0 || stop(m, CODE_BUDGET);
}

/* The address of an access, after all checks. */
static bool locate(struct machine *m, const struct code_insn *i, u8 reg, u64 *address) {
    const struct code_mark *mark = &m->program->mark[m->at];
    bool write = bpf_class(i) != BPF_LDX;
    u64 size = bpf_size(i), top = m->reg[10];
    u64 at = *address = m->reg[reg] + (u64)(s64)i->offset;
    if (mark->check) {
        const struct code_window *window = &m->run->window[(mark->check & ~CODE_CHECK_BELOW) - 1];
        u64 distance = at - (u64)window->base;
        if (window->length < size || distance > window->length - size)
            return stop(m, CODE_ACCESS);
    }
    if (mark->flags & CODE_MARK_ALIGN && at % size)
        return stop(m, CODE_ACCESS);
    bool stack = at >= top - CODE_FRAME && at <= top - size;
    bool context =
        !write && at >= (u64)m->run && at - (u64)m->run <= offsetof(struct code_run, budget) - 8;
    return stack || context || code_in_window(m->run, at, size, write) || stop(m, CODE_ESCAPED);
}

static u64 load(u64 address, u32 size) {
    u64 value = 0;
    memcpy(&value, (const void *)address, size);
    return value;
}

/* Does the operation in memory; gives what was there before. */
#define ATOMIC(name, type) \
    static u64 name(s32 code, type *p, type operand, type expected) { \
        switch (code) { \
        case BPF_ADD: return __atomic_fetch_add(p, operand, __ATOMIC_SEQ_CST); \
        case BPF_OR: return __atomic_fetch_or(p, operand, __ATOMIC_SEQ_CST); \
        case BPF_AND: return __atomic_fetch_and(p, operand, __ATOMIC_SEQ_CST); \
        case BPF_XOR: return __atomic_fetch_xor(p, operand, __ATOMIC_SEQ_CST); \
        case BPF_XCHG & ~BPF_FETCH: return __atomic_exchange_n(p, operand, __ATOMIC_SEQ_CST); \
        } \
        __atomic_compare_exchange_n(p, &expected, operand, false, __ATOMIC_SEQ_CST, \
                                    __ATOMIC_SEQ_CST); \
        return expected; \
    }
ATOMIC(atomic32, u32)
ATOMIC(atomic64, u64)

static bool run_memory(struct machine *m, const struct code_insn *i) {
    u64 address, source = bpf_class(i) == BPF_ST ? (u64)(s64)i->imm : m->reg[i->src];
    u32 size = bpf_size(i);
    if (!locate(m, i, bpf_class(i) == BPF_LDX ? i->src : i->dst, &address))
        return false;
    if (bpf_class(i) == BPF_LDX) {
        m->reg[i->dst] = code_extend(load(address, size), size, bpf_mode(i) == BPF_MEMSX);
    } else if (bpf_mode(i) == BPF_MEM) {
        memcpy((void *)address, &source, size);
    } else {
        s32 code = i->imm & ~BPF_FETCH;
        u64 old = size == 4 ? atomic32(code, (u32 *)address, (u32)source, (u32)m->reg[0])
                            : atomic64(code, (u64 *)address, source, m->reg[0]);
        if (i->imm & BPF_FETCH)
            m->reg[i->imm == BPF_CMPXCHG ? 0 : i->src] = old;
    }
    return true;
}

static bool run_call(struct machine *m, const struct code_insn *i, u32 *next) {
    u64 *r = m->reg;
    if (!bpf_is_local_call(i)) {
        m->run->helper = (u32)i->imm | (u32)m->program->mark[m->at].check << 8;
        r[0] = code_call_helper(r[1], r[2], r[3], r[4], r[5], m->run);
        return m->run->status == CODE_DONE;
    }
    u32 target = (u32)bpf_target(i, m->at);
    const struct code_function *f = &m->program->function[m->program->mark[target].function];
    if (m->depth + 1 >= CODE_DEPTH)
        return stop(m, CODE_ESCAPED);
    struct caller *caller = &m->caller[m->depth++];
    caller->back = *next;
    memcpy(caller->saved, &r[6], sizeof(caller->saved));
    r[10] += CODE_FRAME;
    *next = target;
    return charge(m, f->end - f->start);
}

static void leave(struct machine *m, u32 *next) {
    const struct caller *caller = &m->caller[--m->depth];
    memcpy(&m->reg[6], caller->saved, sizeof(caller->saved));
    m->reg[10] -= CODE_FRAME;
    *next = caller->back;
}

/* Runs one instruction. False: the program has ended. */
static bool run_one(struct machine *m) {
    const struct code_insn *i = &m->program->insn[m->at];
    u64 operand = i->op & BPF_X ? m->reg[i->src] : (u64)(s64)i->imm;
    u32 next = m->at + 1;
    if (!(m->program->mark[m->at].flags & CODE_MARK_REACHED))
        return stop(m, CODE_ESCAPED);
    if (bpf_is_alu(i)) {
        m->reg[i->dst] = code_alu(i, m->reg[i->dst], operand);
    } else if (i->op == BPF_LDDW) {
        m->reg[i->dst] = (u64)(u32)i[1].imm << 32 | (u32)i->imm;
        next++;
    } else if (!bpf_is_jump(i)) {
        if (!run_memory(m, i))
            return false;
    } else if (bpf_code(i) == BPF_EXIT) {
        if (m->depth == 0)
            return false;
        leave(m, &next);
    } else if (bpf_code(i) == BPF_CALL) {
        if (!run_call(m, i, &next))
            return false;
    } else {
        u32 target = (u32)bpf_target(i, m->at);
        if (target <= m->at && !charge(m, m->at - target + 1))
            return false;
        if (code_condition(i, m->reg[i->dst], operand))
            next = target;
    }
    m->at = next;
    return true;
}

u64 code_interpret(const struct code_program *program, struct code_run *run) {
    const struct code_profile *profile = program->profile;
    struct machine m = {.program = program, .run = run};
    run->status = CODE_DONE;
    run->budget = (s64)profile->budget - program->function[0].end;
    m.reg[10] = (u64)run->stack + CODE_FRAME;
    for (u32 n = 0; n < CODE_ARGUMENTS; n++) {
        u8 index = profile->start[n].index;
        switch (profile->start[n].kind) {
        case CODE_SCALAR: m.reg[n + 1] = run->value[index]; break;
        case CODE_POINTER: m.reg[n + 1] = (u64)run->window[index].base; break;
        case CODE_LENGTH: m.reg[n + 1] = run->window[index].length; break;
        case CODE_CONTEXT: m.reg[n + 1] = (u64)run; break;
        }
    }
    while (run_one(&m)) {
    }
    return run->status == CODE_DONE ? m.reg[0] : 0;
}
