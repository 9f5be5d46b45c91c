/* Writing text into a bounded buffer. A text that does not fit sets `full` and is cut. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

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
