/* The only ways in which the kernel reads and writes a libOS's memory by its virtual address. */
#pragma once
#include "lib/base.h"

s64 user_copy(void *to, const void *from, u64 n); /* in entry.S, with a fixup for faults */

static inline bool user_has(u64 at, u64 n) { return n <= USER_TOP && at <= USER_TOP - n; }

/* Copies n bytes from or to the current space. 0, or E_BAD_ADDRESS when any byte is outside the
 * user's half or not mapped as needed; then a part may have been copied. */
static inline s64 user_read(void *to, u64 from, u64 n) {
    return likely(user_has(from, n)) ? user_copy(to, (const void *)from, n) : E_BAD_ADDRESS;
}
static inline s64 user_write(u64 to, const void *from, u64 n) {
    return likely(user_has(to, n)) ? user_copy((void *)to, from, n) : E_BAD_ADDRESS;
}
/* An element of space_update, or a capability, as four words. */
struct words { u64 head, va, pages, cap; };

/* Reads an element in the user's half, and clears its result there first: so it is known, before anything is done, that a
 * result can be written. False: it cannot. */
#ifdef HOST_TEST
bool user_element(u64 from, struct words *w);
static inline bool user_words(u64 from, struct words *w) { return !user_copy(w, (const void *)from, sizeof *w); }
#else
#define USER_LOAD(name, how) \
    static inline bool name(u64 from, struct words *w) { \
        u64 good; \
        __asm__ volatile("call " how \
                         : "=D"(good), "=a"(w->head), "=c"(w->va), "=d"(w->pages), "=S"(w->cap) \
                         : "S"(from) \
                         : "memory", "cc"); \
        return good; \
    }
USER_LOAD(user_element, "user_load_element")
USER_LOAD(user_words, "user_load_words") /* only reads them */
#endif

/* Whether the caller could write n bytes there now: 0 or E_BAD_ADDRESS. For results, before anything is done. */
s64 user_writable(u64 to, u64 n);

/* The page that maps a user address for reading: its number, or E_BAD_ADDRESS. */
s64 user_page(u64 at);
