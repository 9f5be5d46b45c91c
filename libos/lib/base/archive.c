/* Walking a ustar file (POSIX 1003.1, pax, "ustar Interchange Format"). */
#include "base/archive.h"

#define BLOCK 512

static u64 octal(const u8 *at, u32 digits) {
    u64 n = 0;

    for (u32 i = 0; i < digits && at[i] >= '0' && at[i] <= '7'; i++)
        n = n * 8 + at[i] - '0';
    return n;
}

bool archive_find(const u8 *archive, u64 bytes, const char *name, struct archive_member *found) {
    for (u64 at = 0; at + BLOCK <= bytes && archive[at];) {
        const u8 *header = archive + at;
        u64 size = octal(header + 124, 11);
        if (memcmp(header + 257, "ustar", 5) || size > bytes - at - BLOCK)
            return false;
        if (!header[345] && !strncmp((const char *)header, name, 100)) {
            *found = (struct archive_member){header + BLOCK, size};
            return true;
        }
        at += BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
    }
    return false;
}
