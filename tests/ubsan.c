/* What gcc's and clang's undefined behaviour sanitizer calls (VARIANT=ubsan): each finding is a bug
 * in the kernel and ends it. Every kind of finding passes data that begins with where it was found.
 */
#include "lib/base.h"

struct place {
    const char *file;
    u32 line, column;
};

static NORETURN COLD void found(const struct place *at, const char *what) {
    panic("%s:%u:%u: undefined behaviour: %s", at->file, at->line, at->column, what);
}

#define HANDLER(name, what) \
    NORETURN void __ubsan_handle_##name(const struct place *at); \
    void __ubsan_handle_##name(const struct place *at) { found(at, what); }

HANDLER(add_overflow, "an addition overflows")
HANDLER(sub_overflow, "a subtraction overflows")
HANDLER(mul_overflow, "a multiplication overflows")
HANDLER(negate_overflow, "a negation overflows")
HANDLER(divrem_overflow, "a division by zero or an overflow")
HANDLER(shift_out_of_bounds, "a shift by too much or of a negative number")
HANDLER(out_of_bounds, "an index out of bounds")
HANDLER(type_mismatch_v1, "a null pointer or too small an object")
HANDLER(pointer_overflow, "a pointer overflows")
HANDLER(load_invalid_value, "a value that its type cannot have")
HANDLER(vla_bound_not_positive, "an array of no length")
HANDLER(nonnull_arg, "a null argument")
HANDLER(invalid_builtin, "a builtin function of 0")
HANDLER(builtin_unreachable, "a point that cannot be reached")
HANDLER(missing_return, "a function without a result")
HANDLER(float_cast_overflow, "a conversion overflows")
HANDLER(alignment_assumption, "a wrong alignment")
HANDLER(function_type_mismatch, "a call of a function of another type")
