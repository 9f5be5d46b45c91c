/* The table of the cache, in pages that the library OS and its handler in the kernel share. Also read by clang for
 * the virtual machine, so it brings no types of its own: u8, u16, u32 and u64 come from who includes it.
 *
 * An entry has a page: its key, and the whole answer to a `get` of it, with the sum of its bytes. So the handler has
 * nothing to put together, and the device reads the answer where it lies. An index in the first page says by hash
 * which entries there are; those with one hash modulo SETS share WAYS places.
 *
 * Only the library OS changes entries, and in this order: it takes the entry out of the index, waits until no run of
 * the handler that may have seen it there is under way (`busy`; it is published as 0 after the frame is queued),
 * and until the device has read the page (its pins); then it writes, and puts the entry in. */
#pragma once

#define SETS 125 /* with WAYS places each, and what comes before, the index fills a page */
#define WAYS 4
#define ENTRIES_MOST (SETS * WAYS)
#define KEY_MOST 250
#define TEXT_MOST 1464 /* with Ethernet's, IP's, UDP's and memcached's headers, 1,514 bytes */
#define PAGE 4096

struct table {
    u64 busy;                  /* handler: 1 while it may be looking */
    u64 hits, misses;          /* handler: answers that it gave */
    u64 zero[5];
    u64 index[SETS][WAYS];     /* hash of the entry there; 0: none */
    u64 pad[PAGE / 8 - 8 - ENTRIES_MOST];
};

struct entry {
    u64 hash;    /* never 0 */
    u64 expires; /* TSC; 0: never */
    u64 unique;  /* for `gets` */
    u64 sum;     /* one's complement sum of the text, as `checksum` gives it */
    u32 key_length, text_length;
    u32 flags, value_at, value_length; /* in the text */
    u32 zero;
    u8 key[256];
    u8 text[TEXT_MOST]; /* VALUE key flags bytes\r\n value \r\nEND\r\n */
    u8 pad[PAGE - 56 - 256 - TEXT_MOST];
};

/* FNV-1a, a byte at a time; 1 in place of 0. */
#define HASH_START 0xcbf29ce484222325ull
#define HASH_NEXT(hash, byte) (((hash) ^ (byte)) * 0x100000001b3ull)
