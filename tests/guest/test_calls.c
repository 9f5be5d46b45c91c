/* Entering the kernel, and what comes back. */
#include "guest.h"

extern char raw_call_return[];

/* The cheapest call returns 0 and leaves nothing of the kernel in the registers. */
TEST(call_null) {
    struct raw r = {.rax = CALL_NULL, .rdi = 1, .rsi = 2, .rdx = 3, .r10 = 4, .r8 = 5, .r9 = 6};

    EQUAL(checked_call(&r, "null"), 0);
    EQUAL(r.rdi | r.rsi | r.rdx | r.r10 | r.r8 | r.r9, 0);
    EQUAL(r.rcx, raw_call_return);
}

/* Every number that is no call is refused, with any bits above it. */
TEST(call_unknown) {
    for (u32 n = CALL_COUNT; n < 256; n++)
        for (u32 high = 0; high < 3; high++) {
            struct raw r = {
                .rax = n | (u64)high * 0x7fffffff00000100ull, .rdi = ~0ull, .rsi = ~0ull};
            EQUAL(checked_call(&r, "unknown"), E_BAD_CALL);
            EQUAL(r.rdi | r.rsi, 0);
        }
}

/* Calls are counted by kind. */
TEST(call_counted) {
    const volatile u64 *call = machine_trace(0)->call;
    u64 before = call[CALL_NULL];

    for (u32 i = 0; i < 10; i++)
        sys_null();
    EQUAL(call[CALL_NULL], before + 10);
}

/* The interface's description of the machine. */
TEST(info_page) {
    const struct info *info = machine_info();

    EQUAL(info->magic, INFO_MAGIC);
    EQUAL(info->version, ABI_VERSION);
    CHECK(info->cpus >= 1 && info->cpus <= MAX_CPUS);
    CHECK(info->pages > info->ram_pages && machine_free_pages() < info->ram_pages);
    CHECK(info->tsc_hz > 1000000 && info->boot_tsc < rt_tsc());
    EQUAL(info->debug, 1);
    bool found = false;
    for (u32 e = info->first_env, n = 0; e && n < 64; e = machine_env(e)->next, n++)
        found |= e == rt_self();
    CHECK(found);
    machine_forget();
}
