/* The profiles: what each kind of program finds and may do. A new kind is an entry here. */
#include "code/code.h"

enum { PACKET_MOST = 65535, MEMORY_MOST = 1 << 30 };

static u64 load(const u8 *from, u64 size) {
    u64 word = 0;
    __builtin_memcpy(&word, from, size);
    return word;
}

/* Adds a word, and the carry at the low end: one's complement. */
static u64 add(u64 sum, u64 word) {
    sum += word;
    return sum + (sum < word);
}

/* Copies (to NULL: does not) and gives the one's complement sum of 16-bit words in memory order, as
 * the Internet's checksum has it: eight bytes at a time in the machine's order, whose sum is the same
 * with its bytes swapped (RFC 1071). What is summed is what is stored, whoever writes meanwhile. */
static u64 copy_and_sum(u8 *to, const u8 *from, u64 size, u64 sum) {
    u64 n = 0, all = 0, word;
    for (; n + 8 <= size; n += 8) {
        word = load(from + n, 8);
        if (to)
            __builtin_memcpy(to + n, &word, 8);
        all = add(all, word);
    }
    for (u64 part = 4; part; part /= 2) {
        if (n + part > size)
            continue;
        word = part == 4 ? load(from + n, 4) : part == 2 ? load(from + n, 2) : from[n];
        for (u64 i = 0; to && i < part; i++)
            to[n + i] = (u8)(word >> 8 * i);
        all = add(all, word);
        n += part;
    }
    all = (all & 0xffffffff) + (all >> 32);
    while (all >> 16)
        all = (all & 0xffff) + (all >> 16);
    all = sum + (u16)((all & 0xff) << 8 | all >> 8);
    while (all >> 16)
        all = (all & 0xffff) + (all >> 16);
    return all;
}

/* checksum(from, size, sum): adds the bytes to a sum; odd sizes only at the end. */
static u64 helper_checksum(u64 from, u64 size, u64 sum, u64 d, u64 e, struct code_run *run) {
    return copy_and_sum(NULL, (const u8 *)from, size, (u32)sum);
}

/* copy(to, from, size, sum): copies, and adds what was copied to a sum, in one pass. */
static u64 helper_copy(u64 to, u64 from, u64 size, u64 sum, u64 e, struct code_run *run) {
    if (to - from < size) { /* the end would be overwritten before it is read */
        memmove((void *)to, (const void *)from, size);
        return copy_and_sum(NULL, (const u8 *)to, size, (u32)sum);
    }
    return copy_and_sum((u8 *)to, (const u8 *)from, size, (u32)sum);
}

/* send(size, start, offset): the first bytes of the reply window are to be sent, with the checksum by the device, or 0, 0. */
static u64 helper_send(u64 size, u64 start, u64 offset, u64 d, u64 e, struct code_run *run) {
    if ((size | start | offset) > UINT16_MAX)
        run->status = CODE_ACCESS;
    run->effects.frame.length = (u16)size;
    run->effects.frame.checksum_start = (u16)start;
    run->effects.frame.checksum_offset = (u16)offset;
    return 0;
}

/* attach(from, size): these bytes of the memory window follow in the frame, read in place. */
static u64 helper_attach(u64 from, u64 size, u64 c, u64 d, u64 e, struct code_run *run) {
    const struct code_window *memory = &run->window[WINDOW_MEMORY];
    u64 at = from - (u64)memory->base;
    if (at > memory->length || size > memory->length - at || size > PAGE_SIZE)
        run->status = CODE_ACCESS;
    run->effects.attached_at = at;
    run->effects.attached = (u32)size;
    return 0;
}

/* wake(): the owner is to be woken. */
static u64 helper_wake(u64 a, u64 b, u64 c, u64 d, u64 e, struct code_run *run) {
    run->effects.wake = 1;
    return 0;
}

/* event(a, b): an event for the owner. */
static u64 helper_event(u64 a, u64 b, u64 c, u64 d, u64 e, struct code_run *run) {
    run->effects.event = 1;
    run->effects.a = a;
    run->effects.b = b;
    return 0;
}

/* publish(at, value): a word of the memory window, `at` bytes from its start, becomes the value. */
static u64 helper_publish(u64 at, u64 value, u64 c, u64 d, u64 e, struct code_run *run) {
    const struct code_window *memory = &run->window[WINDOW_MEMORY];
    struct code_effects *effects = &run->effects;
    if (at % 8 || memory->length < 8 || at > memory->length - 8 || effects->published == PUBLISHES) {
        run->status = CODE_ACCESS;
        return 0;
    }
    effects->publish[effects->published].at = (u64 *)(memory->base + at);
    effects->publish[effects->published++].value = value;
    return 0;
}

static const struct code_helper handler_helpers[] = {
    {"checksum", {CODE_READ, CODE_SIZE, CODE_SCALAR}, 8, helper_checksum},
    {"copy", {CODE_WRITE, CODE_READ, CODE_SIZE, CODE_SCALAR}, 8, helper_copy},
    {"send", {CODE_SCALAR, CODE_SCALAR, CODE_SCALAR}, 8, helper_send},
    {"attach", {CODE_READ, CODE_SIZE}, 8, helper_attach},
    {"wake", {CODE_NONE}, 8, helper_wake},
    {"event", {CODE_SCALAR, CODE_SCALAR}, 8, helper_event},
    {"publish", {CODE_SCALAR, CODE_SCALAR}, 8, helper_publish},
};

/* Budgets stay below 2^31. */
const struct code_profile code_profiles[] = {
    [KIND_PREDICATE] = {
        /* r1: the packet, r2: its length. Pure: it can only compute a number. */
        .name = "predicate",
        .budget = 4096,
        .start = {{CODE_POINTER, 0}, {CODE_LENGTH, 0}},
        .windows = 1,
        .window = {{"packet", false, 0, PACKET_MOST}},
    },
    [KIND_HANDLER] = {
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
