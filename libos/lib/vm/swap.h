/* The protocol of a swap server, by control transfer (TRANSFER_CALL). A message has the order in
 * rdi and its arguments in rsi and rdx; the reply has 0 or an error in rdi, and a capability in
 * rsi, rdx, r8, r9.
 *
 *   SWAP_TAKE    rsi: pages. A run of the server's pages for the caller: a PAGE capability with
 *                READ and WRITE, held by the caller, for it to save contents in
 *   SWAP_VIEW    rsi: page. A capability with READ for one of the pages that the caller has
 *   SWAP_RETURN  rsi: first page, rdx: pages. The caller no longer needs them: its capabilities
 *                become void */
#pragma once
#include "rt.h"

enum swap_order { SWAP_TAKE = 1, SWAP_VIEW = 2, SWAP_RETURN = 3 };

/* 0 or an error. Waits while the server serves another. */
s64 swap_take(u32 server, u32 pages, struct cap *cap);
s64 swap_view(u32 server, u32 page, struct cap *cap);
s64 swap_return(u32 server, u32 page, u32 pages);

/* An environment of this name that the caller's own creator made, so that nobody else can
 * pretend to be it; 0: none. */
u32 sibling(const char *name);
