/* The head of an HTTP/1 request, taken apart. Pure: it looks at bytes and keeps nothing.
 *
 * The texts point into the bytes that were parsed. What is wrong with a request is said as
 * the status of the answer that it deserves. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

#define HTTP_HEAD_LIMIT 8192   /* bytes of a head; longer: 431 */
#define HTTP_TARGET_LIMIT 4096 /* bytes of a target; longer: 414 */

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_KNOWN,   /* a method that we know and do not allow: 405 */
    HTTP_UNKNOWN, /* any other: 501 */
};

struct http_text {
    const char *at; /* NULL: absent */
    u32 length;
};

struct http_request {
    u32 length;   /* of the head, its empty line included */
    u16 error;    /* 0, or a status: then nothing else is to be relied on */
    u8 method;    /* an http_method */
    u8 minor;     /* 0: HTTP/1.0; 1: HTTP/1.1 */
    bool keep;    /* the connection may stay open */
    bool chunked; /* the body has a transfer coding */
    bool expects; /* the body waits for "100 Continue" */
    bool has_host;
    u64 body; /* Content-Length */
    struct http_text target;
    struct http_text range, if_range;
    struct http_text if_match, if_none_match, if_modified, if_unmodified;
};

/* Parses the head that begins at `data`. False: it is not complete yet. When it returns true,
 * either `error` is set or the head was good and is `length` bytes long. */
bool http_request_parse(struct http_request *r, const char *data, u32 length);
/* Is there a whole head? Goes on at *scanned, which it moves; begin with 0. For heads that come
 * in pieces, so that each byte is looked at once before the head is parsed. */
bool http_request_complete(const char *data, u32 length, u32 *scanned);
