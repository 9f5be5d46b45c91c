/* HTTP on TCP: what each asks of the other (stream.h, and what tcp.h wants of its user). An http.c connection's
 * stream is a TCP connection, whose user is that connection. */
#include "tcp/tcp.h"
#include "web/http.h"

_Static_assert(HTTP_INPUT_SIZE >= TCP_WINDOW, "a window's worth must fit into an input buffer");

u32 stream_write(struct http *h, const void *data, u32 length, u32 *users) {
    return tcp_write(h->stream, data, length, users);
}

bool stream_room(struct http *h, u32 pieces) { return tcp_room(h->stream, pieces); }

void stream_consumed(struct http *h, u32 length) { tcp_consumed(h->stream, length); }

void stream_finish(struct http *h) { tcp_finish(h->stream); }

void stream_close(struct http *h) { tcp_close(h->stream); }

void stream_abort(struct http *h) { tcp_abort(h->stream); }

void *tcp_user_open(struct tcp *t) { return http_open(t); }

void tcp_user_segment(void *user, u32 acknowledged, const void *data, u32 length) {
    http_segment(user, acknowledged, data, length);
}

void tcp_user_ended(void *user) { http_end(user); }

void tcp_user_lost(void *user) { http_lost(user); }
