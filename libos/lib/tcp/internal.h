/* What the parts of this TCP share: a connection, and who does what to it.
 *
 *     tcp.c      the table of connections, segments that arrive, the user's calls
 *     output.c   the send queue, segments that leave, congestion control
 *     timer.c    deadlines
 *
 * Sequence numbers are compared by their difference. The send queue holds the bytes from snd_una on: `queued` of
 * them, then, if `fin` says so, our FIN. */
#pragma once
#include "tcp/segment.h"
#include "tcp/tcp.h"

#define TCP_TABLE (NET_CONNECTIONS + NET_CONNECTIONS / 8) /* some half open or closing ones as well */
#define TCP_FLIGHT (88 * TCP_MSS)                         /* most bytes under way to one peer */
#define TCP_FIRST_WINDOW 10                               /* segments (RFC 6928) */

/* Times in ms. */
#define RTO_FIRST 1000
#define RTO_LEAST 250 /* RFC 6298 says 1,000; as most do, less, but more than any peer delays an ACK */
#define RTO_MOST 60000
#define RETRIES 8     /* then the peer is taken to be gone */
#define SYN_RETRIES 4
#define ACK_DELAY 40
#define ORPHAN_MS 60000    /* for a connection without a user to end */
#define TIME_WAIT_MS 20000 /* 2 MSL, as short as is in use */
#define CHALLENGE_MS 500   /* least between two challenge ACKs of a connection */

enum tcp_state {
    TCP_FREE,
    TCP_SYN_RECEIVED,
    TCP_ESTABLISHED,
    TCP_CLOSE_WAIT,
    /* our FIN is queued and not acknowledged */
    TCP_FIN_WAIT_1,
    TCP_CLOSING,
    TCP_LAST_ACK,
    /* our FIN is acknowledged */
    TCP_FIN_WAIT_2,
    TCP_TIME_WAIT,
};

struct tcp_piece {
    const u8 *data;
    u32 length;
    u32 *users; /* NULL, or lowered when the piece leaves the queue */
};

/* Where in the send queue a sequence number is. Pieces are numbered from the connection's beginning. */
struct cursor {
    u32 piece;
    u32 offset;
};

struct tcp {
    struct tcp *chain;         /* the next of its place in the table */
    struct tcp *next, *before; /* among those without a user: the oldest first; next: also if free */
    struct tcp *dirty_next;
    void *user;
    u8 state;
    bool dirty;     /* on the list of those that tcp_flush looks at */
    bool ack_now;   /* something must be acknowledged at once */
    bool ack_later; /* or in ACK_DELAY */
    bool recovering, timing;
    bool fin; /* ours is queued and not acknowledged: the state is one of those */
    u8 duplicates, retries;
    u8 shift; /* of the peer's window */
    u16 mss;

    u32 rcv_nxt;
    u32 rcv_acked; /* the last that we sent */
    u32 rcv_edge;  /* the end of the window that we told */
    u32 unread;    /* handed over and not consumed */

    u32 snd_una, snd_nxt;
    u32 snd_max; /* the highest ever sent; snd_nxt goes back when things are sent again */
    u32 snd_wnd, wl1, wl2;
    u32 window_most; /* the largest that the peer ever told */
    u32 queued;
    u32 cwnd, ssthresh, recover;
    u32 srtt, rttvar, rto; /* ms; srtt times 8, rttvar times 4 */
    u32 rtt_seq, rtt_at;
    u32 sent_at;

    /* deadlines, by the low half of the clock; 0: none */
    u32 resend_at, ack_at, end_at, challenge_at;
    struct tcp *timer_next, **timer_link; /* timer_link NULL: in no slot */
    u32 timer_at;                         /* when its slot is looked at */

    u32 first_piece, last_piece; /* the queue: from first to before last */
    u32 first_done;              /* bytes of the first that are acknowledged */
    struct cursor cursor;        /* of snd_nxt */
    struct tcp_piece piece[TCP_PIECES];
    struct headers headers; /* what all its segments have in common */
    u16 pseudo;             /* sum of the pseudo-header without the length */
};

struct tcp_global {
    struct tcp_config config;
    u64 now_ms;
    u32 now; /* its low half, never 0 */
};
extern struct tcp_global tcp_global;

static inline s32 seq_diff(u32 a, u32 b) { return (s32)(a - b); }
/* One beyond the last sequence number that is queued. */
static inline u32 queue_end(const struct tcp *t) { return t->snd_una + t->queued + t->fin; }
static inline u32 deadline(u32 ms) { return (tcp_global.now + ms) | 1; }

/* ---- tcp.c */
/* What all segments to the sender of this one have in common. */
void headers_make(struct tcp *t, const struct segment *s);
void tcp_set_dirty(struct tcp *t);
/* Ends a connection without a word; its user is told. */
void tcp_release(struct tcp *t);

/* ---- output.c */
/* Sends what may be sent; false: the device is full. */
bool output(struct tcp *t);
/* An acknowledgement at once, without data; lost if the device is full. */
void output_ack(struct tcp *t);
void output_syn(struct tcp *t);
void output_reset(struct tcp *t);
/* A reset for a segment of no connection. */
void output_refusal(struct segment s);
/* One byte beyond the peer's window. */
void output_probe(struct tcp *t);
/* The peer has acknowledged up to `ack`, which is good and new. Returns how many bytes of the queue. */
u32 queue_acknowledged(struct tcp *t, u32 ack);
void queue_drop(struct tcp *t); /* all pieces */
/* An ACK of the first byte that is missing, again. */
void congestion_duplicate(struct tcp *t);
/* An ACK of `bytes` more; `before`: how many were under way. */
void congestion_progress(struct tcp *t, u32 bytes, u32 before);
void congestion_timeout(struct tcp *t);

/* ---- timer.c */
void timer_init(void);
/* Looks at the connection's deadlines at `at` at the latest. */
void timer_by(struct tcp *t, u32 at);
void timer_stop(struct tcp *t);
/* A round trip took so long (RFC 6298). */
void timer_measured(struct tcp *t, u32 ms);
