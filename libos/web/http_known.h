/* Heads of which all but the target has been read before.
 *
 * A client that keeps its connection sends the same fields with each request. If they ask for nothing in particular
 * (no condition, no range, no body, the connection stays open), then a request with the same bytes behind its
 * target is one for a file as it is, and there is nothing else to be found out about it. */
#pragma once
#include "web/http_request.h"

/* Are these bytes a whole "GET target HTTP/1.1" with fields that are known to ask for nothing in particular? */
bool http_known(const char *data, u32 length, struct http_text *target);
/* Remembers what a head that was read has behind its target, if that is so. */
void http_known_learn(const struct http_request *r, const char *data);
/* Forgets all. */
void http_known_init(void);
