/* Filters against brute force: conditions made from the fuzzer's bytes are bound and taken out, and each answer of the
 * admission, and where each frame goes, is held against every packet of a small space.
 *
 * A packet has 2 bits in its first byte and 1 in its second, which shifts look at, 5 bits in the 16-bit field behind them
 * and 2 in one at byte 12, by which the classifier tells groups apart, and else zeros. A condition that is *closed* demands that, so that all packets that satisfy it are tried, and
 * the answer must be exact. About one that is open the space can only tell that two packets collide. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "net/filter.h"
#include "net/flow.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define FLOWS 24
#define LENGTH 20
#define PACKETS (1 << 10)

static u8 packet[PACKETS][LENGTH + 128]; /* the classifier reads up to 64 bytes, and 8 beyond where a shift leads */
static struct tried {
    struct flow *flow;
    bool bound, closed;
    u64 hit[PACKETS / 64];
} tried[FLOWS];

void *boot_pages(u32 count) { return aligned_alloc(PAGE_SIZE, (size_t)count * PAGE_SIZE); }

static void begin(void) {
    if (tried[0].flow)
        return;
    for (u32 p = 0; p < PACKETS; p++) {
        packet[p][0] = p & 3;
        packet[p][1] = p >> 2 & 1;
        packet[p][3] = p >> 3 & 31;
        packet[p][13] = p >> 8 & 3;
    }
    for (u32 i = 0; i < FLOWS; i++) {
        tried[i].flow = memset(boot_pages(1), 0, PAGE_SIZE);
        tried[i].flow->self = i + 1;
    }
    classify_init(0x123456789abcdef1, FLOWS);
}

static const u8 *at, *end;
static u32 next(u32 below) { return at < end ? *at++ % below : 0; }

static void match(struct condition *c, u16 offset, u8 width, u32 mask, u32 value) {
    if (mask && c->count < ATOMS)
        c->atom[c->count++] = (struct atom){.offset = offset, .width = width, .mask = mask, .value = value & mask};
}

static void close(struct condition *c) {
    match(c, 0, 2, 0xfcfe, 0);
    match(c, 2, 2, 0xffe0, 0);
    match(c, 12, 2, 0xfffc, 0);
    match(c, 14, 2, 0xffff, 0);
    for (u16 i = 4; i < LENGTH; i += i == 8 ? 8 : 4)
        match(c, i, 4, ~0u, 0);
}

/* What a part of the condition wants of one field: bits, a range, or both. */
static void want(struct condition *c, u16 offset, bool *ranged) {
    static const u8 masks[] = {0x00, 0x00, 0x00, 0xff, 0xff, 0x1f, 0x01, 0x02, 0x1c, 0x03};
    u8 mask = masks[next(ARRAY_SIZE(masks))];

    match(c, offset, 2, mask == 0xff ? 0xffff : mask, next(32));
    if (*ranged || !next(3))
        return;
    u32 low = next(32), high = low + next(next(2) ? 32 : 4);
    c->atom[c->count++] = (struct atom){
        .offset = offset, .width = 2, .kind = ATOM_RANGE, .mask = 0xffff, .value = low, .high = next(8) ? high : 0xffff};
    *ranged = true;
}

static void make(struct condition *c, bool closed) {
    static const struct { u8 offset, mask, scale; } shift[] = {{0, 3, 2}, {0, 1, 2}, {1, 1, 1}, {0, 2, 2}, {0, 2, 1}};
    bool ranged = false;

    *c = (struct condition){0};
    if (closed)
        close(c);
    u32 what = next(16);
    if (what & 1)
        match(c, (u16)next(2), 1, next(4), next(4));
    if (what < 12)
        want(c, 2, &ranged);
    if (what & 2)
        want(c, 12, &ranged);
    u32 which = what & 4 ? next(2 * ARRAY_SIZE(shift)) : 2 * ARRAY_SIZE(shift);
    if (which >= ARRAY_SIZE(shift))
        return;
    c->atom[c->count++] = (struct atom){.offset = shift[which].offset, .width = 1, .kind = ATOM_SHIFT,
                                        .mask = shift[which].mask, .value = shift[which].scale};
    want(c, next(2) ? 2 : 0, &ranged);
}

static void try_all(struct tried *t) {
    memset(t->hit, 0, sizeof(t->hit));
    for (u32 p = 0; p < PACKETS; p++)
        t->hit[p / 64] |= (u64)filter_match(&t->flow->filter, packet[p], LENGTH, 0) << p % 64;
}

static bool meet(const struct tried *a, const struct tried *b) {
    for (u32 i = 0; i < PACKETS / 64; i++)
        if (a->hit[i] & b->hit[i])
            return true;
    return false;
}

static bool within(const struct tried *a, const struct tried *b) {
    for (u32 i = 0; i < PACKETS / 64; i++)
        if (a->hit[i] & ~b->hit[i])
            return false;
    return true;
}

static void bind(struct tried *t) {
    struct condition c;
    u32 robbed = 0, others = 0;

    t->closed = next(4);
    make(&c, t->closed);
    if (filter_normalize(&c, &t->flow->filter))
        return;
    try_all(t);
    for (u32 i = 0; i < FLOWS; i++) {
        struct tried *o = &tried[i];
        if (!o->bound)
            continue;
        bool same = meet(t, o), apart = filter_disjoint(&t->flow->filter, &o->flow->filter);
        CHECK(apart == filter_disjoint(&o->flow->filter, &t->flow->filter));
        CHECK(!(apart && same) && (apart || same || !(t->closed || o->closed)));
        bool implies = filter_implies(&t->flow->filter, &o->flow->filter), inside = within(t, o);
        CHECK(!(implies && !inside) && (implies || !inside || !t->closed));
        others += !apart;
    }
    s64 error = classify_conflict(t->flow, &t->flow->filter, &robbed);
    if (error == E_CONFLICT)
        CHECK(robbed && robbed <= FLOWS && tried[robbed - 1].bound &&
              !filter_disjoint(&t->flow->filter, &tried[robbed - 1].flow->filter));
    CHECK(error == E_FULL || error == (others ? E_CONFLICT : 0));
    t->bound = !error && !classify_add(t->flow);
}

static void unbind(struct tried *t) {
    classify_remove(t->flow);
    t->bound = false;
}

static void look(u32 p) {
    struct flow *wanted = NULL;

    for (u32 i = 0; i < FLOWS; i++)
        if (tried[i].bound && tried[i].hit[p / 64] >> p % 64 & 1)
            wanted = tried[i].flow;
    CHECK(flow_classify(packet[p], LENGTH) == wanted);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    begin();
    at = data;
    end = data + size;
    while (at < end) {
        struct tried *t = &tried[next(FLOWS)];
        if (t->bound)
            unbind(t);
        else
            bind(t);
        for (u32 n = next(16) * 4; n; n--)
            look((next(256) << 8 | next(256)) % PACKETS);
    }
    for (u32 p = size % 7; p < PACKETS; p += 7)
        look(p);
    for (u32 i = 0; i < FLOWS; i++)
        if (tried[i].bound)
            unbind(&tried[i]);
    return 0;
}
