/* The profiles: what each kind of program finds and may do. A new kind is an entry here. */
#include "code/code.h"

enum { PACKET_MOST = 65535, MEMORY_MOST = 1 << 30 };

/* One's complement sum of 16-bit words in memory order, as the Internet's checksum has it. */
static u64 sum_bytes(u64 sum, const u8 *from, u64 size) {
    u64 n = 0;
    for (; n + 2 <= size; n += 2)
        sum += (u32)from[n] << 8 | from[n + 1];
    if (n < size)
        sum += (u32)from[n] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* checksum(from, size, sum): adds the bytes to a sum; odd sizes only at the end. */
static u64 helper_checksum(u64 from, u64 size, u64 sum, u64 d, u64 e, struct code_run *run) {
    (void)d, (void)e, (void)run;
    return sum_bytes((u32)sum, (const u8 *)from, size);
}

/* copy(to, from, size, sum): copies, and gives the sum of what was copied. It is counted on the
 * copy, so that it is right even if others change the original meanwhile. */
static u64 helper_copy(u64 to, u64 from, u64 size, u64 sum, u64 e, struct code_run *run) {
    (void)e, (void)run;
    memmove((void *)to, (const void *)from, size);
    return sum_bytes((u32)sum, (const u8 *)to, size);
}

static const struct code_helper handler_helpers[] = {
    {"checksum", {CODE_READ, CODE_SIZE, CODE_SCALAR}, 8, helper_checksum},
    {"copy", {CODE_WRITE, CODE_READ, CODE_SIZE, CODE_SCALAR}, 8, helper_copy},
};

/* Budgets stay below 2^31. */
const struct code_profile code_profiles[] = {
    {
        /* r1: the packet, r2: its length. Pure: it can only compute a number. */
        .name = "predicate",
        .budget = 4096,
        .start = {{CODE_POINTER, 0}, {CODE_LENGTH, 0}},
        .windows = 1,
        .window = {{"packet", false, 0, PACKET_MOST}},
    },
    {
        /* r1: the context, with the packet, its owner's memory, and room for an answer. */
        .name = "handler",
        .budget = 16384,
        .stores = true,
        .start = {{CODE_CONTEXT, 0}},
        .windows = 3,
        .values = 2,
        .window = {{"packet", false, 0, PACKET_MOST},
                   {"memory", true, 0, MEMORY_MOST},
                   {"reply", true, 0, PACKET_MOST}},
        .helper = handler_helpers,
        .helpers = ARRAY_SIZE(handler_helpers),
    },
};
const u32 code_profile_count = ARRAY_SIZE(code_profiles);
