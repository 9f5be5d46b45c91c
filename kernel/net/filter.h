/* Conditions on packets: normal form, implication, disjointness, matching. Pure code, no state:
 * the same source is tested on the host. See docs/filters.md. */
#pragma once
#include "lib/base.h"

#define FILTER_BYTES 64 /* bytes of a packet that a condition can look at, before and after the shift */

/* Brings a condition into normal form. Hostile input: every field is checked. Returns 0 or E_BAD_ARGUMENT
 * (count over ATOMS, width, kind, offset + width > FILTER_BYTES, value outside mask, reserved not 0, more than
 * one shift, shift multiplier over 64 (value), two atoms that contradict each other, mask 0 or wider than the field). */
s64 filter_normalize(const struct condition *from, struct masked *to);
/* Every packet that satisfies a also satisfies b. Exact for conditions with the same shift; with different
 * shifts it is true only where the first parts alone decide it. */
bool filter_implies(const struct masked *a, const struct masked *b);
/* No packet satisfies both. Errs on the side of 'no'. */
bool filter_disjoint(const struct masked *a, const struct masked *b);
/* The frame (length bytes readable) satisfies f; a frame too short for a byte that counts does not. */
bool filter_match(const struct masked *f, const u8 *frame, u32 length);
