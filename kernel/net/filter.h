/* Conditions on packets: normal form, implication, disjointness, matching. Pure code, no state:
 * the same source is tested on the host. See docs/filters.md. */
#pragma once
#include "lib/base.h"

#define FILTER_BYTES 64 /* bytes that a condition can look at, before and after the shift */

/* Brings a condition into normal form. Hostile input: every field is checked. Returns 0 or
 * E_BAD_ARGUMENT (count over ATOMS, width, kind, offset + width > FILTER_BYTES, value outside
 * mask, reserved not 0, more than one shift, shift multiplier (value) 0 or over 64, shift mask of
 * more than 4 bits, two atoms that contradict each other, mask 0 or wider than the field, more than
 * one range, one that excludes nothing, or one whose field may stand at an odd place). A shift with
 * nothing after it is dropped, and a range of one value is a field that is matched. */
s64 filter_normalize(const struct condition *from, struct masked *to);
/* Every packet that satisfies a also satisfies b. Exact. */
bool filter_implies(const struct masked *a, const struct masked *b);
/* No packet satisfies both. Exact. filter_clash sees only the plain reason: they differ in a field that
 * has one place in both. */
bool filter_clash(const struct masked *a, const struct masked *b);
bool filter_disjoint(const struct masked *a, const struct masked *b);
/* The frame (length bytes readable) satisfies f; a frame too short for a byte that counts, or for
 * the shift's byte, does not. */
bool filter_match(const struct masked *f, const u8 *frame, u32 length);
/* For a frame that satisfies f: the condition counts bits of the two bytes at `at`. */
bool filter_looks_at(const struct masked *f, const u8 *frame, u32 at);

/* For an f that can be satisfied: of the values of g's ranged field that g's mask allows, f allows those up to *high
 * from some other on, and leaves none of them out. */
bool filter_run(const struct masked *f, const struct masked *g, u32 *high);

/* What is left of f, which has a range, where its field has one value; false: nothing is. */
bool filter_value(const struct masked *f, u32 value, struct masked *to);

/* Two conditions have one shift, or none: in a packet their second parts begin at one place. */
bool filter_same_shift(const struct masked *a, const struct masked *b);
/* Two conditions of the same shape count the same bits, and may differ in what these must be. */
bool filter_same_shape(const struct masked *a, const struct masked *b);

/* Eight bytes from anywhere. */
static inline u64 filter_word(const u8 *p) {
    u64 w;
    __builtin_memcpy(&w, p, sizeof(w));
    return w;
}
