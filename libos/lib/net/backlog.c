/* The backlog. A record is a header of 8 bytes and the frame, rounded up to 8 bytes, in one piece; one
 * that does not fit before the end of the bytes is put at their beginning, after a header that
 * says so. The ring is never filled to the last byte, so that first == end means empty. */
#include "net/backlog.h"
#include <string.h>

struct record {
    u32 length; /* WRAP: go on at the beginning */
    u32 verified;
};
#define WRAP 0xffffffffu

static struct record *record_at(const struct backlog *b, u32 at) {
    return (struct record *)(void *)(b->bytes + at);
}

static u32 size_of(u32 length) {
    return (u32)sizeof(struct record) + (length + 7) / 8 * 8;
}

/* Where `size` bytes in one piece can go, or the backlog's size. */
static u32 place_for(struct backlog *b, u32 size) {
    if (b->first <= b->end) {
        if (b->end + size < b->size)
            return b->end;
        if (size >= b->first)
            return b->size;
        record_at(b, b->end)->length = WRAP; /* fits: end is always before the last 8 bytes */
        return 0;
    }
    return b->end + size < b->first ? b->end : b->size;
}

bool backlog_put(struct backlog *b, const u8 *frame, u32 length, bool verified) {
    if (b->first == b->end)
        b->first = b->end = 0;
    u32 at = place_for(b, size_of(length));

    if (at == b->size)
        return false;
    *record_at(b, at) = (struct record){length, verified};
    memcpy(b->bytes + at + sizeof(struct record), frame, length);
    b->end = at + size_of(length);
    return true;
}

u8 *backlog_take(struct backlog *b, u32 *length, bool *verified) {
    if (b->first == b->end)
        return NULL;
    if (record_at(b, b->first)->length == WRAP)
        b->first = 0;
    const struct record *r = record_at(b, b->first);
    u8 *frame = b->bytes + b->first + sizeof *r;
    *length = r->length;
    *verified = r->verified;
    b->first += size_of(r->length);
    return frame;
}
