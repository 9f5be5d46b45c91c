/* Checked access to user memory. The copy itself is in entry.S, with a fixup for faults. */
#include "core/user.h"

#include "core/cpu.h"
#include "core/space.h"
#include "x86/registers.h"

s64 user_copy(void *to, const void *from, u64 n);

static bool is_user(u64 at, u64 n) { return at < USER_TOP && n <= USER_TOP - at; }

s64 user_read(void *to, u64 from, u64 n) {
    return is_user(from, n) ? user_copy(to, (const void *)from, n) : E_BAD_ADDRESS;
}

s64 user_write(u64 to, const void *from, u64 n) {
    return is_user(to, n) ? user_copy((void *)to, from, n) : E_BAD_ADDRESS;
}

s64 user_writable(u64 to, u64 n) {
    if (!is_user(to, n))
        return E_BAD_ADDRESS;
    for (u64 at = to & ~(PAGE_SIZE - 1); at < to + n; at += PAGE_SIZE) {
        if (!(space_translate(current_env()->root, at) & PTE_WRITE))
            return E_BAD_ADDRESS;
    }
    return 0;
}

s64 user_page(u64 at) {
    return is_user(at, 1) ? space_lookup(current_env()->root, at) : E_BAD_ADDRESS;
}
