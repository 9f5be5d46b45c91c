/* HTTP on TCP: what each asks of the other (stream.h and struct tcp_server). An http.c connection's
 * stream is a TCP connection, whose user is that connection. */
#include "web/serve.h"
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

static void *on_open(struct tcp *t) { return http_open(t); }

static void on_input(void *user, const void *data, u32 length) { http_input(user, data, length); }

static void on_acknowledged(void *user, u32 length) { http_sent(user, length); }

static void on_ended(void *user) { http_end(user); }

static void on_lost(void *user) { http_lost(user); }

void serve_start(struct port *port, const struct tcp_config *config) {
    static const struct tcp_server server = {.open = on_open, .input = on_input, .acknowledged = on_acknowledged,
                                             .ended = on_ended, .lost = on_lost};

    tcp_init(port, config, &server);
}
