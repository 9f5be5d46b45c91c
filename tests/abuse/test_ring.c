/* A receive ring whose owner writes anything into it, while frames arrive for it. */
#include "abuse.h"

#define BUFFERS 2
#define ROUNDS 60
#define OUR_IP 0x0a00020f  /* 10.0.2.15 */
#define HOST_IP 0x0a000202 /* 10.0.2.2, QEMU's user network, which answers ARP */

static void match(struct condition *c, u16 offset, u8 width, u32 value) {
    c->atom[c->count++] = (struct atom){.offset = offset, .width = width, .value = value, .mask = width == 4 ? ~0u : 0xffff};
}

static void put(u8 *at, u32 value, u32 bytes) {
    for (u32 i = 0; i < bytes; i++)
        at[i] = (u8)(value >> 8 * (bytes - 1 - i));
}

static void arp_request(u8 frame[42]) {
    static const u8 rest[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};

    memset(frame, 0, 42);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, machine_info()->mac, 6);
    memcpy(frame + 12, rest, sizeof rest);
    memcpy(frame + 22, machine_info()->mac, 6);
    put(frame + 28, OUR_IP, 4);
    put(frame + 38, HOST_IP, 4);
}

static u64 state = 88172645463325252ull;

/* Any bytes, but in every second round something that can be right: buffers that may be bound, and a count
 * that is not far from the kernel's. */
static void scribble(struct ring *ring, bool likely, u64 filled) {
    u64 *word = (u64 *)ring;

    for (u32 i = 0; i < RT_PAGE / 8; i++)
        word[i] = random_number(&state);
    for (u32 i = 0; likely && i < RING_ENTRIES; i++)
        ring->entry[i].buffer = (u16)(random_number(&state) % (BUFFERS * 3));
    if (likely)
        ring->posted = filled + random_number(&state) % 10;
}

/* Every answer is in a buffer that is bound, or dropped and counted; no other page changes. */
TEST(ring_scribbled, .needs = NEED_FLOW) {
    static struct flow_spec spec;
    static u32 bound[BUFFERS];
    static struct send batch[16];
    static u8 frame[42], none[6];
    struct cap root = item("flow"), flow;
    struct flow_binding b = {.pages = (u64)bound, .count = BUFFERS, .entries = 8, .ring = page_alloc(1)};
    u32 first = page_alloc(3 * BUFFERS);
    u8 *memory = (u8 *)mapped(first, 3 * BUFFERS, MAP_WRITE); /* those in the middle are bound */
    struct ring *ring = (struct ring *)mapped(b.ring, 1, MAP_WRITE);
    u64 answers = 0;

    if (!memcmp(machine_info()->mac, none, 6))
        return;
    match(&spec.receive, 12, 2, 0x0806);
    match(&spec.receive, 38, 4, OUR_IP);
    match(&spec.transmit, 12, 2, 0x0806);
    b.filter = spec.receive;
    OK(sys_flow_create(&root, page_alloc(1), &spec, &flow));
    for (u32 i = 0; i < BUFFERS; i++)
        bound[i] = first + BUFFERS + i;
    OK(sys_flow_bind(&flow, &b));
    arp_request(frame);
    for (u32 i = 0; i < ARRAY_SIZE(batch); i++)
        batch[i] = (struct send){.headers = (u64)frame, .length = sizeof frame};
    const struct flow *f = machine_flow(flow.name);
    for (u32 round = 0; round < ROUNDS; round++) {
        scribble(ring, round % 2, f->filled);
        memset(memory, 0xa5, BUFFERS * RT_PAGE);
        memset(memory + 2 * BUFFERS * RT_PAGE, 0xa5, BUFFERS * RT_PAGE);
        s64 sent = sys_flow_send(&flow, batch, ARRAY_SIZE(batch));
        CHECK(sent > 0);
        u64 end = rt_tsc() + milliseconds(5000);
        answers += (u64)sent;
        while (f->filled + f->dropped_full + f->dropped_bad < answers && rt_tsc() < end)
            sys_sleep(rt_tsc() + milliseconds(1), 0, 0);
        EQUAL(f->filled + f->dropped_full + f->dropped_bad, answers);
        for (u32 i = 0; i < BUFFERS * RT_PAGE; i++)
            CHECK(memory[i] == 0xa5 && memory[2 * BUFFERS * RT_PAGE + i] == 0xa5);
    }
    CHECK(f->filled && f->dropped_bad);
    machine_forget();
    OK(sys_flow_unbind(&flow));
    OK(sys_flow_destroy(&flow));
}
