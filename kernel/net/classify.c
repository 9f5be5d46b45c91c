/* Which flow a frame belongs to: tuple-space search (Srinivasan, Suri and Varghese 1999).
 *
 * Filters of one shape, that is, which count the same bits, are a group. For each group the bits of
 * the frame that it counts are hashed once, whatever the number of its filters, and looked up among
 * all filters. A frame costs a hash for each group, and the groups are bounded. Groups have keys of
 * their own, drawn at boot, so that nobody can choose filters that collide. */
#include "net/filter.h"
#include "net/flow.h"

#define GROUPS 64
#define BUCKETS 2048

static struct group {
    struct masked shape; /* of one of its filters, the first */
    u64 key;
    u32 members; /* 0: not in use */
} groups[GROUPS];
static u32 groups_used; /* none from here on is in use */

/* Entry 0 ends a chain. */
static struct entry {
    struct flow *flow; /* NULL: not in use */
    u16 next;
} entries[FLOWS_MAX + 1];
static u16 bucket[BUCKETS];

void classify_init(u64 key) {
    for (u32 i = 0; i < GROUPS; i++)
        groups[i].key = (key + i) * 0x9e3779b97f4a7c15ull;
}

static u16 *bucket_of(u64 hash) { return &bucket[hash % BUCKETS]; }

/* The group of the filter's shape, or an unused one, or NULL. */
static struct group *group_for(const struct masked *filter) {
    struct group *unused = NULL;
    for (u32 i = 0; i < GROUPS; i++) {
        if (groups[i].members && filter_same_shape(&groups[i].shape, filter))
            return &groups[i];
        if (!groups[i].members && !unused)
            unused = &groups[i];
    }
    return unused;
}

s64 classify_add(struct flow *flow) {
    struct group *g = group_for(&flow->filter);
    u16 at = 1;
    while (at <= FLOWS_MAX && entries[at].flow)
        at++;
    if (!g || at > FLOWS_MAX)
        return E_FULL;
    if (!g->members++)
        g->shape = flow->filter;
    if (groups_used <= g - groups)
        groups_used = (u32)(g - groups) + 1;
    u16 *head = bucket_of(filter_hash(&flow->filter, g->key));
    entries[at] = (struct entry){flow, *head};
    *head = at;
    return 0;
}

void classify_remove(struct flow *flow) {
    struct group *g = group_for(&flow->filter);
    u16 *link = bucket_of(filter_hash(&flow->filter, g->key));
    while (entries[*link].flow != flow) {
        CHECK(*link);
        link = &entries[*link].next;
    }
    struct entry *e = &entries[*link];
    *link = e->next;
    *e = (struct entry){0};
    g->members--;
    while (groups_used && !groups[groups_used - 1].members)
        groups_used--;
}

struct flow *flow_classify(const u8 *frame, u32 length) {
    u64 hash;
    for (u32 i = 0; i < groups_used; i++) {
        const struct group *g = &groups[i];
        if (!g->members || !filter_hash_frame(&g->shape, frame, length, g->key, &hash))
            continue;
        for (u16 at = *bucket_of(hash); at; at = entries[at].next)
            if (filter_match(&entries[at].flow->filter, frame, length))
                return entries[at].flow;
    }
    return NULL;
}
