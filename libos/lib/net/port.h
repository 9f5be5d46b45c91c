/* What lwIP's glue (net.c) needs of a network device: frames in, frames out, a clock.
 *
 * There is one implementation for Targe (port_targe.c: a receive ring and flow_send) and one
 * for Linux (port_tap.c: a tap device, for development and tests). Both are single-threaded
 * and never wait in `send` or `receive`. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

#define PORT_HEADERS 192 /* most bytes of headers in a frame, as SEND_HEADERS */
#define PORT_PIECES 64 /* most pieces in a frame: a segment of many short responses */

/* Bytes that the device reads where they lie. They must stay unchanged until the peer has
 * acknowledged them, or the frame has been queued and its contents no longer matter. */
struct port_piece {
    const void *data;
    u32 length;
};

struct port_frame {
    u8 headers[PORT_HEADERS]; /* from the Ethernet destination on; copied by `send` */
    u16 header_length;
    u16 checksum_start; /* where the device shall begin to sum; 0: the sum is there already */
    u16 checksum_offset;
    u16 pieces;
    struct port_piece piece[PORT_PIECES];
};

/* Takes a received frame; the bytes may be changed and are lost when it returns. `verified`:
 * somebody trusted has checked the transport checksum. */
typedef void port_receiver(void *context, u8 *frame, u32 length, bool verified);

struct port {
    u8 mac[6];
    bool checksum; /* the device computes transport checksums of frames sent */

    /* Queues a frame; false: there is no room, try again after `flush`. */
    bool (*send)(struct port *port, const struct port_frame *frame);
    /* Hands queued frames to the device; true when none are left. */
    bool (*flush)(struct port *port);
    /* Gives at most `budget` waiting frames to the receiver; returns how many. */
    u32 (*receive)(struct port *port, port_receiver *receiver, void *context, u32 budget);
    /* Milliseconds since some moment. */
    u64 (*now_ms)(struct port *port);
};
