/* Segments as they lie in frames. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };

/* The headers that we send, without options; big-endian. */
struct headers {
    u8 to[6], from[6];
    u16 type;
    u8 version, service;
    u16 length, identifier, fragment;
    u8 hops, protocol;
    u16 ip_sum;
    u32 source, destination;
    u16 source_port, destination_port;
    u32 seq, ack;
    u8 offset, flags;
    u16 window, sum, urgent;
} __attribute__((packed));
_Static_assert(sizeof(struct headers) == 54, "as on the wire");
#define HEADERS_IP 14
#define HEADERS_TCP 34
#define HEADERS_SUM 16 /* from the TCP header's first byte */

/* A received segment; fields in host byte order but for the two that name the peer. */
struct segment {
    const u8 *mac; /* the sender's */
    u32 source;
    u16 source_port;
    u16 window;
    u32 seq, ack;
    const u8 *data;
    u32 length; /* of the data */
    u8 flags;
    u8 options_length;
    const u8 *options;
};

/* What SYN segments offer. */
struct offer {
    u16 mss;
    u8 shift;
    bool scales; /* the option was there */
};

/* Takes a frame apart. False: it is no good segment to this address (network byte order) and port
 * (host byte order). `verified`: its TCP checksum has been checked. */
bool segment_read(struct segment *s, const u8 *frame, u32 length, u32 address, u16 port, bool verified);
void segment_offer(const struct segment *s, struct offer *offer);
