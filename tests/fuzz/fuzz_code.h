/* Programs made from a fuzzer's bytes. Most random bytes are no program at all; these are shaped so
 * that a good part passes the verifier: known opcodes, near jumps, telling constants, registers
 * that have a value from the start. */
#pragma once
#include "../../tools/code/host.h"

#define SHAPED_INSNS 96 /* of the fuzzer; wide constants take two slots */

struct shaped {
    const struct code_profile *profile;
    struct code_insn insn[2 * SHAPED_INSNS + 32];
    u32 count;
    u32 length[CODE_WINDOWS]; /* of the windows in this run */
    u64 seed;                 /* of their contents */
};

/* False: too few bytes. */
bool shape(struct shaped *s, const u8 *data, size_t size);
