/* Segments as they lie in frames. */
#pragma once
#include "tcp/sum.h"

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

void segment_offer(const struct segment *s, struct offer *offer);

/* ---- received frames. They are hostile: every length is checked against what arrived. */

static inline u16 pseudo_sum(const struct headers *h, u32 tcp_length) {
    u16 rest[2] = {__builtin_bswap16(6), __builtin_bswap16((u16)tcp_length)};

    return sum_join(sum_bytes(&h->source, 8), sum_bytes(rest, 4), false);
}

/* A source that no host has would make us send to many, or to ourselves. */
static inline bool is_host(u32 source, u32 own) {
    u8 first = (u8)source;

    return source != own && first != 0 && first != 127 && first < 224;
}

/* What must be so in the Ethernet and IP headers of any segment, in as few steps as can be: version 4, no
 * fragment, TCP. */
static inline bool headers_good(const struct headers *h) {
    u32 type, fragment;

    __builtin_memcpy(&type, &h->type, 4);         /* and version, service */
    __builtin_memcpy(&fragment, &h->fragment, 4); /* and hops, protocol */
    return (type & 0xf0ffff) == 0x400008 && (fragment & 0xff00ffbf) == 0x06000000 &&
           !((h->to[0] | h->from[0]) & 1);
}

/* Takes the IP options out of a frame whose headers are good; returns where it begins then, and *length. NULL: it
 * is not whole, or its header's sum is wrong. Otherwise no sum needs to be looked at any more. */
u8 *segment_without_options(u8 *frame, u32 *length);

/* Takes a frame apart. False: it is no good segment to this address (network byte order) and port
 * (host byte order). `verified`: its TCP checksum has been checked. Whether its source can be one is not looked at. */
static inline bool segment_read(struct segment *s, u8 *frame, u32 length, u32 address, u16 port, bool verified) {
    const struct headers *h = (const void *)frame;

    if (length < sizeof *h || !headers_good(h) || h->destination != address)
        return false;
    if (h->version != 0x45) {
        if (!(frame = segment_without_options(frame, &length)))
            return false;
        h = (const void *)frame;
    } else if (!sum_header_good(frame + HEADERS_IP)) {
        return false;
    }
    u32 whole = __builtin_bswap16(h->length), header = h->offset >> 2 & 0x3c;
    if (whole > length - HEADERS_IP || header < 20 || header + 20 > whole ||
        h->destination_port != __builtin_bswap16(port))
        return false;
    const u8 *tcp = frame + HEADERS_TCP;
    u32 tcp_length = whole - 20;
    if (!verified &&
        sum_join(pseudo_sum(h, tcp_length), sum_bytes(tcp, tcp_length), false) != 0xffff)
        return false;
    s->mac = h->from;
    s->source = h->source;
    s->source_port = h->source_port;
    s->window = __builtin_bswap16(h->window);
    s->seq = __builtin_bswap32(h->seq);
    s->ack = __builtin_bswap32(h->ack);
    s->flags = h->flags;
    s->options = tcp + 20;
    s->options_length = (u8)(header - 20);
    s->data = tcp + header;
    s->length = tcp_length - header;
    return true;
}
