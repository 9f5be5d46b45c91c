/* The send queue and what leaves. A segment refers to the bytes of the queue where they lie; if
 * the device takes fewer pieces than a full segment would need, the segment is a shorter one. */
#include "tcp/internal.h"
#include "tcp/sum.h"
#include <string.h>

/* ---- the queue */

u32 tcp_write(struct tcp *t, const void *data, u32 length, u32 *users) {
    u32 room = (1u << 30) - t->queued; /* far from where sequence numbers would wrap */

    if (t->last_piece - t->first_piece == TCP_PIECES || (t->state != TCP_ESTABLISHED && t->state != TCP_CLOSE_WAIT))
        return 0;
    if (length > room)
        length = room;
    if (!length)
        return 0;
    t->piece[t->last_piece++ % TCP_PIECES] = (struct tcp_piece){data, length, users};
    if (users)
        ++*users;
    t->queued += length;
    tcp_set_dirty(t);
    return length;
}

bool tcp_room(const struct tcp *t, u32 pieces) {
    return TCP_PIECES - (t->last_piece - t->first_piece) >= pieces && t->queued < 1u << 29;
}

static void drop_first(struct tcp *t) {
    u32 *users = t->piece[t->first_piece++ % TCP_PIECES].users;

    if (users)
        --*users;
}

void queue_drop(struct tcp *t) {
    while (t->first_piece != t->last_piece)
        drop_first(t);
    t->first_done = 0;
    t->queued = 0;
}

/* snd_nxt is snd_una again: the queue is sent from its beginning. */
static void rewind_cursor(struct tcp *t) {
    t->snd_nxt = t->snd_una;
    t->cursor = (struct cursor){t->first_piece, t->first_done};
}

u32 queue_acknowledged(struct tcp *t, u32 ack) {
    u32 bytes = ack - t->snd_una;

    if (bytes > t->queued)
        bytes = t->queued; /* the rest is our FIN */
    t->snd_una = ack;
    t->queued -= bytes;
    u32 done = t->first_done + bytes; /* from the beginning of the first piece on */
    while (t->first_piece != t->last_piece) {
        u32 length = t->piece[t->first_piece % TCP_PIECES].length;
        if (done < length)
            break;
        done -= length;
        drop_first(t);
    }
    t->first_done = done;
    if (seq_diff(t->snd_nxt, ack) < 0)
        rewind_cursor(t);
    return bytes;
}

/* ---- congestion control */

static u32 flight(const struct tcp *t) { return t->snd_nxt - t->snd_una; }

static u32 halved(const struct tcp *t) {
    u32 half = (t->snd_max - t->snd_una) / 2;

    return half > 2u * t->mss ? half : 2u * t->mss;
}

static void send_first(struct tcp *t, u32 most);

static void resend_first(struct tcp *t) {
    t->timing = false;
    send_first(t, t->mss < t->snd_wnd ? t->mss : t->snd_wnd);
}

/* RFC 5681 section 3.2, RFC 6582. An ACK of the first byte that is missing, again. */
void congestion_duplicate(struct tcp *t) {
    if (t->recovering) {
        t->cwnd += t->mss;
    } else if (t->duplicates < 255 && ++t->duplicates == 3 && seq_diff(t->snd_una, t->recover) > 0) {
        t->ssthresh = halved(t);
        t->cwnd = t->ssthresh + 3u * t->mss;
        t->recover = t->snd_max;
        t->recovering = true;
        resend_first(t);
    }
    tcp_set_dirty(t);
}

/* An ACK of something new; `before`: what was under way. */
void congestion_progress(struct tcp *t, u32 bytes, u32 before) {
    t->duplicates = 0;
    if (!t->recovering && seq_diff(t->snd_una, t->recover) > 0)
        t->recover = t->snd_una - 1; /* so that it stays near when numbers wrap */
    if (t->recovering) {
        if (seq_diff(t->snd_una, t->recover) >= 0) { /* all that was under way has arrived */
            t->recovering = false;
            u32 left = t->snd_max - t->snd_una;
            u32 window = (left > t->mss ? left : t->mss) + t->mss;
            t->cwnd = window < t->ssthresh ? window : t->ssthresh;
        } else { /* the next segment is missing too */
            t->cwnd = (t->cwnd > bytes ? t->cwnd - bytes : 0) + t->mss;
            resend_first(t);
        }
        return;
    }
    if (before < t->cwnd / 2 || t->cwnd >= TCP_FLIGHT)
        return; /* the window was not what held us */
    if (t->cwnd < t->ssthresh)
        t->cwnd += bytes < 2u * t->mss ? bytes : 2u * t->mss; /* RFC 3465 */
    else
        t->cwnd += t->mss * t->mss / t->cwnd + 1;
}

void congestion_timeout(struct tcp *t) {
    if (!t->retries)
        t->ssthresh = halved(t);
    t->cwnd = t->mss;
    t->recover = t->snd_max;
    t->recovering = false;
    t->duplicates = 0;
    rewind_cursor(t);
}

/* ---- segments */

static u32 window_of(const struct tcp *t) { return t->unread < TCP_WINDOW ? TCP_WINDOW - t->unread : 0; }

/* The header of the frame that was begun, with what all segments to this peer have in common. What comes after
 * the ports is not yet there. */
static struct headers *begin_headers(const struct tcp *t) {
    struct headers *h = (void *)net_port.headers;

    memcpy(h, &t->headers, offsetof(struct headers, seq));
    return h;
}

/* Where no device sums: the sum of `length` bytes of the queue from the cursor on. */
static u16 sum_of_queue(const struct tcp *t, struct cursor cursor, u32 length) {
    u16 sum = 0;

    for (u32 done = 0; done < length; cursor = (struct cursor){cursor.piece + 1, 0}) {
        const struct tcp_piece *p = &t->piece[cursor.piece % TCP_PIECES];
        u32 part = p->length - cursor.offset;
        part = part < length - done ? part : length - done;
        sum = sum_join(sum, sums_of(&tcp_global.config.sums, p->data + cursor.offset, part), done & 1);
        done += part;
    }
    return sum;
}

/* Fills in what a segment has of its own, and gives the frame to the port. `sum`: of the data, if no device sums. */
static inline __attribute__((always_inline)) void finish(struct tcp *t, struct headers *h, u32 header, u32 length,
                                                         u32 seq, u8 flags, u16 sum) {
    u32 window = window_of(t), tcp_length = header - HEADERS_TCP + length;

    h->length = __builtin_bswap16((u16)(header - HEADERS_IP + length));
    u32 ip_sum = (u32)t->headers.ip_sum + h->length; /* the template has that of all but the length */
    h->ip_sum = (u16)~(ip_sum + (ip_sum >> 16));
    h->seq = __builtin_bswap32(seq);
    h->ack = __builtin_bswap32(t->rcv_nxt);
    h->offset = (u8)((header - HEADERS_TCP) / 4 << 4);
    h->flags = flags;
    h->window = __builtin_bswap16((u16)window);
    h->urgent = 0;
    h->sum = sum_join(t->pseudo, __builtin_bswap16((u16)tcp_length), false);
    if (!net_port.checksum)
        h->sum = (u16)~sum_join(sum_bytes((u8 *)h + HEADERS_TCP, header - HEADERS_TCP), sum, false);
    port_end(header, net_port.checksum ? HEADERS_TCP : 0, net_port.checksum ? HEADERS_SUM : 0);
    t->rcv_acked = t->rcv_nxt;
    t->rcv_edge = t->rcv_nxt + window;
    t->ack_now = t->ack_later = false;
    t->ack_at = 0;
}

static bool begin(void) {
    return port_begin() || (port_flush() && port_begin());
}

/* Bytes that a frame has taken, and where in the queue those after them are. */
struct added {
    u32 length;
    struct cursor cursor;
};

/* Adds more of the queue to a frame, up to `most` bytes in all. */
static __attribute__((noinline)) struct added add_more(const struct tcp *t, u32 most, struct added a) {
    while (a.length < most && a.cursor.piece != t->last_piece) {
        const struct tcp_piece *p = &t->piece[a.cursor.piece % TCP_PIECES];
        u32 part = p->length - a.cursor.offset;
        part = part < most - a.length ? part : most - a.length;
        u32 taken = port_add(p->data + a.cursor.offset, part);
        a.length += taken;
        a.cursor.offset += taken;
        if (a.cursor.offset == p->length)
            a.cursor = (struct cursor){a.cursor.piece + 1, 0};
        if (taken < part)
            break;
    }
    return a;
}

/* Adds at most `most` bytes from the cursor on to a frame that has none. Mostly one piece has them all. */
static inline struct added add_bytes(const struct tcp *t, u32 most, struct cursor cursor) {
    const struct tcp_piece *p = &t->piece[cursor.piece % TCP_PIECES];
    u32 end = cursor.offset + most;

    if (!most || cursor.piece == t->last_piece || end > p->length)
        return add_more(t, most, (struct added){0, cursor});
    struct added a = {port_add(p->data + cursor.offset, most), cursor};
    a.cursor.offset += a.length;
    if (a.length == most && end == p->length)
        a.cursor = (struct cursor){cursor.piece + 1, 0};
    return a;
}

/* What has been sent up to `next` is under way. */
static inline void note_sent(struct tcp *t, u32 next) {
    if (seq_diff(next, t->snd_max) > 0) {
        t->snd_max = next;
        if (!t->timing) {
            t->timing = true;
            t->rtt_seq = next;
            t->rtt_at = tcp_global.now;
        }
    }
    t->sent_at = tcp_global.now;
    if (!t->resend_at) {
        t->resend_at = deadline(t->rto);
        timer_by(t, t->resend_at);
    }
}

/* Sends a segment of at most `most` bytes that begins at `seq`, where the cursor is, with the FIN if its turn has
 * come. False: the device is full. */
static inline __attribute__((always_inline)) bool send_at(struct tcp *t, u32 seq, u32 most, struct cursor cursor) {
    if (!begin())
        return false;
    struct headers *h = begin_headers(t);
    struct added added = add_bytes(t, most, cursor);
    u32 length = added.length, next = seq + length;
    u8 flags = TCP_ACK;
    if (next == t->snd_una + t->queued)
        flags |= (u8)((length ? TCP_PSH : 0) | t->fin);
    finish(t, h, sizeof *h, length, seq, flags, net_port.checksum ? 0 : sum_of_queue(t, cursor, length));
    next += flags & TCP_FIN;
    if (seq_diff(next, t->snd_nxt) > 0) { /* also if it begins with what is sent again */
        t->snd_nxt = next;
        t->cursor = added.cursor;
    }
    note_sent(t, next);
    return true;
}

/* Sends what has not been sent, from snd_nxt on; this is how nearly all is sent. */
static __attribute__((noinline)) bool send_next(struct tcp *t, u32 most) {
    return send_at(t, t->snd_nxt, most, t->cursor);
}

/* Sends the first bytes of the queue again. */
static __attribute__((noinline)) void send_first(struct tcp *t, u32 most) {
    send_at(t, t->snd_una, most, (struct cursor){t->first_piece, t->first_done});
}

static void send_empty(struct tcp *t, u32 seq, u8 flags) {
    if (!begin())
        return;
    struct headers *h = begin_headers(t);
    finish(t, h, sizeof *h, 0, seq, flags, 0);
}

void output_ack(struct tcp *t) { send_empty(t, t->snd_max, TCP_ACK); }

void output_reset(struct tcp *t) { send_empty(t, t->snd_max, TCP_RST | TCP_ACK); }

void output_syn(struct tcp *t) {
    static const u8 options[8] = {2, 4, TCP_MSS >> 8, TCP_MSS & 255, 1, 3, 3, 0};
    u32 length = t->shift != 255 ? 8 : 4; /* 255: the peer does not know of scaling */

    if (!begin())
        return;
    struct headers *h = begin_headers(t);
    memcpy(h + 1, options, length);
    finish(t, h, (u32)sizeof *h + length, 0, t->snd_una, TCP_SYN | TCP_ACK, 0);
}

void output_probe(struct tcp *t) {
    struct cursor at = t->cursor;
    u32 next = t->snd_nxt;

    if (t->queued || t->fin) {
        send_first(t, 1);
        t->snd_nxt = next; /* it does not count as sent, but may be acknowledged */
        t->cursor = at;
        t->timing = false;
    }
}

/* How many bytes may be sent now. */
static u32 allowed(const struct tcp *t) {
    u32 window = t->cwnd;

    if (t->duplicates && !t->recovering)
        window += (t->duplicates < 2 ? t->duplicates : 2u) * t->mss; /* RFC 3042 */
    window = window < TCP_FLIGHT ? window : TCP_FLIGHT;
    window = window < t->snd_wnd ? window : t->snd_wnd;
    return window > flight(t) ? window - flight(t) : 0;
}

/* After a pause what was learned of the network no longer holds (RFC 5681 section 4.1). */
static void restart_window(struct tcp *t) {
    u32 first = (u32)TCP_FIRST_WINDOW * t->mss;

    if (t->snd_max == t->snd_una && t->cwnd > first && tcp_global.now - t->sent_at > t->rto)
        t->cwnd = first;
}

bool output(struct tcp *t) {
    if (t->state == TCP_SYN_RECEIVED || t->state == TCP_FREE)
        return true;
    u32 left = queue_end(t) - t->snd_nxt;
    if (left)
        restart_window(t);
    while (left) {
        u32 may = allowed(t), bytes = left - t->fin;
        u32 part = bytes < t->mss ? bytes : t->mss;
        if (part > may && flight(t))
            break; /* rather a full segment, when more is acknowledged */
        if (part > may)
            part = may;
        if (!part && bytes) { /* the window is closed: ask again later */
            if (!t->resend_at) {
                t->resend_at = deadline(t->rto);
                timer_by(t, t->resend_at);
            }
            break;
        }
        if (!send_next(t, part))
            return false;
        left = queue_end(t) - t->snd_nxt;
    }
    if (t->ack_now) {
        output_ack(t);
    } else if (t->ack_later && !t->ack_at) {
        t->ack_at = deadline(ACK_DELAY);
        timer_by(t, t->ack_at);
    }
    return true;
}

void output_refusal(struct segment s) {
    struct tcp t = {.rcv_nxt = s.seq + s.length + !!(s.flags & TCP_SYN) + (s.flags & TCP_FIN),
                    .unread = TCP_WINDOW};
    bool acknowledges = s.flags & TCP_ACK;

    if (s.flags & TCP_RST)
        return;
    headers_make(&t, &s);
    send_empty(&t, acknowledges ? s.ack : 0, acknowledges ? TCP_RST : TCP_RST | TCP_ACK);
}
