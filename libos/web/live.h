/* The machine's state as a JSON document, shared by the requests that ask for it at the same time.
 * A document stays as it is while an answer refers to it. */
#pragma once
#include "targe/abi.h"

#ifndef NET_CONNECTIONS
#define NET_CONNECTIONS 2048
#endif
/* In a small server there are few clients to hold documents, and in a small machine there is little to tell. */
#define LIVE_DOCUMENTS (NET_CONNECTIONS < 256 ? 2 : 4)
#define LIVE_SIZE (NET_CONNECTIONS < 256 ? 65536 : 196608)
#define LIVE_FRESH_MS 200 /* a document is given out again for so long */
#define LIVE_STALE_MS 3000 /* and, if there is no room for a new one, for so long */

struct live {
    u32 users;
    u32 length;
    u64 made; /* ms */
    char text[LIVE_SIZE];
};

/* A document of now, or NULL if too many are in use. Give it back with live_put. */
struct live *live_get(u64 now_ms);
void live_put(struct live *document);
