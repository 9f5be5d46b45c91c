/* echo: the paper's round trip. A counter in a UDP datagram of 60 bytes is increased by one and sent
 * back. The first flow of the manifest is answered by a handler (answer.c), which is downloaded into
 * the kernel and runs when the datagram arrives; the second by this library OS, when its slice comes. It
 * also answers what the handler leaves to it. */
#include "base/condition.h"
#include "base/memory.h"
#include "base/print.h"
#include "base/start.h"
#include "base/wait.h"
#include "code/install.h"

#define ENTRIES 32
#define BUFFER (RT_PAGE / 2)
#define BATCH 16

CODE_OBJECT(echo);

struct __attribute__((packed)) datagram {
    u8 to[6], from[6];
    u16 type;
    u8 version_length, service;
    u16 length, id, fragment;
    u8 time_to_live, protocol;
    u16 checksum;
    u32 source, destination;
    u16 from_port, to_port, bytes, sum;
    u64 counter;
};

static struct port {
    const struct cap *flow;
    struct ring *ring;
    u8 *buffers;
    u64 consumed;
} port[2];

static u16 fold(u64 sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

/* Of a datagram with its pseudo-header (RFC 768), in memory order. */
static u16 sum_of(const struct datagram *f) {
    u32 bytes = __builtin_bswap16(f->bytes);
    const u8 *at = (const u8 *)&f->from_port;
    u64 sum = (u64)f->source + f->destination + __builtin_bswap16(f->protocol) + f->bytes;

    for (u32 i = 0; i < bytes; i++)
        sum += i % 2 ? (u64)at[i] << 8 : at[i];
    return fold(sum);
}

/* Makes the answer in the request's place; false: it deserves none. The flow's filter has looked at
 * protocol, address, port and fragments. */
static bool answer(struct datagram *f, u32 length, bool checked) {
    u32 total = __builtin_bswap16(f->length), bytes = __builtin_bswap16(f->bytes);

    if (length < sizeof *f || length > SEND_HEADERS || f->version_length != 0x45 || total > length - 14 ||
        bytes != total - 20 || bytes < 16 || f->from[0] & 1 || f->from_port == f->to_port ||
        (!checked && f->sum && sum_of(f) != 0xffff))
        return false;
    u8 asker[6];
    u32 address = f->source;
    u16 port_of = f->from_port;
    memcpy(asker, f->from, 6);
    memcpy(f->from, f->to, 6);
    memcpy(f->to, asker, 6);
    f->source = f->destination;
    f->destination = address;
    f->from_port = f->to_port;
    f->to_port = port_of;
    f->counter = __builtin_bswap64(__builtin_bswap64(f->counter) + 1);
    f->sum = 0;
    u16 sum = (u16)~sum_of(f);
    f->sum = sum ? sum : 0xffff;
    return true;
}

static void serve(struct port *p) {
    static struct send batch[BATCH];

    while (p->ring && p->consumed != __atomic_load_n(&p->ring->filled, __ATOMIC_ACQUIRE)) {
        u64 filled = __atomic_load_n(&p->ring->filled, __ATOMIC_ACQUIRE);
        u32 queued = 0;
        for (; p->consumed != filled && queued < BATCH; p->consumed++) {
            const struct ring_entry *e = &p->ring->entry[p->consumed % ENTRIES];
            struct datagram *f = (struct datagram *)(p->buffers + p->consumed % ENTRIES * BUFFER);
            if (answer(f, e->length, e->flags & 1))
                batch[queued++] = (struct send){.headers = (u64)f, .length = (u16)(14 + __builtin_bswap16(f->length))};
        }
        if (queued)
            sys_flow_send(p->flow, batch, queued);
        __atomic_store_n(&p->ring->posted, p->consumed + ENTRIES, __ATOMIC_RELEASE);
    }
}

static s64 open_port(struct port *p, const struct start_item *item) {
    struct flow_binding binding = {.count = ENTRIES / 2, .entries = ENTRIES};
    u32 pages[ENTRIES / 2], first;
    const struct flow *flow = memory_map(item->cap.name, 1, 0, 0);

    p->ring = memory_alloc_run(1, &binding.ring);
    p->buffers = memory_alloc_run(ENTRIES / 2, &first);
    if (!flow || !p->ring || !p->buffers)
        return E_LIMIT;
    condition_from(&binding.filter, &flow->receive);
    memory_unmap((void *)flow, 1);
    for (u32 i = 0; i < ENTRIES / 2; i++)
        pages[i] = first + i;
    binding.pages = (u64)pages;
    for (u32 i = 0; i < ENTRIES; i++)
        p->ring->entry[i].buffer = (u16)i;
    p->ring->posted = ENTRIES;
    p->flow = &item->cap;
    return sys_flow_bind(p->flow, &binding);
}

/* The first port's handler, with a page to count in. */
static s64 open_handler(const struct port *p) {
    struct code_installed handler;
    u32 memory;

    if (!memory_alloc_run(1, &memory))
        return E_LIMIT;
    s64 error = CODE_INSTALL(echo, KIND_HANDLER, &handler);
    if (error)
        print("echo: the handler: %s %s\n", error_name(error), handler.refusal ? handler.refusal : "");
    return error ? error : code_handle(p->flow, &handler, memory, 1);
}

int main(void) {
    const struct start_item *item;

    for (u32 i = 0; i < ARRAY_SIZE(port) && (item = start_item("flow", i)); i++) {
        s64 error = open_port(&port[i], item);
        if (!error && i == 0)
            error = open_handler(&port[i]);
        if (error) {
            print("echo: port %lu: %s\n", item->b, error_name(error));
            return 1;
        }
    }
    print("echo: ready\n");
    for (;;) {
        u64 seen = deliveries();
        for (u32 i = 0; i < ARRAY_SIZE(port); i++)
            serve(&port[i]);
        wait_for_more(seen, NEVER);
    }
}
