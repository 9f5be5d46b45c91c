/* The verifier: decides whether a program may run, and which accesses must be checked while it
 * does. See docs/code.md for what it proves.
 *
 * It follows the program with intervals in place of values (value.h). Where paths meet, at a
 * leader, their states are joined; a leader whose state changed is followed again, until none
 * changes. Where branches go back the join widens, so this ends soon. A local function is followed
 * once for all its callers: what they pass is joined at its start, what it returns is kept in
 * results[].
 *
 * Invariant: state[] of a leader holds for all paths found so far; a leader is dirty if what
 * follows from its state is not yet in the states of its successors. Checks are only ever added. */
#include "code/code.h"
#include "code/verify.h"

#define STACK_SLOTS (CODE_FRAME / 8)
#define ALL_BYTES 0xff

static bool refuse(struct code_verify *v, u32 at, const char *why) {
    v->program->refused_at = at;
    v->program->refusal = why;
    return false;
}

/* ---------------------------------------------------------------- form */
static bool alu_well_formed(const struct code_insn *i) {
    bool wide = bpf_class(i) == BPF_ALU64, x = i->op & BPF_X;
    s64 offset = i->offset;
    switch (bpf_code(i)) {
    case BPF_NEG: return !x && !i->src && !offset && !i->imm;
    case BPF_END:
        return !(wide && x) && !i->src && !offset && (i->imm == 16 || i->imm == 32 || i->imm == 64);
    case BPF_MOV:
        if (offset && !(x && (offset == 8 || offset == 16 || (wide && offset == 32))))
            return false;
        break;
    case BPF_DIV:
    case BPF_MOD:
        if (offset != 0 && offset != 1)
            return false;
        break;
    default:
        if (offset || bpf_code(i) > BPF_END)
            return false;
    }
    return x ? !i->imm : !i->src;
}

static bool jump_well_formed(const struct code_insn *i) {
    bool wide = bpf_class(i) == BPF_JMP, x = i->op & BPF_X;
    switch (bpf_code(i)) {
    case BPF_JA: return !x && !i->dst && !i->src && (wide ? !i->imm : !i->offset);
    case BPF_CALL: return wide && !x && !i->dst && !i->offset && i->src <= BPF_CALL_LOCAL;
    case BPF_EXIT: return wide && !x && !i->dst && !i->src && !i->offset && !i->imm;
    default: return bpf_code(i) <= BPF_JSLE && (x ? !i->imm : !i->src);
    }
}

static bool atomic_well_formed(const struct code_insn *i) {
    s32 code = i->imm & ~BPF_FETCH;
    bool simple = code == BPF_ADD || code == BPF_OR || code == BPF_AND || code == BPF_XOR;
    return bpf_size(i) >= 4 && (simple || i->imm == BPF_XCHG || i->imm == BPF_CMPXCHG);
}

static bool well_formed(const struct code_insn *i, u32 left) {
    if (i->dst > 10 || i->src > 10)
        return false;
    switch (bpf_class(i)) {
    case BPF_ALU:
    case BPF_ALU64: return alu_well_formed(i);
    case BPF_JMP:
    case BPF_JMP32: return jump_well_formed(i);
    case BPF_LDX:
        return !i->imm && (bpf_mode(i) == BPF_MEM || (bpf_mode(i) == BPF_MEMSX && bpf_size(i) < 8));
    case BPF_ST: return bpf_mode(i) == BPF_MEM && !i->src;
    case BPF_STX:
        return bpf_mode(i) == BPF_ATOMIC ? atomic_well_formed(i)
                                         : bpf_mode(i) == BPF_MEM && !i->imm;
    default: /* the only one of BPF_LD that is not history: no maps, no variables */
        return i->op == BPF_LDDW && !i->src && !i->offset && left > 1 && !i[1].op && !i[1].dst &&
               !i[1].src && !i[1].offset;
    }
}

static bool check_form(struct code_verify *v) {
    struct code_program *p = v->program;
    for (u32 at = 0; at < p->count; at++) {
        const struct code_insn *i = &p->insn[at];
        if (!well_formed(i, p->count - at))
            return refuse(v, at, "no such instruction, or a reserved field is not zero");
        bool writes_src =
            bpf_class(i) == BPF_STX && bpf_mode(i) == BPF_ATOMIC && i->imm & BPF_FETCH;
        if ((i->dst == 10 && (bpf_is_alu(i) || (bpf_class(i) & 6) == 0)) ||
            (i->src == 10 && writes_src && i->imm != BPF_CMPXCHG))
            return refuse(v, at, "r10 cannot be changed");
        if (i->op == (BPF_JMP | BPF_CALL) && i->src == BPF_CALL_HELPER &&
            (i->imm < 1 || (u32)i->imm > p->profile->helpers))
            return refuse(v, at, "the profile has no helper of this number");
        if (i->op == BPF_LDDW)
            p->mark[++at].flags |= CODE_MARK_INNER;
    }
    return true;
}

/* Finds leaders, heads of loops and functions; no jump leaves its function or the program. */
static bool find_functions(struct code_verify *v) {
    struct code_program *p = v->program;
    p->mark[0].flags |= CODE_MARK_FUNCTION | CODE_MARK_LEADER;
    for (u32 at = 0; at < p->count; at++) {
        const struct code_insn *i = &p->insn[at];
        bool call = bpf_is_local_call(i);
        if (p->mark[at].flags & CODE_MARK_INNER || !(call || bpf_is_branch(i)))
            continue;
        s64 target = bpf_target(i, at);
        if (target < 0 || target >= p->count || p->mark[target].flags & CODE_MARK_INNER)
            return refuse(v, at, "jumps out of the program, or into the middle of an instruction");
        p->mark[target].flags |= CODE_MARK_LEADER | (call ? CODE_MARK_FUNCTION : 0);
        if (!call && target <= at)
            p->mark[target].flags |= CODE_MARK_HEAD;
        if (call) /* it is followed again when what the function returns is known */
            p->mark[at].flags |= CODE_MARK_LEADER;
    }
    for (u32 at = 0; at < p->count; at++) {
        if (p->mark[at].flags & CODE_MARK_FUNCTION) {
            if (p->functions == CODE_FUNCTIONS)
                return refuse(v, at, "too many functions");
            p->function[p->functions++].start = at;
        }
        p->mark[at].function = (u8)(p->functions - 1);
        p->function[p->functions - 1].end = at + 1;
    }
    for (u32 at = 0; at < p->count; at++) {
        const struct code_insn *i = &p->insn[at];
        bool inner = p->mark[at].flags & CODE_MARK_INNER;
        const struct code_mark *next = at + 1 < p->count ? &p->mark[at + 1] : NULL;
        if (!inner && bpf_is_branch(i) &&
            p->mark[bpf_target(i, at)].function != p->mark[at].function)
            return refuse(v, at, "jumps into another function");
        if ((!next || next->function != p->mark[at].function) &&
            (inner || !bpf_is_jump(i) || (bpf_code(i) != BPF_EXIT && bpf_code(i) != BPF_JA)))
            return refuse(v, at, "the function does not end in an exit or a jump");
    }
    return true;
}

/* The longest chain of calls. A recursion has none, so its levels pass every limit. */
static bool check_depth(struct code_verify *v) {
    struct code_program *p = v->program;
    for (bool changed = true; changed;) {
        changed = false;
        for (u32 at = 0; at < p->count; at++) {
            if (p->mark[at].flags & CODE_MARK_INNER || !bpf_is_local_call(&p->insn[at]))
                continue;
            struct code_function *callee =
                &p->function[p->mark[bpf_target(&p->insn[at], at)].function];
            u32 level = p->function[p->mark[at].function].level + 1;
            if (level >= CODE_DEPTH)
                return refuse(v, at, "calls go too deep, or a function calls itself");
            if (level > callee->level) {
                callee->level = level;
                changed = true;
            }
        }
    }
    return true;
}

/* ---------------------------------------------------------------- states */
static bool slot_join(struct value *into, const struct value *from, bool widen) {
    u8 before = into->bytes, bytes = into->bytes & from->bytes;
    bool changed = value_join(into, from, widen);
    into->bytes = bytes;
    return changed || bytes != before;
}

/* Joins a state into that of a leader; if this changes it, the leader is to be followed again. */
static void arrive(struct code_verify *v, u32 at, const struct state *from) {
    struct code_mark *mark = &v->program->mark[at];
    struct state *into = &v->states[mark->at];
    bool changed = false;
    if (!(mark->flags & CODE_MARK_REACHED)) {
        *into = *from;
        into->visits = 0;
        changed = true;
    } else {
        bool widen = mark->flags & CODE_MARK_HEAD && into->visits > 2;
        for (u32 r = 0; r < ARRAY_SIZE(into->reg); r++)
            changed |= value_join(&into->reg[r], &from->reg[r], widen);
        for (u32 s = 0; s < STACK_SLOTS; s++)
            changed |= slot_join(&into->slot[s], &from->slot[s], widen);
        for (u32 w = 0; w < CODE_WINDOWS; w++) {
            changed |= from->minimum[w] < into->minimum[w];
            into->minimum[w] = (u32)min_u64(into->minimum[w], from->minimum[w]);
        }
    }
    if (!changed)
        return;
    if (into->visits < 255)
        into->visits++;
    mark->flags |= CODE_MARK_REACHED | CODE_MARK_DIRTY;
    if (at < v->next)
        v->next = at;
}

/* ---------------------------------------------------------------- memory */
/* The bytes [offset, offset + size) of an access, at each offset that the pointer may have, lie in
 * the frame. Gives the first and the last slot that it may touch. */
static bool in_frame(const struct value *pointer, s64 offset, s64 size, s64 *first, s64 *last) {
    if (pointer->lo < -CODE_FRAME * 2 || pointer->hi > CODE_FRAME || size > CODE_FRAME)
        return false;
    *first = pointer->lo + offset + CODE_FRAME;
    *last = pointer->hi + offset + size + CODE_FRAME - 1;
    return *first >= 0 && *last < CODE_FRAME;
}

/* The bytes of slot s that lie in [first, last]. */
static u8 bytes_between(s64 s, s64 first, s64 last) {
    u8 mask = ALL_BYTES;
    if (first > s * 8)
        mask &= (u8)(ALL_BYTES << (first - s * 8));
    if (last < s * 8 + 7)
        mask &= (u8)(ALL_BYTES >> (s * 8 + 7 - last));
    return mask;
}

static bool frame_readable(const struct state *state, s64 first, s64 last) {
    for (s64 s = first / 8; s <= last / 8; s++) {
        u8 mask = bytes_between(s, first, last);
        if ((state->slot[s].bytes & mask) != mask)
            return false;
    }
    return true;
}

/* Numbers of unknown value are stored to some (exact: all) of these bytes. */
static void frame_scribble(struct state *state, s64 first, s64 last, bool exact) {
    for (s64 s = first / 8; s <= last / 8; s++) {
        u8 bytes = state->slot[s].bytes | (exact ? bytes_between(s, first, last) : 0);
        state->slot[s] = (struct value){.kind = VALUE_NONE, .bytes = bytes};
    }
}

static bool access_stack(struct code_verify *v, const struct value *pointer, s64 offset, u32 size,
                         struct value *load, const struct value *store) {
    s64 first, last;
    if (!in_frame(pointer, offset, size, &first, &last))
        return refuse(v, v->at, "may access memory outside its stack frame");
    bool exact = value_is_constant(pointer), whole = exact && size == 8 && first % 8 == 0;
    struct value *slot = &v->work.slot[first / 8];
    bool pointers = whole && slot->kind > VALUE_NUMBER;
    if (load && !frame_readable(&v->work, first, last) && !pointers)
        return refuse(v, v->at, "may read stack that was not written, or part of a pointer");
    if (load && store && pointers) /* an atomic operation computes */
        return refuse(v, v->at, "computes with a pointer");
    if (load && whole && slot->kind != VALUE_NONE)
        *load = *slot;
    if (store && value_is_pointer(store) && !whole)
        return refuse(v, v->at, "a pointer is stored only whole, to an aligned place in the stack");
    if (store && !whole) {
        frame_scribble(&v->work, first, last, exact);
    } else if (store) {
        *slot = *store;
        slot->bytes = store->kind == VALUE_NUMBER ? ALL_BYTES : 0;
    }
    return true;
}

static bool access_window(struct code_verify *v, const struct value *pointer, s64 offset, u32 size,
                          const struct value *store) {
    const struct code_profile *profile = v->program->profile;
    struct code_mark *mark = &v->program->mark[v->at];
    if (store && !(profile->stores && profile->window[pointer->window].writable))
        return refuse(v, v->at, "stores to memory that the profile does not let it write");
    if (store && value_is_pointer(store))
        return refuse(v, v->at, "stores a pointer where others could read it");
    struct value end = *pointer;
    struct value by = value_number(offset, offset);
    value_move(&end, &by, false);
    bool below = end.lo < 0;
    bool beyond = end.hi > (s64)v->work.minimum[pointer->window] - (s64)size;
    mark->window = pointer->window + 1;
    if (mark->check || below || beyond)
        mark->check = mark->window | (below ? CODE_CHECK_BELOW : mark->check & CODE_CHECK_BELOW);
    return true;
}

static bool access_context(struct code_verify *v, const struct value *pointer, s64 offset, u32 size,
                           struct value *load, const struct value *store) {
    const struct code_profile *profile = v->program->profile;
    if (store)
        return refuse(v, v->at, "stores to the context");
    bool known = value_is_constant(pointer) && pointer->lo >= 0 && pointer->lo < VALUE_FAR;
    s64 at = known ? pointer->lo + offset : -1;
    u64 word = (u64)at / 8, window = word / 2, number = word - 2 * CODE_WINDOWS;
    if (at < 0 || at % 8 || size != 8)
        return refuse(v, v->at, "the context is read only at known places, 8 bytes at a time");
    if (window < profile->windows && word % 2 == 0)
        *load = (struct value){.kind = VALUE_WINDOW, .window = (u8)window};
    else if (window < profile->windows) {
        *load = value_number(profile->window[window].minimum, profile->window[window].maximum);
        load->length = (u8)(window + 1);
    } else if (number < profile->values)
        *load = value_unknown();
    else
        return refuse(v, v->at, "the context of this profile has nothing there");
    return true;
}

/* An access through a register. For a load, *load has what any such load can give, and gets what is
 * known better. */
static bool access(struct code_verify *v, u8 reg, s64 offset, u32 size, struct value *load,
                   const struct value *store) {
    const struct value *pointer = &v->work.reg[reg];
    switch (pointer->kind) {
    case VALUE_STACK: return access_stack(v, pointer, offset, size, load, store);
    case VALUE_WINDOW: return access_window(v, pointer, offset, size, store);
    case VALUE_CONTEXT: return access_context(v, pointer, offset, size, load, store);
    default: return refuse(v, v->at, "the address is not a pointer into memory of the program");
    }
}

/* ---------------------------------------------------------------- instructions */
/* The value of a register; NULL if there is none that may be read. */
static struct value *read_register(struct code_verify *v, u8 reg) {
    struct value *value = &v->work.reg[reg];
    if (value->kind != VALUE_NONE)
        return value;
    refuse(v, v->at, "reads a register that has no value, or not the same kind on all paths");
    return NULL;
}

static bool read_operand(struct code_verify *v, const struct code_insn *i, struct value *to) {
    struct value *from;
    *to = value_number(i->imm, i->imm);
    if (!(i->op & BPF_X))
        return true;
    from = read_register(v, i->src);
    if (from)
        *to = *from;
    return from != NULL;
}

/* Arithmetic in which a pointer takes part. */
static bool pointer_alu(struct code_verify *v, const struct code_insn *i, const struct value *b) {
    struct value *a = &v->work.reg[i->dst];
    bool add = i->op == (BPF_ALU64 | BPF_ADD | (i->op & BPF_X));
    bool subtract = i->op == (BPF_ALU64 | BPF_SUB | (i->op & BPF_X));
    struct value other = *b;
    if (add && !value_is_pointer(a)) {
        other = *a;
        *a = *b;
    }
    if ((add || subtract) && value_is_pointer(a) && !value_is_pointer(&other)) {
        value_move(a, &other, subtract);
        return true;
    }
    if (subtract && a->kind == other.kind && a->window == other.window) {
        *a = value_unknown(); /* a distance says nothing of where things are */
        return true;
    }
    return refuse(v, v->at, "computes with a pointer");
}

static bool follow_alu(struct code_verify *v, const struct code_insn *i) {
    struct value b, zero = value_number(0, 0);
    bool move = bpf_code(i) == BPF_MOV, unary = bpf_code(i) == BPF_NEG || bpf_code(i) == BPF_END;
    if (unary)
        b = zero;
    else if (!read_operand(v, i, &b))
        return false;
    struct value *a = move ? &zero : read_register(v, i->dst);
    if (!a)
        return false;
    if (i->op == (BPF_ALU64 | BPF_MOV | BPF_X) && !i->offset)
        v->work.reg[i->dst] = b;
    else if (value_is_pointer(a) || value_is_pointer(&b))
        return !move && !unary ? pointer_alu(v, i, &b)
                               : refuse(v, v->at, "computes with a pointer");
    else
        v->work.reg[i->dst] = value_alu(i, a, &b);
    return true;
}

static bool follow_atomic(struct code_verify *v, const struct code_insn *i) {
    u32 size = bpf_size(i);
    struct value old = value_loaded(size, false), any = old;
    struct value *address = read_register(v, i->dst);
    if (!address)
        return false;
    bool stack = address->kind == VALUE_STACK;
    bool known = value_is_constant(address) && address->lo > -VALUE_FAR && address->lo < VALUE_FAR;
    if (stack && (!known || (address->lo + i->offset) % size))
        return refuse(v, v->at,
                      "an atomic operation on an unknown or unaligned place in the stack");
    struct value *operand = read_register(v, i->src);
    struct value *expected = i->imm == BPF_CMPXCHG ? read_register(v, 0) : operand;
    if (!operand || !expected)
        return false;
    if (value_is_pointer(operand) || value_is_pointer(expected))
        return refuse(v, v->at, "computes with a pointer");
    if (!access(v, i->dst, i->offset, size, &old, &any))
        return false;
    if (!stack)
        v->program->mark[v->at].flags |= CODE_MARK_ALIGN;
    if (i->imm & BPF_FETCH)
        v->work.reg[i->imm == BPF_CMPXCHG ? 0 : i->src] = value_loaded(size, false);
    return true;
}

static bool follow_memory(struct code_verify *v, const struct code_insn *i) {
    if (bpf_class(i) == BPF_LDX) {
        struct value load = value_loaded(bpf_size(i), bpf_mode(i) == BPF_MEMSX);
        if (!access(v, i->src, i->offset, bpf_size(i), &load, NULL))
            return false;
        v->work.reg[i->dst] = load;
        return true;
    }
    if (bpf_mode(i) == BPF_ATOMIC)
        return follow_atomic(v, i);
    struct value store = value_number(i->imm, i->imm), *from;
    if (bpf_class(i) == BPF_STX) {
        if (!(from = read_register(v, i->src)))
            return false;
        store = *from;
    }
    return access(v, i->dst, i->offset, bpf_size(i), NULL, &store);
}

static void clobber_arguments(struct state *state) {
    for (u32 r = 1; r <= CODE_ARGUMENTS; r++)
        state->reg[r] = (struct value){.kind = VALUE_NONE};
}

/* A pointer that a helper gets. Windows are checked when it is called; the stack is proved here. */
static bool helper_memory(struct code_verify *v, const struct value *pointer, bool write,
                          const struct value *size) {
    s64 first, last;
    if (pointer->kind == VALUE_WINDOW) {
        const struct code_profile *profile = v->program->profile;
        if (write && !(profile->stores && profile->window[pointer->window].writable))
            return refuse(v, v->at, "a helper would write memory that the program may not");
        return true;
    }
    if (pointer->kind != VALUE_STACK)
        return refuse(v, v->at, "a helper's argument is not a pointer to memory");
    if (!value_is_constant(pointer) || !size || size->lo < 0 ||
        !in_frame(pointer, 0, size->hi, &first, &last))
        return refuse(v, v->at, "a helper's argument may lie outside the stack frame");
    if (size->hi == 0)
        return true;
    if (!write && !frame_readable(&v->work, first, last))
        return refuse(v, v->at, "a helper would read stack that was not written");
    if (write)
        frame_scribble(&v->work, first, last, value_is_constant(size));
    return true;
}

static bool follow_helper(struct code_verify *v, const struct code_insn *i) {
    const struct code_helper *helper = &v->program->profile->helper[i->imm - 1];
    for (u32 n = 0; n < CODE_ARGUMENTS && helper->argument[n] != CODE_NONE; n++) {
        struct value *value = read_register(v, (u8)(n + 1)), *size = NULL;
        u8 want = helper->argument[n];
        if (!value)
            return false;
        for (u32 k = n + 1; k < CODE_ARGUMENTS && !size; k++)
            size = helper->argument[k] == CODE_SIZE ? &v->work.reg[k + 1] : NULL;
        bool memory = want == CODE_READ || want == CODE_WRITE;
        if (memory && !helper_memory(v, value, want == CODE_WRITE, size))
            return false;
        if (memory && value->kind == VALUE_STACK) /* and on all paths, or it would have no kind */
            v->program->mark[v->at].check |= (u8)(1 << n);
        if (!memory && value->kind != VALUE_NUMBER)
            return refuse(v, v->at, "a helper's argument has the wrong kind");
    }
    clobber_arguments(&v->work);
    v->work.reg[0] = value_unknown();
    return true;
}

/* Enters the function, and goes on after the call if it is known what it returns. False: ends the
 * path (it is followed again from the call when the function returns). */
static bool follow_local_call(struct code_verify *v, const struct code_insn *i) {
    u32 target = (u32)bpf_target(i, v->at);
    struct state *entry = v->scratch;
    memset(entry, 0, sizeof(*entry));
    memcpy(entry->minimum, v->work.minimum, sizeof(entry->minimum));
    entry->reg[10] = v->work.reg[10];
    for (u32 r = 1; r <= CODE_ARGUMENTS; r++)
        if (v->work.reg[r].kind != VALUE_STACK) /* it would point into the wrong frame */
            entry->reg[r] = v->work.reg[r];
    arrive(v, target, entry);
    struct value *result = &v->results[v->program->mark[target].function];
    if (result->kind == RESULT_NOT_SEEN)
        return false;
    clobber_arguments(&v->work);
    v->work.reg[0] = *result;
    return true;
}

/* A function returns. When its result changes, all that call it are followed again. */
static bool follow_exit(struct code_verify *v) {
    struct code_program *p = v->program;
    u8 function = p->mark[v->at].function;
    struct value *result = &v->results[function], *r0 = &v->work.reg[0];
    if (function == 0 && r0->kind != VALUE_NUMBER)
        return refuse(v, v->at, "exits without a number in r0");
    if (r0->kind == VALUE_STACK)
        *r0 = (struct value){.kind = VALUE_NONE};
    if (result->kind == RESULT_NOT_SEEN)
        *result = *r0;
    else if (!value_join(result, r0, v->returns[function] > 4))
        return true;
    v->returns[function]++; /* the join widens before this can overflow */
    for (u32 at = 0; function && at < p->count; at++) {
        struct code_mark *mark = &p->mark[at];
        if (!(mark->flags & CODE_MARK_INNER) && bpf_is_local_call(&p->insn[at]) &&
            p->mark[bpf_target(&p->insn[at], at)].function == function &&
            mark->flags & CODE_MARK_REACHED) {
            mark->flags |= CODE_MARK_DIRTY;
            v->next = at < v->next ? at : v->next;
        }
    }
    return true;
}

static bool compare_pointers(struct code_verify *v, const struct code_insn *i,
                             const struct value *a, const struct value *b) {
    bool equality = bpf_code(i) == BPF_JEQ || bpf_code(i) == BPF_JNE;
    bool near =
        a->lo >= -VALUE_FAR && a->hi <= VALUE_FAR && b->lo >= -VALUE_FAR && b->hi <= VALUE_FAR;
    bool sensible = bpf_class(i) == BPF_JMP && bpf_code(i) != BPF_JSET;
    if (!sensible || a->kind != b->kind || a->window != b->window)
        return refuse(v, v->at, "compares a pointer with something else than one of its kind");
    return equality || near || refuse(v, v->at, "puts pointers in order that may be far apart");
}

/* Distances have the signed order where addresses, none of which wraps, have either order. */
static u8 pointer_condition(u8 op) {
    static const u8 ordered[16] = {[BPF_JGT >> 4] = BPF_JSGT, [BPF_JGE >> 4] = BPF_JSGE,
                                   [BPF_JLT >> 4] = BPF_JSLT, [BPF_JLE >> 4] = BPF_JSLE};
    return ordered[op >> 4] ? (op & 0x0f) | ordered[op >> 4] : op;
}

/* What a branch shows of a length holds for the window. */
static void learn_length(struct state *state, const struct value *v) {
    if (v->length && v->lo > state->minimum[v->length - 1])
        state->minimum[v->length - 1] = (u32)min_u64((u64)v->lo, UINT32_MAX);
}

static void restricted(struct state *state, const struct code_insn *i, const struct value *a,
                       const struct value *b) {
    state->reg[i->dst] = *a;
    if (i->op & BPF_X)
        state->reg[i->src] = *b;
    learn_length(state, a);
    learn_length(state, b);
}

/* Sends the state to where the branch goes. False if the path ends here. */
static bool follow_branch(struct code_verify *v, const struct code_insn *i, bool *goes_on) {
    u32 target = (u32)bpf_target(i, v->at);
    struct value b;
    *goes_on = bpf_code(i) != BPF_JA;
    if (!*goes_on) {
        arrive(v, target, &v->work);
        return true;
    }
    const struct value *a = read_register(v, i->dst);
    if (!a || !read_operand(v, i, &b))
        return false;
    struct value a_taken = *a, b_taken = b, a_not = *a, b_not = b;
    bool taken = true, same = i->op & BPF_X && i->dst == i->src;
    struct code_insn compare = *i;
    if (value_is_pointer(a) || value_is_pointer(&b)) {
        if (!compare_pointers(v, i, a, &b))
            return false;
        compare.op = pointer_condition(i->op);
    }
    if (!same) {
        taken = value_restrict(&compare, true, &a_taken, &b_taken);
        *goes_on = value_restrict(&compare, false, &a_not, &b_not);
    }
    if (taken) {
        *v->scratch = v->work;
        if (!same)
            restricted(v->scratch, i, &a_taken, &b_taken);
        arrive(v, target, v->scratch);
    }
    if (!same)
        restricted(&v->work, i, &a_not, &b_not);
    return true;
}

/* Follows one instruction. False: the program is refused. */
static bool follow(struct code_verify *v) {
    const struct code_program *p = v->program;
    const struct code_insn *i = &p->insn[v->at];
    u32 next = v->at + 1;
    bool good = true;
    p->mark[v->at].flags |= CODE_MARK_REACHED;
    if (v->trace)
        v->trace(v->trace_owner, v);
    if (bpf_is_alu(i)) {
        good = follow_alu(v, i);
    } else if (i->op == BPF_LDDW) {
        s64 value = (s64)((u64)(u32)i[1].imm << 32 | (u32)i->imm);
        v->work.reg[i->dst] = value_number(value, value);
        next++;
    } else if (!bpf_is_jump(i)) {
        good = follow_memory(v, i);
    } else if (bpf_code(i) == BPF_EXIT) {
        v->following = false;
        good = follow_exit(v);
    } else if (bpf_is_local_call(i)) {
        v->following = follow_local_call(v, i);
    } else if (bpf_code(i) == BPF_CALL) {
        good = follow_helper(v, i);
    } else {
        good = follow_branch(v, i, &v->following);
    }
    if (!good || !v->following)
        return good;
    v->at = next;
    if (p->mark[next].flags & CODE_MARK_LEADER) {
        arrive(v, next, &v->work);
        v->following = false;
    }
    return true;
}

/* Looks for the first dirty leader, a bit at a time, and takes it up. */
static void take_leader(struct code_verify *v) {
    struct code_program *p = v->program;
    for (u32 n = 0; n < 256 && v->next < p->count; n++, v->next++) {
        struct code_mark *mark = &p->mark[v->next];
        if (mark->flags & CODE_MARK_DIRTY) {
            mark->flags &= (u8)~CODE_MARK_DIRTY;
            v->work = v->states[mark->at];
            v->at = v->next;
            v->following = true;
            return;
        }
    }
}

/* What a program finds when it starts. */
static void start_state(const struct code_profile *profile, struct state *state) {
    memset(state, 0, sizeof(*state));
    state->reg[10] = (struct value){.kind = VALUE_STACK};
    for (u32 w = 0; w < profile->windows; w++)
        state->minimum[w] = profile->window[w].minimum;
    for (u32 n = 0; n < CODE_ARGUMENTS; n++) {
        struct value *r = &state->reg[n + 1];
        u8 index = profile->start[n].index;
        switch (profile->start[n].kind) {
        case CODE_SCALAR: *r = value_unknown(); break;
        case CODE_POINTER: *r = (struct value){.kind = VALUE_WINDOW, .window = index}; break;
        case CODE_CONTEXT: *r = (struct value){.kind = VALUE_CONTEXT}; break;
        case CODE_LENGTH:
            *r = value_number(profile->window[index].minimum, profile->window[index].maximum);
            r->length = index + 1;
            break;
        }
    }
}

/* ---------------------------------------------------------------- interface */
u64 code_program_size(const struct code_program *program) {
    return sizeof(*program) + program->count * sizeof(struct code_mark);
}

u64 code_verify_memory(const struct code_insn *insn, u32 count) {
    u64 states = 2; /* of the first leader, and scratch */
    for (u32 at = 0; at < count; at++)
        states += bpf_is_local_call(&insn[at]) ? 2 : bpf_is_branch(&insn[at]);
    return sizeof(struct code_program) + count * sizeof(struct code_mark) +
           sizeof(struct code_verify) + states * sizeof(struct state);
}

struct code_verify *code_verify_of(void *memory) {
    return (struct code_verify *)((u8 *)memory + code_program_size(memory));
}

s64 code_verify_start(const struct code_profile *profile, const struct code_insn *insn, u32 count,
                      void *memory, u64 size) {
    struct code_program *p = memory;
    if (size < sizeof(*p))
        return E_FULL;
    memset(p, 0, sizeof(*p));
    p->refusal = "a program has 1 to 4096 instructions";
    if (count == 0 || count > CODE_INSNS)
        return E_BAD_ARGUMENT;
    p->refusal = "not enough memory to verify it";
    if (size < code_verify_memory(insn, count))
        return E_FULL;
    p->profile = profile;
    p->insn = insn;
    p->mark = (struct code_mark *)(p + 1);
    p->count = count;
    p->refusal = NULL;
    memset(p->mark, 0, count * sizeof(struct code_mark));
    struct code_verify *v = code_verify_of(memory);
    memset(v, 0, sizeof(*v));
    v->program = p;
    v->scratch = (struct state *)(v + 1);
    v->states = v->scratch + 1;
    if (!check_form(v) || !find_functions(v) || !check_depth(v) ||
        (p->function[0].end > profile->budget && !refuse(v, 0, "longer than the budget of its profile")))
        return E_BAD_ARGUMENT;
    u32 leaders = 0;
    for (u32 at = 0; at < count; at++)
        if (p->mark[at].flags & CODE_MARK_LEADER)
            p->mark[at].at = leaders++;
    for (u32 f = 0; f < CODE_FUNCTIONS; f++)
        v->results[f].kind = RESULT_NOT_SEEN;
    start_state(profile, v->scratch);
    arrive(v, 0, v->scratch);
    return 0;
}

s64 code_verify_step(void *memory, u32 steps) {
    struct code_verify *v = code_verify_of(memory);
    while (v->following || v->next < v->program->count) {
        if (steps-- == 0)
            return E_AGAIN;
        if (++v->work_done > CODE_WORK && !refuse(v, v->at, "too complex to verify"))
            return E_BAD_ARGUMENT;
        if (!v->following)
            take_leader(v);
        else if (!follow(v))
            return E_BAD_ARGUMENT;
    }
    return 0;
}
