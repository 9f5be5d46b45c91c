/* The byte stream under an HTTP connection, as http.c needs it. serve.c makes it of lwIP's
 * connections; the tests and the fuzzer put their own in its place. All calls may be made
 * from within http_input and the like; none of them calls back. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

struct http;

/* Queues bytes. With `copy` all of them or none are taken, at once; without, as many as there is
 * room for, and they must stay as they are until they are acknowledged (http_sent). */
u32 stream_write(struct http *h, const void *data, u32 length, bool copy);
/* These bytes of the input need no more room: the peer may send as many again. */
void stream_consumed(struct http *h, u32 length);
/* Sends what is queued now, outside of the calls that a received frame causes. */
void stream_push(struct http *h);
/* Ends the sending direction once all that is queued has been sent. */
void stream_finish(struct http *h);
/* Ends the connection: politely, after what is queued; or at once. h is not used afterwards. */
void stream_close(struct http *h);
void stream_abort(struct http *h);
