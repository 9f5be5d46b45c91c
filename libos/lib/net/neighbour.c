/* The table of neighbours: 4-way sets, the least recently used entry gives way. */
#include "net/neighbour.h"
#include <string.h>

void neighbours_init(struct neighbours *table, u32 own, u32 mask) {
    memset(table, 0, sizeof *table);
    table->own = own;
    table->mask = mask;
}

static bool on_link(const struct neighbours *table, u32 address) {
    return ((address ^ table->own) & table->mask) == 0;
}

static bool is_host(const struct neighbours *table, u32 address) {
    u32 first = address & 0xff; /* network order: the first byte is the lowest */

    if (address == table->own || first == 0 || first == 127 || first >= 224)
        return false;
    /* the network itself and its broadcast address; networks of one or two hosts have neither */
    if (on_link(table, address) && __builtin_bswap32(~table->mask) > 1)
        return (address & ~table->mask) != 0 && (address | table->mask) != 0xffffffff;
    return true;
}

static struct neighbour *set_of(struct neighbours *table, u32 address) {
    u32 hash = __builtin_bswap32(address) * 2654435769u; /* what differs most is now lowest */

    return &table->entry[(hash >> 16) % (NEIGHBOURS / NEIGHBOUR_WAYS) * NEIGHBOUR_WAYS];
}

void neighbours_learn(struct neighbours *table, u32 address, const u8 *mac) {
    if (!is_host(table, address) || (mac[0] & 1))
        return;
    if (!on_link(table, address)) {
        memcpy(table->gateway, mac, 6);
        table->gateway_known = true;
        return;
    }
    struct neighbour *set = set_of(table, address);
    struct neighbour *place = set;
    u32 now = ++table->clock;
    for (u32 i = 0; i < NEIGHBOUR_WAYS; i++) {
        if (set[i].address == address) {
            place = &set[i];
            break;
        }
        if (now - set[i].used > now - place->used)
            place = &set[i];
    }
    place->address = address;
    place->used = now;
    memcpy(place->mac, mac, 6);
}

const u8 *neighbours_find(struct neighbours *table, u32 address) {
    if (!on_link(table, address))
        return table->gateway_known ? table->gateway : NULL;
    struct neighbour *set = set_of(table, address);
    for (u32 i = 0; i < NEIGHBOUR_WAYS; i++)
        if (set[i].address == address && address != 0) {
            set[i].used = ++table->clock;
            return set[i].mac;
        }
    return NULL;
}
