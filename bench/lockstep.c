/* The client of the rows that come from outside, when instructions are counted. It takes turns with the guest: while
 * the guest stands before its `hlt` (bench/count.c, gate) the client reads what the guest has sent, sends its own
 * frames and lets it go on. It speaks Ethernet, ARP, IPv4, UDP and TCP itself, from an address of its own on a tap
 * device, in the way of a Linux client: so the exchange is the same frame by frame in each run, and the client
 * needs no time. Frames carry partial checksums, as between two machines of one host.
 *
 * Build: gcc -O2 -o lockstep lockstep.c
 * Use:   lockstep TAP GATE FIRST await   PORT           tries until the first HTTP answer
 *        lockstep TAP GATE FIRST begin   0              waits for the first halt
 *        lockstep TAP GATE FIRST udp     PORT COUNT     echoes of 60 bytes, one after the other
 *        lockstep TAP GATE FIRST tcp     PORT COUNT N   requests on N kept connections
 *        lockstep TAP GATE FIRST conn    PORT COUNT     connect, request, close, one after the other
 *        lockstep TAP GATE FIRST scatter PORT COUNT N   datagrams to N ports in turn, no answers
 * GATE is the number of the gate's descriptor, FIRST the client's first port. Exit status 0: all was answered. The guest
 * stands before a `hlt` when the client begins (but for await and begin) and when it ends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OWN 0x0a000203u   /* 10.0.2.3 */
#define GUEST 0x0a00020fu /* 10.0.2.15 */
#define MOST_CONNECTIONS 64
#define MOST_HALTS 500    /* without an answer that is waited for */
#define MOST_ATTEMPTS 500 /* to connect to a machine that boots */
#define TRY_AGAIN 16      /* halts after which an attempt to connect is given up */
#define LATE_MS 20        /* what a frame needs at most from QEMU to this socket */
#define SILENT_MS 300000  /* a guest that does not halt */

static const uint8_t own_mac[6] = {2, 0, 0, 0, 0, 3}, guest_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", last[] = "hello\n";

struct __attribute__((packed)) frame {
    struct virtio_net_hdr offload;
    uint8_t to[6], from[6];
    uint16_t type;
    union __attribute__((packed)) {
        struct __attribute__((packed)) {
            uint16_t hardware, protocol;
            uint8_t lengths[2];
            uint16_t operation;
            uint8_t sender_mac[6];
            uint32_t sender;
            uint8_t target_mac[6];
            uint32_t target;
        } arp;
        struct __attribute__((packed)) {
            uint8_t version_length, service;
            uint16_t length, id, fragment;
            uint8_t time_to_live, protocol;
            uint16_t checksum;
            uint32_t source, destination;
            uint16_t from_port, to_port;
            union __attribute__((packed)) {
                struct __attribute__((packed)) {
                    uint16_t length, checksum;
                    uint8_t data[];
                } udp;
                struct __attribute__((packed)) {
                    uint32_t sequence, acknowledged;
                    uint8_t words, flags;
                    uint16_t window, checksum, urgent;
                    uint8_t data[];
                } tcp;
            };
        } ip;
    };
    uint8_t room[1600];
};
enum { FIN = 1, SYN = 2, RST = 4, PUSH = 8, ACK = 16 };
enum { IP_HEADER = 20, UDP_HEADER = 8, TCP_HEADER = 20, ETHERNET = 14 };
#define TRANSPORT offsetof(struct frame, ip.from_port) /* where its header begins */
enum { UDP_CHECKSUM = 6, TCP_CHECKSUM = 16 }; /* where it lies in the header */

/* A connection; `answered` counts whole answers. */
struct connection {
    uint16_t port;
    bool open, closed, stamps;
    uint32_t next, expected, stamp;
    unsigned answered;
};

static int wire, gate, http_port;
static uint16_t first_port;
static unsigned halts;
static struct connection connection[MOST_CONNECTIONS];
static unsigned echoed; /* the last number that came back */

static void fail(const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* ---- taking turns */

static void await_halt(void) {
    struct pollfd p = {gate, POLLIN, 0};
    char byte;

    if (poll(&p, 1, SILENT_MS) != 1)
        fail("the machine does not halt");
    if (read(gate, &byte, 1) != 1)
        fail("the machine ended");
    halts++;
}

/* Lets the guest run to its next halt. */
static void turn(void) {
    if (write(gate, "g", 1) != 1)
        fail("the machine ended");
    await_halt();
}

/* ---- sending */

static uint32_t add(uint32_t sum, const void *data, size_t length) {
    const uint8_t *byte = data;

    for (size_t i = 0; i < length; i++)
        sum += i % 2 ? byte[i] : (uint32_t)byte[i] << 8;
    return sum;
}

static uint16_t fold(uint32_t sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)sum);
}

static void send_frame(struct frame *f, size_t length) {
    memcpy(f->to, guest_mac, 6);
    memcpy(f->from, own_mac, 6);
    if (send(wire, f, sizeof f->offload + length, 0) < 0)
        fail("cannot send a frame: %m");
}

/* Fills in IP's header and the checksum over the pseudo-header; the device or the guest does the rest. */
static void send_packet(struct frame *f, uint8_t protocol, uint16_t bytes) {
    static uint16_t id;

    f->offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    f->offload.csum_start = ETHERNET + IP_HEADER;
    f->offload.csum_offset = protocol == IPPROTO_UDP ? UDP_CHECKSUM : TCP_CHECKSUM;
    f->type = htons(ETHERTYPE_IP);
    f->ip.version_length = 0x45;
    f->ip.length = htons(IP_HEADER + bytes);
    f->ip.id = htons(++id);
    f->ip.fragment = htons(0x4000);
    f->ip.time_to_live = 64;
    f->ip.protocol = protocol;
    f->ip.source = htonl(OWN);
    f->ip.destination = htonl(GUEST);
    f->ip.checksum = 0;
    f->ip.checksum = (uint16_t)~fold(add(0, &f->ip, IP_HEADER));
    uint16_t sum = fold(add((uint32_t)protocol + bytes, &f->ip.source, 8));
    memcpy((uint8_t *)f + TRANSPORT + f->offload.csum_offset, &sum, sizeof sum);
    send_frame(f, ETHERNET + IP_HEADER + bytes);
}

static void send_datagram(uint16_t from, uint16_t to, uint32_t number) {
    enum { BYTES = 60 };
    struct frame f = {0};

    f.ip.from_port = htons(from);
    f.ip.to_port = htons(to);
    f.ip.udp.length = htons(UDP_HEADER + BYTES);
    memcpy(f.ip.udp.data, &number, sizeof number);
    send_packet(&f, IPPROTO_UDP, UDP_HEADER + BYTES);
}

/* Time stamps, as Linux sends them, when the other side takes them; they count halts. */
static size_t put_stamps(uint8_t *at, const struct connection *c) {
    uint32_t value = htonl(halts + 1), echo = htonl(c->stamp);

    memcpy(at, (uint8_t[]){1, 1, 8, 10}, 4);
    memcpy(at + 4, &value, 4);
    memcpy(at + 8, &echo, 4);
    return 12;
}

static void send_segment(struct connection *c, uint8_t flags, const char *text, size_t length) {
    struct frame f = {0};
    size_t options = 0;

    if (flags & SYN) {
        memcpy(f.ip.tcp.data, (uint8_t[]){2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7}, 20);
        f.ip.tcp.data[11] = 1;
        options = 20;
    } else if (c->stamps) {
        options = put_stamps(f.ip.tcp.data, c);
    }
    f.ip.from_port = htons(c->port);
    f.ip.to_port = htons((uint16_t)http_port);
    f.ip.tcp.sequence = htonl(c->next);
    f.ip.tcp.acknowledged = htonl(c->expected);
    f.ip.tcp.words = (uint8_t)((TCP_HEADER + options) / 4 << 4);
    f.ip.tcp.flags = flags;
    f.ip.tcp.window = htons(flags & SYN ? 64240 : 502);
    memcpy(f.ip.tcp.data + options, text, length);
    c->next += (uint32_t)length + !!(flags & (SYN | FIN));
    send_packet(&f, IPPROTO_TCP, (uint16_t)(TCP_HEADER + options + length));
}

static void open_connection(struct connection *c, uint16_t port) {
    *c = (struct connection){.port = port, .next = port * 1000003u};
    send_segment(c, SYN, "", 0);
}

static void ask(struct connection *c) { send_segment(c, PUSH | ACK, request, sizeof request - 1); }

/* ---- receiving */

static void answer_arp(const struct frame *f) {
    struct frame answer = *f;

    if (ntohs(f->arp.operation) != 1 || ntohl(f->arp.target) != OWN)
        return;
    answer.arp.operation = htons(2);
    memcpy(answer.arp.target_mac, f->arp.sender_mac, 6);
    answer.arp.target = f->arp.sender;
    memcpy(answer.arp.sender_mac, own_mac, 6);
    answer.arp.sender = htonl(OWN);
    memset(&answer.offload, 0, sizeof answer.offload);
    send_frame(&answer, ETHERNET + sizeof f->arp);
}

static void find_stamp(struct connection *c, const uint8_t *option, size_t length) {
    for (size_t i = 0; i < length && option[i]; i += option[i] == 1 ? 1 : option[i + 1]) {
        if (option[i] == 8 && i + 10 <= length) {
            memcpy(&c->stamp, option + i + 2, 4);
            c->stamp = ntohl(c->stamp);
            c->stamps = true;
        }
        if (option[i] != 1 && (i + 1 >= length || option[i + 1] < 2))
            return;
    }
}

static void take_segment(struct connection *c, const struct frame *f, size_t segment) {
    size_t head = f->ip.tcp.words >> 4 << 2, length = segment - head;
    const uint8_t *data = (const uint8_t *)f + TRANSPORT + head;

    if (head < TCP_HEADER || head > segment)
        return;
    if (f->ip.tcp.flags & RST) {
        c->open = false;
        c->closed = true;
        return;
    }
    if (f->ip.tcp.flags & SYN) {
        if (c->open)
            return;
        c->open = true;
        c->expected = ntohl(f->ip.tcp.sequence) + 1;
        find_stamp(c, f->ip.tcp.data, head - TCP_HEADER);
        send_segment(c, ACK, "", 0);
        return;
    }
    if (ntohl(f->ip.tcp.sequence) != c->expected)
        return; /* a segment again */
    if (c->stamps)
        find_stamp(c, f->ip.tcp.data, head - TCP_HEADER);
    c->expected += (uint32_t)length;
    if (length >= sizeof last - 1 && !memcmp(data + length - (sizeof last - 1), last, sizeof last - 1))
        c->answered++;
    if (f->ip.tcp.flags & FIN) {
        c->expected++;
        c->closed = true;
        send_segment(c, ACK, "", 0);
    }
}

static void take(const struct frame *f, size_t length) {
    if (length < sizeof f->offload + ETHERNET + sizeof f->arp)
        return;
    if (ntohs(f->type) == ETHERTYPE_ARP) {
        answer_arp(f);
        return;
    }
    if (ntohs(f->type) != ETHERTYPE_IP || ntohl(f->ip.destination) != OWN ||
        ntohs(f->ip.length) > length - sizeof f->offload - ETHERNET)
        return;
    if (f->ip.protocol == IPPROTO_UDP)
        memcpy(&echoed, f->ip.udp.data, sizeof echoed);
    for (int i = 0; f->ip.protocol == IPPROTO_TCP && i < MOST_CONNECTIONS; i++)
        if (connection[i].port == ntohs(f->ip.to_port))
            take_segment(&connection[i], f, ntohs(f->ip.length) - IP_HEADER);
}

/* Takes what has come; waits that long for the first. */
static bool receive(int milliseconds) {
    struct pollfd p = {wire, POLLIN, 0};
    static struct frame f;
    bool any = false;

    for (; poll(&p, 1, any ? 0 : milliseconds) == 1; any = true) {
        ssize_t n = recv(wire, &f, sizeof f, 0);
        if (n > 0)
            take(&f, (size_t)n);
    }
    return any;
}

/* Lets the guest run until the condition is true, for at most so many halts. */
#define RUN_UNTIL(condition, most)                                             \
    ({                                                                         \
        unsigned begin = halts;                                                \
        while (!(condition) && halts - begin < (most)) {                       \
            turn();                                                            \
            while (receive((condition) ? 0 : LATE_MS) && !(condition)) {}      \
        }                                                                      \
        (condition);                                                           \
    })

/* ---- what is asked for */

static void must(bool good, const char *what, unsigned i) {
    if (!good)
        fail("no answer: %s %u", what, i);
}

static void udp(int port, unsigned count) {
    for (unsigned i = 1; i <= count; i++) {
        send_datagram(first_port, (uint16_t)port, i);
        must(RUN_UNTIL(echoed == i, MOST_HALTS), "datagram", i);
    }
}

static unsigned total_answers(unsigned connections) {
    unsigned sum = 0;

    for (unsigned i = 0; i < connections; i++)
        sum += connection[i].answered;
    return sum;
}

/* Each connection asks anew as soon as it has its answer. */
static void http(unsigned count, unsigned connections) {
    static unsigned asked[MOST_CONNECTIONS];
    unsigned sent = 0;

    for (unsigned i = 0; i < connections; i++) {
        open_connection(&connection[i], (uint16_t)(first_port + i));
        must(RUN_UNTIL(connection[i].open, MOST_HALTS), "connection", i);
    }
    while (total_answers(connections) < count) {
        unsigned before = total_answers(connections);
        for (unsigned i = 0; i < connections; i++)
            if (sent < count && asked[i] == connection[i].answered) {
                ask(&connection[i]);
                asked[i]++;
                sent++;
            }
        must(RUN_UNTIL(total_answers(connections) > before, MOST_HALTS), "request", before);
    }
    for (unsigned i = 0; i < connections; i++) {
        send_segment(&connection[i], FIN | ACK, "", 0);
        must(RUN_UNTIL(connection[i].closed, MOST_HALTS), "end of connection", i);
    }
    turn();
}

/* One connection: the request goes with the handshake's end; the answer's acknowledgement and the end
 * are two segments, as Linux sends them. False: not even connected. */
static bool visit(uint16_t port, unsigned most) {
    struct connection *c = &connection[0];

    open_connection(c, port);
    if (!RUN_UNTIL(c->open, most))
        return false;
    ask(c);
    if (!RUN_UNTIL(c->answered || c->closed, MOST_HALTS) || !c->answered)
        return false;
    if (!c->closed)
        send_segment(c, ACK, "", 0);
    send_segment(c, FIN | ACK, "", 0);
    return RUN_UNTIL(c->closed, MOST_HALTS);
}

static void await(void) {
    await_halt();
    for (unsigned i = 0; !visit((uint16_t)(first_port + i), TRY_AGAIN); i++)
        must(i < MOST_ATTEMPTS, "attempt", i);
}

static void scatter(int port, unsigned count, unsigned ports) {
    for (unsigned i = 0; i < count; i++) {
        send_datagram(first_port, (uint16_t)(port + i % ports), i);
        turn();
        receive(0);
    }
}

static void open_wire(const char *name) {
    struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    static const int on = 1;

    where.sll_ifindex = (int)if_nametoindex(name);
    wire = socket(AF_PACKET, SOCK_RAW, 0);
    if (wire < 0 || !where.sll_ifindex ||
        setsockopt(wire, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) ||
        setsockopt(wire, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) ||
        setsockopt(wire, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) ||
        bind(wire, (void *)&where, sizeof where))
        fail("cannot use the device %s: %m", name);
}

int main(int argc, char **argv) {
    if (argc < 6)
        fail("usage: lockstep TAP GATE FIRST await|begin|udp|tcp|conn|scatter PORT [COUNT [N]]");
    int port = http_port = atoi(argv[5]);
    unsigned count = argc > 6 ? (unsigned)atoi(argv[6]) : 0, n = argc > 7 ? (unsigned)atoi(argv[7]) : 1;
    const char *what = argv[4];

    gate = atoi(argv[2]);
    first_port = (uint16_t)atoi(argv[3]);
    open_wire(argv[1]);
    if (!strcmp(what, "await"))
        await();
    else if (!strcmp(what, "begin"))
        await_halt();
    else if (!strcmp(what, "udp"))
        udp(port, count);
    else if (!strcmp(what, "tcp") && n <= MOST_CONNECTIONS)
        http(count, n);
    else if (!strcmp(what, "conn"))
        for (unsigned i = 0; i < count; i++)
            must(visit((uint16_t)(first_port + i), MOST_HALTS), "visit", i);
    else if (!strcmp(what, "scatter"))
        scatter(port, count, n);
    else
        fail("what is %s?", what);
    return 0;
}
