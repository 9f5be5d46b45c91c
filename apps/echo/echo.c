/* echo: the paper's round trip. A counter in a UDP datagram of 60 bytes is increased by one and sent
 * back. The first flow of the manifest is answered by a handler (answer.c), which is downloaded into
 * the kernel and runs when the datagram arrives; the second by this library OS, when its slice comes;
 * a predicate (judge.c) keeps from it what it would not answer. It also answers what the handler leaves to it. */
#include "base/print.h"
#include "base/ring.h"
#include "base/start.h"
#include "base/wait.h"
#include "code/install.h"
#include "net/udp.h"

#define ENTRIES 32
#define BATCH 16

CODE_OBJECT(echo);
CODE_OBJECT(judge);

static struct port {
    const struct cap *flow;
    struct ring *ring;
    u8 *buffers;
    u64 consumed;
} port[2];

/* Makes the answer in the request's place; false: it deserves none. */
static bool answer(struct udp_frame *f, u32 length, bool checked) {
    if (length > SEND_HEADERS || !udp_is_good(f, length, checked, sizeof(u64)))
        return false;
    u8 asker[6];
    u32 address = f->source;
    u16 port_of = f->from_port;
    u64 counter;
    memcpy(asker, f->from, 6);
    memcpy(f->from, f->to, 6);
    memcpy(f->to, asker, 6);
    f->source = f->destination;
    f->destination = address;
    f->from_port = f->to_port;
    f->to_port = port_of;
    memcpy(&counter, f + 1, sizeof counter);
    counter = __builtin_bswap64(__builtin_bswap64(counter) + 1);
    memcpy(f + 1, &counter, sizeof counter);
    f->sum = 0;
    udp_seal(f);
    return true;
}

static void serve(struct port *p) {
    static struct send batch[BATCH];

    while (p->ring && p->consumed != __atomic_load_n(&p->ring->filled, __ATOMIC_ACQUIRE)) {
        u64 filled = __atomic_load_n(&p->ring->filled, __ATOMIC_ACQUIRE);
        u32 queued = 0;
        for (; p->consumed != filled && queued < BATCH; p->consumed++) {
            const struct ring_entry *e = &p->ring->entry[p->consumed % ENTRIES];
            struct udp_frame *f = (struct udp_frame *)(p->buffers + p->consumed % ENTRIES * RING_BUFFER);
            if (answer(f, e->length, e->flags & 1))
                batch[queued++] = (struct send){.headers = (u64)f, .length = (u16)(14 + __builtin_bswap16(f->length))};
        }
        if (queued)
            sys_flow_send(p->flow, batch, queued);
        __atomic_store_n(&p->ring->posted, p->consumed + ENTRIES, __ATOMIC_RELEASE);
    }
}

/* The first port's handler answers what it can; the other's predicate keeps from us what is no counter. */
static s64 install(const struct cap *flow, bool answers, struct code_installed *program) {
    s64 error = answers ? CODE_INSTALL(echo, KIND_HANDLER, program) : CODE_INSTALL(judge, KIND_PREDICATE, program);
    return error ? error : code_handle(flow, program, 0, 0);
}

int main(void) {
    const struct start_item *item;

    for (u32 i = 0; i < ARRAY_SIZE(port) && (item = start_item("flow", i)); i++) {
        struct code_installed program = {.refusal = ""};
        port[i].flow = &item->cap;
        s64 error = ring_open(port[i].flow, ENTRIES, &port[i].ring, &port[i].buffers);
        if (!error)
            error = install(port[i].flow, i == 0, &program);
        if (error) {
            print("echo: port %lu: %s %s\n", item->b, error_name(error), program.refusal ? program.refusal : "");
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
