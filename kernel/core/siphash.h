/* SipHash-2-4 of 32 bytes (Aumasson and Bernstein 2012), the MAC of capabilities. */
#pragma once
#include "lib/base.h"

static inline u64 rotate(u64 x, int by) { return x << by | x >> (64 - by); }

static inline void sip_round(u64 v[4]) {
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static inline u64 siphash24(const u64 key[2], const u64 word[4]) {
    u64 v[4] = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
                key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull};

    for (int i = 0; i < 5; i++) {
        u64 m = i < 4 ? word[i] : 32ull << 56; /* the last block is the length */
        v[3] ^= m;
        sip_round(v);
        sip_round(v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
