/* What the tests of abuse share: a picture of all that a refused call must leave as it is. */
#pragma once
#include "guest.h"

#define ARENA_PAGES 8

/* The memory that hostile calls are shown; it is part of the picture. */
u8 *arena(void);

struct picture {
    u64 pages;  /* a sum over the page array */
    u64 env;    /* over this environment's page */
    u64 slices; /* over the owners of all slots */
    u64 memory; /* over the arena */
    u32 free_pages, first_env, first_flow;
};
struct picture take_picture(bool whole); /* without the page array unless whole */
/* Fails, naming what was tried, if anything is different. */
void same_picture(const struct picture *before, bool whole, const char *what, u32 which);

/* An address range of 2 pages of which only the first is mapped, writable. */
u64 half_mapped(void);
u64 random_number(u64 *state); /* xorshift64*; the state is not 0 */

/* An environment of a few pages that runs a piece of code of at most 256 bytes in this context
 * page: all that a libOS can write into one, from its very first slice. Its code, its stack and its
 * context lie at: */
#define MINI_CODE 0x400000ull
#define MINI_STACK 0x500000ull
#define MINI_CONTEXT 0x600000ull
struct peer mini_env(const struct context *context, const void *code, u32 cpu);
