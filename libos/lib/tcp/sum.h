/* Internet checksums (RFC 1071), as ones' complement sums of 16-bit words in the order in which they lie
 * in memory: the result is stored as it is, whatever the byte order. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

static inline u16 sum_fold(u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (u16)((sum & 0xffff) + (sum >> 16));
}
/* The sum of bytes, folded to 16 bits. */
u16 sum_bytes(const void *data, u32 length);
/* Is the sum of 20 bytes right, of an IP header without options? They are not all zero. */
static inline bool sum_header_good(const u8 *at) {
    u64 a, b;
    u32 c, d;

    __builtin_memcpy(&a, at, 8);
    __builtin_memcpy(&b, at + 8, 8);
    __builtin_memcpy(&c, at + 16, 4);
    a += b;
    a += (u64)c + (a < b); /* each carry comes in again at the other end */
    a += a < c;
    d = (u32)(a >> 32);
    d += (u32)a;
    d += d < (u32)a;
    d += d << 16 | d >> 16; /* both halves are the sum now, but for a carry into the upper one */
    return d >> 16 == 0xffff;
}
/* The sum of four bytes. */
static inline u16 sum_word(u32 word) {
    u32 sum = (word & 0xffff) + (word >> 16);

    return (u16)(sum + (sum >> 16));
}
/* a + b, where b's bytes begin at an odd offset if `odd`. */
static inline u16 sum_join(u16 a, u16 b, bool odd) {
    u32 sum = (u32)a + (odd ? (u16)(b << 8 | b >> 8) : b);
    return (u16)(sum + (sum >> 16));
}

/* ---- sums kept with files: where no device sums, most of a file's bytes are summed once only */

#define SUM_BLOCK 512
struct sums {
    const u8 *first; /* the bytes, which never change */
    u64 length;
    u16 *block; /* the sum of each SUM_BLOCK bytes; 0: not known yet */
};
/* Memory that `block` needs, which must be zero at first. */
static inline u64 sums_memory(u64 bytes) { return bytes / SUM_BLOCK * sizeof(u16); }
/* sum_bytes by these sums, for bytes that may lie among them. */
u16 sums_of(const struct sums *sums, const void *data, u32 length);
