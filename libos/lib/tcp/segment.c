/* The options of a segment are hostile, as all of it: every length is checked. */
#include "tcp/segment.h"
#include <string.h>

#define DEFAULT_MSS 536 /* of who does not say (RFC 9293 section 3.7.1) */
#define MOST_SHIFT 14

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

u8 *segment_without_options(u8 *frame, u32 *length) {
    struct headers *h = (void *)frame;
    u32 header = (h->version & 15) * 4u, whole = __builtin_bswap16(h->length), options = header - 20;

    if (header < 20 || whole < header + 20 || whole > *length - HEADERS_IP ||
        sum_bytes(frame + HEADERS_IP, header) != 0xffff)
        return NULL;
    h->version = 0x45;
    h->length = __builtin_bswap16((u16)(whole - options));
    memmove(frame + options, frame, HEADERS_TCP);
    *length -= options;
    return frame + options;
}
