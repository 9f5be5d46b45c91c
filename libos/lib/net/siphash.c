/* SipHash-2-4 (Aumasson and Bernstein, 2012). */
#include "net/siphash.h"
#include <string.h>

struct state {
    u64 v0, v1, v2, v3;
};

static u64 rotate(u64 x, u32 n) {
    return x << n | x >> (64 - n);
}

static void rounds(struct state *s, u32 count) {
    while (count--) {
        s->v0 += s->v1;
        s->v1 = rotate(s->v1, 13) ^ s->v0;
        s->v0 = rotate(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotate(s->v1, 17) ^ s->v2;
        s->v2 = rotate(s->v2, 32);
    }
}

static void absorb(struct state *s, u64 word) {
    s->v3 ^= word;
    rounds(s, 2);
    s->v0 ^= word;
}

u64 siphash(const u64 key[2], const void *data, u32 length) {
    struct state s = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                      key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
    const u8 *bytes = data;
    u64 word;

    for (u32 left = length; left >= 8; left -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        absorb(&s, word);
    }
    word = (u64)length << 56;
    for (u32 i = 0; i < length % 8; i++)
        word |= (u64)bytes[i] << (8 * i);
    absorb(&s, word);
    s.v2 ^= 0xff;
    rounds(&s, 4);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
