/* Received frames are hostile: every length is checked against what arrived. */
#include "tcp/segment.h"
#include "tcp/sum.h"
#include <string.h>

#define DEFAULT_MSS 536 /* of who does not say (RFC 9293 section 3.7.1) */
#define MOST_SHIFT 14

static u16 pseudo_sum(const struct headers *h, u32 tcp_length) {
    u16 rest[2] = {__builtin_bswap16(6), __builtin_bswap16((u16)tcp_length)};

    return sum_join(sum_bytes(&h->source, 8), sum_bytes(rest, 4), false);
}

/* A source that no host has would make us send to many, or to ourselves. */
static bool is_host(u32 source, u32 own) {
    u8 first = (u8)source;

    return source != own && first != 0 && first != 127 && first < 224;
}

bool segment_read(struct segment *s, const u8 *frame, u32 length, u32 address, u16 port, bool verified) {
    const struct headers *h = (const void *)frame;

    if (length < sizeof *h || h->type != __builtin_bswap16(0x0800) || ((h->to[0] | h->from[0]) & 1) ||
        h->version >> 4 != 4 || h->protocol != 6 || h->destination != address ||
        (h->fragment & ~__builtin_bswap16(0x4000)) || !is_host(h->source, address))
        return false;
    u32 ip = (h->version & 15) * 4u, whole = __builtin_bswap16(h->length);
    if (ip < 20 || whole < ip + 20 || whole > length - HEADERS_IP ||
        sum_bytes(frame + HEADERS_IP, ip) != 0xffff)
        return false;
    /* from here on as if there were no IP options */
    const u8 *tcp = frame + HEADERS_IP + ip;
    const struct headers *t = (const void *)(tcp - HEADERS_TCP);
    u32 tcp_length = whole - ip, header = (t->offset >> 4) * 4u;
    if (header < 20 || header > tcp_length || t->destination_port != __builtin_bswap16(port) ||
        !t->source_port)
        return false;
    if (!verified &&
        sum_join(pseudo_sum(h, tcp_length), sum_bytes(tcp, tcp_length), false) != 0xffff)
        return false;
    s->mac = h->from;
    s->source = h->source;
    s->source_port = t->source_port;
    s->window = __builtin_bswap16(t->window);
    s->seq = __builtin_bswap32(t->seq);
    s->ack = __builtin_bswap32(t->ack);
    s->flags = t->flags;
    s->options = tcp + 20;
    s->options_length = (u8)(header - 20);
    s->data = tcp + header;
    s->length = tcp_length - header;
    return true;
}

void segment_offer(const struct segment *s, struct offer *offer) {
    const u8 *at = s->options, *end = at + s->options_length;

    *offer = (struct offer){.mss = DEFAULT_MSS};
    while (at < end && *at) {
        u32 length = *at == 1 ? 1 : end - at < 2 ? 0 : at[1];
        if (!length || length > (u32)(end - at) || (*at != 1 && length < 2))
            return;
        if (*at == 2 && length == 4)
            offer->mss = (u16)(at[2] << 8 | at[3]);
        if (*at == 3 && length == 3) {
            offer->scales = true;
            offer->shift = at[2] < MOST_SHIFT ? at[2] : MOST_SHIFT;
        }
        at += length;
    }
}
