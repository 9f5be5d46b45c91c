/* Finding members of the boot archive, a ustar file whose members' data begin on pages. */
#pragma once
#include "rt.h"

struct archive_member {
    const u8 *data;
    u64 size;
};
/* False if there is none. */
bool archive_find(const u8 *archive, u64 bytes, const char *name, struct archive_member *found);
