/* Translations in an inverted table: its size follows the pages in use, not the addresses. Open
 * addressing with linear probing; removing moves later entries back, so there are no tombstones. */
#include "vm/parts.h"

struct entry {
    u32 key; /* number + 1; 0: free */
    u32 frame;
};
#define ENTRIES_A_PAGE (RT_PAGE / sizeof(struct entry))

static struct entry *table;
static u32 mask, used;

static u32 slot_of(u32 number) { return (u32)((number * 0x9e3779b97f4a7c15ull) >> 32) & mask; }

static int init(u64 pages) {
    (void)pages;
    table = meta(1);
    mask = ENTRIES_A_PAGE - 1;
    used = 0;
    return table != NULL;
}

/* The entry of a number, or the free one where it belongs. */
static struct entry *probe(u32 number) {
    u32 at = slot_of(number);

    while (table[at].key && table[at].key != number + 1)
        at = (at + 1) & mask;
    return &table[at];
}

static u32 *find(u32 number) {
    struct entry *e = probe(number);

    return e->key ? &e->frame : NULL;
}

static bool grow(void) {
    u32 old_size = mask + 1;
    struct entry *old = table, *larger = meta(old_size * 2 / ENTRIES_A_PAGE);

    if (!larger)
        return false;
    table = larger;
    mask = old_size * 2 - 1;
    for (u32 i = 0; i < old_size; i++)
        if (old[i].key)
            *probe(old[i].key - 1) = old[i];
    meta_free(old, old_size / ENTRIES_A_PAGE);
    return true;
}

static u32 *make(u32 number) {
    struct entry *e = probe(number);

    if (e->key)
        return &e->frame;
    if (used >= (mask + 1) / 4 * 3) {
        if (!grow())
            return NULL;
        e = probe(number);
    }
    used++;
    *e = (struct entry){number + 1, 0};
    return &e->frame;
}

static void drop(u32 number) {
    struct entry *e = probe(number);

    if (!e->key)
        return;
    used--;
    u32 hole = (u32)(e - table);
    for (u32 at = (hole + 1) & mask; table[at].key; at = (at + 1) & mask) {
        u32 home = slot_of(table[at].key - 1);
        if (((at - home) & mask) < ((at - hole) & mask)) /* it may not stand before its home */
            continue;
        table[hole] = table[at];
        hole = at;
    }
    table[hole] = (struct entry){0, 0};
}

const struct vm_shape vm_hashed = {"hashed", init, find, make, drop};
