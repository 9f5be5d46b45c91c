/* Flows as a manifest gives them out, in the hands of one who wants more: another's source, another's
 * packets, and all the room that filters have. */
#include "abuse.h"
#include "init/flows.h"

#define OUR_IP 0x0a00020f /* 10.0.2.15 */
#define LOW 8000
#define HIGH 8099

static const struct manifest network = {.address = OUR_IP, .gateway = 0x0a000202, .prefix = 24};

static bool has_network(void) {
    static const u8 none[6];
    return memcmp(machine_info()->mac, none, 6);
}

static struct cap flow_of(u32 protocol, u32 port, u32 last, struct flow_spec *spec) {
    const struct manifest_flow wanted = {.protocol = protocol, .port = port, .last = last};
    struct cap root = item("flow"), flow;

    flow_conditions(&network, machine_info()->mac, &wanted, spec);
    OK(sys_flow_create(&root, page_alloc(1), spec, &flow));
    return flow;
}

/* ---- forged frames */
static u8 frame[SEND_HEADERS];

static void put(u32 at, u64 value, u32 bytes) {
    for (u32 i = 0; i < bytes; i++)
        frame[at + i] = (u8)(value >> 8 * (bytes - 1 - i));
}

/* An honest datagram from a port, behind so many words of header. */
static void make_datagram(u8 protocol, u32 words, u32 port) {
    memset(frame, 0, sizeof frame);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, machine_info()->mac, 6);
    put(12, 0x0800, 2);
    put(14, 0x40 | words, 1);
    put(16, 4 * words + 20, 2);
    put(22, 64, 1);
    put(23, protocol, 1);
    put(26, OUR_IP, 4);
    put(30, 0x0a000202, 4);
    put(14 + 4 * words, port, 2);
}

static s64 send(const struct cap *flow, u16 length) {
    struct send s = {.headers = (u64)frame, .length = length};
    return sys_flow_send(flow, &s, 1);
}

static u64 refusals(const struct cap *flow) {
    u64 refused = machine_flow(flow->name)->refused;
    machine_forget();
    return refused;
}

static void forged(const struct cap *flow, u16 length) {
    u64 before = refusals(flow);
    EQUAL(send(flow, length), E_FORGED);
    EQUAL(refusals(flow), before + 1);
}

/* Good as it is, and forged with any of these bits changed. */
static void every_bit(const struct cap *flow, u16 length, u32 from, u32 bytes) {
    EQUAL(send(flow, length), has_network() ? 1 : E_NO_DEVICE);
    for (u32 bit = 0; bit < 8 * bytes; bit++) {
        frame[from + bit / 8] ^= (u8)(1 << bit % 8);
        forged(flow, length);
        frame[from + bit / 8] ^= (u8)(1 << bit % 8);
    }
}

TEST(flow_forged_sources, .needs = NEED_FLOW) {
    struct flow_spec spec;
    struct cap tcp = flow_of(START_TCP, 80, 80, &spec), udp = flow_of(START_UDP, LOW, HIGH, &spec);

    if (!has_network())
        return; /* nothing can be sent: what is forged cannot be told from what is not */
    for (u32 words = 5; words <= 15; words += 5) { /* options move the port on */
        make_datagram(6, words, 80);
        every_bit(&tcp, (u16)(14 + 4 * words + 20), 6, 8);         /* Ethernet source and type */
        every_bit(&tcp, (u16)(14 + 4 * words + 20), 23, 1);        /* protocol */
        every_bit(&tcp, (u16)(14 + 4 * words + 20), 26, 4);        /* address */
        every_bit(&tcp, (u16)(14 + 4 * words + 20), 14 + 4 * words, 2); /* port */
        for (u32 bit = 1; bit < 0x4000; bit <<= 1) { /* a fragment carries no port of its own */
            put(20, bit, 2);
            forged(&tcp, (u16)(14 + 4 * words + 20));
        }
    }
    /* The length of the header is what counts, not where a port looks like one. */
    make_datagram(6, 6, 81);
    put(34, 80, 2);
    forged(&tcp, 58);
    make_datagram(6, 0, 80); /* the port stands where the header begins */
    put(14, 80, 2);
    forged(&tcp, 54);
    /* What is not in the headers is not believed. */
    make_datagram(6, 5, 80);
    forged(&tcp, 35);
    u32 page = page_alloc(1);
    *(u16 *)mapped(page, 1, MAP_WRITE) = __builtin_bswap16(80);
    struct send s = {.headers = (u64)frame, .length = 34, .pieces = 1, .piece[0] = {.page = page, .length = 20}};
    EQUAL(sys_flow_send(&tcp, &s, 1), E_FORGED);
    /* Nor may the device write a port as a checksum. */
    for (u16 at = 33; machine_info()->checksum && at <= 35; at++) {
        s = (struct send){.headers = (u64)frame, .length = 54, .checksum_start = 14, .checksum_offset = (u16)(at - 14)};
        EQUAL(sys_flow_send(&tcp, &s, 1), E_FORGED);
    }
    /* A range of ports, and not one beyond it. */
    const u32 good[] = {LOW, LOW + 1, 8064, HIGH}, bad[] = {0, 80, LOW - 1, HIGH + 1, 0x1f00, 0xffff, 0x401f};
    for (u32 i = 0; i < ARRAY_SIZE(good); i++) {
        make_datagram(17, 5 + i, good[i]);
        EQUAL(send(&udp, 80), 1);
        forged(&tcp, 80);
    }
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        make_datagram(17, 5 + i, bad[i]);
        forged(&udp, 80);
    }
    make_datagram(17, 5, LOW); /* tagged, or IPv6 */
    put(12, 0x8100, 2);
    forged(&udp, 80);
    put(12, 0x86dd, 2);
    forged(&udp, 80);
}

TEST(flow_forged_arp, .needs = NEED_FLOW) {
    struct flow_spec spec;
    struct cap arp = flow_of(START_ARP, 0, 0, &spec);

    if (!has_network())
        return;
    memset(frame, 0, sizeof frame);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, machine_info()->mac, 6);
    put(12, 0x0806, 2);
    put(14, 0x0001080006040002, 8); /* an answer */
    memcpy(frame + 22, machine_info()->mac, 6);
    put(28, OUR_IP, 4);
    every_bit(&arp, 42, 6, 8);  /* Ethernet source and type */
    every_bit(&arp, 42, 22, 10); /* who has the address, and the address */
    forged(&arp, 31);
}

/* ---- lying filters */
static struct flow_binding bound_to(const struct condition *filter) {
    static u32 buffer;
    struct flow_binding b = {.filter = *filter, .pages = (u64)&buffer, .count = 1, .entries = 1};

    buffer = page_alloc(1);
    b.ring = page_alloc(1);
    return b;
}

/* A flow lends itself to no more than it is, whatever a filter says; and a lie that nobody else is told of
 * does no harm either: the name of the robbed has no place to be written to. */
TEST(flow_lies, .needs = NEED_FLOW) {
    struct flow_spec spec, other;
    struct cap mine = flow_of(START_UDP, LOW, HIGH, &spec), theirs = flow_of(START_UDP, HIGH, HIGH, &other);
    struct flow_binding b = bound_to(&spec.receive);
    struct atom *range = &b.filter.atom[b.filter.count - 1], good = *range;

    EQUAL(range->kind, ATOM_RANGE);
    for (u32 i = 0; i < 4; i++) {
        *range = good;
        if (i == 0)
            range->value--;
        else if (i == 1)
            range->high++;
        else if (i == 2)
            range->value = range->high = HIGH + 1;
        else
            b.filter.count--; /* all ports */
        EQUAL(sys_flow_bind(&mine, &b), E_NOT_IMPLIED);
        b.filter.count = spec.receive.count;
    }
    *range = good;
    struct flow_binding first = bound_to(&other.receive);
    EQUAL(sys_flow_bind(&theirs, &first), 0);
    EQUAL(sys_flow_bind(&mine, &b), E_CONFLICT);
    EQUAL(b.conflict, theirs.name);
    u32 page = page_alloc(1);
    struct flow_binding *sealed = (struct flow_binding *)mapped(page, 1, MAP_WRITE);
    *sealed = b;
    sealed->conflict = 7;
    EQUAL(update(UPDATE_PROTECT, 0, (u64)sealed, 0, 1, 0, NULL), 0);
    EQUAL(sys_flow_bind(&mine, sealed), E_CONFLICT);
    EQUAL(sealed->conflict, 7);
    range->high = HIGH - 1;
    EQUAL(sys_flow_bind(&mine, &b), 0);
}

/* Whoever uses up all shapes of filters is refused more of them, and harms only who wants a new one. */
TEST(flow_all_shapes, .needs = NEED_FLOW, .seconds = 30) {
    static struct cap flow[100];
    static struct flow_binding b[100];
    struct flow_spec spec, any = {.receive.count = 0};
    struct cap root = item("flow"), mine = flow_of(START_UDP, LOW, HIGH, &spec);
    struct flow_binding honest = bound_to(&spec.receive);
    static u32 buffer[100];
    u32 count = 0;
    s64 error = 0;

    EQUAL(sys_flow_bind(&mine, &honest), 0);
    for (; count < ARRAY_SIZE(flow); count++) {
        struct condition c = {.count = 2};
        c.atom[0] = (struct atom){.offset = 12, .width = 2, .mask = 0xffff, .value = 0x9200 + count};
        c.atom[1] = (struct atom){.offset = (u16)(16 + count / 8), .width = 1, .mask = 1u << count % 8};
        OK(sys_flow_create(&root, page_alloc(1), &any, &flow[count]));
        b[count] = bound_to(&c);
        buffer[count] = page_alloc(1);
        b[count].pages = (u64)&buffer[count];
        error = sys_flow_bind(&flow[count], &b[count]);
        if (error)
            break;
    }
    EQUAL(error, E_FULL);
    CHECK(count >= 60);
    EQUAL(sys_flow_unbind(&mine), 0); /* and whoever had a shape has it again */
    EQUAL(sys_flow_bind(&flow[count], &b[count]), 0);
    EQUAL(sys_flow_bind(&mine, &honest), E_FULL);
    EQUAL(sys_flow_unbind(&flow[0]), 0);
    EQUAL(sys_flow_bind(&mine, &honest), 0);
    EQUAL(sys_flow_bind(&flow[0], &b[0]), E_FULL);
}

/* Whoever describes his own ports in another way than all others does not keep them from binding theirs. */
TEST(flow_odd_shapes, .needs = NEED_FLOW) {
    static struct cap odd[20];
    static struct flow_binding b[20];
    static u32 buffer[20];
    struct flow_spec spec, honest_spec, other;
    struct cap mine = flow_of(START_UDP, LOW, HIGH, &spec), honest = flow_of(START_UDP, HIGH + 1, HIGH + 50, &honest_spec);
    struct condition *c = &spec.receive;

    c->atom[c->count - 2] = (struct atom){.offset = 14, .width = 1, .mask = 0xf, .value = 5}; /* no options */
    for (u32 i = 0; i < ARRAY_SIZE(odd); i++) { /* so the port stands there */
        c->atom[c->count - 1] = (struct atom){.offset = 36, .width = 2, .mask = 0xffff, .value = LOW + i};
        OK(sys_flow_create(&mine, page_alloc(1), &spec, &odd[i]));
        b[i] = bound_to(c);
        buffer[i] = page_alloc(1);
        b[i].pages = (u64)&buffer[i];
        EQUAL(sys_flow_bind(&odd[i], &b[i]), 0);
    }
    struct flow_binding plain = bound_to(&honest_spec.receive);
    EQUAL(sys_flow_bind(&honest, &plain), 0);
    honest = flow_of(START_UDP, HIGH + 51, HIGH + 51, &other); /* one port, and the other way round */
    plain = bound_to(&other.receive);
    EQUAL(sys_flow_bind(&honest, &plain), 0);
    struct flow_binding again = bound_to(c); /* what is taken is taken all the same */
    again.filter.atom[c->count - 1].value = LOW + 3;
    EQUAL(sys_flow_bind(&mine, &again), E_CONFLICT);
    EQUAL(again.conflict, odd[3].name);
}
