/* The answer to a request: which status, which head, which body. Decides and formats; sends
 * nothing. */
#pragma once
#include "web/http_request.h"
#include "web/live.h"
#include "web/site.h"

struct answer {
    const char *head; /* valid until the next answer is made */
    u32 head_length;
    u32 *head_users; /* NULL: it must be copied; else it stays for as long as this is not 0 */
    const u8 *body; /* NULL, or bytes that stay: a file, or the text of `live` */
    u64 body_length;
    struct live *live; /* document that the body lies in */
    bool keep;         /* the connection stays open */
    bool error;        /* the status is 400 or more */
};

/* The time that Date shows from now on. */
void answer_set_time(u64 unix_seconds);
/* The file that a plain GET of this target asks for, if its prepared head (and what is near it) is the whole
 * answer; or NULL: answer_request knows. */
struct site_file *answer_ready(const struct site *site, struct http_text target);
void answer_request(struct answer *a, const struct site *site, const struct http_request *r,
                    u64 now_ms);
/* An answer that ends the connection, to something that could not be read as a request. */
void answer_error(struct answer *a, u16 status);
/* Gives the document back. Who refers to it longer has raised its users. */
void answer_end(struct answer *a);
