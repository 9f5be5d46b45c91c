/* A handler on a flow that receives answers to requests for addresses, for its tests and for those of
 * abuse: each frame that a test sends brings one that the handler sees. */
#pragma once
#include "code/install.h"
#include "guest.h"
#include "programs/puppet.h"

#define HANDLED_MEMORY 2 /* pages */

struct handled {
    struct cap flow;
    struct ring *ring;
    u32 ring_page, buffer_page, memory_page;
    u8 *buffer;
    struct code_installed program;
    struct puppet_orders *orders; /* its memory */
};
bool has_device(void);
/* Makes a flow out of the device's, binds it with one buffer page, and the puppet to it. */
struct handled handled(struct cap root);
void handled_end(struct handled *h);
/* What the test has sent, so that it can be sent again; 42 bytes. */
void arp_request(u8 frame[42]);
/* Sends one request; false: the machine has no device. */
bool provoke(const struct handled *h);
/* Waits until the handler has run so often, stopped runs included; fails after 5 s. */
void await_runs(const struct handled *h, u64 runs);
/* The flow's page, mapped until machine_forget. */
const struct flow *flow_page(const struct handled *h);
