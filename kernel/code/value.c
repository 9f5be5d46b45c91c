/* Intervals: see value.h. Each function errs on the side of a larger interval. */
#include "code/value.h"

#define U32_MAX 0xffffffffll
#define S32_MAX 0x7fffffffll

static bool within(const struct value *v, s64 lo, s64 hi) { return v->lo >= lo && v->hi <= hi; }

struct value value_loaded(u32 size, bool sign) {
    if (size == 8)
        return value_unknown();
    s64 span = 1ll << 8 * size;
    return sign ? value_number(-span / 2, span / 2 - 1) : value_number(0, span - 1);
}

/* All ones up to the highest bit of a number that is not negative. */
static s64 ones(s64 n) { return n ? (s64)(~0ull >> __builtin_clzll((u64)n)) : 0; }

static bool add(const struct value *a, const struct value *b, struct value *to) {
    return !__builtin_add_overflow(a->lo, b->lo, &to->lo) &&
           !__builtin_add_overflow(a->hi, b->hi, &to->hi);
}

static bool subtract(const struct value *a, const struct value *b, struct value *to) {
    return !__builtin_sub_overflow(a->lo, b->hi, &to->lo) &&
           !__builtin_sub_overflow(a->hi, b->lo, &to->hi);
}

/* Numbers of which neither is negative. A shift's count is known, and below 64. */
static bool alu_positive(u8 code, const struct value *a, const struct value *b, struct value *to) {
    switch (code) {
    case BPF_MUL: to->lo = 0; return !__builtin_mul_overflow(a->hi, b->hi, &to->hi);
    case BPF_AND: *to = value_number(0, a->hi < b->hi ? a->hi : b->hi); return true;
    case BPF_OR:
    case BPF_XOR: *to = value_number(0, ones(a->hi | b->hi)); return true;
    case BPF_LSH:
        *to = value_number((s64)((u64)a->lo << b->lo), (s64)((u64)a->hi << b->lo));
        return to->hi >> b->lo == a->hi && to->hi >= 0;
    case BPF_RSH:
    case BPF_ARSH: *to = value_number(a->lo >> b->lo, a->hi >> b->lo); return true;
    case BPF_DIV: *to = value_number(0, b->lo > 0 ? a->hi / b->lo : a->hi); return true;
    case BPF_MOD:
        *to = value_number(0, b->lo > 0 && b->hi <= a->hi ? b->hi - 1 : a->hi);
        return true;
    }
    return false;
}

/* 64-bit arithmetic where the instruction has no sign extension and is no byte swap. */
static struct value alu(u8 code, const struct value *a, const struct value *b) {
    struct value to = value_unknown();
    bool positive = a->lo >= 0 && b->lo >= 0, known = false;
    bool shift = code == BPF_LSH || code == BPF_RSH || code == BPF_ARSH;
    if (code == BPF_MOV)
        return value_number(b->lo, b->hi);
    if (code == BPF_ADD)
        known = add(a, b, &to);
    else if (code == BPF_SUB)
        known = subtract(a, b, &to);
    else if (shift && !value_is_constant(b))
        known = false;
    else if (positive)
        known = alu_positive(code, a, b, &to);
    else if (code == BPF_AND && (a->lo >= 0 || b->lo >= 0))
        return value_number(0, a->lo >= 0 ? a->hi : b->hi);
    else if (code == BPF_ARSH)
        return value_number(a->lo >> b->lo, a->hi >> b->lo);
    else if (code == BPF_RSH && b->lo > 0)
        return value_number(0, (s64)(~0ull >> b->lo));
    else if (code == BPF_MOD && b->lo > 0)
        return value_number(0, b->hi - 1);
    return known ? to : value_unknown();
}

struct value value_alu(const struct code_insn *i, const struct value *a, const struct value *b) {
    u8 code = bpf_code(i);
    bool narrow = bpf_class(i) == BPF_ALU;
    if (value_is_constant(a) && value_is_constant(b)) {
        s64 exact = (s64)code_alu(i, (u64)a->lo, (u64)b->lo);
        return value_number(exact, exact);
    }
    if (code == BPF_END) /* b is 0, as with BPF_NEG */
        return value_loaded((u32)i->imm / 8, false);
    if (code == BPF_NEG) /* 0 - a */
        return narrow ? value_number(0, U32_MAX)
                      : alu(BPF_SUB, &(struct value){.lo = 0}, a);
    if (code == BPF_MOV && i->offset) {
        struct value whole = value_loaded((u32)i->offset / 8, true);
        if (within(b, whole.lo, whole.hi))
            whole = value_number(b->lo, b->hi);
        return narrow && whole.lo < 0 ? value_number(0, U32_MAX) : whole;
    }
    if (i->offset) /* signed division */
        return narrow ? value_number(0, U32_MAX) : value_unknown();
    struct value x = *a, y = *b;
    bool shift = code == BPF_LSH || code == BPF_RSH || code == BPF_ARSH;
    if (shift && value_is_constant(&y))
        y.lo = y.hi = y.lo & (narrow ? 31 : 63);
    if (narrow) {
        if (!within(&x, 0, U32_MAX))
            x = value_number(0, U32_MAX);
        if (!within(&y, 0, U32_MAX))
            y = value_number(0, U32_MAX);
        if (code == BPF_ARSH && x.hi > S32_MAX)
            return value_number(0, U32_MAX);
    }
    struct value to = alu(code, &x, &y);
    return narrow && !within(&to, 0, U32_MAX) ? value_number(0, U32_MAX) : to;
}

void value_move(struct value *pointer, const struct value *by, bool negative) {
    struct value moved = *pointer;
    if (negative ? !subtract(pointer, by, &moved) : !add(pointer, by, &moved)) {
        moved.lo = INT64_MIN;
        moved.hi = INT64_MAX;
    }
    *pointer = moved;
}

static void at_least(struct value *v, s64 lo) { v->lo = lo > v->lo ? lo : v->lo; }
static void at_most(struct value *v, s64 hi) { v->hi = hi < v->hi ? hi : v->hi; }

/* low < high if strict, else low <= high. Of an unsigned order something is known only if the
 * greater one is not negative. False: it cannot be. */
static bool restrict_order(struct value *low, struct value *high, bool strict, bool sign) {
    if (!sign && high->lo < 0)
        return true;
    if (!sign)
        at_least(low, 0);
    if (strict && (high->hi == INT64_MIN || low->lo == INT64_MAX))
        return false;
    at_most(low, high->hi - strict);
    at_least(high, low->lo + strict);
    return low->lo <= low->hi && high->lo <= high->hi;
}

static bool restrict_equal(struct value *a, struct value *b, bool equal) {
    if (equal) {
        at_least(a, b->lo);
        at_most(a, b->hi);
        *b = (struct value){.lo = a->lo, .hi = a->hi, .kind = b->kind, .window = b->window,
                            .length = b->length};
        return a->lo <= a->hi;
    }
    /* They are not both constant, so that the bounds that move do not cross. */
    struct value *interval = value_is_constant(a) ? b : a, *point = interval == a ? b : a;
    if (value_is_constant(point) && interval->lo == point->lo)
        interval->lo++;
    else if (value_is_constant(point) && interval->hi == point->lo)
        interval->hi--;
    return true;
}

bool value_restrict(const struct code_insn *i, bool taken, struct value *a, struct value *b) {
    u8 code = bpf_code(i);
    bool sign = code >= BPF_JSGT && code != BPF_JLT && code != BPF_JLE;
    s64 most = sign ? S32_MAX : U32_MAX;
    if (value_is_constant(a) && value_is_constant(b))
        return code_condition(i, (u64)a->lo, (u64)b->lo) == taken;
    /* A 32-bit comparison says something of the whole value only if this is small. */
    if (bpf_class(i) == BPF_JMP32 && !(within(a, 0, most) && within(b, 0, most)))
        return true;
    if (code == BPF_JEQ || code == BPF_JNE)
        return restrict_equal(a, b, taken == (code == BPF_JEQ));
    if (code == BPF_JSET)
        return true;
    /* What is not below is at least as much: both the side that is the lower and whether they may be equal change. */
    bool below = code == BPF_JLT || code == BPF_JSLT || code == BPF_JLE || code == BPF_JSLE;
    bool strict = code == BPF_JLT || code == BPF_JSLT || code == BPF_JGT || code == BPF_JSGT;
    return below == taken ? restrict_order(a, b, strict == taken, sign) : restrict_order(b, a, strict == taken, sign);
}

/* The next bound on the way to none: far, and then everywhere. */
static s64 wider(s64 bound, s64 far, s64 end) {
    return end < 0 ? (bound >= far ? far : end) : (bound <= far ? far : end);
}

bool value_join(struct value *into, const struct value *from, bool widen) {
    struct value old = *into;
    if (into->kind == VALUE_NONE)
        return false;
    if (from->kind != into->kind || (into->kind == VALUE_WINDOW && from->window != into->window)) {
        *into = (struct value){.kind = VALUE_NONE};
        return true;
    }
    if (from->lo < into->lo)
        into->lo = widen ? wider(from->lo, -VALUE_FAR / 2, INT64_MIN) : from->lo;
    if (from->hi > into->hi)
        into->hi = widen ? wider(from->hi, VALUE_FAR / 2, INT64_MAX) : from->hi;
    if (from->length != into->length)
        into->length = 0;
    return into->lo != old.lo || into->hi != old.hi || into->length != old.length;
}
