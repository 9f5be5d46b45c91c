/* HTTP/1.1 on the server's side: connections, their states and time limits, and the answers.
 *
 * Single-threaded, without dynamic memory: connections come from a pool, and so do input buffers,
 * which a connection has only while a request is incomplete or has to wait. The stream's receive
 * window is not larger than an input buffer, so that one always suffices. See docs/web.md. */
#pragma once
#include "web/live.h"
#include "web/site.h"
#include "web/stream.h"

#ifndef NET_CONNECTIONS
#define NET_CONNECTIONS 2048
#endif
#define HTTP_CONNECTIONS NET_CONNECTIONS
#ifndef HTTP_INPUTS /* input buffers */
#define HTTP_INPUTS (NET_CONNECTIONS < 768 ? NET_CONNECTIONS / 4 : 192)
#endif
#define HTTP_INPUT_SIZE (8 * 1460) /* = TCP_WINDOW */
/* Where heads of answers are kept that are not prepared with their file: so many blocks. */
#define HTTP_BLOCKS NET_CONNECTIONS
#define HTTP_BLOCK_SIZE 508
#define HTTP_SPARE 16              /* connections that are kept free for new ones */

#define HTTP_FIRST_MS 30000   /* a new connection may be silent so long */
#define HTTP_HEAD_MS 10000    /* from a head's first byte to its last */
#define HTTP_IDLE_MS 75000    /* between requests */
#define HTTP_SEND_MS 30000    /* the peer must acknowledge something in this time */
#define HTTP_STALLED_MS 2000  /* or in this time, when there is no room for a new connection */
#define HTTP_LINGER_MS 5000   /* to close, after we did */
#define HTTP_BODY_MOST 65536  /* a request's body is passed over up to this size */

enum http_phase {
    HTTP_FREE,
    HTTP_FIRST,   /* nothing received yet */
    HTTP_READING, /* part of a head, or of a body that is passed over */
    HTTP_IDLE,    /* between requests */
    HTTP_SENDING, /* an answer is not yet queued entirely, or not acknowledged */
    HTTP_LINGER,  /* all is sent, the peer shall close */
    HTTP_PHASES,
};

/* A place in a ring of such: a list has one more, where it begins and ends. */
struct http_link {
    struct http_link *next, *previous;
};

struct http {
    struct http_link link;        /* first: in the list of its phase, the longest there first */
    u64 since;                    /* ms: when it entered the phase, or last made progress */
    void *stream;
    char *input; /* HTTP_INPUT_SIZE bytes, or NULL */
    u32 input_used;
    u32 input_scanned; /* see http_request_complete */
    u64 skip;          /* bytes of a request's body still to be passed over */
    const u8 *body;    /* of the answer: what is not queued yet */
    u64 body_left;
    u32 *body_users;    /* of the document that it lies in; NULL: a file */
    u64 unacknowledged; /* bytes queued and not acknowledged */
    u32 blocks;         /* queued since all was acknowledged */
    u8 phase;
    bool closing; /* nothing more is read; close when all is sent */
    bool ended;   /* the peer sends nothing more */
    bool starved; /* the stream had no memory and nothing will wake us */
};

struct http_counters {
    u64 connections, requests, bytes, errors, evicted, timeouts;
    u32 open;
};
extern struct http_counters http_counters;

void http_init(const struct site *site);
/* A new connection; NULL: none can be had. */
struct http *http_open(void *stream);
/* So many bytes were acknowledged, and these have arrived; one of both may be none. The connection may be gone
 * afterwards; so may it after the next two. */
void http_segment(struct http *h, u32 acknowledged, const void *data, u32 length);
void http_end(struct http *h);  /* the peer sends nothing more */
void http_lost(struct http *h); /* the stream is gone already */
/* Acts on time limits, and dates answers from now on; call it before the others, at each second, and when
 * it asks to. Returns in how many ms; ~0: never. */
u32 http_tick(u64 now_ms, u64 unix_seconds);
/* It is now so late, which is not later than what http_tick asked for. */
void http_now(u64 now_ms);
/* In how many ms, at the least, a time limit passes that began after http_tick. */
u32 http_least_limit(void);
