/* Internet checksums, see sum.h. */
#include "tcp/sum.h"
#include <string.h>

u16 sum_bytes(const void *data, u32 length) {
    const u8 *at = data;
    u64 sum = 0, word;

    for (; length >= 8; length -= 8, at += 8) {
        memcpy(&word, at, 8);
        sum += word;
        sum += sum < word; /* the carry comes in again at the other end */
    }
    if (length) {
        word = 0;
        memcpy(&word, at, length);
        sum += word;
        sum += sum < word;
    }
    return sum_fold(sum);
}

/* The sum of a whole block. A sum of bytes that are not all zero is never zero; of zeros it is
 * kept as 0xffff, which is the same number. */
static u16 block_sum(const struct sums *sums, u64 block) {
    if (!sums->block[block]) {
        u16 sum = sum_bytes(sums->first + block * SUM_BLOCK, SUM_BLOCK);
        sums->block[block] = sum ? sum : 0xffff;
    }
    return sums->block[block];
}

u16 sums_of(const struct sums *sums, const void *data, u32 length) {
    u64 from = (u64)((const u8 *)data - sums->first);

    if (!sums->block || from >= sums->length || length > sums->length - from)
        return sum_bytes(data, length);
    u64 block = (from + SUM_BLOCK - 1) / SUM_BLOCK, end = (from + length) / SUM_BLOCK;
    if (block >= end)
        return sum_bytes(data, length);
    /* blocks have an even number of bytes: all after the first part have its parity */
    u32 before = (u32)(block * SUM_BLOCK - from);
    bool odd = before & 1;
    u16 sum = sum_bytes(data, before);
    for (; block < end; block++)
        sum = sum_join(sum, block_sum(sums, block), odd);
    u64 last = end * SUM_BLOCK - from;
    return sum_join(sum, sum_bytes((const u8 *)data + last, length - (u32)last), odd);
}
