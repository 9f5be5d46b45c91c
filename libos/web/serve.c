/* HTTP on lwIP: the callbacks of lwIP's raw interface on one side, stream.h on the other.
 *
 * A pcb's argument is its struct http, until either side ends the connection: then it is NULL
 * and lwIP finishes alone. While lwIP is in one of our callbacks it sends nothing by itself
 * and does so when we return, so that an answer and the acknowledgement of its request
 * are one frame. A callback whose pcb was aborted must say so to lwIP: `aborted` remembers. */
#include "web/serve.h"
#include "lwip/tcp.h"
#include "net/net.h"
#include "web/http.h"

_Static_assert(HTTP_INPUT_SIZE >= TCP_WND, "a window's worth must fit into an input buffer");

static struct tcp_pcb *current; /* whose callback is running */
static bool aborted;            /* it is gone */

static struct tcp_pcb *pcb_of(struct http *h) {
    return h->stream;
}

/* ---- stream.h */

static bool write_some(struct tcp_pcb *pcb, const void *data, u32 length, u8_t flags) {
    return tcp_write(pcb, data, (u16_t)length, flags) == ERR_OK;
}

u32 stream_write(struct http *h, const void *data, u32 length, bool copy) {
    struct tcp_pcb *pcb = pcb_of(h);
    u32 room = tcp_sndbuf(pcb);

    if (copy)
        return length <= room && write_some(pcb, data, length, TCP_WRITE_FLAG_COPY) ? length : 0;
    if (length > room)
        length = room;
    /* too long for the memory that is left? try with less, in steps, down to one segment */
    for (; length; length = length > TCP_MSS ? length / 2 : 0)
        if (write_some(pcb, data, length, 0))
            return length;
    return 0;
}

void stream_consumed(struct http *h, u32 length) {
    tcp_recved(pcb_of(h), (u16_t)length);
}

void stream_push(struct http *h) {
    tcp_output(pcb_of(h));
}

void stream_finish(struct http *h) {
    tcp_shutdown(pcb_of(h), 0, 1);
}

static void detach(struct tcp_pcb *pcb) {
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
}

void stream_close(struct http *h) {
    struct tcp_pcb *pcb = pcb_of(h);

    detach(pcb);
    if (tcp_close(pcb) != ERR_OK)
        stream_abort(h);
}

void stream_abort(struct http *h) {
    struct tcp_pcb *pcb = pcb_of(h);

    detach(pcb);
    if (pcb == current)
        aborted = true;
    tcp_abort(pcb);
}

/* ---- lwIP's callbacks */

static void enter(struct tcp_pcb *pcb) {
    current = pcb;
    aborted = false;
}

static err_t leave(void) {
    current = NULL;
    return aborted ? ERR_ABRT : ERR_OK;
}

static err_t on_receive(void *argument, struct tcp_pcb *pcb, struct pbuf *p, err_t error) {
    struct http *h = argument;

    LWIP_UNUSED_ARG(error);
    enter(pcb);
    if (!p) {
        http_end(h);
        return leave();
    }
    for (struct pbuf *part = p; part && !aborted && pcb->callback_arg == h; part = part->next)
        http_input(h, part->payload, part->len);
    pbuf_free(p);
    return leave();
}

static err_t on_sent(void *argument, struct tcp_pcb *pcb, u16_t length) {
    enter(pcb);
    http_sent(argument, length);
    return leave();
}

static void on_error(void *argument, err_t error) {
    LWIP_UNUSED_ARG(error);
    if (argument)
        http_lost(argument);
}

static err_t on_accept(void *argument, struct tcp_pcb *pcb, err_t error) {
    LWIP_UNUSED_ARG(argument);
    if (error != ERR_OK || !pcb)
        return ERR_VAL;
    struct http *h = net_welcome(pcb) ? http_open(pcb) : NULL;
    if (!h)
        return ERR_MEM; /* lwIP aborts it */
    tcp_arg(pcb, h);
    tcp_recv(pcb, on_receive);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_error);
    tcp_nagle_disable(pcb);
    return ERR_OK;
}

bool serve_start(u16 port) {
    struct tcp_pcb *pcb = tcp_new();

    if (!pcb || tcp_bind(pcb, IP4_ADDR_ANY, port) != ERR_OK)
        return false;
    struct tcp_pcb *listener = tcp_listen(pcb);
    if (!listener)
        return false;
    tcp_accept(listener, on_accept);
    return true;
}
