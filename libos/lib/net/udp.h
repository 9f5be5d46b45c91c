/* UDP datagrams in frames, with an IP header of 20 bytes and no options (RFC 768, 791), for programs whose flow's
 * filter has looked at protocol, address, port and fragments. Numbers are in the order of the network. */
#pragma once
#include "rt.h"

struct __attribute__((packed)) udp_frame {
    u8 to[6], from[6];
    u16 type;
    u8 version_length, service;
    u16 length, id, fragment;
    u8 time_to_live, protocol;
    u16 checksum;
    u32 source, destination;
    u16 from_port, to_port, bytes, sum; /* the data follows */
};

static inline u16 udp_fold(u64 sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

/* Of 16-bit words in memory order, not folded. */
static inline u64 udp_sum_bytes(const void *from, u32 size) {
    const u8 *at = from;
    u64 sum = 0;

    for (u32 i = 0; i < size; i++)
        sum += i % 2 ? (u64)at[i] << 8 : at[i];
    return sum;
}

/* Of a datagram with its pseudo-header: 0xffff if its checksum is right; inverted, it is its checksum if that was 0. */
static inline u16 udp_sum(const struct udp_frame *f) {
    return udp_fold((u64)f->source + f->destination + __builtin_bswap16(f->protocol) + f->bytes +
                    udp_sum_bytes(&f->from_port, __builtin_bswap16(f->bytes)));
}

/* Gives it its checksum, which must be 0 so far. */
static inline void udp_seal(struct udp_frame *f) {
    u16 sum = (u16)~udp_sum(f);

    f->sum = sum ? sum : 0xffff; /* 0 would say that there is none */
}

/* Whether a frame of so many bytes is a whole datagram with at least so many bytes of data, from one whom an answer
 * reaches. */
static inline bool udp_is_good(const struct udp_frame *f, u32 length, bool checked, u32 least) {
    u32 total = __builtin_bswap16(f->length);

    return length >= sizeof *f + least && f->version_length == 0x45 && total >= sizeof *f + least - 14 &&
           total <= length - 14 && __builtin_bswap16(f->bytes) == total - 20 && !(f->from[0] & 1) &&
           f->from_port != f->to_port && (checked || !f->sum || udp_sum(f) == 0xffff);
}
