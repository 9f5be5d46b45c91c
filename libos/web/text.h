/* Writing text into a bounded buffer. A text that does not fit sets `full` and is cut. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>
#include <string.h>

struct text {
    char *at;
    u32 room;
    u32 used;
    bool full;
};

void text_bytes(struct text *t, const void *bytes, u32 length);
void text_put(struct text *t, const char *string);
void text_number(struct text *t, u64 number);
void text_hex(struct text *t, u64 number);
/* Is `text` this word, but for ASCII case? */
bool text_same(const char *text, u32 length, const char *word);
/* Where the byte first stands, or NULL. */
const char *text_find(const char *text, u32 length, char byte);

/* ---- of texts that are read for each request: eight bytes at a time, and inlined */

/* The same bytes? */
static inline __attribute__((always_inline)) bool text_equal(const char *a, const char *b, u32 length) {
    u64 x, y;

    if (length < 8) {
        while (length && a[length - 1] == b[length - 1])
            length--;
        return !length;
    }
    for (u32 at = 0; at < length - 8; at += 8) {
        memcpy(&x, a + at, 8);
        memcpy(&y, b + at, 8);
        if (x != y)
            return false;
    }
    memcpy(&x, a + length - 8, 8); /* some of them again */
    memcpy(&y, b + length - 8, 8);
    return x == y;
}

/* The first byte below `least` or DEL, or the end. */
static inline __attribute__((always_inline)) const char *text_plain_end(const char *at, const char *end, u8 least) {
    const u64 ones = 0x0101010101010101, tops = ones << 7;

    for (u64 w; end - at >= 8; at += 8) {
        memcpy(&w, at, 8);
        u64 del = w ^ ones * 0x7f;
        u64 found = (((w - ones * least) & ~w) | ((del - ones) & ~del)) & tops;
        if (found) /* the lowest bit found is right; borrows make only bits above it wrong */
            return at + __builtin_ctzll(found) / 8;
    }
    while (at < end && (u8)*at >= least && *at != 0x7f)
        at++;
    return at;
}
