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
/* For an f that can be satisfied: of the values of g's ranged field that g's mask allows, f allows those up to *high
 * from some other on, and leaves none of them out. */
bool filter_run(const struct masked *f, const struct masked *g, u32 *high);

/* What is left of f, which has a range, where its field has one value; false: nothing is. */
bool filter_value(const struct masked *f, u32 value, struct masked *to);

/* Two conditions have one shift, or none: in a packet their second parts begin at one place. */
bool filter_same_shift(const struct masked *a, const struct masked *b);
/* Two conditions of the same shape count the same bits, and may differ in what these must be. */
bool filter_same_shape(const struct masked *a, const struct masked *b);

/* ---- frames. Whoever calls sees to it that 8 bytes beyond a frame's end can be read; what they are does not matter. */
/* Eight bytes from anywhere. */
static inline u64 filter_word(const u8 *p) {
    u64 w;
    __builtin_memcpy(&w, p, sizeof(w));
    return w;
}

/* Where the second part of a frame begins that the first part of f fits into. */
static inline u32 filter_base(const struct masked *f, const u8 *frame) {
    return f->shift_offset + ((u32)frame[f->shift_offset] & f->shift_mask) * f->shift_scale;
}

/* Which bits of eight bytes of a part, from `at` on, are not as they must be. */
static inline u64 filter_differs(const u8 *mask, const u8 *value, const u8 *part, u32 at) {
    return (filter_word(part + at) ^ filter_word(value + at)) & filter_word(mask + at);
}

/* All of it, for a frame that is long enough for both parts. */
bool filter_match_all(const struct masked *f, const u8 *frame, const u8 *second);

/* Whether one of the two bytes at `at`, or just before a part at -1, counts. */
static inline bool filter_counts(u64 counted, u32 at) {
    return at < FILTER_BYTES ? counted >> at & 3 : at == UINT32_MAX && (counted & 1);
}

/* The frame satisfies f, and unless `any` is 0 whatever the two bytes there are; one too short for a byte that counts, or for
 * the shift's byte, does not. Nearly all conditions count so little that four words say it; without a shift the last of them is
 * one of zeros. */
static ALWAYS_INLINE bool filter_match(const struct masked *f, const u8 *frame, u32 length, u32 any) {
    if (unlikely(length < f->length))
        return false;
    u32 base = filter_base(f, frame);
    if (unlikely(base + f->length2 > length || (any && (filter_counts(f->counted, any) || filter_counts(f->counted2, any - base)))))
        return false;
    if (unlikely(f->more))
        return filter_match_all(f, frame, frame + base);
    return !(filter_differs(f->mask, f->value, frame, f->window[0]) | filter_differs(f->mask, f->value, frame, f->window[1]) |
             filter_differs(f->mask, f->value, frame, f->window[2]) |
             filter_differs(f->mask2, f->value2, frame + base, f->window2));
}
