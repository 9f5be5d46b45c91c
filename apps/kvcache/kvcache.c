/* kvcache: a look-aside cache that speaks the memcached text protocol over UDP. A `get` of one key is answered by a
 * handler in the kernel (answer.c), out of the table that both share, whether or not this library OS is scheduled;
 * everything else, and what the handler does not like, is answered here. */
#include "base/condition.h"
#include "base/memory.h"
#include "base/print.h"
#include "base/start.h"
#include "base/wait.h"
#include "code/install.h"
#include "kvcache/store.h"
#include "machine/machine.h"

#define ENTRIES 64
#define BUFFER (RT_PAGE / 2)
#define ANSWERS 16  /* pages in which datagrams lie until the device has read them */
#define BODY 1400   /* most text of one datagram */
#define DATAGRAMS 8 /* most of one answer */

CODE_OBJECT(kvcache);

struct __attribute__((packed)) datagram {
    u8 to[6], from[6];
    u16 type;
    u8 version_length, service;
    u16 length, id, fragment;
    u8 time_to_live, protocol;
    u16 checksum;
    u32 source, destination;
    u16 from_port, to_port, bytes, sum;
    u16 request, number, datagrams, zero; /* memcached's own header */
    u8 text[];
};
#define HEADERS ((u32)sizeof(struct datagram))

static const struct cap *flow;
static struct ring *ring;
static u8 *buffers, *answers;
static u32 answers_page, next_answer;

static u16 fold(u64 sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

static u64 sum_bytes(const void *from, u32 size) {
    const u8 *at = from;
    u64 sum = 0;

    for (u32 i = 0; i < size; i++)
        sum += i % 2 ? (u64)at[i] << 8 : at[i];
    return sum;
}

/* Of a datagram with its pseudo-header (RFC 768), in memory order. */
static u16 sum_of(const struct datagram *f) {
    u32 bytes = __builtin_bswap16(f->bytes);

    return fold((u64)f->source + f->destination + __builtin_bswap16(f->protocol) + f->bytes +
                sum_bytes(&f->from_port, bytes));
}

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
    *a = (struct datagram){.type = q->type,
                           .version_length = 0x45,
                           .length = __builtin_bswap16((u16)(length - 14)),
                           .fragment = __builtin_bswap16(0x4000),
                           .time_to_live = 64,
                           .protocol = 17,
                           .source = q->destination,
                           .destination = q->source,
                           .from_port = q->to_port,
                           .to_port = q->from_port,
                           .bytes = __builtin_bswap16((u16)(length - 34)),
                           .request = q->request,
                           .number = __builtin_bswap16((u16)number),
                           .datagrams = __builtin_bswap16((u16)count)};
    memcpy(a->to, q->from, 6);
    memcpy(a->from, q->to, 6);
    memcpy(a->text, text, size);
    a->checksum = (u16)~fold(sum_bytes(&a->version_length, 20));
    u16 sum = (u16)~sum_of(a);
    a->sum = sum ? sum : 0xffff;
    u16 headers = (u16)(length < SEND_HEADERS ? length : SEND_HEADERS);
    struct send s = {.headers = (u64)a, .length = headers, .pieces = length > headers};
    s.piece[0] = (struct piece){.page = page, .offset = headers, .length = (u16)(length - headers)};
    sys_flow_send(flow, &s, 1);
}

/* The flow's filter has looked at protocol, address, port and fragments. */
static bool is_good(const struct datagram *q, u32 length, bool checked) {
    u32 total = __builtin_bswap16(q->length);

    return length >= HEADERS && q->version_length == 0x45 && total >= HEADERS - 14 && total <= length - 14 &&
           __builtin_bswap16(q->bytes) == total - 20 && !(q->from[0] & 1) && q->from_port != q->to_port &&
           (checked || !q->sum || sum_of(q) == 0xffff);
}

static void answer(const struct datagram *q) {
    static u8 text[BODY * DATAGRAMS];
    u32 size = __builtin_bswap16(q->length) - (HEADERS - 14), sent = 0, number = 0;

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
            const struct datagram *q = (const struct datagram *)(buffers + consumed % ENTRIES * BUFFER);
            if (is_good(q, e->length, e->flags & 1))
                answer(q);
            __atomic_store_n(&ring->posted, consumed + 1 + ENTRIES, __ATOMIC_RELEASE);
        }
    }
}

static s64 open_flow(void) {
    struct flow_binding binding = {.count = ENTRIES / 2, .entries = ENTRIES};
    u32 pages[ENTRIES / 2], first;
    const struct flow *view = memory_map(flow->name, 1, 0, 0);

    ring = memory_alloc_run(1, &binding.ring);
    buffers = memory_alloc_run(ENTRIES / 2, &first);
    answers = memory_alloc_run(ANSWERS, &answers_page);
    if (!view || !ring || !buffers || !answers)
        return E_LIMIT;
    condition_from(&binding.filter, &view->receive);
    memory_unmap((void *)view, 1);
    for (u32 i = 0; i < ENTRIES / 2; i++)
        pages[i] = first + i;
    binding.pages = (u64)pages;
    for (u32 i = 0; i < ENTRIES; i++)
        ring->entry[i].buffer = (u16)i;
    ring->posted = ENTRIES;
    return sys_flow_bind(flow, &binding);
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
    s64 error = open_flow();
    if (!error)
        error = open_handler();
    if (error) {
        print("kvcache: it cannot begin: %s\n", error_name(error));
        return 2;
    }
    print("kvcache: ready\n");
    serve();
}
