/* The views over HTTP/1.0 as plain text: GET /envs, /pages/123, ..., and / for the list. Read
 * only. */
#pragma once
#include "rt.h"

/* Listens, after net_init. False: no memory. */
bool serve_start(u16 port);
