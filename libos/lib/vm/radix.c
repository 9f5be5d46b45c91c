/* Translations in a radix tree: three levels of 512, 512 and 1,024, so a find is three loads. A
 * leaf of one page covers 4 MiB of addresses; leaves stay once they were made. */
#include "vm/parts.h"

#define LEAF 1024
#define NODE 512

static u32 **root[NODE];

static int init(u64 pages) {
    return pages <= (u64)NODE * NODE * LEAF;
}

static u32 *find(u32 number) {
    u32 **node = root[number / LEAF / NODE];
    u32 *leaf = node ? node[number / LEAF % NODE] : NULL;

    return leaf ? &leaf[number % LEAF] : NULL;
}

static u32 *make(u32 number) {
    u32 ***node = &root[number / LEAF / NODE];

    if (!*node)
        *node = meta(1);
    if (!*node)
        return NULL;
    u32 **leaf = &(*node)[number / LEAF % NODE];
    if (!*leaf)
        *leaf = meta(1);
    return *leaf ? &(*leaf)[number % LEAF] : NULL;
}

static void drop(u32 number) {
    u32 *at = find(number);

    if (at)
        *at = 0;
}

const struct vm_shape vm_radix = {"radix", init, find, make, drop};
