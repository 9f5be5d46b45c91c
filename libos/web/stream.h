/* The byte stream under an HTTP connection, as http.c needs it. serve.c makes it of TCP
 * connections; the tests and the fuzzer put their own in its place. All calls may be made
 * from within http_segment and the like; none of them calls back. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

struct http;

/* Queues a reference to bytes and returns how many of them it took: as many as there is room for. They must
 * stay as they are until they are acknowledged (http_segment) or the stream has ended; *users, if there is one,
 * is raised by one until then. */
u32 stream_write(struct http *h, const void *data, u32 length, u32 *users);
/* May so many references be queued, the first ones with any head's length? */
bool stream_room(struct http *h, u32 pieces);
/* These bytes of the input need no more room: the peer may send as many again. */
void stream_consumed(struct http *h, u32 length);
/* Ends the sending direction once all that is queued has been sent. */
void stream_finish(struct http *h);
/* Ends the connection: politely, after what is queued; or at once. h is not used afterwards. */
void stream_close(struct http *h);
void stream_abort(struct http *h);
