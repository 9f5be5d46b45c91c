/* Where replies go: the hardware addresses of hosts, learned from the frames they send.
 *
 * Targe's libOSes share one network address, and ARP is answered by one of them only. A
 * server needs no ARP of its own: it sends to nobody who has not sent first. Hosts of our
 * own network are kept by address; everybody else is behind a gateway, whose hardware
 * address is that of the last frame from outside. An entry that was displaced comes back
 * with the next frame of that host. Addresses are in network byte order. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

#define NEIGHBOURS 256 /* a power of two */
#define NEIGHBOUR_WAYS 4

struct neighbour {
    u32 address; /* 0: empty */
    u32 used;    /* value of the table's clock when last learned or looked up */
    u8 mac[6];
    u8 zero[2];
};

struct neighbours {
    u32 own;
    u32 mask;
    u32 clock;
    bool gateway_known;
    u8 gateway[6];
    struct neighbour entry[NEIGHBOURS];
};

void neighbours_init(struct neighbours *table, u32 own, u32 mask);
/* Remembers who sent a frame; addresses that cannot be a host's are ignored. */
void neighbours_learn(struct neighbours *table, u32 address, const u8 *mac);
/* The hardware address for a destination, or NULL. */
const u8 *neighbours_find(struct neighbours *table, u32 address);
