/* What the verifier knows of a value: its kind and an interval. Pure code.
 *
 * A number x is known by lo <= (s64)x <= hi. A pointer of kind WINDOW, STACK or CONTEXT is known by
 * the interval of its distance, modulo 2^64, from the start of the window or of the context, or
 * from the top of the stack frame. */
#pragma once
#include "code/alu.h"

enum value_kind { VALUE_NONE, VALUE_NUMBER, VALUE_WINDOW, VALUE_STACK, VALUE_CONTEXT };

struct value {
    s64 lo, hi;
    u8 kind;
    u8 window; /* of VALUE_WINDOW */
    u8 length; /* 1 + the window whose length this number is */
    u8 bytes;  /* of a stack slot: those that hold numbers, a bit each */
};

#define VALUE_FAR (1ll << 30) /* pointers nearer than this can be put in order: none wraps */

static inline struct value value_number(s64 lo, s64 hi) {
    return (struct value){.lo = lo, .hi = hi, .kind = VALUE_NUMBER};
}
static inline struct value value_unknown(void) { return value_number(INT64_MIN, INT64_MAX); }
/* What a load of `size` bytes can give. */
struct value value_loaded(u32 size, bool sign);
static inline bool value_is_pointer(const struct value *v) { return v->kind > VALUE_NUMBER; }
static inline bool value_is_constant(const struct value *v) { return v->lo == v->hi; }

/* The result of an arithmetic instruction on two numbers. */
struct value value_alu(const struct code_insn *i, const struct value *a, const struct value *b);
/* A distance after adding or subtracting a number. */
void value_move(struct value *pointer, const struct value *by, bool subtract);
/* Restricts two numbers to those for which the branch is, or is not, taken. False: none are left,
 * so that the branch always goes the other way. */
bool value_restrict(const struct code_insn *i, bool taken, struct value *a, struct value *b);
/* Makes `into` hold also for all that `from` holds for. `widen` makes sure that this changes it
 * only a few times however often it is done. True: it changed. */
bool value_join(struct value *into, const struct value *from, bool widen);
