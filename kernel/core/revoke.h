/* Visible revocation and the abort protocol (docs/revocation.md). */
#pragma once
#include "lib/base.h"

struct regs;
/* Whether the caller asked for a resource, has not got all of it, and may take the rest by force: 0 or E_NOT_DUE. */
s64 revoke_due(const struct env *env, u32 resource);
/* An environment has let go of so many of a resource: counts towards a request. Its lock is held. */
void revoke_given(struct env *env, u32 resource, u32 count);
/* Ends the taking of a page if it is this environment's, whose lock is held, and the request is over: nobody will go on with it. */
void revoke_let_go(const struct env *env, u32 page);
/* Records a loss, in the loss page if there is one, and makes the upcall pending. */
void revoke_lost(struct env *env, u32 resource, u32 name, u64 generation, u32 saved);
/* Makes r one of the upcalls that wait for the current context, if it has an entry for them. */
void revoke_deliver(struct regs *r);
