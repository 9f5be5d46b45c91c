/* Which flow a frame belongs to, and which flow a filter would take from.
 *
 * Filters of one shape, that is, which count the same bits, are a group: tuple-space search
 * (Srinivasan, Suri and Varghese 1999). Two bytes of the frame say by a table each, a bit for each group, which groups are
 * looked at (Lakshman and Stiliadis 1998). What all filters of a group agree on is compared once, word
 * by word, and mostly ends the matter. The other words are hashed, and the filters found by the hash
 * compared in these words only. Filters with a range stand in a table sorted by hash and then by
 * range: they are disjoint, so that the last which begins at or below the field is the only one that
 * can hold it. A frame costs so much for each group that is looked at, whatever the number of filters, and the groups
 * are bounded. Keys are drawn at boot, and what could betray them is in no exposed page, so that
 * nobody can choose filters that collide.
 *
 * A filter's hash is the sum of what its windows, eight bytes each, contribute. What the windows
 * contribute on which all agree is the group's `agreed_hash`, so that no filter has to be hashed
 * again when a newcomer disagrees. */
#include "core/memory.h"
#include "net/filter.h"
#include "net/flow.h"

#define GROUPS 64
#define BUCKETS 16384
#define SPLIT 3  /* groups of one shape, so that TCP and UDP need not share one */
#define DOUBTS 2 /* filters of one line that are disjoint for no plain reason, in one search: each takes up to 256 pairs of shift bytes */

/* Where the windows of the first part and of the second begin. Those up to HOT are looked at in any
 * case: together they hold what a condition on an Ethernet header of 14 bytes and what stands behind
 * it mostly counts. That some overlap does no harm. */
#define HOT 4
#define FIRST 9
#define WINDOWS 17
static const u8 window[WINDOWS] = {0, 12, 20, 28, 4, 36, 44, 52, 56, 0, 8, 16, 24, 32, 40, 48, 56};

static struct group {         /* 512 bytes: an index is soon a place */
    u16 need;                /* bytes of a frame; TOO_LONG for one that is not plain */
    u16 members;
    u32 hashed;              /* windows in which they differ, those beyond HOT, and those of the second part */
    u64 agreed_hash;
    u64 key[WINDOWS];        /* odd */
    u8 agreed[FILTER_BYTES]; /* bits of the first part that all want as `shape` does */
    struct masked shape;     /* masks, shift and place of the range are those of all */
} groups[GROUPS];
static struct group *groups_end = groups; /* none from here on is in use */
#define TOO_LONG 0xffff                   /* no frame is so long */

/* By the byte of a frame at each of these places: the groups that do not want another there. On an Ethernet they tell most groups
 * apart: by type, and by what IP carries. */
static const u8 telling[] = {13, 23};
static u64 looked_at[ARRAY_SIZE(telling)][256];

/* The filters that are bound: by hash, or by hash and range. */
static struct entry {
    struct flow *flow; /* NULL: unused */
    struct entry *next;
    const struct group *group;
} *entries, *entries_end, *unused; /* none was ever used from entries_end on */
static struct entry *bucket[BUCKETS];
static struct ranged { u64 hash; u32 low, entry; } *ranges; /* sorted by hash, then by low */
static u32 range_count;

void classify_init(u64 key, u32 flows) {
    entries = entries_end = boot_pages((u32)(round_up(flows * sizeof(*entries), PAGE_SIZE) / PAGE_SIZE));
    ranges = boot_pages((u32)(round_up(flows * sizeof(*ranges), PAGE_SIZE) / PAGE_SIZE));
    for (u32 i = flows; i--; unused = &entries[i])
        entries[i].next = unused;
    for (u32 i = 0; i < GROUPS * WINDOWS; i++)
        groups[i / WINDOWS].key[i % WINDOWS] = (key + i) * 0x9e3779b97f4a7c15ull | 1;
}

static const u8 *part_of(const u8 *first, const u8 *second, u32 w) {
    return (w < FIRST ? first : second) + window[w];
}
static u64 mask_in(const struct masked *f, u32 w) { return filter_word(part_of(f->mask, f->mask2, w)); }
static u64 value_in(const struct masked *f, u32 w) { return filter_word(part_of(f->value, f->value2, w)); }

static inline u64 fold(u64 bits, u64 key) {
    unsigned __int128 product = (unsigned __int128)bits * key;
    return (u64)product ^ (u64)(product >> 64);
}

/* Of what stands where the group looks, in a frame or in a filter's values; it is as all agree. */
static u64 hash_at(const struct group *g, const u8 *first, const u8 *second) {
    u64 hash = g->agreed_hash;
    for (u32 left = g->hashed; left; left &= left - 1) {
        u32 w = (u32)__builtin_ctz(left);
        hash += fold(filter_word(part_of(first, second, w)) & mask_in(&g->shape, w), g->key[w]);
    }
    return hash;
}
static u64 hash_of(const struct group *g, const struct masked *f) { return hash_at(g, f->value, f->value2); }

/* How many ranges stand up to (hash, field); the last of them is the one that may hold it. */
static u32 ranges_up_to(u64 hash, u32 field) {
    u32 from = 0, to = range_count;
    while (from < to) {
        u32 middle = (from + to) / 2;
        const struct ranged *r = &ranges[middle];
        if (r->hash < hash || (r->hash == hash && r->low <= field))
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* The first entry that may have the hash and, in a group with ranges, hold the field. */
static struct entry *first_entry(const struct group *g, u64 hash, u32 field) {
    if (!g->shape.range_part)
        return bucket[hash % BUCKETS];
    u32 n = ranges_up_to(hash, field);
    return n ? &entries[ranges[n - 1].entry] : NULL;
}

/* ---- frames */
static inline u64 differs(const struct group *g, const u8 *frame, u32 w) {
    return (filter_word(frame + window[w]) ^ value_in(&g->shape, w)) & filter_word(g->agreed + window[w]);
}

/* The frame is as f wants it in the windows that were hashed, and in the range. */
static bool fits(const struct group *g, const struct masked *f, const u8 *frame, const u8 *second, u32 field) {
    for (u32 left = g->hashed; left; left &= left - 1) {
        u32 w = (u32)__builtin_ctz(left);
        if ((filter_word(part_of(frame, second, w)) ^ value_in(f, w)) & mask_in(f, w))
            return false;
    }
    return !f->range_part || (f->low <= field && field <= f->high);
}

/* Who of a group that is not plain wants the frame. */
static struct flow *search(const struct group *g, const u8 *frame, const u8 *second) {
    const u8 *at = (g->shape.range_part == 2 ? second : frame) + g->shape.range_offset;
    u32 field = (u32)at[0] << 8 | at[1];
    for (const struct entry *e = first_entry(g, hash_at(g, frame, second), field); e; e = e->next)
        if (e->group == g && fits(g, &e->flow->filter, frame, second, field))
            return e->flow;
    return NULL;
}

/* Where the second part begins; NULL: the frame, which is long enough for the first, differs from what all agree on, or is too
 * short. */
static inline const u8 *second_of(const struct group *g, const u8 *frame, u32 length) {
    if (differs(g, frame, 0) | differs(g, frame, 1) | differs(g, frame, 2) | differs(g, frame, 3))
        return NULL;
    u32 base = filter_base(&g->shape, frame);
    return base + g->shape.length2 <= length ? frame + base : NULL;
}

/* Looks at all of these groups, plain or not. */
static NOINLINE struct flow *search_all(const u8 *frame, u32 length, u64 left) {
    struct flow *found = NULL;
    for (; left && !found; left &= left - 1) {
        const struct group *g = &groups[__builtin_ctzll(left)];
        const u8 *second = length < g->shape.length ? NULL : second_of(g, frame, length);
        found = second ? search(g, frame, second) : NULL;
    }
    return found;
}

/* The way of plain groups, without a range and with no window to hash but the second part's first, is
 * short: it is that of ports at one address. */
struct flow *flow_classify(const u8 *frame, u32 length) {
    for (u64 left = looked_at[0][frame[telling[0]]] & looked_at[1][frame[telling[1]]]; left; left &= left - 1) {
        const struct group *g = &groups[__builtin_ctzll(left)];
        if (unlikely(length < g->need)) {
            if (g->need == TOO_LONG)
                return search_all(frame, length, left);
            continue;
        }
        const u8 *second = second_of(g, frame, length);
        if (unlikely(!second))
            continue;
        u64 near = filter_word(second) & filter_word(g->shape.mask2);
        u64 hash = g->agreed_hash + fold(near, g->key[FIRST]);
        for (const struct entry *e = bucket[hash % BUCKETS]; e; e = e->next)
            if (e->group == g && near == filter_word(e->flow->filter.value2))
                return e->flow;
    }
    return NULL;
}

/* ---- binding */
/* Bits of the first part that all of the group want otherwise. */
static bool disagrees(const struct group *g, const struct masked *f) {
    for (u32 i = 0; i < FILTER_BYTES; i++)
        if ((g->shape.value[i] ^ f->value[i]) & g->agreed[i] & f->mask[i])
            return true;
    return false;
}

/* A group of the filter's shape, best one that it agrees with; an unused one; or NULL. */
static struct group *group_for(const struct masked *f) {
    struct group *same = NULL, *empty = NULL;
    u32 split = 0;
    for (struct group *g = groups; g < groups + GROUPS; g++) {
        if (!g->members) {
            empty = empty ? empty : g;
        } else if (filter_same_shape(&g->shape, f)) {
            if (!disagrees(g, f))
                return g;
            same = g;
            split++;
        }
    }
    return empty && split < SPLIT ? empty : same;
}

/* The group begins with a filter. */
static void begin(struct group *g, const struct masked *f) {
    g->shape = *f;
    memcpy(g->agreed, f->mask, sizeof(g->agreed));
    g->agreed_hash = g->key[0]; /* or filters that want nothing but zeros had one hash in all groups, and one table */
    g->hashed = 0;
    for (u32 w = 0; w < WINDOWS; w++)
        if (w < HOT)
            g->agreed_hash += fold(value_in(f, w), g->key[w]);
        else
            g->hashed |= (u32)(mask_in(f, w) >> (w == HOT ? 32 : 0) != 0) << w; /* half of HOT is in another */
    if (groups_end <= g)
        groups_end = g + 1;
}

/* A group is looked at for other frames than before, or if it has no members for none. */
static void tell(const struct group *g) {
    u64 bit = 1ull << (g - groups);
    for (u32 i = 0; i < ARRAY_SIZE(telling); i++)
        for (u32 byte = 0, at = telling[i]; byte < 256; byte++)
            if (g->members && !((byte ^ g->shape.value[at]) & g->agreed[at]))
                looked_at[i][byte] |= bit;
            else
                looked_at[i][byte] &= ~bit;
}

/* Bits on which a newcomer disagrees are no longer agreed on. */
static void agree(struct group *g, const struct masked *f) {
    bool fewer = g->members == 1;
    for (u32 i = 0; i < FILTER_BYTES; i++) {
        fewer |= ((g->shape.value[i] ^ f->value[i]) & g->agreed[i]) != 0;
        g->agreed[i] &= (u8)~(g->shape.value[i] ^ f->value[i]);
    }
    for (u32 w = 0; w < HOT; w++)
        if (!(g->hashed >> w & 1) && filter_word(g->agreed + window[w]) != mask_in(f, w)) {
            g->agreed_hash -= fold(value_in(&g->shape, w), g->key[w]);
            g->hashed |= 1u << w;
        }
    g->need = g->hashed & ~(1u << FIRST) || f->range_part ? TOO_LONG : f->length;
    if (fewer)
        tell(g);
}

s64 classify_add(struct flow *flow) {
    const struct masked *f = &flow->filter;
    struct group *g = group_for(f);
    struct entry *e = unused;
    if (!g || !e)
        return E_FULL;
    if (!g->members++)
        begin(g, f);
    agree(g, f);
    u64 hash = hash_of(g, f);
    unused = e->next;
    *e = (struct entry){flow, NULL, g};
    flow->group = (u32)(g - groups);
    if (entries_end <= e)
        entries_end = e + 1;
    if (f->range_part) {
        u32 n = ranges_up_to(hash, f->low);
        memmove(ranges + n + 1, ranges + n, (range_count++ - n) * sizeof(*ranges));
        ranges[n] = (struct ranged){hash, f->low, (u32)(e - entries)};
    } else {
        e->next = bucket[hash % BUCKETS];
        bucket[hash % BUCKETS] = e;
    }
    return 0;
}

void classify_remove(struct flow *flow) {
    const struct masked *f = &flow->filter;
    struct group *g = &groups[flow->group];
    u64 hash = hash_of(g, f);
    struct entry **link = &bucket[hash % BUCKETS], *e;
    if (f->range_part) {
        u32 n = ranges_up_to(hash, f->low) - 1;
        e = &entries[ranges[n].entry];
        memmove(ranges + n, ranges + n + 1, (--range_count - n) * sizeof(*ranges));
    } else {
        while ((*link)->flow != flow)
            link = &(*link)->next;
        e = *link;
        *link = e->next;
    }
    *e = (struct entry){.next = unused};
    unused = e;
    if (!--g->members)
        tell(g);
    while (groups_end > groups && !groups_end[-1].members)
        groups_end--;
}

/* ---- admission */
/* The filter fixes all that the group counts, and wants a run of values where the group has its range: then the hash,
 * and the end of the run, lead to the only one that it could take from. */
static bool fixes_all(const struct masked *f, const struct group *g, u32 *high) {
    u64 open = 0;
    for (u32 w = 0; w < WINDOWS; w++)
        open |= mask_in(&g->shape, w) & ~mask_in(f, w);
    return !open && filter_same_shift(f, &g->shape) && (!g->shape.range_part || filter_run(f, &g->shape, high));
}

/* Whether f takes from one of the group: of those with its hash, if it fixes all that the group counts, or of all. Filters in
 * flows of disjoint lines are disjoint: so nobody can keep those who have other lines from binding by filters that are hard to
 * tell from theirs. */
static s64 conflict_in(const struct group *g, const struct flow *flow, const struct masked *f, u32 *doubts, u32 *conflict) {
    u32 high = 0;
    bool by_hash = fixes_all(f, g, &high);
    const struct entry *e = by_hash ? first_entry(g, hash_of(g, f), high) : entries;
    for (; by_hash ? e != NULL : e < entries_end; e = by_hash ? e->next : e + 1) {
        if (e->group != g || filter_clash(f, &e->flow->filter) || filter_clash(&flow->line, &e->flow->line))
            continue;
        if (!(*doubts)--)
            return E_FULL;
        if (!filter_disjoint(f, &e->flow->filter)) {
            *conflict = e->flow->self;
            return E_CONFLICT;
        }
    }
    return 0;
}

/* A range where the group counts the whole field is tried value by value, if the group has six times as many members:
 * a value takes about 450 instructions, a member 90. */
s64 classify_conflict(const struct flow *flow, const struct masked *f, u32 *conflict) {
    u32 doubts = DOUBTS, high;
    s64 error = 0;
    for (const struct group *g = groups; g < groups_end && !error; g++) {
        struct masked one;
        if (!g->members || disagrees(g, f))
            continue;
        bool few = f->range_part && !g->shape.range_part && f->high - f->low < (s64)g->members / 6;
        if (few)
            filter_value(f, f->low, &one);
        few = few && fixes_all(&one, g, &high);
        if (!few)
            error = conflict_in(g, flow, f, &doubts, conflict);
        for (u32 value = f->low; few && value <= f->high && !error; value++)
            if (filter_value(f, value, &one))
                error = conflict_in(g, flow, &one, &doubts, conflict);
    }
    return error;
}
