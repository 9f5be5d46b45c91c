/* Programs: from DATA pages of a libOS to CODE pages that the kernel can execute (docs/code.md). */
#pragma once
#include "lib/base.h"

/* A sealed program begins with this; its code follows. */
struct program {
    u32 pages, kind;
    u32 work, work_pages; /* while it is being loaded */
    u64 pad[6];
    u8 code[];
};

/* Makes the pages of a program that nothing binds DATA again, and those that it is being verified in.
 * Their owner's lock is held. */
void load_release(u32 first);
/* For the checker: whether the kernel may execute or write a page as it should be, and never both. */
bool load_is_sound(u32 page);
