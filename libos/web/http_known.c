/* See http_known.h. What is remembered is found by its length, the last of that length (or near it): who finds
 * another one's there has lost a comparison. */
#include "web/http_known.h"
#include "web/http.h"
#include "web/text.h"
#include <string.h>

#define KNOWN (NET_CONNECTIONS < 512 ? 8 : 32)
#define MOST 640 /* bytes; browsers send about 500 */

static struct known {
    u32 length; /* 0: nothing yet */
    char bytes[MOST];
} known[KNOWN];

static struct known *place_of(u32 length) { return &known[length % KNOWN]; }

bool http_known(const char *data, u32 length, struct http_text *target) {
    if (length < 16 || memcmp(data, "GET ", 4) != 0)
        return false;
    const char *start = data + 4, *stop = text_plain_end(start, data + length, ' ' + 1);
    u32 left = (u32)(data + length - stop);
    const struct known *k = place_of(left);
    if (k->length != left || left < 8 || !text_equal(stop, k->bytes, left))
        return false;
    *target = (struct http_text){start, (u32)(stop - start)};
    return stop != start && target->length <= HTTP_TARGET_LIMIT;
}

static bool is_plain(const struct http_request *r) {
    return !r->error && r->method == HTTP_GET && r->minor == 1 && r->keep && !r->chunked && !r->expects && !r->body &&
           !r->range.at && !r->if_range.at && !r->if_match.at && !r->if_none_match.at && !r->if_modified.at &&
           !r->if_unmodified.at;
}

void http_known_learn(const struct http_request *r, const char *data) {
    if (!is_plain(r))
        return;
    const char *stop = r->target.at + r->target.length;
    u32 length = (u32)(data + r->length - stop);
    if (length > MOST)
        return;
    struct known *k = place_of(length);
    k->length = length;
    memcpy(k->bytes, stop, length);
}

void http_known_init(void) { memset(known, 0, sizeof known); }
