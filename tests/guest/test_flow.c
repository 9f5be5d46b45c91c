/* Flows on the machine's own network: a request for an address is sent, and its answer received. */
#include "guest.h"

#define BUFFERS 4
#define OUR_IP 0x0a00020f  /* 10.0.2.15 */
#define HOST_IP 0x0a000202 /* 10.0.2.2, QEMU's user network */

static bool has_network(void) {
    static const u8 none[6];
    return memcmp(machine_info()->mac, none, 6);
}

static void match(struct condition *c, u16 offset, u8 width, u32 value) {
    c->atom[c->count++] = (struct atom){.offset = offset,
                                        .width = width,
                                        .value = value,
                                        .mask = width == 4 ? ~0u : (1u << width * 8) - 1};
}

/* May receive ARP for our address; may send ARP. */
static struct cap arp_flow(void) {
    static struct flow_spec spec;
    struct cap root = item("flow"), flow;

    memset(&spec, 0, sizeof spec);
    match(&spec.receive, 12, 2, 0x0806);
    match(&spec.receive, 38, 4, OUR_IP);
    match(&spec.transmit, 12, 2, 0x0806);
    OK(sys_flow_create(&root, page_alloc(1), &spec, &flow));
    return flow;
}

static u32 buffers[BUFFERS], ring_page;
static struct ring *ring;
static struct flow_binding binding(u16 type) {
    struct flow_binding b = {.pages = (u64)buffers, .count = BUFFERS, .entries = BUFFERS * 2};

    if (!ring) {
        ring_page = page_alloc(1);
        ring = (struct ring *)mapped(ring_page, 1, MAP_WRITE);
        for (u32 i = 0; i < BUFFERS; i++)
            buffers[i] = page_alloc(1);
    }
    b.ring = ring_page;
    match(&b.filter, 12, 2, type);
    match(&b.filter, 38, 4, OUR_IP);
    return b;
}

/* A flow is split, bound once and to its owner's filter only, unbound, and destroyed. */
TEST(flow_life, .needs = NEED_FLOW) {
    struct cap flow = arp_flow(), other = arp_flow();
    struct flow_binding b = binding(0x0806), outside = binding(0x0800);
    u32 flows = self()->flows;

    EQUAL(type_of(flow.name), PAGE_FLOW);
    EQUAL(flows, 2);
    EQUAL(machine_flow(flow.name)->owner, rt_self());
    machine_forget();
    EQUAL(sys_flow_unbind(&flow), E_WRONG_TYPE);
    EQUAL(sys_flow_bind(&flow, &outside), E_NOT_IMPLIED);
    EQUAL(sys_flow_bind(&flow, &b), 0);
    EQUAL(sys_flow_bind(&flow, &b), E_BUSY);
    EQUAL(type_of(ring_page), PAGE_RING);
    EQUAL(bindings_of(buffers[0]), 1);
    EQUAL(sys_page_free(0, buffers[0], 1), E_BUSY);
    b.ring = page_alloc(1);
    EQUAL(sys_flow_bind(&other, &b), E_CONFLICT);
    EQUAL(sys_flow_unbind(&flow), 0);
    EQUAL(sys_flow_bind(&other, &b), 0);
    EQUAL(sys_flow_destroy(&other), 0);
    EQUAL(type_of(other.name), PAGE_DATA);
    EQUAL(sys_flow_destroy(&other), E_BAD_CAPABILITY);
    EQUAL(sys_flow_destroy(&flow), 0);
    EQUAL(self()->flows, 0);
    EQUAL(bindings_of(buffers[0]), 0);
    struct cap root = item("flow");
    EQUAL(sys_flow_destroy(&root), E_NO_RIGHT);
}

static void put(u8 *at, u32 value, u32 bytes) {
    for (u32 i = 0; i < bytes; i++)
        at[i] = (u8)(value >> 8 * (bytes - 1 - i));
}

static void make_request(u8 frame[42]) {
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

/* A frame goes out and its answer comes into the ring; a forged one goes nowhere. */
TEST(flow_send_receive, .needs = NEED_FLOW) {
    u8 frame[42];
    struct cap flow = arp_flow();
    struct flow_binding b = binding(0x0806);
    struct send s = {.headers = (u64)frame, .length = sizeof frame};

    make_request(frame);
    if (!has_network()) {
        EQUAL(sys_flow_send(&flow, &s, 1), E_NO_DEVICE);
        return;
    }
    EQUAL(sys_flow_bind(&flow, &b), 0);
    for (u16 i = 0; i < BUFFERS; i++)
        ring->entry[i].buffer = (u16)(i * 2);
    __atomic_store_n(&ring->posted, BUFFERS, __ATOMIC_SEQ_CST);
    frame[12] = 8;
    frame[13] = 0;
    EQUAL(sys_flow_send(&flow, &s, 1), E_FORGED);
    EQUAL(machine_flow(flow.name)->refused, 1);
    machine_forget();
    frame[13] = 6;
    EQUAL(sys_flow_send(&flow, &s, 1), 1);
    wait_for(&ring->filled, 1);
    const u8 *got = (const u8 *)mapped(buffers[0], 1, 0);
    CHECK(ring->entry[0].length >= 42);
    CHECK(!memcmp(got, machine_info()->mac, 6) && got[12] == 8 && got[13] == 6 && got[21] == 2);
    CHECK(!memcmp(got + 28, (const u8[]){10, 0, 2, 2}, 4));
}

/* Part of a frame lies in a page, which the device reads in place. */
TEST(flow_send_pieces, .needs = NEED_FLOW) {
    u8 frame[42];
    struct cap flow = arp_flow();
    u32 page = page_alloc(1);
    u8 *tail = (u8 *)mapped(page, 1, MAP_WRITE);
    struct flow_binding b = binding(0x0806);
    struct send s = {.headers = (u64)frame,
                     .length = 20,
                     .pieces = 1,
                     .piece[0] = {.page = page, .offset = 100, .length = 22}};

    if (!has_network())
        return;
    make_request(frame);
    memcpy(tail + 100, frame + 20, 22);
    EQUAL(sys_flow_bind(&flow, &b), 0);
    __atomic_store_n(&ring->posted, BUFFERS, __ATOMIC_SEQ_CST);
    EQUAL(sys_flow_send(&flow, &s, 1), 1);
    wait_for(&ring->filled, 1);
    s.piece[0].page = machine_info()->array;
    EQUAL(sys_flow_send(&flow, &s, 1), E_NO_RIGHT);
    s.piece[0] = (struct piece){.page = page, .offset = 4090, .length = 10};
    EQUAL(sys_flow_send(&flow, &s, 1), E_BAD_ARGUMENT);
}

static struct cap flow_cap(const struct cap *from, u32 flow, u8 rights) {
    struct cap c = {.type = CAP_FLOW, .rights = rights, .name = flow, .count = 1};

    OK(sys_cap_derive(from, &c));
    return c;
}

/* A filter that lies is refused with the name of the flow that it would take from. */
TEST(flow_conflict, .needs = NEED_FLOW) {
    struct cap root = item("flow"), flow[3];
    static struct flow_spec any;
    struct flow_binding b[3];

    for (u32 i = 0; i < 3; i++) {
        OK(sys_flow_create(&root, page_alloc(1), &any, &flow[i]));
        b[i] = binding(0x9100);
        b[i].ring = page_alloc(1);
        b[i].filter.atom[b[i].filter.count++] = (struct atom){.kind = ATOM_RANGE,
                                                              .offset = 16,
                                                              .width = 2,
                                                              .mask = 0xffff,
                                                              .value = 100 * i,
                                                              .high = 100 * i + 99};
    }
    EQUAL(sys_flow_bind(&flow[0], &b[0]), 0);
    EQUAL(sys_flow_bind(&flow[1], &b[1]), 0);
    EQUAL(machine_flow(flow[1].name)->filter.low, 100);
    EQUAL(machine_flow(flow[1].name)->filter.high, 199);
    machine_forget();
    b[2].filter.atom[2].value = 199; /* one of the second's */
    EQUAL(sys_flow_bind(&flow[2], &b[2]), E_CONFLICT);
    EQUAL(b[2].conflict, flow[1].name);
    b[2].filter.atom[2] = (struct atom){.offset = 16, .width = 2, .mask = 0xffff, .value = 99};
    EQUAL(sys_flow_bind(&flow[2], &b[2]), E_CONFLICT);
    EQUAL(b[2].conflict, flow[0].name);
    b[2].filter.atom[2].value = 200;
    EQUAL(sys_flow_bind(&flow[2], &b[2]), 0);
}

/* Rights of a flow are shared out: receiving, sending and splitting are one each. Revoking takes all
 * that was handed out back; what is bound stays until its owner says otherwise. */
TEST(flow_revoke, .needs = NEED_FLOW) {
    struct cap root = item("flow"), flow = arp_flow(), out, wider;
    struct cap reads = flow_cap(&flow, flow.name, RIGHT_READ), writes = flow_cap(&flow, flow.name, RIGHT_WRITE);
    struct flow_binding b = binding(0x0806);
    u8 frame[42];
    struct send s = {.headers = (u64)frame, .length = sizeof frame};
    static struct flow_spec spec;

    make_request(frame);
    spec.receive = spec.transmit = b.filter;
    wider = (struct cap){.type = CAP_FLOW, .rights = RIGHT_READ | RIGHT_WRITE, .name = flow.name, .count = 1};
    EQUAL(sys_cap_derive(&reads, &wider), E_NO_RIGHT);
    EQUAL(sys_flow_send(&reads, &s, 1), E_NO_RIGHT);
    EQUAL(sys_flow_bind(&writes, &b), E_NO_RIGHT);
    EQUAL(sys_flow_create(&reads, page_alloc(1), &spec, &out), E_NO_RIGHT);
    EQUAL(sys_flow_create(&writes, page_alloc(1), &spec, &out), E_NO_RIGHT);
    EQUAL(sys_flow_bind(&reads, &b), 0);
    CHECK(sys_flow_send(&writes, &s, 1) == (has_network() ? 1 : E_NO_DEVICE));
    EQUAL(sys_page_revoke(0, root.name, 1), E_NO_RIGHT);

    EQUAL(sys_page_revoke(0, flow.name, 1), 0);
    EQUAL(sys_flow_unbind(&reads), E_BAD_CAPABILITY);
    EQUAL(sys_flow_send(&writes, &s, 1), E_BAD_CAPABILITY);
    EQUAL(sys_flow_create(&flow, page_alloc(1), &spec, &out), E_BAD_CAPABILITY);
    EQUAL(sys_flow_destroy(&flow), E_BAD_CAPABILITY);
    EQUAL(sys_cap_derive(&flow, &wider), E_BAD_CAPABILITY);
    EQUAL(machine_flow(flow.name)->bound, 1);
    machine_forget();
    reads = flow_cap(0, flow.name, RIGHT_READ);
    EQUAL(sys_flow_unbind(&reads), 0);
    flow = flow_cap(0, flow.name, RIGHT_OWN);
    EQUAL(sys_flow_destroy(&flow), 0);
}

/* Whoever is given a flow owns it: it voids what others hold, binds it, and destroys it with itself. */
ROLE(flow_taker) {
    static u32 buffer;
    u32 flow = (u32)up->word[1];
    struct flow_binding b = binding(0x0806);

    wait_for(&up->word[0], 1);
    flow = (u32)up->word[1];
    OK(sys_page_revoke(0, flow, 1));
    struct cap mine = flow_cap(0, flow, RIGHT_READ | RIGHT_OWN);
    buffer = page_alloc(1);
    b.pages = (u64)&buffer;
    b.count = 1;
    OK(sys_flow_bind(&mine, &b));
    up->word[2] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

TEST(flow_give, .needs = NEED_FLOW) {
    struct peer p;
    struct cap flow = arp_flow(), all = {.type = CAP_PAGE,
                                         .rights = RIGHT_READ | RIGHT_WRITE | RIGHT_OWN,
                                         .name = flow.name,
                                         .count = 1};
    struct flow_binding b = binding(0x0806);
    u32 flows = self()->flows;

    OK(sys_cap_derive(0, &all));
    memset(down->word, 0, sizeof down->word);
    start_peer(&p, "flow_taker", 0);
    EQUAL(sys_page_give(0, flow.name, 1, &p.cap), 0);
    EQUAL(page_of(flow.name)->owner, p.env);
    EQUAL(machine_flow(flow.name)->owner, p.env);
    machine_forget();
    EQUAL(self()->flows, flows - 1);
    EQUAL(sys_page_give(0, flow.name, 1, 0), E_NO_RIGHT);
    EQUAL(sys_flow_bind(&flow, &b), 0); /* capabilities stay until they are revoked */
    EQUAL(sys_flow_unbind(&flow), 0);
    EQUAL(sys_page_give(&all, flow.name, 1, 0), 0); /* and back */
    EQUAL(self()->flows, flows);
    EQUAL(sys_page_give(0, flow.name, 1, &p.cap), 0);
    down->word[1] = flow.name;
    __atomic_store_n(&down->word[0], 1, __ATOMIC_SEQ_CST);
    wait_for(&down->word[2], 1);
    EQUAL(sys_flow_unbind(&flow), E_BAD_CAPABILITY);
    EQUAL(sys_page_give(&all, flow.name, 1, 0), E_BAD_CAPABILITY);
    EQUAL(machine_flow(flow.name)->bound, 1);
    EQUAL(machine_flow(flow.name)->receiver, p.env);
    machine_forget();
    end_peer(&p);
    CHECK(type_of(flow.name) != PAGE_FLOW);
}
