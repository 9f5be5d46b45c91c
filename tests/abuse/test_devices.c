/* Memory of devices in hostile hands: it is mapped by whoever was given it, as data, and used for nothing else. */
#include "abuse.h"
#include "device.h"

/* Not given: not mapped, not named. */
TEST(device_of_another, .needs = NEED_DEVICE) {
    struct cap edu = device_cap(EDU, 0), other = device_cap(TESTDEV, 0), bad = other;
    u64 va = address(2);

    for (u32 flags = 0; flags < 4; flags++) {
        EQUAL(update(UPDATE_MAP, 0, va, edu.name, 1, (u16)flags, 0), E_NO_RIGHT);
        EQUAL(update(UPDATE_MAP, 0, va, edu.name, 1, (u16)flags, &other), E_BAD_CAPABILITY);
    }
    bad.name = edu.name;
    EQUAL(update(UPDATE_MAP, 0, va, edu.name, 1, 0, &bad), E_BAD_CAPABILITY);
    bad = edu;
    bad.count++;
    EQUAL(update(UPDATE_MAP, 0, va, edu.name, 1, 0, &bad), E_BAD_CAPABILITY);
    bad = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ, .name = edu.name, .count = 1};
    EQUAL(sys_cap_derive(0, &bad), E_NO_RIGHT);
    EQUAL(sys_cap_derive(&other, &bad), E_BAD_CAPABILITY);
    EQUAL(sys_page_give(0, edu.name, 1, 0), E_NO_RIGHT);
    EQUAL(sys_page_revoke(0, edu.name, 1), E_NO_RIGHT);
    EQUAL(sys_page_alloc(0, edu.name, 1, 0, 0), E_NOT_FREE);
    EQUAL(sys_vital_set(0, edu.name), E_NO_RIGHT);
    EQUAL(sys_page_give(&edu, edu.name, edu.count + 1, 0), E_BAD_CAPABILITY);
    EQUAL(sys_page_give(&edu, edu.name - 1, 2, 0), E_BAD_CAPABILITY);
}

/* By its owner, who has every right: it is memory of no other kind, for no call. */
TEST(device_as_anything, .needs = NEED_DEVICE | NEED_FLOW) {
    struct cap edu = device_cap(EDU, 0), root = item("flow");
    u32 page = edu.name, mine = page_alloc(2), cpus = machine_info()->cpus;
    u64 va = address(2), word;
    struct env_spec spec = {.name = "thief", .page_limit = 4};

    OK(sys_page_give(&edu, page, edu.count, 0));
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, MAP_EXECUTE, 0), E_NO_RIGHT);
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, MAP_EXECUTE | MAP_WRITE, 0), E_NO_RIGHT);
    CHECK(update(UPDATE_MAP, 0, va, page + edu.count - 1, 2, 0, 0) < 0);
    CHECK(update(UPDATE_MAP, 1, va & ~0x1fffffull, page & ~511u, 1, 0, 0) < 0);
    OK(update(UPDATE_MAP, 0, va, page, 1, MAP_WRITE, 0));
    EQUAL(update(UPDATE_PROTECT, 0, va, 0, 1, MAP_EXECUTE, 0), E_NO_RIGHT);
    EQUAL(try_execute(va), 14);
    word = va;
    EQUAL(sys_sleep(rt_tsc() + 1000, (u64 *)word, *(volatile u32 *)word), E_BAD_ADDRESS);
    static struct predicate p;
    p = (struct predicate){.deadline = 0, .count = 1};
    p.term[0] = (struct term){.tag = 16, .count = 1};
    p.term[0].factor[0] = (struct factor){.word = word, .how = IS_NOT};
    EQUAL(sys_wait((u64)&p, mine), E_BAD_ADDRESS);
    p.term[0].factor[0].word = (u64)&p;
    CHECK(sys_wait((u64)&p, page + 1) < 0);
    CHECK(update(UPDATE_BIND_TABLE, 1, va + (1ull << 30), page + 1, 1, 0, 0) < 0);
    CHECK(sys_env_create(page + 1, mine, &spec, 0) < 0);
    CHECK(sys_env_create(mine, page + 1, &spec, 0) < 0);
    for (u32 cpu = 0; cpu < cpus; cpu++)
        CHECK(sys_context_bind(0, cpu, page + 1) < 0);
    EQUAL(sys_event_bind(0, page + 1), E_WRONG_TYPE);
    EQUAL(sys_loss_bind(0, page + 1), E_WRONG_TYPE);
    struct flow_spec all = {.receive.count = 0};
    CHECK(sys_flow_create(&root, page + 1, &all, 0) < 0);
    for (u32 n = 0; n < edu.count; n += 100)
        EQUAL(sys_page_free(0, page + n, 1), E_WRONG_TYPE);
    /* Read by the network card, or written by it. */
    struct cap flow;
    OK(sys_flow_create(&root, mine, &all, &flow));
    u32 buffer = page + 1;
    struct flow_binding b = {.pages = (u64)&buffer, .count = 1, .ring = mine + 1, .entries = 4};
    EQUAL(sys_flow_bind(&flow, &b), E_WRONG_TYPE);
    buffer = mine + 1;
    b.ring = page + 1;
    EQUAL(sys_flow_bind(&flow, &b), E_WRONG_TYPE);
    u8 headers[64] = {0};
    struct send s = {.headers = (u64)headers, .length = 64, .pieces = 1};
    s.piece[0] = (struct piece){.page = page + 1, .length = 64};
    EQUAL(sys_flow_send(&flow, &s, 1), E_NO_RIGHT);
    EQUAL(machine_page(page + 1)->state, PAGE_DEVICE);
    OK(sys_flow_destroy(&flow));
}

/* A device that is told to read and write memory does not reach it. */
TEST(device_dma, .needs = NEED_DEVICE) {
    struct cap cap = device_cap(EDU, 0);
    u32 page = page_alloc(1);
    u64 va = address(1), *memory = (u64 *)mapped(page, 1, MAP_WRITE);
    volatile u32 *edu = (volatile u32 *)va;

    OK(memory_map_at(va, cap.name, 1, MAP_WRITE, &cap));
    for (u32 i = 0; i < 512; i++)
        memory[i] = 0x5ec4e7 + i;
    for (u32 to_memory = 0; to_memory < 2; to_memory++) {
        u64 there = (u64)page * RT_PAGE + 64;
        *(volatile u64 *)&edu[EDU_DMA_FROM] = to_memory ? EDU_BUFFER : there;
        *(volatile u64 *)&edu[EDU_DMA_TO] = to_memory ? there + 512 : EDU_BUFFER;
        *(volatile u64 *)&edu[EDU_DMA_COUNT] = 64;
        *(volatile u64 *)&edu[EDU_DMA] = to_memory ? 3 : 1;
        for (u32 i = 0; i < 2000 && edu[EDU_DMA] & 1; i++)
            pause_for(1);
        EQUAL(edu[EDU_DMA] & 1, 0);
    }
    for (u32 i = 0; i < 512; i++)
        EQUAL(memory[i], 0x5ec4e7 + i);
}
