/* Writing text into a bounded buffer, see text.h. */
#include "web/text.h"
#include <string.h>

void text_bytes(struct text *t, const void *bytes, u32 length) {
    if (length > t->room - t->used) {
        t->full = true;
        length = t->room - t->used;
    }
    memcpy(t->at + t->used, bytes, length);
    t->used += length;
}

void text_put(struct text *t, const char *string) {
    text_bytes(t, string, (u32)strlen(string));
}

static void put_number(struct text *t, u64 number, u32 base) {
    char digits[20];
    u32 at = sizeof digits;

    do
        digits[--at] = "0123456789abcdef"[number % base];
    while (number /= base);
    text_bytes(t, digits + at, (u32)sizeof digits - at);
}

void text_number(struct text *t, u64 number) {
    put_number(t, number, 10);
}

void text_hex(struct text *t, u64 number) {
    put_number(t, number, 16);
}

bool text_same(const char *text, u32 length, const char *word) {
    u32 i = 0;

    for (; i < length && word[i]; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        if (c != word[i])
            return false;
    }
    return i == length && !word[i];
}

const char *text_find(const char *text, u32 length, char byte) {
    for (u32 i = 0; i < length; i++)
        if (text[i] == byte)
            return text + i;
    return NULL;
}
