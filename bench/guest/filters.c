/* Many filters at once, as many library OSes would have bound. */
#include "base/condition.h"
#include "bench.h"
#include "init/flows.h"

#define FIRST_PORT 10000
#define FIRST_RANGE 40000
#define ENTRIES 2
#define ROUNDS 32

/* Binds a flow of its own to some ports; then takes it out and binds it again some times, and gives the ticks
 * of one round. */
static u64 bind_one(const struct cap *parent, u16 port, u16 last, u32 rounds) {
    static const struct manifest network = {
        .address = 0x0a00020f, .gateway = 0x0a000202, .prefix = 24};
    const struct manifest_flow wanted = {.protocol = START_UDP, .port = port, .last = last};
    struct flow_spec spec;
    struct cap cap;
    u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, 0)), ring_page;
    u32 buffer = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, 0));
    struct ring *ring = memory_alloc_run(1, &ring_page);

    CHECK(ring);
    flow_conditions(&network, machine_info()->mac, &wanted, &spec);
    OK(sys_flow_create(parent, page, &spec, &cap));
    struct flow_binding binding = {.filter = spec.receive,
                                   .pages = (u64)&buffer,
                                   .count = 1,
                                   .ring = ring_page,
                                   .entries = ENTRIES};
    for (u16 i = 0; i < ENTRIES; i++)
        ring->entry[i].buffer = i;
    ring->posted = ENTRIES;
    OK(sys_flow_bind(&cap, &binding));
    u64 begin = rt_tsc();
    for (u32 i = 0; i < rounds; i++) {
        OK(sys_flow_unbind(&cap));
        OK(sys_flow_bind(&cap, &binding));
    }
    return rounds ? (rt_tsc() - begin) / rounds : 0;
}

void bind_filters(const struct cap *parent, u32 count) {
    u64 ticks = 0;

    for (u32 i = 0; i < count; i++)
        ticks = bind_one(parent, (u16)(FIRST_PORT + i), (u16)(FIRST_PORT + i), i == count - 1 ? ROUNDS : 0);
    print("META\tbinding\t%lu\n", ticks);
    ticks = bind_one(parent, FIRST_RANGE, FIRST_RANGE + 99, ROUNDS);
    print("META\trange\t%lu\n", ticks);
    ticks = bind_one(parent, FIRST_RANGE + 100, FIRST_RANGE + 20099, ROUNDS);
    print("META\twide\t%lu\n", ticks);
    print("META\tfilters\t%u\n", count);
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
