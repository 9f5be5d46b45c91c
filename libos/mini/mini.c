/* mini: the smallest useful library operating system, the one to copy for your own
 * (docs/first-libos.md).
 *
 * It answers two questions that come over the network: "who has this address?" (ARP, RFC 826) and
 * "are you there?" (ICMP echo, RFC 792). It ignores everything else. All that it needs, its creator
 * has put in its start page: for each kind of packet a capability for a flow, and its address.
 *
 * How a libOS works, in the order of this file:
 *   - a flow is bound to a ring, and from then on frames arrive in our memory without a call;
 *   - an answer is made in a page of ours, and the device reads it there;
 *   - when nothing is left to do we sleep on one word that the kernel changes.
 * Whatever comes from the network may be hostile: lengths and checksums are checked first. */
#include "base/condition.h"
#include "base/memory.h"
#include "base/print.h"
#include "base/start.h"
#include "base/wait.h"
#include "machine/machine.h"

#define ENTRIES 32           /* of a receive ring: a power of two */
#define BUFFER (RT_PAGE / 2) /* each buffer page holds two buffers */
#define ANSWERS 16           /* answers sent with one call, and pages that they lie in */
#define REPORT_MS 10000

/* ---- what is in the packets. Numbers are big-endian: swap16 and swap32 are for them. */
#define PACKED __attribute__((packed))
#define swap16 __builtin_bswap16
#define swap32 __builtin_bswap32

struct PACKED ether {
    u8 to[6], from[6];
    u16 type;
};
struct PACKED arp {
    u16 hardware, protocol;
    u8 hardware_length, protocol_length;
    u16 operation;
    u8 sender_mac[6];
    u32 sender;
    u8 target_mac[6];
    u32 target;
};
struct PACKED ip {
    u8 version_length, service;
    u16 length, id, fragment;
    u8 time_to_live, protocol;
    u16 checksum;
    u32 source, destination;
};
struct PACKED echo {
    u8 type, code;
    u16 checksum, id, sequence;
};

static u8 mac[6];   /* of the machine's network device */
static u32 address; /* of the machine, big-endian */
static struct { u64 arp, echo, ignored, cut; } counted;

/* The Internet checksum, RFC 1071. Over bytes that hold a right checksum it is 0. */
static u16 checksum(const void *at, u32 length) {
    const u8 *byte = at;
    u32 sum = 0;

    for (u32 i = 0; i < length; i++)
        sum += i % 2 ? (u32)byte[i] << 8 : byte[i];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)~sum;
}

/* ---- answers. Each function looks at a frame and writes its answer, up to 1,514 bytes; it returns
 * the answer's length, or 0 for none. This is the part to change in a libOS of your own. */

static bool is_host(u32 source) {
    u32 first = source & 0xff; /* big-endian: the first byte is the lowest */

    return source != address && first != 0 && first != 127 && first < 224;
}

static void address_frame(struct ether *e, const u8 to[6], u16 type) {
    memcpy(e->to, to, 6);
    memcpy(e->from, mac, 6);
    e->type = type;
}

static u32 answer_arp(const u8 *frame, u32 length, u8 *answer) {
    const struct arp *q = (const void *)(frame + sizeof(struct ether));
    struct arp *a = (void *)(answer + sizeof(struct ether));

    if (length < sizeof(struct ether) + sizeof *q || q->hardware != swap16(1) ||
        q->protocol != swap16(0x800) || q->hardware_length != 6 || q->protocol_length != 4 ||
        q->operation != swap16(1) || q->target != address || (q->sender_mac[0] & 1) ||
        (q->sender && !is_host(q->sender)))
        return 0;
    address_frame((struct ether *)answer, q->sender_mac, swap16(0x806));
    *a = *q;
    a->operation = swap16(2);
    memcpy(a->target_mac, q->sender_mac, 6);
    a->target = q->sender;
    memcpy(a->sender_mac, mac, 6);
    a->sender = address;
    counted.arp++;
    return sizeof(struct ether) + sizeof *a;
}

/* The data of a good IP packet and their length, whatever its protocol; NULL: it is not good. */
static const u8 *ip_data(const u8 *frame, u32 length, u32 *bytes) {
    const struct ether *e = (const void *)frame;
    const struct ip *ip = (const void *)(frame + sizeof *e);

    if (length < sizeof *e + sizeof *ip || (e->from[0] & 1) || ip->version_length >> 4 != 4)
        return NULL;
    u32 header = (ip->version_length & 15) * 4u, total = swap16(ip->length);
    /* Ethernet pads short frames, so a frame may be longer than its packet, never shorter. */
    if (header < sizeof *ip || total < header || total > length - sizeof *e ||
        checksum(ip, header) || (ip->fragment & swap16(0x3fff)) || !is_host(ip->source))
        return NULL;
    *bytes = total - header;
    return frame + sizeof *e + header;
}

/* Headers for an answer of so many bytes to whoever sent the frame; returns where the bytes go. */
static u8 *ip_answer(u8 *answer, const u8 *frame, u32 bytes) {
    const struct ip *q = (const void *)(frame + sizeof(struct ether));
    struct ip *a = (void *)(answer + sizeof(struct ether));

    address_frame((struct ether *)answer, ((const struct ether *)frame)->from, swap16(0x800));
    *a = (struct ip){.version_length = 0x45,
                     .length = swap16((u16)(sizeof *a + bytes)),
                     .fragment = swap16(0x4000),
                     .time_to_live = 64,
                     .protocol = q->protocol,
                     .source = address,
                     .destination = q->source};
    a->checksum = checksum(a, sizeof *a);
    return (u8 *)(a + 1);
}

static u32 answer_echo(const u8 *frame, u32 length, u8 *answer) {
    u32 bytes;
    const struct echo *q = (const void *)ip_data(frame, length, &bytes);

    if (!q || bytes < sizeof *q || q->type != 8 || q->code || checksum(q, bytes))
        return 0;
    struct echo *a = (void *)ip_answer(answer, frame, bytes);
    memcpy(a, q, bytes);
    a->type = 0;
    a->checksum = 0;
    a->checksum = checksum(a, bytes);
    counted.echo++;
    return (u32)((u8 *)a - answer) + bytes;
}

/* ---- ports: one for each flow that the manifest gives. */

static const struct kind {
    u64 protocol; /* a START_FLOW */
    u32 (*answer)(const u8 *frame, u32 length, u8 *answer);
} kinds[] = {{START_ARP, answer_arp}, {START_ICMP, answer_echo}};

static struct port {
    const struct cap *flow;
    u32 (*answer)(const u8 *frame, u32 length, u8 *answer);
    struct ring *ring;
    u8 *buffers;
    u64 consumed; /* entries of the ring that we have seen */
} port[ARRAY_SIZE(kinds)];

/* The pages in which answers lie, one for each, and the kernel's entries for them: its page
 * array is there for everybody to read, and says whether the device still has a page. */
static u8 *answers;
static u32 answers_page; /* number of the first; the others follow */
static const volatile struct page *answers_state;

static struct send batch[ANSWERS]; /* batch[i] is the answer in page i */
static u32 queued;

static s64 fail(const char *what, s64 error) {
    print("mini: %s: %s\n", what, error_name(error));
    return error;
}

/* Binds the flow as wide as it is, with a ring and buffers of ours. 0 or an error. */
static s64 open_port(struct port *p, const struct start_item *item) {
    struct flow_binding binding = {.count = ENTRIES / 2, .entries = ENTRIES};
    u32 pages[ENTRIES / 2], first;

    /* Everybody may look at a flow. We let go of it at once: a page that is mapped cannot be
     * freed. */
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
    p->ring->posted = ENTRIES; /* all buffers are the kernel's to fill */
    p->flow = &item->cap;
    return sys_flow_bind(p->flow, &binding);
}

static s64 open_answers(void) {
    answers = memory_alloc_run(ANSWERS, &answers_page);
    if (!answers)
        return E_LIMIT;
    u64 offset = answers_page * sizeof(struct page);
    u32 pages = 1 + (offset % RT_PAGE + ANSWERS * sizeof(struct page) > RT_PAGE); /* of the array */
    const u8 *array = memory_map(machine_info()->array + (u32)(offset / RT_PAGE), pages, 0, 0);
    answers_state = (const void *)(array + offset % RT_PAGE);
    return array ? 0 : E_LIMIT;
}

/* Sends what is queued. What does not fit in the device's queue is lost, as on any network. */
static void flush(const struct port *p) {
    for (u32 done = 0; done < queued;) {
        s64 sent = sys_flow_send(p->flow, batch + done, queued - done);
        if (sent == E_FULL)
            break;
        done += sent > 0 ? (u32)sent : 1; /* an error is about the first frame only */
    }
    queued = 0;
}

/* Answers one frame. The kernel copies and checks the first bytes of an answer, up to SEND_HEADERS;
 * the device reads the rest in our page, which is pinned until it has. */
static void take(const struct port *p, const u8 *frame, u32 length) {
    if (answers_state[queued].state >> 16 & 0xffff)
        flush(p); /* the call also finds out what the device has read by now */
    if (answers_state[queued].state >> 16 & 0xffff)
        return;
    u8 *answer = answers + queued * RT_PAGE;
    u32 bytes = p->answer(frame, length, answer);
    if (!bytes) {
        counted.ignored++;
        return;
    }
    u16 headers = (u16)(bytes < SEND_HEADERS ? bytes : SEND_HEADERS);
    batch[queued] =
        (struct send){.headers = (u64)answer, .length = headers, .pieces = bytes > headers};
    batch[queued].piece[0] = (struct piece){
        .page = answers_page + queued, .offset = headers, .length = (u16)(bytes - headers)};
    if (++queued == ANSWERS)
        flush(p);
}

/* Handles all that is in a ring. No call is needed: `filled` is the kernel's, `posted` is ours. */
static void serve(struct port *p) {
    while (p->consumed != __atomic_load_n(&p->ring->filled, __ATOMIC_ACQUIRE)) {
        u32 i = (u32)(p->consumed % ENTRIES); /* buffer i is always in entry i */
        take(p, p->buffers + i * BUFFER, p->ring->entry[i].length);
        p->consumed++;
        __atomic_store_n(&p->ring->posted, p->consumed + ENTRIES, __ATOMIC_RELEASE);
    }
    flush(p);
}

/* ---- upcalls */

/* mini has no repair for any exception: it says what happened and ends, and with `restart` in the
 * manifest begins anew. A pager would map a page here and return. */
static void on_exception(struct frame *frame) {
    print("mini: exception %lu at %lx, address %lx\n", frame->cause, frame->rip, frame->address);
    rt_exit(frame->cause);
}

/* A slice ends while we work. A scheduler would choose its next thread here; mini only counts,
 * and the run-time part gives the processor back. */
static void on_slice_end(struct frame *frame) {
    (void)frame;
    counted.cut++;
}

/* With a console (console=write in the manifest) it tells now and then what it did. */
static u64 report(void) {
    static u64 told;
    u64 now = counted.arp + counted.echo + counted.ignored;

    if (now != told)
        print("mini: answered %lu ARP and %lu echo requests, ignored %lu frames, %lu slices cut\n",
              counted.arp, counted.echo, counted.ignored, counted.cut);
    told = now;
    return deadline_in(REPORT_MS);
}

int main(void) {
    u64 report_at = NEVER;
    const struct start_item *net = start_item("net", 0), *item;

    rt_on_exception(on_exception);
    rt_on_slice_end(on_slice_end);
    if (!net || open_answers())
        return (int)fail("it cannot begin", E_LIMIT);
    address = swap32((u32)(net->a >> 32));
    memcpy(mac, machine_info()->mac, sizeof mac);
    for (u32 i = 0; i < ARRAY_SIZE(port) && (item = start_item("flow", i)); i++) {
        for (u32 k = 0; k < ARRAY_SIZE(kinds); k++)
            if (item->a == kinds[k].protocol)
                port[i].answer = kinds[k].answer;
        s64 error = port[i].answer ? open_port(&port[i], item) : E_BAD_ARGUMENT;
        if (error)
            return (int)fail("a flow cannot be used", error);
    }
    if (start_item("console", 0)) {
        print("mini: ready\n");
        report_at = report();
    }
    for (;;) {
        u64 seen = deliveries(); /* before we look, so that nothing is missed */
        for (u32 i = 0; i < ARRAY_SIZE(port) && port[i].ring; i++)
            serve(&port[i]);
        if (rt_tsc() >= report_at)
            report_at = report();
        wait_for_more(seen, report_at);
    }
}
