/* What arithmetic and conditions mean, on plain values. The interpreter runs this, and the
 * verifier folds constants with it, so that the two cannot differ. */
#pragma once
#include "code/bpf.h"

/* dst op b, where b is the source register's value or the sign-extended immediate. The
 * instruction must be one that the verifier accepts. */
u64 code_alu(const struct code_insn *i, u64 a, u64 b);
/* Whether the conditional branch is taken. */
bool code_condition(const struct code_insn *i, u64 a, u64 b);
/* A value as a load of `size` bytes gives it. */
u64 code_extend(u64 value, u32 size, bool sign);
