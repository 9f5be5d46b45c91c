/* Documents in a small pool, see live.h. */
#include "web/live.h"
#include "web/machine_json.h"
#include <stddef.h>

static struct live document[LIVE_DOCUMENTS];

static struct live *newest(void) {
    struct live *best = NULL;

    for (u32 i = 0; i < LIVE_DOCUMENTS; i++)
        if (document[i].length && (!best || document[i].made > best->made))
            best = &document[i];
    return best;
}

static struct live *unused(void) {
    for (u32 i = 0; i < LIVE_DOCUMENTS; i++)
        if (!document[i].users)
            return &document[i];
    return NULL;
}

struct live *live_get(u64 now_ms) {
    struct live *l = newest();

    if (!l || now_ms - l->made >= LIVE_FRESH_MS) {
        struct live *fresh = unused();
        if (fresh) {
            fresh->length = machine_json_write(fresh->text, LIVE_SIZE, now_ms);
            fresh->made = now_ms;
            l = fresh;
        } else if (l && now_ms - l->made >= LIVE_STALE_MS) {
            l = NULL;
        }
    }
    if (!l || !l->length)
        return NULL;
    l->users++;
    return l;
}

void live_put(struct live *l) {
    l->users--;
}
