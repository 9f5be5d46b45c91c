/* Capabilities: making and verifying them (docs/capabilities.md). */
#pragma once
#include "lib/base.h"

void cap_init(const u64 key[2]);
/* Fills in generation and tag; `holder`: the generation of the holder, if there is one. */
void cap_seal(struct cap *c, u64 generation, u64 holder);

/* Copies a capability from the caller and verifies it: form, tag, holder, type, and that it has all of
 * `rights`. Generations are left to the caller, who knows what is named. `out` NULL: who presents it is all that counts.
 * 0, E_BAD_ADDRESS, E_BAD_CAPABILITY, E_NO_RIGHT. */
s64 cap_present(u64 user, u8 type, u8 rights, struct cap *out);
/* The same, for a capability already copied, as this environment presents it. */
s64 cap_verify(const struct cap *c, u8 type, u8 rights, u32 env);

/* Presents a capability for an object that is a page of its own (ENV, FLOW): also checks its
 * generation and that the page has `page_type` still. */
s64 cap_object(u64 user, u8 type, u8 rights, u8 object_type, u32 *name);

/* Whether the caller may use pages: by a capability (user != 0) that covers them with `rights`
 * and whose generation all of them have, or as their owner. 0 or an error. *owner: who owns them
 * (all one). What is true when this returns may be false later: use it only to look up. */
s64 cap_pages(u64 user, u32 name, u32 count, u8 rights, u32 *owner);

/* Writes a capability to a caller's address, or nowhere if that is 0. */
s64 cap_grant(u64 user, u8 type, u8 rights, u32 name, u32 count, u64 generation);
