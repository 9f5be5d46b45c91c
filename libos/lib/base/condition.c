/* From the normal form, in a flow's exposed page, back to atoms of four bytes. */
#include "base/condition.h"

static void add_atom(struct condition *c, u16 offset, const u8 *mask, const u8 *value) {
    u32 m, v;

    memcpy(&m, mask, 4);
    memcpy(&v, value, 4);
    if (m && c->count < ATOMS)
        c->atom[c->count++] = (struct atom){.offset = offset,
                                            .width = 4,
                                            .kind = ATOM_MATCH,
                                            .mask = __builtin_bswap32(m),
                                            .value = __builtin_bswap32(v)};
}

static void add_range(struct condition *c, const struct masked *from, u32 part) {
    if (from->range_part == part && c->count < ATOMS)
        c->atom[c->count++] = (struct atom){.offset = from->range_offset,
                                            .width = 2,
                                            .kind = ATOM_RANGE,
                                            .mask = 0xffff,
                                            .value = from->low,
                                            .high = from->high};
}

void condition_from(struct condition *to, const struct masked *from) {
    memset(to, 0, sizeof *to);
    add_range(to, from, 1);
    for (u16 i = 0; i < sizeof from->mask; i += 4)
        add_atom(to, i, from->mask + i, from->value + i);
    if (!from->shift_scale || to->count == ATOMS)
        return;
    to->atom[to->count++] = (struct atom){.offset = from->shift_offset,
                                          .width = 1,
                                          .kind = ATOM_SHIFT,
                                          .mask = from->shift_mask,
                                          .value = from->shift_scale};
    add_range(to, from, 2);
    for (u16 i = 0; i < sizeof from->mask2; i += 4)
        add_atom(to, i, from->mask2 + i, from->value2 + i);
}
