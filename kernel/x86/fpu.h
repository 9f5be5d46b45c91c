/* Extended state (x87, SSE, AVX). A context that uses it says so in its `fpu` word; others find
 * the unit off, and nothing is saved or loaded for them. It is loaded at its first use (exception 7). When such a context leaves the CPU the registers are
 * cleared, so that nobody can read them, not even by speculation (LazyFP). */
#pragma once
#include "core/cpu.h"

void fpu_init_cpu(void);
void fpu_reset(struct context *context); /* gives a new context the initial state */
void fpu_leave(struct cpu *cpu); /* before it is taken off */
/* Exception 7: true if the context has asked for extended state meanwhile and now has it. */
bool fpu_wanted(struct cpu *cpu);
