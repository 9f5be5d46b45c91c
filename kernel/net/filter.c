/* Conditions on packets in normal form: two bit patterns of FILTER_BYTES each, the second standing
 * where the shift leads. Everything here is a pure function of its arguments and runs in bounded
 * time: at most 256 values of a shift byte, 128 bytes each.
 *
 * Invariants of struct masked: value is within mask; length and length2 are one more than the last
 * byte that counts in each part (and length covers the shift's byte); without a shift, everything
 * about the second part is 0, and with one, length2 is not. */
#include "net/filter.h"

#define MAX_SCALE 64

/* ---- normal form */
static s64 add_atom(const struct atom *a, u8 *mask, u8 *value) {
    if (a->width != 1 && a->width != 2 && a->width != 4)
        return E_BAD_ARGUMENT;
    u32 all = 0xffffffffu >> (32 - 8 * a->width);
    if (!a->mask || (a->mask & ~all) || (a->value & ~a->mask) ||
        (u32)a->offset + a->width > FILTER_BYTES)
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
    if (to->shift_scale || a->width != 1 || !a->mask || a->mask > 0xff || !a->value ||
        a->value > MAX_SCALE || a->offset >= FILTER_BYTES)
        return E_BAD_ARGUMENT;
    to->shift_offset = a->offset;
    to->shift_mask = (u8)a->mask;
    to->shift_scale = (u8)a->value;
    return 0;
}

static u16 bytes_needed(const u8 *mask) {
    u16 n = FILTER_BYTES;
    while (n && !mask[n - 1])
        n--;
    return n;
}

s64 filter_normalize(const struct condition *from, struct masked *to) {
    memset(to, 0, sizeof(*to));
    if (from->count > ATOMS || from->zero)
        return E_BAD_ARGUMENT;
    for (u32 i = 0; i < from->count; i++) {
        const struct atom *a = &from->atom[i];
        s64 error;
        if (a->zero)
            return E_BAD_ARGUMENT;
        if (a->kind == ATOM_SHIFT)
            error = set_shift(a, to);
        else if (a->kind != ATOM_MATCH)
            error = E_BAD_ARGUMENT;
        else if (to->shift_scale)
            error = add_atom(a, to->mask2, to->value2);
        else
            error = add_atom(a, to->mask, to->value);
        if (error)
            return error;
    }
    to->length = bytes_needed(to->mask);
    to->length2 = bytes_needed(to->mask2);
    if (!to->length2)
        to->shift_offset = to->shift_mask = to->shift_scale = 0;
    else if (to->length <= to->shift_offset)
        to->length = to->shift_offset + 1;
    return 0;
}

static bool same_shift(const struct masked *a, const struct masked *b) {
    return a->shift_scale == b->shift_scale && a->shift_mask == b->shift_mask &&
           a->shift_offset == b->shift_offset;
}

bool filter_same_shape(const struct masked *a, const struct masked *b) {
    return same_shift(a, b) && !memcmp(a->mask, b->mask, sizeof(a->mask)) &&
           !memcmp(a->mask2, b->mask2, sizeof(a->mask2));
}

/* ---- a condition seen with its shift byte fixed: then all its bits stand at known places */
struct view {
    const struct masked *f;
    u32 base; /* where the second part stands */
    u8 shift; /* the bits of the shift byte under its mask */
};
struct bits {
    u8 mask, value;
};

static u32 base_for(const struct masked *f, u8 shift_byte) {
    return f->shift_offset + (u32)(shift_byte & f->shift_mask) * f->shift_scale;
}

static struct view view_of(const struct masked *f, u8 shift) {
    return (struct view){f, base_for(f, shift), shift & f->shift_mask};
}

static struct bits first_bits(const struct view *v, u32 i) {
    if (i >= FILTER_BYTES)
        return (struct bits){0, 0};
    struct bits b = {v->f->mask[i], v->f->value[i]};
    if (v->f->shift_scale && i == v->f->shift_offset) {
        b.mask |= v->f->shift_mask;
        b.value |= v->shift;
    }
    return b;
}

static struct bits second_bits(const struct view *v, u32 i) {
    if (i < v->base || i - v->base >= v->f->length2)
        return (struct bits){0, 0};
    return (struct bits){v->f->mask2[i - v->base], v->f->value2[i - v->base]};
}

static struct bits view_bits(const struct view *v, u32 i) {
    struct bits a = first_bits(v, i), b = second_bits(v, i);
    return (struct bits){a.mask | b.mask, a.value | b.value};
}

static bool clash(struct bits a, struct bits b) { return (a.value ^ b.value) & a.mask & b.mask; }

/* No packet looks so: the first part forbids the shift byte, or the parts overlap and differ. */
static bool view_empty(const struct view *v) {
    const struct masked *f = v->f;
    if (!f->shift_scale)
        return false;
    struct bits wanted = {f->mask[f->shift_offset], f->value[f->shift_offset]};
    if (clash(wanted, (struct bits){f->shift_mask, v->shift}))
        return true;
    for (u32 i = v->base; i < v->base + f->length2 && i < FILTER_BYTES; i++)
        if (clash(first_bits(v, i), second_bits(v, i)))
            return true;
    return false;
}

/* ---- implication */
static bool part_contains(const u8 *mask_a, const u8 *value_a, const u8 *mask_b,
                          const u8 *value_b) {
    for (u32 i = 0; i < FILTER_BYTES; i++)
        if ((mask_b[i] & ~mask_a[i]) || ((value_a[i] ^ value_b[i]) & mask_b[i]))
            return false;
    return true;
}

/* The bits that the view fixes decide `length` bytes of a part of b that stands at `base`. */
static bool view_decides(const struct view *v, const u8 *mask, const u8 *value, u32 length,
                         u32 base) {
    for (u32 i = 0; i < length; i++) {
        struct bits got = view_bits(v, base + i);
        if ((mask[i] & ~got.mask) || ((got.value ^ value[i]) & mask[i]))
            return false;
    }
    return true;
}

static bool view_implies(const struct view *v, const struct masked *b) {
    if (!view_decides(v, b->mask, b->value, b->length, 0))
        return false;
    if (!b->shift_scale)
        return true;
    struct bits byte = view_bits(v, b->shift_offset);
    if (b->shift_mask & ~byte.mask)
        return false; /* b's second part may be anywhere */
    return view_decides(v, b->mask2, b->value2, b->length2, base_for(b, byte.value));
}

bool filter_implies(const struct masked *a, const struct masked *b) {
    if (part_contains(a->mask, a->value, b->mask, b->value) &&
        (!b->shift_scale ||
         (same_shift(a, b) && part_contains(a->mask2, a->value2, b->mask2, b->value2))))
        return true;
    /* The parts may overlap, and then one of a decides the other of b: try each place. */
    u32 shift = 0;
    do {
        struct view v = view_of(a, (u8)shift);
        if (!view_empty(&v) && !view_implies(&v, b))
            return false;
        shift = (shift - a->shift_mask) & a->shift_mask; /* the next subset of the mask */
    } while (shift);
    return true;
}

/* ---- disjointness */
static bool part_clashes(const u8 *mask_a, const u8 *value_a, const u8 *mask_b,
                         const u8 *value_b) {
    for (u32 i = 0; i < FILTER_BYTES; i++)
        if ((value_a[i] ^ value_b[i]) & mask_a[i] & mask_b[i])
            return true;
    return false;
}

/* The view of f in packets that satisfy the first parts of f and g, if these fix its place. */
static bool view_beside(const struct masked *f, const struct masked *g, struct view *out) {
    u32 at = f->shift_offset;
    if (f->shift_mask & ~(f->mask[at] | g->mask[at]))
        return false;
    *out = view_of(f, f->value[at] | g->value[at]);
    return true;
}

bool filter_disjoint(const struct masked *a, const struct masked *b) {
    if (part_clashes(a->mask, a->value, b->mask, b->value))
        return true;
    if (same_shift(a, b) && part_clashes(a->mask2, a->value2, b->mask2, b->value2))
        return true; /* one packet, one base */
    struct view va, vb;
    if (!view_beside(a, b, &va) || !view_beside(b, a, &vb))
        return false;
    if (view_empty(&va) || view_empty(&vb))
        return true;
    for (u32 i = 0; i < FILTER_BYTES; i++)
        if (clash(view_bits(&va, i), view_bits(&vb, i)) ||
            clash(view_bits(&va, va.base + i), view_bits(&vb, va.base + i)))
            return true;
    return false;
}

/* ---- frames: eight bytes at a time, passing over words in which nothing counts */
static u64 word(const u8 *p) {
    u64 w;
    __builtin_memcpy(&w, p, sizeof(w));
    return w;
}

/* The next eight bytes, of which only `available` may be read; the others are 0. */
static u64 frame_word(const u8 *p, u32 available) {
    if (likely(available >= 8))
        return word(p);
    u64 w = 0;
    memcpy(&w, p, available);
    return w;
}

static bool part_match(const u8 *mask, const u8 *value, u32 need, const u8 *p, u32 available) {
    if (need > available)
        return false;
    for (u32 i = 0; i < need; i += 8) {
        u64 m = word(mask + i);
        if (m && ((frame_word(p + i, available - i) ^ word(value + i)) & m))
            return false;
    }
    return true;
}

bool filter_match(const struct masked *f, const u8 *frame, u32 length) {
    if (!part_match(f->mask, f->value, f->length, frame, length))
        return false;
    if (!f->shift_scale)
        return true;
    u32 base = base_for(f, frame[f->shift_offset]);
    return base < length &&
           part_match(f->mask2, f->value2, f->length2, frame + base, length - base);
}

bool filter_looks_at(const struct masked *f, const u8 *frame, u32 first, u32 count) {
    struct view v = view_of(f, f->shift_scale ? frame[f->shift_offset] : 0);
    for (u32 i = first; i < first + count; i++)
        if (view_bits(&v, i).mask)
            return true;
    return false;
}

/* The key is drawn at boot, so that no libOS can choose values that collide. */
static u64 part_hash(u64 hash, u64 key, const u8 *mask, u32 need, const u8 *p, u32 available) {
    for (u32 i = 0; i < need; i += 8) {
        u64 m = word(mask + i);
        if (m) {
            hash = (hash ^ (frame_word(p + i, available - i) & m)) * (key | 1);
            hash ^= hash >> 32;
        }
    }
    return hash;
}

u64 filter_hash(const struct masked *f, u64 key) {
    u64 hash = part_hash(key, key, f->mask, f->length, f->value, FILTER_BYTES);
    return part_hash(hash, key, f->mask2, f->length2, f->value2, FILTER_BYTES);
}

bool filter_hash_frame(const struct masked *f, const u8 *frame, u32 length, u64 key, u64 *hash) {
    if (f->length > length)
        return false;
    *hash = part_hash(key, key, f->mask, f->length, frame, length);
    if (!f->shift_scale)
        return true;
    u32 base = base_for(f, frame[f->shift_offset]);
    if (base >= length || f->length2 > length - base)
        return false;
    *hash = part_hash(*hash, key, f->mask2, f->length2, frame + base, length - base);
    return true;
}
