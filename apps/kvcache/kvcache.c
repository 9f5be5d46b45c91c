/* kvcache: a look-aside cache that speaks the memcached text protocol over UDP. A `get` of one key is answered by a
 * handler in the kernel (answer.c), out of the table that both share, whether or not this library OS is scheduled;
 * everything else, and what the handler does not like, is answered here. */
#include "base/memory.h"
#include "base/print.h"
#include "base/ring.h"
#include "base/start.h"
#include "base/wait.h"
#include "code/install.h"
#include "kvcache/store.h"
#include "machine/machine.h"
#include "net/udp.h"

#define ENTRIES 64
#define ANSWERS 16  /* pages in which datagrams lie until the device has read them */
#define BODY 1400   /* most text of one datagram */
#define DATAGRAMS 8 /* most of one answer */

CODE_OBJECT(kvcache);

struct __attribute__((packed)) datagram {
    struct udp_frame udp;
    u16 request, number, datagrams, zero; /* memcached's own header */
    u8 text[];
};
#define HEADERS ((u32)sizeof(struct datagram))

static const struct cap *flow;
static struct ring *ring;
static u8 *buffers, *answers;
static u32 answers_page, next_answer;

/* A page that the device does not read. The flow's own sending lets go of pages too. */
static u8 *free_answer(u32 *page) {
    for (u32 i = 0; i < ANSWERS; i++) {
        next_answer = (next_answer + 1) % ANSWERS;
        *page = answers_page + next_answer;
        if (!(((const volatile struct page *)machine_pages())[*page].state >> 16 & 0xffff))
            return answers + next_answer * RT_PAGE;
    }
    return NULL;
}

/* Sends one datagram of an answer; what there is no room for is lost, as on any network. */
static void send_part(const struct datagram *q, u32 number, u32 count, const u8 *text, u32 size) {
    u32 page, length = HEADERS + size;
    struct datagram *a = (struct datagram *)free_answer(&page);

    if (!a)
        return;
    struct udp_frame *u = &a->udp;
    *u = (struct udp_frame){.type = q->udp.type,
                            .version_length = 0x45,
                            .length = __builtin_bswap16((u16)(length - 14)),
                            .fragment = __builtin_bswap16(0x4000),
                            .time_to_live = 64,
                            .protocol = 17,
                            .source = q->udp.destination,
                            .destination = q->udp.source,
                            .from_port = q->udp.to_port,
                            .to_port = q->udp.from_port,
                            .bytes = __builtin_bswap16((u16)(length - 34))};
    memcpy(u->to, q->udp.from, 6);
    memcpy(u->from, q->udp.to, 6);
    a->request = q->request;
    a->number = __builtin_bswap16((u16)number);
    a->datagrams = __builtin_bswap16((u16)count);
    a->zero = 0;
    memcpy(a->text, text, size);
    u->checksum = (u16)~udp_fold(udp_sum_bytes(&u->version_length, 20));
    udp_seal(u);
    u16 headers = (u16)(length < SEND_HEADERS ? length : SEND_HEADERS);
    struct send s = {.headers = (u64)a, .length = headers, .pieces = length > headers};
    s.piece[0] = (struct piece){.page = page, .offset = headers, .length = (u16)(length - headers)};
    sys_flow_send(flow, &s, 1);
}

static void answer(const struct datagram *q) {
    static u8 text[BODY * DATAGRAMS];
    u32 size = __builtin_bswap16(q->udp.length) - (HEADERS - 14), sent = 0, number = 0;

    if (q->number || q->datagrams != __builtin_bswap16(1)) {
        static const char only[] = "SERVER_ERROR multi-packet request not supported\r\n";
        send_part(q, 0, 1, (const u8 *)only, sizeof only - 1);
        return;
    }
    u32 length = protocol_answer(q->text, size, text, sizeof text);
    for (u32 count = (length + BODY - 1) / BODY; number < count; number++, sent += BODY)
        send_part(q, number, count, text + sent, length - sent < BODY ? length - sent : BODY);
}

static NORETURN void serve(void) {
    for (u64 consumed = 0;;) {
        u64 filled = __atomic_load_n(&ring->filled, __ATOMIC_ACQUIRE);
        if (consumed == filled)
            sys_sleep(NEVER, &ring->filled, filled);
        for (; consumed != filled; consumed++) {
            const struct ring_entry *e = &ring->entry[consumed % ENTRIES];
            const struct datagram *q = (const struct datagram *)(buffers + consumed % ENTRIES * RING_BUFFER);
            if (udp_is_good(&q->udp, e->length, e->flags & 1, HEADERS - sizeof q->udp))
                answer(q);
            __atomic_store_n(&ring->posted, consumed + 1 + ENTRIES, __ATOMIC_RELEASE);
        }
    }
}

static s64 open_handler(void) {
    struct code_installed handler;
    u32 first, pages;
    s64 error = store_open(&first, &pages);

    if (!error)
        error = CODE_INSTALL(kvcache, KIND_HANDLER, &handler);
    return error ? error : code_handle(flow, &handler, first, pages);
}

int main(void) {
    const struct start_item *item = start_item("flow", 0);

    if (!item)
        return 1;
    flow = &item->cap;
    answers = memory_alloc_run(ANSWERS, &answers_page);
    s64 error = answers ? ring_open(flow, ENTRIES, &ring, &buffers) : E_LIMIT;
    if (!error)
        error = open_handler();
    if (error) {
        print("kvcache: it cannot begin: %s\n", error_name(error));
        return 2;
    }
    print("kvcache: ready\n");
    serve();
}
