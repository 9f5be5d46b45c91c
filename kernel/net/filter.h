/* Conditions on packets: normal form, implication, disjointness, matching. Pure code, no state:
 * the same source is tested on the host. See docs/filters.md. */
#pragma once
#include "lib/base.h"

#define FILTER_BYTES 64 /* bytes that a condition can look at, before and after the shift */

/* Brings a condition into normal form. Hostile input: every field is checked. Returns 0 or
 * E_BAD_ARGUMENT (count over ATOMS, width, kind, offset + width > FILTER_BYTES, value outside
 * mask, reserved not 0, more than one shift, shift multiplier (value) 0 or over 64, two atoms that
 * contradict each other, mask 0 or wider than the field). A shift with nothing after it is
 * dropped. */
s64 filter_normalize(const struct condition *from, struct masked *to);
/* Every packet that satisfies a also satisfies b. Exact for conditions with the same shift or
 * none; with different shifts it may say no where the truth is yes, never the other way. */
bool filter_implies(const struct masked *a, const struct masked *b);
/* No packet satisfies both. Errs on the side of 'no'; exact if neither has a shift. */
bool filter_disjoint(const struct masked *a, const struct masked *b);
/* The frame (length bytes readable) satisfies f; a frame too short for a byte that counts, or for
 * the shift's byte, does not. */
bool filter_match(const struct masked *f, const u8 *frame, u32 length);
/* For a frame that satisfies f: the condition counts bits of the `count` bytes from `first` on. */
bool filter_looks_at(const struct masked *f, const u8 *frame, u32 first, u32 count);

/* For the classifier. Two conditions of the same shape count the same bits, and may differ in
 * what these must be. */
bool filter_same_shape(const struct masked *a, const struct masked *b);
/* Hashes what f wants its bits to be. A frame that satisfies f has the same filter_hash_frame. */
u64 filter_hash(const struct masked *f, u64 key);
/* Hashes the bits of a frame that f counts, whatever they are. False: the frame is too short. */
bool filter_hash_frame(const struct masked *f, const u8 *frame, u32 length, u64 key, u64 *hash);
