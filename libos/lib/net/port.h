/* What a TCP needs of a network device: frames in, frames out, a clock.
 *
 * There is one implementation for Targe (port_targe.c: a receive ring and flow_send) and one
 * for Linux (port_tap.c: a tap device, for development and tests). A program is linked with one of them, so that
 * the compiler can see through the calls: there are several of them for each frame. Both are single-threaded
 * and never wait. A frame to be sent is made in the port's own place: begin, write its headers, add
 * the bytes that follow them, end. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

#define PORT_HEADERS 192 /* room for headers, as SEND_HEADERS */

struct port {
    u8 mac[6];
    bool checksum; /* the device computes transport checksums of frames sent */
    u8 *headers;   /* of the frame that was begun: PORT_HEADERS bytes, from the Ethernet destination on */
};
extern struct port net_port;

/* A new frame; one that was begun and not ended is forgotten. False: there is no room, try again after
 * port_flush. */
bool port_begin(void);
/* Adds bytes that the device reads where they lie, and returns how many of them the frame takes: fewer
 * when it has no room for more pieces. They must stay unchanged until the peer has acknowledged them, or
 * the frame has been sent and its contents no longer matter. */
u32 port_add(const void *data, u32 length);
/* Queues it. sum_start: where the device shall begin to sum, 0: the sum is there already; sum_offset:
 * where from there it goes. */
void port_end(u32 header_length, u32 sum_start, u32 sum_offset);
/* Hands queued frames to the device; true when none are left. */
bool port_flush(void);
/* Gives at most `budget` waiting frames to port_received; returns how many. */
u32 port_receive(u32 budget);
/* Milliseconds since some moment. */
u64 port_now_ms(void);

/* The user of the port provides this. It takes a received frame; the bytes may be changed and are lost when it
 * returns. `verified`: somebody trusted has checked the transport checksum. */
void port_received(u8 *frame, u32 length, bool verified);
