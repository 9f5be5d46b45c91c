/* TCP for a server: it listens on one port, and others connect. RFC 9293 with the congestion control of
 * RFC 5681 and 6582, timeouts of RFC 6298, and the defences of RFC 5961 and 6528. See docs/web.md.
 *
 * Nothing that is sent is copied. A connection's send queue is a list of references to bytes of its
 * user, which stay until the peer has acknowledged them: they are what is sent again when
 * something is lost. Nothing that is received is kept: what arrives in order is handed over where
 * it lies, what arrives too early is thrown away and asked for again.
 *
 * Single-threaded, without dynamic memory. Call tcp_clock, tcp_receive, tcp_timers and tcp_flush in a loop; all
 * else may be called between them and from within the functions that its user provides. Frames go out in
 * tcp_flush, those of all connections together. Addresses are in network byte order. */
#pragma once
#include "net/port.h"
#include "tcp/sum.h"

#ifndef NET_CONNECTIONS
#define NET_CONNECTIONS 2048 /* that a user may have; some more are half open or closing */
#endif
#define TCP_MSS 1460
#define TCP_WINDOW (8 * TCP_MSS) /* bytes received and not consumed, at most */
#define TCP_LEAST_MSS 536        /* a peer that asks for smaller segments is refused */
#define TCP_PIECES 16            /* references in a send queue */

struct tcp; /* a connection */

/* ---- what the user of the connections provides. `user` is what tcp_user_open gave. */

/* A peer has connected. NULL: it is reset. */
void *tcp_user_open(struct tcp *t);
/* A segment has come: so many bytes of those written, the first ones, are acknowledged, and these have been
 * received, in order (one of both may be none). They are lost when it returns; each must be told to tcp_consumed once. */
void tcp_user_segment(void *user, u32 acknowledged, const void *data, u32 length);
void tcp_user_ended(void *user); /* the peer sends nothing more */
void tcp_user_lost(void *user);  /* the connection is no more */

/* ---- what it uses */

struct tcp_config {
    u32 address;
    u16 port;   /* host byte order */
    u64 key[2]; /* secret: makes sequence numbers and places in tables unpredictable */
    struct sums sums; /* of bytes that are often sent, where the device does not sum; or zeros */
};

void tcp_init(const struct tcp_config *config);
/* Reads the port's clock, in ms: for all that follows it is so late. Call it at the beginning of each turn. */
u64 tcp_clock(void);
/* Handles at most `budget` waiting frames; returns how many there were. */
u32 tcp_receive(u32 budget);
/* Acts on the deadlines that have passed; returns in how many ms the next one may; ~0: none will. */
u32 tcp_timers(void);
/* Sends what has been queued. False: the device is full; call again soon. */
bool tcp_flush(void);

/* Queues a reference to bytes, and returns how many of them were taken. They must stay as they are until
 * they have been acknowledged or the connection is lost; *users, if there is one, is raised by one
 * until then. */
u32 tcp_write(struct tcp *t, const void *data, u32 length, u32 *users);
/* May so many references be queued, with some bytes beside a long one? */
bool tcp_room(const struct tcp *t, u32 pieces);
void tcp_consumed(struct tcp *t, u32 length);
/* Ends the sending direction, after what is queued. */
void tcp_finish(struct tcp *t);
/* The connection is given up: politely, after what is queued; or at once, with a reset. The user
 * hears no more of it. */
void tcp_close(struct tcp *t);
void tcp_abort(struct tcp *t);
