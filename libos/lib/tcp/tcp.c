/* The table of connections, segments that arrive, and the calls of the user. */
#include "tcp/tcp.h"
#include "net/siphash.h"
#include "tcp/internal.h"
#include <string.h>

#define PLACES (NET_CONNECTIONS * 2u) /* of the table */
_Static_assert((PLACES & (PLACES - 1)) == 0, "a power of two");

struct tcp_global tcp_global;
static struct tcp pool[TCP_TABLE];
static struct tcp *free_first;
static struct tcp *place[PLACES];
static struct tcp *orphan_first, *orphan_last; /* connections without a user, the oldest first */
static struct tcp *dirty_first, **dirty_end = &dirty_first;
static u64 multiplier;
static struct {
    struct headers headers;
    u16 pseudo; /* sum of the pseudo-header, but for the length and the peer */
} template;

/* ---- lists and the table */

/* Multiplication by a secret number: a stranger cannot choose peers that fall together. */
static struct tcp **place_of(u32 source, u16 port) {
    return &place[(((u64)source << 16 | port) * multiplier) >> 32 & (PLACES - 1)];
}

static struct tcp *find(const struct segment *s) {
    struct tcp *t = *place_of(s->source, s->source_port);

    while (t && (t->headers.destination != s->source || t->headers.destination_port != s->source_port))
        t = t->chain;
    return t;
}

static void orphan_add(struct tcp *t) {
    t->next = NULL;
    t->before = orphan_last;
    *(orphan_last ? &orphan_last->next : &orphan_first) = t;
    orphan_last = t;
}

static void orphan_remove(struct tcp *t) {
    *(t->before ? &t->before->next : &orphan_first) = t->next;
    *(t->next ? &t->next->before : &orphan_last) = t->before;
}

void tcp_set_dirty(struct tcp *t) {
    if (t->dirty)
        return;
    t->dirty = true;
    t->dirty_next = NULL;
    *dirty_end = t;
    dirty_end = &t->dirty_next;
}

void tcp_release(struct tcp *t) {
    struct tcp **link = place_of(t->headers.destination, t->headers.destination_port);
    void *user = t->user;

    while (*link != t)
        link = &(*link)->chain;
    *link = t->chain;
    if (!user)
        orphan_remove(t);
    timer_stop(t);
    queue_drop(t);
    t->user = NULL;
    t->state = TCP_FREE; /* it may still be on the list of dirty ones, and stays there */
    t->next = free_first;
    free_first = t;
    if (user)
        tcp_user_lost(user);
}

/* A free connection; if there is none, that of the one that has been nobody's for longest. */
static struct tcp *take(void) {
    if (!free_first && orphan_first) {
        if (orphan_first->state != TCP_SYN_RECEIVED && orphan_first->state != TCP_TIME_WAIT)
            output_reset(orphan_first);
        tcp_release(orphan_first);
    }
    struct tcp *t = free_first;
    if (t)
        free_first = t->next;
    return t;
}

/* ---- new connections */

/* What the segments of all connections have in common. */
static void make_template(void) {
    struct headers *h = &template.headers;

    *h = (struct headers){.type = __builtin_bswap16(0x0800), .version = 0x45, .hops = 64, .protocol = 6,
                          .fragment = __builtin_bswap16(0x4000), .source = tcp_global.config.address,
                          .source_port = __builtin_bswap16(tcp_global.config.port)};
    memcpy(h->from, net_port.mac, 6);
    h->ip_sum = sum_bytes((u8 *)h + HEADERS_IP, 20);
    template.pseudo = sum_join(sum_word(h->source), __builtin_bswap16(6), false);
}

void headers_make(struct tcp *t, const struct segment *s) {
    u16 sum = sum_word(s->source);

    t->headers = template.headers;
    memcpy(t->headers.to, s->mac, 6);
    t->headers.destination = s->source;
    t->headers.destination_port = s->source_port;
    t->headers.ip_sum = sum_join(t->headers.ip_sum, sum, false);
    t->pseudo = sum_join(template.pseudo, sum, false);
}

/* RFC 6528: a keyed hash of the connection, and a clock of 4 us ticks. */
static u32 first_sequence(const struct segment *s) {
    u32 who[2] = {s->source, s->source_port};

    return (u32)siphash(tcp_global.config.key, who, sizeof who) + (u32)(tcp_global.now_ms * 250);
}

static void on_syn(struct segment s) {
    struct offer offer;

    segment_offer(&s, &offer);
    struct tcp *t = offer.mss >= TCP_LEAST_MSS ? take() : NULL;
    if (!t)
        return;
    bool dirty = t->dirty;
    struct tcp *dirty_next = t->dirty_next;
    memset(t, 0, offsetof(struct tcp, piece)); /* the queue is empty, and headers_make does the rest */
    t->dirty = dirty;
    t->dirty_next = dirty_next;
    t->state = TCP_SYN_RECEIVED;
    t->mss = offer.mss < TCP_MSS ? offer.mss : TCP_MSS;
    t->shift = offer.scales ? offer.shift : 255;
    t->rcv_nxt = s.seq + 1;
    t->rcv_edge = s.seq + 1 + TCP_WINDOW;
    t->snd_wnd = t->window_most = s.window;
    t->wl1 = s.seq;
    t->ssthresh = ~0u;
    t->rto = RTO_FIRST;
    t->cwnd = (u32)TCP_FIRST_WINDOW * t->mss;
    headers_make(t, &s);
    t->snd_una = first_sequence(&s);
    t->snd_nxt = t->snd_max = t->snd_una + 1;
    t->recover = t->snd_una;
    struct tcp **head = place_of(s.source, s.source_port);
    t->chain = *head;
    *head = t;
    orphan_add(t);
    output_syn(t);
    t->resend_at = deadline(t->rto);
    t->rtt_at = tcp_global.now;
    timer_by(t, t->resend_at);
}

/* The last step of the handshake. False: the connection is gone. */
static bool establish(struct tcp *t, const struct segment *s) {
    if (s->ack != t->snd_max) {
        output_refusal(*s);
        return false;
    }
    if (!t->retries)
        timer_measured(t, tcp_global.now - t->rtt_at);
    orphan_remove(t);
    t->state = TCP_ESTABLISHED;
    t->snd_una = s->ack;
    t->retries = 0;
    t->resend_at = 0;
    if (t->shift == 255)
        t->shift = 0;
    t->wl1 = s->seq - 1; /* so that this segment's window counts */
    void *user = tcp_user_open(t);
    if (!user) {
        orphan_add(t);
        output_reset(t);
        tcp_release(t);
        return false;
    }
    t->user = user;
    return true;
}

/* ---- segments of a connection, in the order of RFC 9293 section 3.10.7.4 */

/* An ACK that makes an honest peer say again what it means; so few that nobody can make us busy or
 * learn from their number (RFC 5961). */
static void challenge(struct tcp *t) {
    if (t->challenge_at && seq_diff(tcp_global.now, t->challenge_at) < 0)
        return;
    t->challenge_at = deadline(CHALLENGE_MS);
    output_ack(t);
}

static bool is_acceptable(const struct tcp *t, const struct segment *s) {
    u32 window = t->rcv_edge - t->rcv_nxt, length = s->length + !!(s->flags & TCP_FIN);
    u32 first = s->seq - t->rcv_nxt, last = first + length - 1;

    if (!length)
        return first < window || !first;
    return first < window || last < window;
}

static void on_reset(struct tcp *t, const struct segment *s) {
    if (t->state == TCP_TIME_WAIT)
        return; /* it waits to the end, whatever strays in (RFC 1337) */
    if (s->seq == t->rcv_nxt)
        tcp_release(t);
    else
        challenge(t);
}

static void end_wait(struct tcp *t) {
    t->state = TCP_TIME_WAIT;
    t->resend_at = 0;
    t->end_at = deadline(TIME_WAIT_MS);
    timer_by(t, t->end_at);
}

/* Our FIN has been acknowledged. False: that was the end. */
static bool on_fin_acknowledged(struct tcp *t) {
    t->fin = false;
    t->resend_at = 0;
    if (t->state == TCP_LAST_ACK) {
        tcp_release(t);
        return false;
    }
    if (t->state == TCP_CLOSING)
        end_wait(t);
    else
        t->state = TCP_FIN_WAIT_2;
    return true;
}

/* An ACK of something new: *bytes of the queue. False: the connection is gone. */
static bool on_progress(struct tcp *t, u32 ack, u32 *bytes) {
    bool fin = t->fin && ack == queue_end(t);
    u32 before = t->snd_nxt - t->snd_una, all = ack - t->snd_una;

    if (t->timing && seq_diff(ack, t->rtt_seq) >= 0) {
        t->timing = false;
        timer_measured(t, tcp_global.now - t->rtt_at);
    }
    t->retries = 0;
    *bytes = queue_acknowledged(t, ack);
    congestion_progress(t, all, before);
    t->resend_at = t->snd_una == t->snd_max ? 0 : deadline(t->rto);
    if (t->resend_at)
        timer_by(t, t->resend_at);
    if (fin && !on_fin_acknowledged(t))
        return false;
    if (queue_end(t) != t->snd_nxt)
        tcp_set_dirty(t);
    return true;
}

static void change_window(struct tcp *t, u32 window) {
    u32 old = t->snd_wnd;

    t->snd_wnd = window;
    if (window > t->window_most)
        t->window_most = window;
    if (window > old && queue_end(t) != t->snd_nxt)
        tcp_set_dirty(t);
    if (window && !old && t->snd_una == t->snd_nxt) { /* no more probing */
        t->resend_at = 0;
        t->retries = 0;
    }
}

static void take_window(struct tcp *t, const struct segment *s) {
    u32 window = (u32)s->window << t->shift;

    if (seq_diff(s->seq, t->wl1) < 0 || (s->seq == t->wl1 && seq_diff(s->ack, t->wl2) < 0))
        return; /* a newer segment has told it */
    t->wl1 = s->seq;
    t->wl2 = s->ack;
    if (window != t->snd_wnd)
        change_window(t, window);
}

static bool is_duplicate(const struct tcp *t, const struct segment *s) {
    return !s->length && !(s->flags & TCP_FIN) && s->ack == t->snd_una && t->snd_una != t->snd_nxt &&
           (u32)s->window << t->shift == t->snd_wnd;
}

/* *bytes: how many of the queue it acknowledges. False: nothing else of the segment counts, or the connection
 * is gone. */
static bool on_ack(struct tcp *t, const struct segment *s, u32 *bytes) {
    u32 more = s->ack - t->snd_una;

    if (more > t->snd_max - t->snd_una) {
        if (t->snd_una - s->ack <= t->window_most)
            return true; /* an old one */
        challenge(t);
        return false;
    }
    bool duplicate = !more && is_duplicate(t, s);
    take_window(t, s);
    if (more)
        return on_progress(t, s->ack, bytes);
    if (duplicate)
        congestion_duplicate(t);
    return true;
}

static bool receives(const struct tcp *t) {
    return t->state == TCP_ESTABLISHED || t->state == TCP_FIN_WAIT_1 || t->state == TCP_FIN_WAIT_2;
}

/* Takes what is new and in order: *length bytes from *data on. False: what comes after it is not to be looked at. */
static bool on_data(struct tcp *t, const struct segment *s, const u8 **data, u32 *length) {
    u32 old = t->rcv_nxt - s->seq, window = t->rcv_edge - t->rcv_nxt;

    if (old > s->length) { /* it begins too late: ask for what is missing */
        output_ack(t);
        return false;
    }
    u32 fresh = s->length - old, part = fresh < window ? fresh : window;
    if (!fresh || !receives(t))
        return true;
    if (!t->user) { /* nobody will read it */
        output_reset(t);
        tcp_release(t);
        return false;
    }
    t->rcv_nxt += part;
    t->unread += part;
    t->ack_later = true;
    if (old || part < fresh || t->rcv_nxt - t->rcv_acked >= 2 * TCP_MSS)
        t->ack_now = true;
    tcp_set_dirty(t);
    *data = s->data + old;
    *length = part;
    return part == fresh;
}

static void on_fin(struct tcp *t) {
    void *user = t->user;

    t->rcv_nxt++;
    t->ack_now = true;
    tcp_set_dirty(t);
    if (t->state == TCP_ESTABLISHED)
        t->state = TCP_CLOSE_WAIT;
    else if (t->state == TCP_FIN_WAIT_1)
        t->state = TCP_CLOSING;
    else
        end_wait(t);
    if (user)
        tcp_user_ended(user);
}

/* A segment that is not plainly the next one of a connection: false if no more than this is to be done about it. */
static __attribute__((noinline)) bool admit(struct tcp *t, struct segment s) {
    if (!is_acceptable(t, &s)) {
        if (s.flags & TCP_RST)
            return false;
        if (t->state == TCP_SYN_RECEIVED && (s.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
            s.seq + 1 == t->rcv_nxt)
            output_syn(t);
        else if (s.length || (s.flags & TCP_FIN))
            output_ack(t);
        else
            challenge(t);
        return false;
    }
    if (s.flags & TCP_RST) {
        on_reset(t, &s);
        return false;
    }
    if (s.flags & TCP_SYN) {
        challenge(t);
        return false;
    }
    return (s.flags & TCP_ACK) && (t->state != TCP_SYN_RECEIVED || establish(t, &s));
}

static void on_segment(struct tcp *t, const struct segment *s) {
    bool plain = (s->flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK && t->state != TCP_SYN_RECEIVED &&
                 s->seq - t->rcv_nxt < t->rcv_edge - t->rcv_nxt;
    u32 acknowledged = 0, length = 0;
    const u8 *data = NULL;

    if ((!plain && !admit(t, *s)) || !on_ack(t, s, &acknowledged))
        return;
    memcpy(t->headers.to, s->mac, 6); /* where the peer is now */
    bool whole = !s->length || on_data(t, s, &data, &length);
    if ((acknowledged || length) && t->user)
        tcp_user_segment(t->user, acknowledged, data, length);
    if (whole && (s->flags & TCP_FIN) && s->seq + s->length == t->rcv_nxt && receives(t))
        on_fin(t);
}

/* A segment of no connection, or one that would open it. NULL: it is done with. */
static __attribute__((noinline)) struct tcp *on_stranger(struct tcp *t, struct segment s) {
    bool opens = (s.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;

    if (t && opens && t->state == TCP_TIME_WAIT && seq_diff(s.seq, t->rcv_nxt) > 0) {
        tcp_release(t); /* RFC 9293 section 3.10.7.4: the next connection of the same ports */
        t = NULL;
    }
    if (t)
        return t;
    if (!is_host(s.source, tcp_global.config.address) || !s.source_port)
        return NULL;
    if (opens)
        on_syn(s);
    else
        output_refusal(s);
    return NULL;
}

void port_received(u8 *frame, u32 length, bool verified) {
    struct segment s;

    if (!segment_read(&s, frame, length, tcp_global.config.address, tcp_global.config.port, verified))
        return;
    struct tcp *t = find(&s);
    if (!t || (s.flags & TCP_SYN))
        t = on_stranger(t, s);
    if (t)
        on_segment(t, &s);
}

/* ---- the user's calls */

u64 tcp_clock(void) {
    tcp_global.now_ms = port_now_ms();
    tcp_global.now = (u32)tcp_global.now_ms;
    return tcp_global.now_ms;
}

u32 tcp_receive(u32 budget) {
    return port_receive(budget);
}

bool tcp_flush(void) {
    while (dirty_first) {
        struct tcp *t = dirty_first;
        if (!output(t))
            break; /* it goes on with this one */
        dirty_first = t->dirty_next;
        if (!dirty_first)
            dirty_end = &dirty_first;
        t->dirty = false;
    }
    return port_flush() && !dirty_first;
}

void tcp_consumed(struct tcp *t, u32 length) {
    t->unread -= length < t->unread ? length : t->unread;
    if (t->rcv_nxt + TCP_WINDOW - t->unread - t->rcv_edge >= 2 * TCP_MSS) {
        t->ack_now = true; /* the window opens: the peer may be waiting for that */
        tcp_set_dirty(t);
    }
}

void tcp_finish(struct tcp *t) {
    if (t->state == TCP_ESTABLISHED)
        t->state = TCP_FIN_WAIT_1;
    else if (t->state == TCP_CLOSE_WAIT)
        t->state = TCP_LAST_ACK;
    else
        return;
    t->fin = true;
    tcp_set_dirty(t);
}

void tcp_close(struct tcp *t) {
    tcp_finish(t);
    t->user = NULL;
    orphan_add(t);
    if (!t->end_at) {
        t->end_at = deadline(ORPHAN_MS);
        timer_by(t, t->end_at);
    }
}

void tcp_abort(struct tcp *t) {
    output_reset(t);
    t->user = NULL;
    orphan_add(t);
    tcp_release(t);
}

void tcp_init(const struct tcp_config *config) {
    tcp_global.config = *config;
    multiplier = siphash(config->key, "place", 5) | 1;
    make_template();
    tcp_clock();
    timer_init();
    memset(place, 0, sizeof place);
    memset(pool, 0, sizeof pool);
    free_first = orphan_first = orphan_last = dirty_first = NULL;
    dirty_end = &dirty_first;
    for (u32 i = TCP_TABLE; i--;) {
        pool[i].next = free_first;
        free_first = &pool[i];
    }
}
