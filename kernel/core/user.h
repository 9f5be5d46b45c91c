/* The only ways in which the kernel reads and writes a libOS's memory by its virtual address. */
#pragma once
#include "lib/base.h"

/* Copies n bytes from or to the current space. 0, or E_BAD_ADDRESS when any byte is outside the
 * user's half or not mapped as needed; then a part may have been copied. */
s64 user_read(void *to, u64 from, u64 n);
s64 user_write(u64 to, const void *from, u64 n);

/* Whether the caller could write n bytes there now: 0 or E_BAD_ADDRESS. For results, before anything is done. */
s64 user_writable(u64 to, u64 n);

/* The page that maps a user address for reading: its number, or E_BAD_ADDRESS. */
s64 user_page(u64 at);
