/* A tiny server on lwIP's raw interface. Whoever connects is a stranger: a request has a limit in
 * bytes, a connection one in time, and when all places are taken the oldest connection goes.
 *
 * A connection's answer is sent from its own place, so the place stays taken until the peer has
 * acknowledged all of it. A pcb's argument is its connection, until either ends. */
#include "monitor/serve.h"

#include "base/print.h"
#include "lwip/tcp.h"
#include "monitor/views.h"
#include "net/net.h"

#define PLACES 16
#define REQUEST_BYTES 1024
#define MOST_MS 15000 /* from the beginning of a connection to its end */
#define POLL_HALF_SECONDS 2

struct connection {
    struct tcp_pcb *pcb; /* NULL: the place is free */
    u64 opened_ms;
    u32 received;
    bool answered;
    u32 left; /* bytes of the answer that are not acknowledged */
    char request[REQUEST_BYTES + 1];
    char head[128];
    char body[VIEW_BYTES];
};

static struct connection places[PLACES];

static void detach(struct connection *c) {
    tcp_arg(c->pcb, NULL);
    tcp_recv(c->pcb, NULL);
    tcp_sent(c->pcb, NULL);
    tcp_err(c->pcb, NULL);
    tcp_poll(c->pcb, NULL, 0);
    c->pcb = NULL;
}

/* ERR_ABRT is what lwIP must hear from the callback of a pcb that was aborted in it. */
static err_t drop(struct connection *c) {
    struct tcp_pcb *pcb = c->pcb;

    detach(c);
    tcp_abort(pcb);
    return ERR_ABRT;
}

static err_t finish(struct connection *c) {
    struct tcp_pcb *pcb = c->pcb;

    detach(c);
    if (tcp_close(pcb) == ERR_OK)
        return ERR_OK;
    tcp_abort(pcb);
    return ERR_ABRT;
}

/* ---- requests */

static bool is_complete(const char *request) {
    for (const char *at = request; (at = strchr(at, '\n')); at++)
        if (at[1] == '\n' || (at[1] == '\r' && at[2] == '\n'))
            return true;
    return false;
}

/* Cuts the word that begins at *at out of a line, and goes on after it; NULL: there is none. */
static char *cut_word(char **at) {
    char *word = *at;

    while (**at > ' ')
        ++*at;
    if (word == *at)
        return NULL;
    if (**at == ' ')
        *(*at)++ = 0;
    else
        **at = 0;
    return word;
}

/* Writes the body for a path such as /slices/0; false: there is no such view. */
static bool write_body(struct sheet *s, char *path) {
    char *argument = strchr(path, '?');

    if (argument)
        *argument = 0;
    if (*path++ != '/')
        return false;
    if (!*path) {
        say(s, "The monitor of this machine. Add one of these to the address,\n"
               "with a / instead of the blank:\n\n");
        view_help(s, NULL);
        return true;
    }
    argument = strchr(path, '/');
    if (argument)
        *argument++ = 0;
    return view_write(s, path, argument ? argument : "") && !s->nothing;
}

static const char *write_answer(struct connection *c, struct sheet *body, bool *head_only) {
    bool complete = is_complete(c->request);
    char *at = c->request, *method = cut_word(&at), *path = method ? cut_word(&at) : NULL;

    if (!complete || !path)
        return "400 Bad Request";
    *head_only = !strcmp(method, "HEAD");
    if (strcmp(method, "GET") != 0 && !*head_only)
        return "405 Method Not Allowed\r\nAllow: GET, HEAD";
    return write_body(body, path) ? "200 OK" : "404 Not Found";
}

static err_t answer(struct connection *c) {
    struct sheet body = {.at = c->body, .size = sizeof c->body};
    bool head_only = false;
    const char *status = write_answer(c, &body, &head_only);

    if (status[0] != '2' && !body.used)
        say(&body, "%c%c%c\n", status[0], status[1], status[2]);
    u32 head = (u32)format(c->head, sizeof c->head,
                           "HTTP/1.0 %s\r\nContent-Type: text/plain\r\n"
                           "Content-Length: %u\r\nCache-Control: no-store\r\n\r\n",
                           status, body.used);
    u32 bytes = head_only ? 0 : body.used;
    c->answered = true;
    c->left = head + bytes;
    if (tcp_write(c->pcb, c->head, (u16)head, bytes ? TCP_WRITE_FLAG_MORE : 0) != ERR_OK ||
        (bytes && tcp_write(c->pcb, c->body, (u16)bytes, 0) != ERR_OK) ||
        tcp_shutdown(c->pcb, 0, 1) != ERR_OK)
        return drop(c);
    return ERR_OK;
}

/* ---- lwIP's callbacks */

static err_t on_receive(void *argument, struct tcp_pcb *pcb, struct pbuf *p, err_t error) {
    struct connection *c = argument;

    (void)error;
    if (!p) /* the peer has said all: an answer may still be under way */
        return c->answered ? ERR_OK : finish(c);
    if (!c->answered)
        c->received +=
            pbuf_copy_partial(p, c->request + c->received, (u16)(REQUEST_BYTES - c->received), 0);
    tcp_recved(pcb, p->tot_len);
    pbuf_free(p);
    c->request[c->received] = 0;
    if (!c->answered && (is_complete(c->request) || c->received == REQUEST_BYTES))
        return answer(c);
    return ERR_OK;
}

static err_t on_sent(void *argument, struct tcp_pcb *pcb, u16_t length) {
    struct connection *c = argument;

    (void)pcb;
    c->left -= length < c->left ? length : c->left;
    return c->answered && !c->left ? finish(c) : ERR_OK;
}

static err_t on_poll(void *argument, struct tcp_pcb *pcb) {
    struct connection *c = argument;

    (void)pcb;
    return net_now_ms() - c->opened_ms > MOST_MS ? drop(c) : ERR_OK;
}

static void on_error(void *argument, err_t error) {
    struct connection *c = argument;

    (void)error;
    if (c)
        c->pcb = NULL; /* lwIP has freed it */
}

static err_t on_accept(void *argument, struct tcp_pcb *pcb, err_t error) {
    struct connection *c = places;

    (void)argument;
    if (error != ERR_OK || !pcb)
        return ERR_VAL;
    if (!net_welcome(pcb))
        return ERR_MEM; /* lwIP aborts it */
    for (u32 i = 1; i < PLACES && c->pcb; i++) /* a free place, or that of the oldest */
        if (!places[i].pcb || places[i].opened_ms < c->opened_ms)
            c = &places[i];
    if (c->pcb)
        drop(c);
    c->pcb = pcb;
    c->opened_ms = net_now_ms();
    c->received = c->left = 0;
    c->answered = false;
    tcp_arg(pcb, c);
    tcp_recv(pcb, on_receive);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_error);
    tcp_poll(pcb, on_poll, POLL_HALF_SECONDS);
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
