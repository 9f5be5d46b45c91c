/* A port on Targe: one flow, bound to a receive ring, and flow_send. */
#pragma once
#include "net/port.h"

struct port_targe_config {
    const struct cap *flow; /* with READ and WRITE; it must stay */
    const u8 *mac;          /* our hardware address: that of the machine's device */
    bool checksum;          /* the device computes checksums of what is sent */
    /* Memory of somebody else that is sent from in place, such as the boot archive. */
    const u8 *shared;
    u64 shared_bytes;
    const struct cap *shared_cap; /* with READ, for the pages from cap->name on */
};

/* Binds the flow as wide as it allows, with ring and buffers of the caller's. 0 or an error.
 * There is one such port in a program. */
s64 port_targe_open(const struct port_targe_config *config);
