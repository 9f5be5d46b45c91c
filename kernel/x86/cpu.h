/* A CPU's own registers and tables: segments, interrupts, protection features, system calls. */
#pragma once
#include "core/cpu.h"

void cpu_features_init(void);           /* once, early: what the boot CPU has; patches user_copy */
struct cpu *cpu_make(u32 number);       /* boot time: allocates all that a CPU has of its own */
void cpu_init(struct cpu *cpu);         /* on that CPU: loads it; from now on this_cpu() is it */
