/* See handler.h. */
#include "handler.h"

#define OUR_IP 0x0a00020f  /* 10.0.2.15 */
#define HOST_IP 0x0a000202 /* 10.0.2.2, QEMU's user network */

CODE_OBJECT(puppet);

bool has_device(void) {
    static const u8 none[6];
    return memcmp(machine_info()->mac, none, 6);
}

static void match(struct condition *c, u16 offset, u8 width, u32 value) {
    c->atom[c->count++] = (struct atom){
        .offset = offset, .width = width, .value = value, .mask = width == 4 ? ~0u : (1u << width * 8) - 1};
}

static void put(u8 *at, u32 value, u32 bytes) {
    for (u32 i = 0; i < bytes; i++)
        at[i] = (u8)(value >> 8 * (bytes - 1 - i));
}

void arp_request(u8 frame[42]) {
    memset(frame, 0xff, 6);
    memcpy(frame + 6, machine_info()->mac, 6);
    put(frame + 12, 0x0806, 2);
    put(frame + 14, 1, 2);
    put(frame + 16, 0x0800, 2);
    put(frame + 18, 0x0604, 2);
    put(frame + 20, 1, 2);
    memcpy(frame + 22, machine_info()->mac, 6);
    put(frame + 28, OUR_IP, 4);
    memset(frame + 32, 0, 6);
    put(frame + 38, HOST_IP, 4);
}

struct handled handled(struct cap root) {
    static struct flow_spec spec;
    struct handled h;
    struct flow_binding b = {.count = 1, .entries = 2};

    memset(&spec, 0, sizeof spec);
    match(&spec.receive, 12, 2, 0x0806);
    match(&spec.receive, 38, 4, OUR_IP);
    match(&spec.transmit, 12, 2, 0x0806);
    OK(sys_flow_create(&root, page_alloc(1), &spec, &h.flow));
    h.ring_page = page_alloc(1);
    h.buffer_page = page_alloc(1);
    h.memory_page = page_alloc(HANDLED_MEMORY);
    h.ring = (struct ring *)mapped(h.ring_page, 1, MAP_WRITE);
    h.buffer = (u8 *)mapped(h.buffer_page, 1, 0);
    h.orders = (struct puppet_orders *)mapped(h.memory_page, HANDLED_MEMORY, MAP_WRITE);
    b.ring = h.ring_page;
    b.pages = (u64)&h.buffer_page;
    b.filter = spec.receive;
    EQUAL(sys_flow_bind(&h.flow, &b), 0);
    h.ring->entry[1].buffer = 1;
    __atomic_store_n(&h.ring->posted, 2, __ATOMIC_SEQ_CST);
    s64 error = CODE_INSTALL(puppet, KIND_HANDLER, &h.program);
    if (error)
        FAIL("the puppet is not loaded: %s, %s", error_name(error), h.program.refusal);
    EQUAL(code_handle(&h.flow, &h.program, h.memory_page, HANDLED_MEMORY), 0);
    arp_request(h.orders->answer);
    return h;
}

void handled_end(struct handled *h) {
    machine_forget();
    EQUAL(sys_flow_destroy(&h->flow), 0);
    EQUAL(code_remove(&h->program), 0);
}

bool provoke(const struct handled *h) {
    u8 frame[42];
    struct send s = {.headers = (u64)frame, .length = sizeof frame};

    arp_request(frame);
    s64 sent = sys_flow_send(&h->flow, &s, 1);
    if (sent == E_NO_DEVICE)
        return false;
    EQUAL(sent, 1);
    return true;
}

const struct flow *flow_page(const struct handled *h) { return machine_flow(h->flow.name); }

void await_runs(const struct handled *h, u64 runs) {
    u64 limit = rt_tsc() + milliseconds(5000);

    while (__atomic_load_n(&h->orders->runs, __ATOMIC_SEQ_CST) < runs) {
        if (rt_tsc() > limit)
            FAIL("the handler has run %lu times, not %lu: sent %lu, handled %lu, aborted %lu, stopped %lu, unpaid %lu", h->orders->runs,
                 runs, flow_page(h)->sent, flow_page(h)->handled, flow_page(h)->aborted, flow_page(h)->stopped,
                 flow_page(h)->unpaid);
        pause_for(1);
    }
    pause_for(1); /* it has begun: let it end */
}
