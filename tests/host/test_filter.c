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
        if ((field & a->mask) != a->value)
            return false;
    }
    return true;
}

static struct masked normal(const struct condition *c) {
    struct masked m;
    assert_int_equal(filter_normalize(c, &m), 0);
    return m;
}

/* Matches on a copy of exactly the frame's length, so that the sanitizer sees a byte too many. */
static bool match_exact(const struct masked *m, const u8 *frame, u32 length) {
    u8 *copy = malloc(length ? length : 1);
    memcpy(copy, frame, length);
    bool yes = length ? filter_match(m, copy, length) : filter_match(m, copy + 1, 0);
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
        {"kind", {{.width = 1, .mask = 1, .kind = 2}}, 1},
        {"reserved", {{.width = 1, .mask = 1, .zero = 1}}, 1},
        {"shift width", {{.width = 2, .mask = 1, .value = 1, .kind = ATOM_SHIFT}}, 1},
        {"shift mask 0", {shift(0, 0, 1)}, 1},
        {"shift mask wide", {shift(0, 0x100, 1)}, 1},
        {"shift by nothing", {shift(0, 1, 0)}, 1},
        {"shift too far", {shift(0, 1, 65)}, 1},
        {"shift past the end", {shift(64, 1, 1)}, 1},
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
    put(&far, shift(63, 0xff, 64));
    put(&far, match(0, 1, 0xff, 7));
    struct masked m = normal(&far);
    assert_int_equal(m.length, 64);
    frame[63] = 255;
    assert_false(match_exact(&m, frame, 200));
    frame[63] = 2;
    frame[191] = 7;
    assert_true(match_exact(&m, frame, 192));
    assert_false(match_exact(&m, frame, 191));
    assert_false(match_exact(&m, frame, 63));

    /* A shift with nothing after it says nothing. */
    struct condition idle = {0};
    put(&idle, shift(5, 0xff, 1));
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
    put(&a, match(0, 1, 0xff, 80));
    put(&a, shift(0, 0xff, 1));
    put(&a, match(0, 2, 0xffff, 0x0102)); /* bytes 80 and 81 */
    put(&b, match(1, 1, 0xff, 40));
    put(&b, shift(1, 0xff, 2));
    put(&b, match(0, 1, 0xff, 2)); /* byte 81 */
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
    u8 frame[64] = {[14] = 0x46};
    struct masked m = tcp_port(false, true, 80);
    u8 looked[64] = {[12] = 1, [13] = 1, [14] = 1, [23] = 1, [14 + 24 + 2] = 1, [14 + 24 + 3] = 1};
    for (u32 i = 0; i < 64; i++) {
        assert_int_equal(filter_looks_at(&m, frame, i, 1), looked[i]);
        assert_int_equal(filter_looks_at(&m, frame, i, 2), looked[i] || (i < 63 && looked[i + 1]));
    }
    struct masked none = normal(&(struct condition){0});
    assert_false(filter_looks_at(&none, frame, 0, 64));
}

/* ---- brute force. Bytes of the packets have two bits, so all packets up to LONGEST can be tried;
 * conditions are small enough that no byte beyond is ever looked at. */
#define LONGEST 6
#define PACKETS 5461 /* 4^0 + ... + 4^6 */
#define TRIED 220
static struct small {
    u8 byte[LONGEST];
    u32 length;
} packet[PACKETS];
static struct sample {
    struct condition c;
    struct masked m;
    u64 hit[(PACKETS + 63) / 64]; /* packets that satisfy it */
    u32 hits;
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
    } kind[] = {{0, 3, 1}, {1, 3, 1}, {0, 1, 2}, {0, 2, 1}, {1, 1, 3}, {2, 2, 1}, {0, 1, 4}};
    u32 k = draw(ARRAY_SIZE(kind));
    return shift(kind[k].offset, kind[k].mask, kind[k].scale);
}

static void make_sample(struct sample *s) {
    do {
        memset(s, 0, sizeof(*s));
        for (u32 n = draw(4); n; n--)
            put(&s->c, small_match(5));
        if (draw(3)) {
            put(&s->c, small_shift());
            for (u32 n = draw(3); n; n--)
                put(&s->c, small_match(1));
        }
    } while (filter_normalize(&s->c, &s->m));
    for (u32 p = 0; p < PACKETS; p++) {
        bool yes = filter_match(&s->m, packet[p].byte, packet[p].length);
        if (yes != oracle_match(&s->c, packet[p].byte, packet[p].length))
            fail_msg("a match differs from the atoms'");
        s->hit[p / 64] |= (u64)yes << p % 64;
        s->hits += yes;
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
static bool equal_shift(const struct masked *a, const struct masked *b) {
    return a->shift_scale == b->shift_scale && a->shift_mask == b->shift_mask &&
           a->shift_offset == b->shift_offset;
}

static void test_against_every_packet(void **state) {
    (void)state;
    u32 implied = 0, missed = 0, apart = 0, unseen = 0;
    make_packets();
    for (u32 i = 0; i < TRIED; i++)
        make_sample(&sample[i]);
    for (u32 i = 0; i < TRIED; i++)
        for (u32 j = 0; j < TRIED; j++) {
            const struct sample *a = &sample[i], *b = &sample[j];
            bool implies = filter_implies(&a->m, &b->m), truth = truly_implies(a, b);
            bool disjoint = filter_disjoint(&a->m, &b->m), separate = truly_disjoint(a, b);
            if (implies && !truth)
                fail_msg("%u does not imply %u", i, j);
            if (equal_shift(&a->m, &b->m) && implies != truth)
                fail_msg("%u implies %u, which was not seen", i, j);
            if (disjoint && !separate)
                fail_msg("%u is not disjoint from %u", i, j);
            if (!a->m.shift_scale && !b->m.shift_scale && disjoint != separate)
                fail_msg("%u is disjoint from %u, which was not seen", i, j);
            assert_int_equal(disjoint, filter_disjoint(&b->m, &a->m));
            implied += truth;
            missed += truth && !implies;
            apart += separate;
            unseen += separate && !disjoint;
        }
    print("# %u implications, %u not seen; %u disjoint pairs, %u not seen\n", implied, missed,
          apart, unseen);
    assert_true(implied > TRIED && missed * 4 < implied && unseen * 4 < apart);
}

/* A frame that satisfies a filter has the filter's hash, and one shape hashes one way. */
static void test_hashes(void **state) {
    (void)state;
    u64 hash, key = 0x1234567890abcdefull;
    make_packets();
    for (u32 i = 0; i < TRIED; i++) {
        struct sample *s = &sample[i];
        make_sample(s);
        for (u32 p = 0; p < PACKETS; p++) {
            bool yes = s->hit[p / 64] >> p % 64 & 1;
            bool reached = filter_hash_frame(&s->m, packet[p].byte, packet[p].length, key, &hash);
            if (yes && (!reached || hash != filter_hash(&s->m, key)))
                fail_msg("a frame that matches hashes differently");
        }
    }
    struct masked a = tcp_port(false, true, 80), b = tcp_port(false, true, 81);
    struct masked c = tcp_port(true, false, 80);
    assert_true(filter_same_shape(&a, &b));
    assert_false(filter_same_shape(&a, &c));
    assert_int_not_equal(filter_hash(&a, key), filter_hash(&b, key));
}

/* Conditions of any bytes whatever: no fault, and those admitted match like their atoms. */
static void test_hostile_conditions(void **state) {
    (void)state;
    u32 admitted = 0;
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
                c.atom[i] = shift((u16)draw(66), draw(0x100), draw(66));
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
    }
    print("# %u conditions admitted\n", admitted);
    assert_true(admitted > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_conditions),       cmocka_unit_test(test_edges_of_a_condition),
        cmocka_unit_test(test_ports),                cmocka_unit_test(test_bytes_looked_at),
        cmocka_unit_test(test_against_every_packet), cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_hostile_conditions),   cmocka_unit_test(test_far_second_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
