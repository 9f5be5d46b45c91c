/* The cache itself, in the pages that the handler sees too (table.h); and the memcached text protocol over it, which
 * knows nothing of networks. */
#pragma once
#include "rt.h"

#include "table.h"

#define VALUE_MOST 1024

/* Takes pages for it: 0, with the first and how many, or an error. */
s64 store_open(u32 *first, u32 *pages);
/* The entry with a key, or NULL; expired ones are not found. */
struct entry *store_find(const u8 *key, u32 length);
/* Puts in a value in place of what was there; false: no place can be had now. `expires`: TSC, 0: never. */
bool store_put(const u8 *key, u32 length, u32 flags, u64 expires, const u8 *value, u32 bytes);
bool store_delete(const u8 *key, u32 length);
/* Gives it another end. */
void store_touch(struct entry *e, u64 expires);
/* At that TSC, or now, all that is there then ends. */
void store_flush(u64 at);
extern struct table *table;
extern struct store_counters {
    u64 gets, hits, sets, touches, flushes, deletes, evictions, items, bad;
} counted;

/* Answers one request of the protocol, which may be anything: the answer's length, 0 for none (noreply). */
u32 protocol_answer(const u8 *request, u32 size, u8 *answer, u32 room);
