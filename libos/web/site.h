/* The files of a web site, found by path: an index over the boot archive.
 *
 * The archive is a tar file (ustar) in memory that stays as it is; members `site/...` are the
 * site. Files are served from where they lie, but for small ones, which lie behind the head of their
 * answer as well. That, the heads and the index are built once, in memory that the caller gives. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

#define SITE_DATE_AT 23 /* where the Date stands in a prepared head */
#define SITE_SMALL 1024 /* bytes: with its head it is one segment */

struct site_file {
    const u8 *data;
    const u8 *near; /* a small file's copy behind its head, so that both are sent as one; or NULL */
    u64 size;
    u64 modified;     /* seconds since 1970 */
    const char *path; /* relative to the site, no end mark */
    char *head;       /* a whole 200 head; its Date is filled in when it is used */
    u32 users;        /* answers under way that refer to the head */
    u64 dated;        /* the second that its Date says */
    bool plain;       /* its path has nothing that a request would have to encode */
    u16 path_length;
    u16 head_length;
    /* parts of the head that answers of other status share */
    u16 validators_at;
    u16 type_at; /* and the end of the validators */
    u16 type_end;
    u16 tag_at; /* the entity tag in the head, with its quotes */
    u16 tag_length;
};

/* A place of the index: a path's hash and length, and its file, which for a folder is its index. */
struct site_slot {
    u32 hash, length;
    struct site_file *file; /* NULL: empty */
};

struct site {
    struct site_file *file;
    u32 files;
    u32 last; /* a power of two less one */
    struct site_slot *slot; /* open addressing: last + 1 of them */
};

/* Bytes that site_build needs for this archive. */
u64 site_memory(const u8 *archive, u64 bytes);
/* Builds the index. `memory` is aligned to 16 and holds site_memory bytes. What is broken or no
 * regular file is passed over; of two members with one path the later counts. */
void site_build(struct site *site, const u8 *archive, u64 bytes, void *memory);
/* The file of this path, or the index of the folder if it ends as one does, with a slash or as nothing. */
struct site_file *site_find(const struct site *site, const char *path, u32 length);
/* The same for a path as it comes in a request, without its first slash: what needs no decoding is found. */
struct site_file *site_find_plain(const struct site *site, const char *path, u32 length);

/* ---- paths, as they come in requests */

/* Decodes the path of a request target into `out` (room for `length` bytes): percent-decoded, empty
 * and dot segments resolved, without the first slash. A query is left off. A final slash is kept.
 * Returns the length, or -1 if the target is malformed. */
s32 site_decode(char *out, const char *target, u32 length);
