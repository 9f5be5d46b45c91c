/* Conditions on packets in normal form: two bit patterns of FILTER_BYTES each, the second standing
 * where the shift leads, and at most one range. Everything here is a pure function of its arguments
 * and runs in bounded time: at most 256 pairs of shift bytes, three times 32 cells each.
 *
 * A packet is a row of 16-bit cells at even places. Ranges are over cells: a range stands at an even
 * place wherever the shift leads. So a condition whose shift byte is fixed is a conjunction of
 * conditions on single cells, and it can be satisfied if and only if each of them can. That makes
 * implication and disjointness exact: they try each value of the shift bytes, cell by cell.
 *
 * Invariants of struct masked: value is within mask; length and length2 are one more than the last
 * byte that counts in each part (and length covers the shift's byte); without a shift, everything
 * about the second part is 0, and with one, length2 is not; without a range, all of its fields are 0. The windows, with
 * `more`, have every byte that counts. */
#include "net/filter.h"

#define MAX_SCALE 64
#define MAX_SHIFT_BITS 4
#define CELL_MAX 0xffffu

/* ---- cells */
/* The values x with (x & mask) == value and low <= x <= high; none if empty. */
struct cell {
    u32 mask, value, low, high;
    bool empty;
};
#define ANY_CELL ((struct cell){.high = CELL_MAX})

/* The bits from the highest that differs on: 0 if none does. */
static u32 below(u32 differ) { return differ ? (2u << (31 - __builtin_clz(differ))) - 1 : 0; }

/* The least x >= from with (x & mask) == value; above CELL_MAX: there is none. */
static u32 least(u32 from, u32 mask, u32 value) {
    u32 differ = (from ^ value) & mask, tail = below(differ);

    if (differ & from & (tail ^ tail >> 1)) { /* the next free bit above that is 0 must be 1 */
        u32 carry = ~(from | mask) & ~tail;
        carry &= -carry;
        from |= carry;
        tail = carry - 1;
    }
    return (from & ~tail) | (value & tail);
}

/* Draws the bounds in to values that the mask allows, and then takes the bits that all values
 * between them share into the mask. Afterwards the mask has every bit that is fixed. */
static void cell_tighten(struct cell *c) {
    c->low = least(c->low, c->mask, c->value);
    c->empty |= c->low > c->high;
    if (c->empty)
        return;
    c->high = CELL_MAX - least(CELL_MAX - c->high, c->mask, c->mask & ~c->value);
    c->mask |= CELL_MAX & ~below(c->low ^ c->high);
    c->value = c->low & c->mask;
}

/* Adds bits to a cell; `down` is where they stand in it. */
static void cell_add(struct cell *c, u32 mask, u32 value, u32 down) {
    mask <<= down;
    value <<= down;
    c->empty |= ((c->value ^ value) & c->mask & mask) != 0;
    c->mask |= mask;
    c->value |= value;
}

/* Adds what one part of a condition that begins at `base` wants of the cell at `at`. */
static void cell_add_part(struct cell *c, const struct masked *f, u32 part, u32 base, u32 at) {
    const u8 *mask = part == 1 ? f->mask : f->mask2, *value = part == 1 ? f->value : f->value2;

    for (u32 i = 0; i < 2; i++)
        if (at + i >= base && at + i - base < FILTER_BYTES)
            cell_add(c, mask[at + i - base], value[at + i - base], 8 - 8 * i);
    if (f->range_part == part && base + f->range_offset == at) {
        c->low = f->low > c->low ? f->low : c->low;
        c->high = f->high < c->high ? f->high : c->high;
    }
}

/* ---- normal form */
static s64 add_atom(const struct atom *a, u8 *mask, u8 *value) {
    if (a->width != 1 && a->width != 2 && a->width != 4)
        return E_BAD_ARGUMENT;
    u32 all = 0xffffffffu >> (32 - 8 * a->width);
    if (!a->mask || (a->mask & ~all) || (a->value & ~a->mask) || (u32)a->offset + a->width > FILTER_BYTES)
        return E_BAD_ARGUMENT;
    for (u32 i = 0; i < a->width; i++) {
        u32 down = 8 * (a->width - 1 - i);
        u8 m = (u8)(a->mask >> down), v = (u8)(a->value >> down);
        u32 at = a->offset + i;
        if ((value[at] ^ v) & mask[at] & m)
            return E_BAD_ARGUMENT;
        mask[at] |= m;
        value[at] |= v;
    }
    return 0;
}

static s64 set_shift(const struct atom *a, struct masked *to) {
    u32 left = a->mask;
    for (u32 bits = 0; bits < MAX_SHIFT_BITS; bits++)
        left &= left - 1;
    if (to->shift_scale || a->width != 1 || !a->mask || a->mask > 0xff || left || !a->value ||
        a->value > MAX_SCALE || a->offset >= FILTER_BYTES)
        return E_BAD_ARGUMENT;
    to->shift_offset = a->offset;
    to->shift_mask = (u8)a->mask;
    to->shift_scale = (u8)a->value;
    return 0;
}

static s64 set_match(const struct atom *a, struct masked *to) {
    return to->shift_scale ? add_atom(a, to->mask2, to->value2) : add_atom(a, to->mask, to->value);
}

static s64 set_range(const struct atom *a, struct masked *to) {
    if (a->width != 2 || a->mask != CELL_MAX || a->offset % 2 || a->offset >= FILTER_BYTES ||
        a->value > a->high || a->high > CELL_MAX || a->high - a->value == CELL_MAX)
        return E_BAD_ARGUMENT;
    if (a->value == a->high)
        return set_match(a, to);
    if (to->range_part)
        return E_BAD_ARGUMENT;
    to->range_part = to->shift_scale ? 2 : 1;
    to->range_offset = (u8)a->offset;
    to->low = (u16)a->value;
    to->high = (u16)a->high;
    return 0;
}

static s64 set_atom(const struct atom *a, struct masked *to) {
    if (a->kind == ATOM_RANGE)
        return set_range(a, to);
    if (a->high)
        return E_BAD_ARGUMENT;
    if (a->kind == ATOM_SHIFT)
        return set_shift(a, to);
    return a->kind == ATOM_MATCH ? set_match(a, to) : E_BAD_ARGUMENT;
}

/* Whether the range, if any, stands at an even place wherever the shift leads, and lets something
 * through of what the bits of its part do. */
static bool range_makes_sense(const struct masked *f) {
    struct cell c = ANY_CELL;

    if (!f->range_part)
        return true;
    cell_add_part(&c, f, f->range_part, 0, f->range_offset);
    cell_tighten(&c);
    return !c.empty && (f->range_part == 1 || !(f->shift_offset % 2 || f->shift_mask * f->shift_scale % 2));
}

/* A bit for each byte that counts. */
static u64 counted_in(const struct masked *f, const u8 *mask, u32 part) {
    u64 counted = f->range_part == part ? 3ull << f->range_offset : 0;
    for (u32 i = 0; i < FILTER_BYTES; i++)
        counted |= (u64)(mask[i] != 0) << i;
    return counted;
}

/* Where to look at eight bytes to see the first that are left, and those behind it. */
static u8 window_on(u64 *left) {
    u32 at = *left ? (u32)min_u64((u32)__builtin_ctzll(*left), FILTER_BYTES - 8) : 0;
    *left &= ~(0xffull << at);
    return (u8)at;
}

static u16 bytes_needed(u64 counted) { return (u16)(counted ? FILTER_BYTES - __builtin_clzll(counted) : 0); }

/* What is known of the bits, so that frames are looked at only where it matters. */
static void set_places(struct masked *f) {
    u64 left2 = counted_in(f, f->mask2, 2), left = counted_in(f, f->mask, 1);

    if (left2)
        left |= 1ull << f->shift_offset;
    else
        f->shift_offset = f->shift_mask = f->shift_scale = 0;
    f->counted = left;
    f->counted2 = left2;
    f->length = bytes_needed(left);
    f->length2 = bytes_needed(left2);
    for (u32 i = 0; i < sizeof(f->window); i++)
        f->window[i] = window_on(&left);
    f->window2 = window_on(&left2);
    f->more = left || left2 || f->range_part;
}

s64 filter_normalize(const struct condition *from, struct masked *to) {
    memset(to, 0, sizeof(*to));
    if (from->count > ATOMS || from->zero)
        return E_BAD_ARGUMENT;
    for (u32 i = 0; i < from->count; i++)
        TRY(set_atom(&from->atom[i], to));
    if (!range_makes_sense(to))
        return E_BAD_ARGUMENT;
    set_places(to);
    return 0;
}

bool filter_same_shift(const struct masked *a, const struct masked *b) {
    return a->shift_scale == b->shift_scale && a->shift_mask == b->shift_mask && a->shift_offset == b->shift_offset;
}

bool filter_same_shape(const struct masked *a, const struct masked *b) {
    return filter_same_shift(a, b) && a->range_part == b->range_part && a->range_offset == b->range_offset &&
           !memcmp(a->mask, b->mask, sizeof(a->mask)) && !memcmp(a->mask2, b->mask2, sizeof(a->mask2));
}

/* ---- a condition seen with its shift byte fixed: then all that it wants stands at known places */
struct view {
    const struct masked *f;
    u32 base;       /* where the second part stands */
    u8 shift;       /* the bits of the shift byte under its mask */
    bool byte_only; /* only the shift byte is of interest */
};

static struct view view_of(const struct masked *f, u8 shift_byte) {
    u8 shift = shift_byte & f->shift_mask;
    return (struct view){f, f->shift_offset + (u32)shift * f->shift_scale, shift, false};
}

/* What one or two views want of the cell at an even place. */
static struct cell cell_of(const struct view *v, u32 count, u32 at) {
    struct cell c = ANY_CELL;

    for (u32 i = 0; i < count; i++, v++) {
        const struct masked *f = v->f;
        if (f->shift_scale && f->shift_offset - at < 2)
            cell_add(&c, f->shift_mask, v->shift, f->shift_offset == at ? 8 : 0);
        if (v->byte_only)
            continue;
        if (at < f->length)
            cell_add_part(&c, f, 1, 0, at);
        if (at + 1 >= v->base && at < v->base + f->length2)
            cell_add_part(&c, f, 2, v->base, at);
    }
    cell_tighten(&c);
    return c;
}

/* Each cell that a view counts. */
#define EACH_CELL(at, v) \
    for (u32 part = 0, at = 0; part < 2; part++, at = (v)->base & ~1u) \
        for (u32 end = part ? (v)->base + (v)->f->length2 : (v)->f->length; at < end; at += 2)

/* No packet looks so. */
static bool impossible(struct view pair[2]) {
    for (u32 i = 0; i < 2; i++)
        EACH_CELL(at, pair + i)
            if (cell_of(pair, 2, at).empty)
                return true;
    return false;
}

/* The next subset of the mask; 0 after the last. */
static u32 next_shift(u32 shift, u32 mask) { return (shift - mask) & mask; }

/* ---- implication */
static u32 field(const u8 *p) { return (u32)p[0] << 8 | p[1]; }

static bool part_contains(const struct masked *a, const struct masked *b, u32 part) {
    const u8 *mask_a = part == 1 ? a->mask : a->mask2, *value_a = part == 1 ? a->value : a->value2;
    const u8 *mask_b = part == 1 ? b->mask : b->mask2, *value_b = part == 1 ? b->value : b->value2;

    for (u32 i = 0; i < FILTER_BYTES; i++)
        if ((mask_b[i] & ~mask_a[i]) || ((value_a[i] ^ value_b[i]) & mask_b[i]))
            return false;
    if (b->range_part != part)
        return true;
    struct cell c = ANY_CELL;
    cell_add_part(&c, a, part, 0, b->range_offset);
    cell_tighten(&c);
    return c.low >= b->low && c.high <= b->high;
}

static u32 view_length(const struct view *v) {
    u32 second = v->f->shift_scale ? v->base + v->f->length2 : 0;
    return second > v->f->length ? second : v->f->length;
}

/* Packets that satisfy pair[0], and have the shift byte of pair[1], satisfy all of pair[1]. */
static bool pair_implies(struct view pair[2]) {
    struct view b = pair[1];

    pair[1].byte_only = true;
    if (impossible(pair))
        return true;
    if (view_length(&b) > view_length(&pair[0]))
        return false;
    EACH_CELL(at, &b) {
        struct cell has = cell_of(pair, 2, at), wants = cell_of(&b, 1, at);
        if (wants.empty || (wants.mask & ~has.mask) || ((has.value ^ wants.value) & wants.mask) ||
            has.low < wants.low || has.high > wants.high)
            return false;
    }
    return true;
}

/* Whether `holds` for every pair of shift bytes. */
static bool every_pair(const struct masked *a, const struct masked *b, bool (*holds)(struct view pair[2])) {
    u32 shift_a = 0, shift_b = 0, common = a->shift_offset == b->shift_offset ? a->shift_mask & b->shift_mask : 0;

    do {
        do {
            struct view pair[2] = {view_of(a, (u8)shift_a), view_of(b, (u8)shift_b)};
            if (!((shift_a ^ shift_b) & common) && !holds(pair))
                return false;
            shift_b = next_shift(shift_b, b->shift_mask);
        } while (shift_b);
        shift_a = next_shift(shift_a, a->shift_mask);
    } while (shift_a);
    return true;
}

bool filter_implies(const struct masked *a, const struct masked *b) {
    return (part_contains(a, b, 1) && a->length >= b->length && a->length2 >= b->length2 &&
            (!b->shift_scale || (filter_same_shift(a, b) && part_contains(a, b, 2)))) ||
           every_pair(a, b, pair_implies);
}

/* ---- disjointness */
/* The parts stand at one place, and fix a bit differently or leave a cell no value. */
static bool part_clashes(const struct masked *a, const struct masked *b, u32 part) {
    const u8 *mask_a = part == 1 ? a->mask : a->mask2, *value_a = part == 1 ? a->value : a->value2;
    const u8 *mask_b = part == 1 ? b->mask : b->mask2, *value_b = part == 1 ? b->value : b->value2;
    const struct masked *ranged = a->range_part == part ? a : b, *other = ranged == a ? b : a;
    u32 at = ranged->range_offset;

    if (ranged->range_part == part) {
        struct cell c = {.mask = field(mask_a + at) | field(mask_b + at),
                         .value = field(value_a + at) | field(value_b + at),
                         .low = ranged->low,
                         .high = ranged->high};
        if (c.mask == CELL_MAX && (c.value < c.low || c.value > c.high)) /* as is usual, with no need to look closer */
            return true;
        cell_tighten(&c);
        if (c.empty || (other->range_part == part && other->range_offset == at &&
                        (other->low > c.high || other->high < c.low)))
            return true;
    }
    for (u32 i = 0; i < FILTER_BYTES; i += 8)
        if ((filter_word(value_a + i) ^ filter_word(value_b + i)) & filter_word(mask_a + i) & filter_word(mask_b + i))
            return true;
    return false;
}

bool filter_clash(const struct masked *a, const struct masked *b) {
    return (filter_same_shift(a, b) && part_clashes(a, b, 2)) || part_clashes(a, b, 1);
}

bool filter_disjoint(const struct masked *a, const struct masked *b) {
    return filter_clash(a, b) || every_pair(a, b, impossible);
}

bool filter_run(const struct masked *f, const struct masked *g, u32 *high) {
    const u8 *own = (g->range_part == 1 ? f->mask : f->mask2) + g->range_offset;
    const u8 *shared = (g->range_part == 1 ? g->mask : g->mask2) + g->range_offset;
    struct cell c = ANY_CELL;

    cell_add_part(&c, f, g->range_part, 0, g->range_offset);
    cell_tighten(&c);
    *high = c.high;
    return !(field(own) & ~field(shared) & below(c.low ^ c.high));
}

bool filter_value(const struct masked *f, u32 value, struct masked *to) {
    *to = *f;
    to->range_part = to->range_offset = 0;
    to->low = to->high = 0;
    u8 *mask = (f->range_part == 1 ? to->mask : to->mask2) + f->range_offset;
    u8 *bits = (f->range_part == 1 ? to->value : to->value2) + f->range_offset;
    bool fits = !((field(bits) ^ value) & field(mask));
    mask[0] = mask[1] = 0xff;
    bits[0] = (u8)(value >> 8);
    bits[1] = (u8)value;
    return fits;
}

/* ---- frames: eight bytes at a time */
static bool words_match(const u8 *mask, const u8 *value, u32 need, const u8 *p) {
    u64 differs = 0;
    for (u32 i = 0; i < need; i += 8)
        differs |= filter_differs(mask, value, p, i);
    return !differs;
}

bool filter_match_all(const struct masked *f, const u8 *frame, const u8 *second) {
    u32 value = f->range_part ? field((f->range_part == 1 ? frame : second) + f->range_offset) : f->low;
    return f->low <= value && value <= f->high && words_match(f->mask, f->value, f->length, frame) &&
           words_match(f->mask2, f->value2, f->length2, second);
}
