/* The trace of this CPU: a ring of records that everybody may read. */
#pragma once
#include "core/cpu.h"
#include "x86/io.h"

static inline void trace(u32 kind, u64 a, u64 b) {
    struct cpu *cpu = this_cpu();
    struct trace *t = cpu->trace;

    if (likely(!(t->mask >> kind & 1)))
        return;
    struct trace_record *r = &t->record[t->count % TRACE_RECORDS];
    *r = (struct trace_record){rdtsc(), kind, cpu->env ? cpu->env->self : 0, a, b};
    __atomic_store_n(&t->count, t->count + 1, __ATOMIC_RELEASE);
}
