/* Checked access to user memory. The copy itself is in entry.S, with a fixup for faults. */
#include "core/user.h"

#include "core/cpu.h"
#include "core/space.h"
#include "x86/registers.h"

s64 user_writable(u64 to, u64 n) {
    if (!user_has(to, n))
        return E_BAD_ADDRESS;
    for (u64 at = to & ~(PAGE_SIZE - 1); at < to + n; at += PAGE_SIZE)
        if (!(space_translate(current_env()->root, at) & PTE_WRITE))
            return E_BAD_ADDRESS;
    return 0;
}

s64 user_page(u64 at) {
    u64 entry = user_has(at, 1) ? space_translate(current_env()->root, at) : 0;

    return entry ? (s64)page_of_phys((phys){entry & PTE_ADDRESS}) : E_BAD_ADDRESS;
}
