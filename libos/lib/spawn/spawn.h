/* Making an environment from an ELF program, by the same calls that any libOS has. */
#pragma once
#include "base/start.h"

struct spawn_slices { u32 cpu, count; };

struct spawn {
    const char *name;
    const u8 *image; /* an ELF executable, readable */
    u64 image_bytes;
    u32 page;        /* one that the caller owns, to be its ENV page; 0: any */
    u32 page_limit;  /* pages that it may own, its program among them */
    u32 slice_limit;
    u64 cpus;        /* on which it may own slices, a bit each; 0: all that the caller may */
    const struct start *start; /* copied to its start page; "self" is added */
    const struct spawn_slices *slices;
    u32 slice_kinds;
    struct cap env; /* result: all rights on it */
};
/* Makes it and lets it run. Returns its name, or an error, and then nothing of it is left. */
s64 spawn(struct spawn *s);
