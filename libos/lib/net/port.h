/* What a TCP needs of a network device: frames in, frames out, a clock.
 *
 * There is one implementation for Targe (port_targe.c: a receive ring and flow_send) and one
 * for Linux (port_tap.c: a tap device, for development and tests). Both are single-threaded
 * and never wait. A frame to be sent is made in the port's own place: begin, write its headers, add
 * the bytes that follow them, end. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

#define PORT_HEADERS 192 /* room for headers, as SEND_HEADERS */

/* Takes a received frame; the bytes may be changed and are lost when it returns. `verified`:
 * somebody trusted has checked the transport checksum. */
typedef void port_receiver(void *context, u8 *frame, u32 length, bool verified);

struct port {
    u8 mac[6];
    bool checksum; /* the device computes transport checksums of frames sent */
    u8 *headers;   /* of the frame that was begun: PORT_HEADERS bytes, from the Ethernet destination on */

    /* A new frame; one that was begun and not ended is forgotten. False: there is no room, try again after
     * `flush`. */
    bool (*begin)(struct port *port);
    /* Adds bytes that the device reads where they lie, and returns how many of them the frame takes: fewer
     * when it has no room for more pieces. They must stay unchanged until the peer has acknowledged them, or
     * the frame has been sent and its contents no longer matter. */
    u32 (*add)(struct port *port, const void *data, u32 length);
    /* Queues it. sum_start: where the device shall begin to sum, 0: the sum is there already; sum_offset:
     * where from there it goes. */
    void (*end)(struct port *port, u32 header_length, u32 sum_start, u32 sum_offset);
    /* Hands queued frames to the device; true when none are left. */
    bool (*flush)(struct port *port);
    /* Gives at most `budget` waiting frames to the receiver; returns how many. */
    u32 (*receive)(struct port *port, port_receiver *receiver, void *context, u32 budget);
    /* Milliseconds since some moment. */
    u64 (*now_ms)(struct port *port);
};
