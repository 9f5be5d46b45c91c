/* Conditions on packets, held against a second implementation that works atom by atom, and against
 * brute force: whether one condition implies another, or excludes it, is decided by trying every
 * packet of a small space. */
// sources: kernel/net/filter.c
#include "net/filter.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

static u64 seed = 88172645463325252ull;
static u32 draw(u32 below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (u32)(seed >> 33) % below;
}

static struct atom match(u16 offset, u8 width, u32 mask, u32 value) {
    return (struct atom){.offset = offset, .width = width, .mask = mask, .value = value};
}
static struct atom shift(u16 offset, u32 mask, u32 scale) {
    return (struct atom){
        .offset = offset, .width = 1, .kind = ATOM_SHIFT, .mask = mask, .value = scale};
}
static struct atom range(u16 offset, u32 low, u32 high) {
    return (struct atom){.offset = offset,
                         .width = 2,
                         .kind = ATOM_RANGE,
                         .mask = 0xffff,
                         .value = low,
                         .high = high};
}
static void put(struct condition *c, struct atom a) { c->atom[c->count++] = a; }

/* What the interface says, atom by atom. */
static bool oracle_match(const struct condition *c, const u8 *frame, u32 length) {
    u32 base = 0;
    for (u32 i = 0; i < c->count; i++) {
        const struct atom *a = &c->atom[i];
        u64 at = (u64)base + a->offset;
        if (a->kind == ATOM_SHIFT) {
            bool last = i + 1 == c->count; /* a shift with nothing after it asks for nothing */
            if (at >= length)
                return last;
            base = (u32)at + (frame[at] & a->mask) * a->value;
            continue;
        }
        u32 field = 0;
        if (at + a->width > length) {
            /* Only the bytes that count must be there. */
            u8 padded[4] = {0};
            for (u32 k = 0; k < a->width; k++) {
                if (at + k < length)
                    padded[k] = frame[at + k];
                else if (a->mask >> 8 * (a->width - 1 - k) & 0xff)
                    return false;
            }
            for (u32 k = 0; k < a->width; k++)
                field = field << 8 | padded[k];
        } else {
            for (u32 k = 0; k < a->width; k++)
                field = field << 8 | frame[at + k];
        }
        if (a->kind == ATOM_RANGE ? field < a->value || field > a->high
                                  : (field & a->mask) != a->value)
            return false;
    }
    return true;
}

static struct masked normal(const struct condition *c) {
    struct masked m;
    assert_int_equal(filter_normalize(c, &m), 0);
    return m;
}

/* Matches on a copy with just the 8 bytes behind it that may be read, so that the sanitizer sees a byte too many. They are once as
 * the frame would go on and once otherwise, which must not matter. */
static bool match_exact(const struct masked *m, const u8 *frame, u32 length) {
    u8 *copy = malloc(length + 8);
    memcpy(copy, frame, length);
    memset(copy + length, 0, 8);
    bool yes = filter_match(m, copy, length, 0);
    for (u32 i = 0; i < 8; i++)
        copy[length + i] = (u8)~m->value[(length + i) % FILTER_BYTES];
    assert_int_equal(filter_match(m, copy, length, 0), yes);
    free(copy);
    return yes;
}

static void test_bad_conditions(void **state) {
    (void)state;
    struct {
        const char *what;
        struct atom atom[2];
        u32 count;
    } bad[] = {
        {"width 0", {match(0, 0, 1, 0)}, 1},
        {"width 3", {match(0, 3, 1, 0)}, 1},
        {"width 8", {match(0, 8, 1, 0)}, 1},
        {"width 255", {match(0, 255, 1, 0)}, 1},
        {"mask 0", {match(0, 1, 0, 0)}, 1},
        {"mask wider than 1 byte", {match(0, 1, 0x100, 0)}, 1},
        {"mask wider than 2 bytes", {match(0, 2, 0x10000, 0)}, 1},
        {"value outside mask", {match(0, 2, 0xf0, 0x01)}, 1},
        {"past the end, 1", {match(64, 1, 1, 0)}, 1},
        {"past the end, 2", {match(63, 2, 1, 0)}, 1},
        {"past the end, 4", {match(61, 4, 1, 0)}, 1},
        {"offset overflows", {match(0xffff, 4, 1, 0)}, 1},
        {"contradiction", {match(4, 1, 3, 1), match(4, 1, 6, 2)}, 2},
        {"contradiction across fields", {match(4, 2, 0xffff, 0x1234), match(5, 1, 0xff, 0x35)}, 2},
        {"kind", {{.width = 1, .mask = 1, .kind = 3}}, 1},
        {"reserved", {{.width = 1, .mask = 1, .high = 1}}, 1},
        {"reserved, shift", {{.width = 1, .mask = 1, .value = 1, .kind = ATOM_SHIFT, .high = 1}}, 1},
        {"shift width", {{.width = 2, .mask = 1, .value = 1, .kind = ATOM_SHIFT}}, 1},
        {"shift mask 0", {shift(0, 0, 1)}, 1},
        {"shift mask wide", {shift(0, 0x100, 1)}, 1},
        {"shift mask of 5 bits", {shift(0, 0x57, 1)}, 1},
        {"shift by nothing", {shift(0, 1, 0)}, 1},
        {"shift too far", {shift(0, 1, 65)}, 1},
        {"shift past the end", {shift(64, 1, 1)}, 1},
        {"range upside down", {range(0, 2, 1)}, 1},
        {"range of everything", {range(0, 0, 0xffff)}, 1},
        {"range too far", {range(0, 1, 0x10000)}, 1},
        {"range far too far", {range(0, 1, 0xffffffff)}, 1},
        {"range with a mask", {{.width = 2, .kind = ATOM_RANGE, .mask = 0xfff, .high = 7}}, 1},
        {"range of 1 byte", {{.width = 1, .kind = ATOM_RANGE, .mask = 0xffff, .high = 7}}, 1},
        {"range of 4 bytes", {{.width = 4, .kind = ATOM_RANGE, .mask = 0xffff, .high = 7}}, 1},
        {"one value, mask", {{.width = 2, .kind = ATOM_RANGE, .mask = 0xff, .value = 7, .high = 7}}, 1},
        {"range at an odd place", {range(1, 1, 2)}, 1},
        {"range past the end", {range(64, 1, 2)}, 1},
        {"range far past the end", {range(0xfffe, 1, 2)}, 1},
        {"two ranges", {range(0, 1, 2), range(2, 1, 2)}, 2},
        {"range beside a match", {range(0, 0x100, 0x1ff), match(0, 1, 0xff, 2)}, 2},
        {"range behind an odd shift", {shift(1, 2, 2), range(0, 1, 2)}, 2},
        {"range behind odd steps", {shift(0, 3, 3), range(0, 1, 2)}, 2},
        {"two shifts", {shift(0, 1, 1), shift(0, 1, 1)}, 2},
        {"count", {match(0, 1, 1, 1)}, ATOMS + 1},
        {"huge count", {match(0, 1, 1, 1)}, 0xffffffff},
    };
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        struct condition c = {.count = bad[i].count};
        struct masked m;
        memcpy(c.atom, bad[i].atom, sizeof(bad[i].atom));
        if (filter_normalize(&c, &m) != E_BAD_ARGUMENT)
            fail_msg("admitted: %s", bad[i].what);
    }
    struct condition c = {.zero = 1};
    struct masked m;
    assert_int_equal(filter_normalize(&c, &m), E_BAD_ARGUMENT);
}

static void test_edges_of_a_condition(void **state) {
    (void)state;
    u8 frame[200] = {0};
    struct condition c = {0};
    struct masked all = normal(&c);
    assert_true(match_exact(&all, frame, 0)); /* no atoms: every packet */

    put(&c, match(60, 4, 0xffffffff, 0x01020304));
    put(&c, match(62, 2, 0x0f0f, 0x0304)); /* overlaps and agrees */
    struct masked last = normal(&c);
    assert_int_equal(last.length, 64);
    memcpy(frame + 60, "\1\2\3\4", 4);
    assert_true(match_exact(&last, frame, 64));
    assert_true(match_exact(&last, frame, 200));
    assert_false(match_exact(&last, frame, 63));
    frame[63] = 5;
    assert_false(match_exact(&last, frame, 64));

    /* The widest shift: byte 63, 255 times 64, far past the frame. */
    struct condition far = {0};
    put(&far, shift(63, 0xe1, 64));
    put(&far, match(0, 1, 0xff, 7));
    struct masked m = normal(&far);
    assert_int_equal(m.length, 64);
    frame[63] = 255;
    assert_false(match_exact(&m, frame, 200));
    frame[63] = 0x1f;
    frame[127] = 7;
    assert_true(match_exact(&m, frame, 128));
    assert_false(match_exact(&m, frame, 127));
    assert_false(match_exact(&m, frame, 63));

    /* A shift with nothing after it says nothing. */
    struct condition idle = {0};
    put(&idle, shift(5, 0x0f, 1));
    m = normal(&idle);
    assert_memory_equal(&m, &all, sizeof(m));
}

/* IPv4, TCP to a port, by the header's length or at a fixed place. */
static struct masked tcp_port(bool fixed, bool shifted, u16 port) {
    struct condition c = {0};
    put(&c, match(12, 2, 0xffff, 0x0800));
    put(&c, match(23, 1, 0xff, 6));
    if (fixed)
        put(&c, match(14, 1, 0xff, 0x45));
    if (shifted) {
        put(&c, shift(14, 0x0f, 4));
        put(&c, match(2, 2, 0xffff, port));
    } else {
        put(&c, match(36, 2, 0xffff, port));
    }
    return normal(&c);
}

static void test_ports(void **state) {
    (void)state;
    struct masked any80 = tcp_port(false, true, 80), any81 = tcp_port(false, true, 81);
    struct masked fix80 = tcp_port(true, false, 80), fix81 = tcp_port(true, false, 81);
    struct masked both80 = tcp_port(true, true, 80), bare80 = tcp_port(false, false, 80);
    struct condition arp = {0}, tcp = {0};
    put(&arp, match(12, 2, 0xffff, 0x0806));
    put(&tcp, match(12, 2, 0xffff, 0x0800));
    put(&tcp, match(23, 1, 0xff, 6));
    struct masked m_arp = normal(&arp), m_tcp = normal(&tcp);

    assert_true(filter_implies(&any80, &m_tcp));
    assert_false(filter_implies(&m_tcp, &any80));
    assert_false(filter_implies(&any80, &any81));
    /* 20 bytes of header: the shift leads where the fixed field stands. */
    assert_true(filter_implies(&fix80, &any80));
    assert_true(filter_implies(&both80, &fix80));
    assert_true(filter_implies(&fix80, &both80));
    assert_false(filter_implies(&any80, &fix80));
    assert_false(filter_implies(&bare80, &any80)); /* options could move the port */
    assert_false(filter_implies(&any80, &bare80));

    assert_true(filter_disjoint(&any80, &any81));
    assert_true(filter_disjoint(&any80, &m_arp));
    assert_true(filter_disjoint(&fix80, &fix81));
    assert_true(filter_disjoint(&fix80, &any81));
    assert_true(filter_disjoint(&any81, &fix80));
    assert_true(filter_disjoint(&both80, &fix81));
    assert_false(filter_disjoint(&any80, &bare80));
    assert_false(filter_disjoint(&any80, &m_tcp));
    assert_false(filter_disjoint(&any80, &any80));
}

/* Two shifts that lead beyond what the first parts see, to places that overlap. */
static void test_far_second_parts(void **state) {
    (void)state;
    struct condition a = {0}, b = {0};
    put(&a, match(0, 1, 0xff, 0xd0));
    put(&a, shift(0, 0x78, 2)); /* 160 */
    put(&a, match(0, 2, 0xffff, 0x0102)); /* bytes 160 and 161 */
    put(&b, match(1, 1, 0xff, 40));
    put(&b, shift(1, 0x39, 4));
    put(&b, match(0, 1, 0xff, 2)); /* byte 161 */
    struct masked m_a = normal(&a), m_b = normal(&b);
    assert_false(filter_disjoint(&m_a, &m_b));
    assert_false(filter_implies(&m_a, &m_b)); /* byte 1 may be anything */
    b.atom[2].value = 3;
    m_b = normal(&b);
    assert_true(filter_disjoint(&m_a, &m_b));
    assert_true(filter_disjoint(&m_b, &m_a));
}

static void test_bytes_looked_at(void **state) {
    (void)state;
    u8 frame[64 + 8] = {[12] = 0x08, [14] = 0x46, [23] = 6, [14 + 24 + 3] = 80};
    struct masked m = tcp_port(false, true, 80);
    u8 looked[65] = {[12] = 1, [13] = 1, [14] = 1, [23] = 1, [14 + 24 + 2] = 1, [14 + 24 + 3] = 1};
    assert_true(filter_match(&m, frame, 64, 0));
    for (u32 i = 1; i < 64; i++)
        assert_int_equal(filter_match(&m, frame, 64, i), !(looked[i] || looked[i + 1]));
    struct condition far = {0}; /* the last byte of both parts, the field of a range, and what is just before the second part */
    put(&far, match(63, 1, 0xff, 0));
    put(&far, range(20, 1, 2));
    put(&far, shift(0, 1, 30));
    put(&far, match(63, 1, 1, 0));
    put(&far, match(0, 1, 1, 0));
    m = normal(&far);
    u8 other[30 + 64 + 8] = {1, [21] = 1};
    assert_true(filter_match(&m, other, 30 + 64, 0));
    for (u32 i = 1; i < 110; i++)
        assert_int_equal(filter_match(&m, other, 30 + 64, i),
                         !((i >= 19 && i <= 21) || i == 29 || i == 30 || i == 62 || i == 63 || i == 92 || i == 93));
    struct masked none = normal(&(struct condition){0});
    for (u32 i = 1; i < 64; i++)
        assert_true(filter_match(&none, frame, 64, i));
}

/* ---- brute force. Bytes of the packets have two bits, so all packets up to LONGEST can be tried;
 * conditions are small enough that no byte beyond is ever looked at. */
#define LONGEST 6
#define PACKETS 5461 /* 4^0 + ... + 4^6 */
#define TRIED 400
#define CLOSED 200
static struct small {
    u8 byte[LONGEST + 8];
    u32 length;
} packet[PACKETS];
static struct sample {
    struct condition c;
    struct masked m;
    u64 hit[(PACKETS + 63) / 64]; /* packets that satisfy it */
    bool closed;                  /* all bytes that it counts are small */
} sample[TRIED];

static void make_packets(void) {
    u32 n = 0;
    for (u32 length = 0; length <= LONGEST; length++)
        for (u32 code = 0; code < 1u << 2 * length; code++, n++) {
            packet[n].length = length;
            for (u32 i = 0; i < length; i++)
                packet[n].byte[i] = code >> 2 * i & 3;
        }
    assert_int_equal(n, PACKETS);
}

static struct atom small_match(u32 offsets) {
    u32 width = draw(4) ? 1 : 2;
    u32 mask = (width == 2 ? 0x0303 : 0x03) & draw(0x10000);
    if (!mask)
        mask = 1;
    return match((u16)draw(offsets), (u8)width, mask, mask & draw(0x10000));
}

/* Shifts lead at most to byte 4, and a field there has at most two bytes. */
static struct atom small_shift(void) {
    static const struct {
        u8 offset, mask, scale;
    } kind[] = {{0, 3, 1}, {1, 3, 1}, {0, 1, 2}, {0, 2, 1}, {1, 1, 3},
                {2, 2, 1}, {0, 1, 4}, {2, 1, 2}, {0, 2, 2}};
    u32 k = draw(ARRAY_SIZE(kind));
    return shift(kind[k].offset, kind[k].mask, kind[k].scale);
}

static struct atom small_range(u32 offset) {
    u32 low = draw(0x10000) & 0x0303, high = draw(0x10000) & 0x0303;
    return low < high ? range((u16)offset, low - (low && !draw(2)), high + draw(0x80))
                      : range((u16)offset, high, low);
}

/* What a range excludes shows in packets of small bytes only if all bytes are small: a closed
 * condition demands that of the bytes up to the last. */
static void make_condition(struct sample *s) {
    if (s->closed)
        for (u16 i = 0; i < LONGEST; i += 2)
            put(&s->c, match(i, 2, 0xfcfc, 0));
    for (u32 n = draw(4); n; n--)
        put(&s->c, small_match(5));
    bool ranged = !draw(3);
    if (ranged)
        put(&s->c, small_range(2 * draw(3)));
    if (!draw(3))
        return;
    put(&s->c, small_shift());
    for (u32 n = draw(3); n; n--)
        put(&s->c, small_match(1));
    if (!ranged && draw(2))
        put(&s->c, small_range(0));
}

/* What a condition does not look at can be anything. */
static void try_other_bytes(const struct masked *m, const u8 *packet_bytes, u32 length) {
    for (u32 at = 1; at + 1 < length; at++) {
        u8 other[LONGEST + 8];
        memcpy(other, packet_bytes, sizeof(other));
        other[at] ^= 0xff;
        other[at + 1] ^= 0xff;
        if (filter_match(m, packet_bytes, length, at) && !filter_match(m, other, length, 0))
            fail_msg("a condition looks where it says that it does not");
    }
}

static void make_sample(struct sample *s) {
    bool closed = s - sample < CLOSED;
    do {
        memset(s, 0, sizeof(*s));
        s->closed = closed;
        make_condition(s);
    } while (filter_normalize(&s->c, &s->m));
    for (u32 p = 0; p < PACKETS; p++) {
        bool yes = filter_match(&s->m, packet[p].byte, packet[p].length, 0);
        if (yes != oracle_match(&s->c, packet[p].byte, packet[p].length))
            fail_msg("a match differs from the atoms'");
        if (yes)
            try_other_bytes(&s->m, packet[p].byte, packet[p].length);
        s->hit[p / 64] |= (u64)yes << p % 64;
    }
}

static bool truly_implies(const struct sample *a, const struct sample *b) {
    for (u32 i = 0; i < ARRAY_SIZE(a->hit); i++)
        if (a->hit[i] & ~b->hit[i])
            return false;
    return true;
}
static bool truly_disjoint(const struct sample *a, const struct sample *b) {
    for (u32 i = 0; i < ARRAY_SIZE(a->hit); i++)
        if (a->hit[i] & b->hit[i])
            return false;
    return true;
}

static void test_against_every_packet(void **state) {
    (void)state;
    u32 implied = 0, apart = 0, by_range = 0;
    make_packets();
    for (u32 i = 0; i < TRIED; i++)
        make_sample(&sample[i]);
    for (u32 i = 0; i < TRIED; i++)
        for (u32 j = 0; j < TRIED; j++) {
            const struct sample *a = &sample[i], *b = &sample[j];
            bool implies = filter_implies(&a->m, &b->m), truth = truly_implies(a, b);
            bool disjoint = filter_disjoint(&a->m, &b->m), separate = truly_disjoint(a, b);
            bool small = !a->m.range_part && !b->m.range_part; /* they look at small bits only */
            if ((small && !b->closed) || a->closed ? implies != truth : implies && !truth)
                fail_msg("%u implies %u: %u, not %u", i, j, truth, implies);
            if (small || a->closed || b->closed ? disjoint != separate : disjoint && !separate)
                fail_msg("%u is disjoint from %u: %u, not %u", i, j, separate, disjoint);
            assert_int_equal(disjoint, filter_disjoint(&b->m, &a->m));
            implied += implies;
            apart += disjoint;
            by_range += disjoint && a->m.range_part && b->m.range_part;
        }
    print("# %u implications, %u disjoint pairs, %u with two ranges\n", implied, apart, by_range);
    assert_true(implied > 2 * TRIED && apart > 8 * TRIED && by_range > TRIED);
}

/* All 65,536 values of one field, under masks and ranges, seen as a range or as bytes. */
static void test_every_value_of_a_field(void **state) {
    (void)state;
    static struct {
        struct masked m;
        u64 hit[1024];
    } tried[120];
    u32 implied = 0, apart = 0;
    for (u32 i = 0; i < ARRAY_SIZE(tried); i++) {
        struct condition c;
        do {
            c = (struct condition){0};
            u32 mask = draw(0x10000) & draw(0x10000), near = draw(0x10000), span = draw(1u << draw(17));
            if (mask && draw(3))
                put(&c, match(0, 2, mask, mask & draw(0x10000)));
            if (draw(4))
                put(&c, range(0, near, near + span > 0xffff ? 0xffff : near + span));
        } while (filter_normalize(&c, &tried[i].m));
        for (u32 x = 0; x < 65536; x++) {
            u8 frame[10] = {(u8)(x >> 8), (u8)x};
            bool yes = filter_match(&tried[i].m, frame, 2, 0);
            assert_int_equal(yes, oracle_match(&c, frame, 2));
            tried[i].hit[x / 64] |= (u64)yes << x % 64;
        }
    }
    for (u32 i = 0; i < ARRAY_SIZE(tried); i++)
        for (u32 j = 0; j < ARRAY_SIZE(tried); j++) {
            u64 beyond = 0, both = 0;
            for (u32 w = 0; w < 1024; w++) {
                beyond |= tried[i].hit[w] & ~tried[j].hit[w];
                both |= tried[i].hit[w] & tried[j].hit[w];
            }
            bool longer = tried[j].m.length > tried[i].m.length;
            assert_int_equal(filter_implies(&tried[i].m, &tried[j].m), !beyond && !longer);
            assert_int_equal(filter_disjoint(&tried[i].m, &tried[j].m), !both);
            implied += !beyond;
            apart += !both;
        }
    print("# %u implications, %u disjoint pairs\n", implied, apart);
    assert_true(implied > 2 * ARRAY_SIZE(tried) && apart > 2 * ARRAY_SIZE(tried));
}

/* TCP to a range of ports, wherever the shift leads. */
static struct masked tcp_ports(u16 low, u16 high) {
    struct condition c = {0};
    put(&c, match(12, 2, 0xffff, 0x0800));
    put(&c, match(23, 1, 0xff, 6));
    put(&c, shift(14, 0x0f, 4));
    put(&c, range(2, low, high));
    return normal(&c);
}

static void test_port_ranges(void **state) {
    (void)state;
    struct masked r = tcp_ports(8000, 8099), inner = tcp_ports(8010, 8019), next = tcp_ports(8100, 8199);
    struct masked edge = tcp_ports(8099, 8100), one = tcp_ports(80, 80), port = tcp_port(false, true, 80);
    struct masked in = tcp_port(false, true, 8050), out = tcp_port(false, true, 8100);
    struct masked fixed_in = tcp_port(true, false, 8050), fixed_out = tcp_port(true, false, 7999);
    assert_memory_equal(&one, &port, sizeof(one)); /* one value is no range */
    assert_true(filter_implies(&inner, &r) && filter_implies(&in, &r) && filter_implies(&fixed_in, &r));
    assert_false(filter_implies(&r, &inner) || filter_implies(&edge, &r) || filter_implies(&out, &r));
    assert_false(filter_implies(&r, &in) || filter_implies(&fixed_out, &r));
    assert_true(filter_disjoint(&r, &next) && filter_disjoint(&r, &out) && filter_disjoint(&r, &port));
    assert_true(filter_disjoint(&r, &fixed_out) && filter_disjoint(&fixed_out, &r));
    assert_false(filter_disjoint(&r, &edge) || filter_disjoint(&r, &in) || filter_disjoint(&fixed_in, &r));
    /* 0x1f00 to 0x1fff and the same by a mask, but for the second byte's presence. */
    struct condition c = {0};
    put(&c, match(12, 2, 0xffff, 0x0800));
    put(&c, match(23, 1, 0xff, 6));
    put(&c, shift(14, 0x0f, 4));
    put(&c, match(2, 1, 0xff, 0x1f));
    struct masked block = tcp_ports(0x1f00, 0x1fff), bits = normal(&c);
    assert_true(filter_implies(&block, &bits));
    assert_false(filter_implies(&bits, &block));
}

/* ---- frames as they come: tags, options, fragments, IPv6 */
/* An IPv4 header of so many words and a port behind it, after so many bytes of tags. */
static u32 make_frame(u8 *frame, u32 tags, u32 words, u16 fragment, u16 port) {
    u32 ip = 14 + tags, udp = ip + 4 * words;
    memset(frame, 0, 256);
    for (u32 i = 0; i < tags; i += 4) {
        frame[12 + i] = i + 4 < tags ? 0x88 : 0x81;
        frame[13 + i] = i + 4 < tags ? 0xa8 : 0x00;
        frame[15 + i] = (u8)(5 + i / 4);
    }
    frame[ip - 2] = 8;
    frame[ip] = (u8)(0x40 | words);
    frame[ip + 6] = (u8)(fragment >> 8);
    frame[ip + 7] = (u8)fragment;
    frame[ip + 9] = 17;
    frame[udp + 2] = (u8)(port >> 8);
    frame[udp + 3] = (u8)port;
    return udp + 8;
}

/* UDP to ports 8000 to 8099, as a manifest's flow demands it, after so many bytes of tags. */
static struct masked udp_ports(u16 tags) {
    struct condition c = {0};
    for (u16 i = 0; i < tags; i += 4) {
        put(&c, match(12 + i, 2, 0xffff, i + 4 < tags ? 0x88a8 : 0x8100));
        put(&c, match(14 + i, 2, 0x0fff, 5 + i / 4));
    }
    put(&c, match(12 + tags, 2, 0xffff, 0x0800));
    put(&c, match(14 + tags, 1, 0xf0, 0x40));
    put(&c, match(20 + tags, 2, 0x3fff, 0));
    put(&c, match(23 + tags, 1, 0xff, 17));
    put(&c, shift(14 + tags, 0x0f, 4));
    put(&c, range(2, 8000, 8099));
    return normal(&c);
}

static void test_protocols(void **state) {
    (void)state;
    u8 frame[256];
    for (u16 tags = 0; tags <= 8; tags += 4) {
        struct masked m = udp_ports(tags);
        for (u32 words = 5; words <= 15; words++) {
            u32 length = make_frame(frame, tags, words, 0, 8050);
            assert_true(match_exact(&m, frame, length));
            assert_true(match_exact(&m, frame, length - 4));
            assert_false(match_exact(&m, frame, length - 5)); /* half of a port */
            for (u16 other = 0; other <= 8; other += 4) { /* a tag more or less is another frame */
                struct masked o = udp_ports(other);
                assert_true(other == tags || !match_exact(&o, frame, length));
                assert_true(other == tags || filter_disjoint(&m, &o));
            }
            make_frame(frame, tags, words, 0x4000, 8050); /* do not fragment: allowed */
            assert_true(match_exact(&m, frame, length));
            for (u32 bit = 1; bit < 0x4000; bit <<= 1) {
                make_frame(frame, tags, words, (u16)bit, 8050);
                assert_false(match_exact(&m, frame, length));
            }
            make_frame(frame, tags, words, 0, 7999);
            assert_false(match_exact(&m, frame, length));
        }
    }
    /* IPv6: the port has one place, unless something stands before it. */
    struct condition c = {0};
    put(&c, match(12, 2, 0xffff, 0x86dd));
    put(&c, match(20, 1, 0xff, 17));
    put(&c, range(56, 53, 54));
    struct masked plain = normal(&c);
    memset(frame, 0, sizeof(frame));
    frame[12] = 0x86;
    frame[13] = 0xdd;
    frame[20] = 17;
    frame[57] = 53;
    assert_true(match_exact(&plain, frame, 62));
    frame[20] = 0; /* options for hosts on the way, of 24 bytes */
    assert_false(match_exact(&plain, frame, 90));
    frame[54] = 17;
    frame[55] = 2;
    frame[54 + 24 + 3] = 53;
    struct condition follow = {0};
    put(&follow, match(12, 2, 0xffff, 0x86dd));
    put(&follow, match(20, 1, 0xff, 0));
    put(&follow, match(54, 1, 0xff, 17));
    put(&follow, shift(55, 0x0f, 8));
    put(&follow, match(9, 2, 0xffff, 53));
    struct masked options = normal(&follow);
    assert_true(match_exact(&options, frame, 86));
    assert_true(filter_disjoint(&options, &plain));
    frame[54] = 43; /* and a routing header behind them */
    assert_false(match_exact(&options, frame, 86));
}

/* Two conditions of one shape count the same bits. */
static void test_shapes(void **state) {
    (void)state;
    struct masked a = tcp_port(false, true, 80), b = tcp_port(false, true, 81);
    struct masked c = tcp_port(true, false, 80), r = tcp_ports(80, 89), s = tcp_ports(90, 99);
    assert_true(filter_same_shape(&a, &b) && filter_same_shape(&r, &s));
    assert_false(filter_same_shape(&a, &c) || filter_same_shape(&a, &r));
}

/* Conditions of any bytes whatever: no fault, and those admitted match like their atoms. */
static void test_hostile_conditions(void **state) {
    (void)state;
    u32 admitted = 0;
    struct masked earlier = {0};
    for (u32 round = 0; round < 60000; round++) {
        struct condition c;
        struct masked m;
        memset(&c, 0, sizeof(c));
        c.count = draw(16) ? draw(6) : draw(ATOMS + 3);
        for (u32 i = 0; i < ATOMS; i++) {
            u32 width = 1u << draw(3), all = 0xffffffffu >> (32 - 8 * width);
            u32 mask = draw(0x7fffffff) & all & (draw(2) ? 0x01010101u : all);
            c.atom[i] = match((u16)draw(draw(2) ? 8 : 66), (u8)width, mask,
                              draw(2) ? 0 : mask & draw(0x7fffffff));
            if (!draw(8)) {
                c.atom[i] = shift((u16)draw(66), draw(0x100) & draw(0x100), draw(66));
            } else if (!draw(8)) {
                c.atom[i] = range((u16)draw(66), draw(0x10001), draw(0x10001));
            } else if (!draw(60)) {
                ((u8 *)&c.atom[i])[draw(sizeof(struct atom))] ^= (u8)(1 << draw(8));
            }
        }
        if (filter_normalize(&c, &m))
            continue;
        admitted++;
        for (u32 n = 0; n < 6; n++) {
            u8 frame[320];
            u32 length = draw(2) ? draw(sizeof(frame)) : draw(20);
            for (u32 i = 0; i < length; i++)
                frame[i] = draw(4) ? 0 : (u8)draw(256);
            if (match_exact(&m, frame, length) != oracle_match(&c, frame, length))
                fail_msg("a match differs from the atoms'");
        }
        assert_true(filter_implies(&m, &m));
        if (earlier.length) { /* two strangers */
            bool apart = filter_disjoint(&m, &earlier), within = filter_implies(&m, &earlier);
            assert_int_equal(apart, filter_disjoint(&earlier, &m));
            assert_false(apart && within && !filter_disjoint(&m, &m));
        }
        earlier = m;
    }
    print("# %u conditions admitted\n", admitted);
    assert_true(admitted > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_conditions),       cmocka_unit_test(test_edges_of_a_condition),
        cmocka_unit_test(test_ports),                cmocka_unit_test(test_bytes_looked_at),
        cmocka_unit_test(test_against_every_packet), cmocka_unit_test(test_every_value_of_a_field),
        cmocka_unit_test(test_hostile_conditions),   cmocka_unit_test(test_far_second_parts),
        cmocka_unit_test(test_port_ranges),          cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_protocols),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
