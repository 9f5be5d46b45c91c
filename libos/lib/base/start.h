/* The start page: what a creator tells a new environment. A convention among libOSes; the kernel knows
 * nothing of it. Items are found by name and number: start_item("flow", 1) is the second flow. */
#pragma once
#include "rt.h"

#define START_MAGIC 0x7472617473ull
#define START_ITEMS 47

/* Names in use, what cap is, and a and b:
 *   self      ENV, its own environment (OWN, MANAGE)
 *   console   CONSOLE, with READ and WRITE as the manifest gives
 *   machine   MACHINE, with POWER and TRACE as the manifest gives
 *   flow      FLOW with READ, WRITE; a: protocol (a START_FLOW), b: port, and in the upper half how many more ports
 *   net       no cap; a: address << 32 | gateway (host order), b: prefix length
 *   archive   PAGE with READ, the pages of the boot archive; a: its bytes
 *   device    PAGE with READ, WRITE, a region of a device's memory; a: vendor << 16 | device, b: which BAR
 *   control   no cap; a: name of an environment that takes orders by control transfer
 */
enum start_flow { START_TCP = 6, START_UDP = 17, START_ICMP = 1, START_ARP = 0x806 };

struct start_item {
    char name[16];
    struct cap cap;
    u64 a, b;
};
struct start {
    u64 magic;
    u32 items;
    u32 cpus[2];        /* the CPUs on which it has a context, a bit each */
    u32 zero;
    char arguments[1024 - 24 + 64];
    struct start_item item[START_ITEMS];
};
_Static_assert(sizeof(struct start) == 4096, "one page");

/* NULL if there is no such item, or no start page. */
const struct start_item *start_item(const char *name, u32 number);
const char *start_arguments(void);
