/* lwIP's glue: one interface whose frames come from a port and go to it.
 *
 * A received frame is lent to lwIP as one pbuf for the time of ip4_input. This is sound since
 * lwIP keeps no input: out-of-order segments and fragments are dropped (lwipopts.h), and the
 * receive callbacks of our servers consume what they get; net_receive checks it.
 *
 * A frame to be sent has its headers copied and the rest referred to. The port may read that
 * rest later than lwIP frees it only if the peer has acknowledged it, so that a stale
 * retransmission can carry nothing that the peer does not discard. */
#include "net/net.h"
#include "lwip/init.h"
#include "lwip/ip4.h"
#include "lwip/memp.h"
#include "lwip/netif.h"
#include "lwip/priv/memp_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/sys.h"
#include "lwip/tcp.h"
#include "net/neighbour.h"
#include "net/siphash.h"
#include <string.h>

#define ETH_HEADER 14
#define IP_HEADER 20
#define TIMER_MS TCP_TMR_INTERVAL

static struct netif interface;
static struct neighbours neighbours;
static u64 secret[2];
static u64 next_timer;
static bool stalled; /* the port refused a frame: some connection has data that nothing will push */

u64 net_now_ms(void) {
    return port_now_ms();
}

/* lwIP asks for these. */
u32_t sys_now(void) {
    return (u32_t)net_now_ms();
}

uint32_t net_random(void) {
    static u64 count;

    count++;
    return (uint32_t)siphash(secret, &count, sizeof count);
}

/* RFC 6528: a keyed hash of the connection, and a clock of 4 us ticks. */
unsigned net_initial_sequence(unsigned local, unsigned short local_port, unsigned remote,
                              unsigned short remote_port) {
    u32 who[3] = {local, remote, (u32)local_port << 16 | remote_port};

    return (unsigned)siphash(secret, who, sizeof who) + (unsigned)(net_now_ms() * 250);
}

/* Before a connection is asked for: if none is free, drops the one that has been nobody's for longest.
 * A connection without an argument is half open, or closed by us and not yet by its peer; lwIP
 * would keep it for some 20 s and refuse everybody else meanwhile. */
static void make_room(void) {
    struct tcp_pcb *oldest = NULL;

    if (*memp_pools[MEMP_TCP_PCB]->tab)
        return;
    for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
        if (!pcb->callback_arg && (!oldest || tcp_ticks - pcb->tmr > tcp_ticks - oldest->tmr))
            oldest = pcb;
    if (oldest)
        tcp_abandon(oldest, 0);
}

/* lwIP believes an MSS option in any segment, and asserts that a connection's MSS does not shrink
 * below what it has queued: anybody could end us. Only a SYN has options that mean something here,
 * so those of all others are overwritten with "end of options". */
signed char net_before_segment(struct tcp_pcb *pcb, struct tcp_hdr *header, unsigned short length) {
    if (pcb->state == LISTEN && (TCPH_FLAGS(header) & (TCP_SYN | TCP_ACK)) == TCP_SYN)
        make_room();
    if (length && !(TCPH_FLAGS(header) & TCP_SYN))
        memset(header + 1, LWIP_TCP_OPT_EOL, length);
    return ERR_OK;
}

/* lwIP makes segments no larger than half the largest window seen, and asserts that this never
 * falls below what is queued; but a window that was 0 or 1 counts as no limit, so that it can. With
 * the half above the MSS the limit is always the MSS. */
bool net_welcome(struct tcp_pcb *pcb) {
    if (pcb->snd_wnd_max < 2 * TCP_MSS)
        pcb->snd_wnd_max = 2 * TCP_MSS;
    return pcb->mss >= NET_LEAST_MSS;
}

/* ---- sending */

/* Adds a pbuf's bytes to the frame, the first `skip` excepted; false: too many pieces. */
static bool add_pieces(const struct pbuf *p, u32 skip) {
    for (; p; p = p->next, skip = 0) {
        u32 length = p->len - skip;
        if (length && port_add((const u8 *)p->payload + skip, length) != length)
            return false;
    }
    return true;
}

/* Lets the device sum: the field holds the pseudo-header's sum, not inverted. */
static void prepare_sum(u8 *ip, u32 transport_length) {
    u8 *field = ip + IP_HEADER + offsetof(struct tcp_hdr, chksum);
    u32 sum = IP_PROTO_TCP + transport_length;

    for (u32 i = 12; i < 20; i += 2)
        sum += (u32)ip[i] << 8 | ip[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    sum += sum >> 16;
    field[0] = (u8)(sum >> 8);
    field[1] = (u8)sum;
}

/* Fills the header part of the frame; returns how many bytes of the first pbuf it took. A
 * short first pbuf is taken whole, of a long one only the protocol headers. */
static u32 copy_headers(const struct pbuf *p, const u8 *mac) {
    const u8 *ip = p->payload;
    u32 take = p->len;

    if (take > PORT_HEADERS - ETH_HEADER)
        take = IP_HEADER + (ip[IP_HEADER + 12] >> 4) * 4u;
    memcpy(net_port.headers, mac, 6);
    memcpy(net_port.headers + 6, net_port.mac, 6);
    net_port.headers[12] = 8;
    net_port.headers[13] = 0;
    memcpy(net_port.headers + ETH_HEADER, ip, take);
    return take;
}

static err_t send_packet(struct netif *netif, struct pbuf *p, const ip4_addr_t *destination) {
    const u8 *mac = neighbours_find(&neighbours, destination->addr);

    LWIP_UNUSED_ARG(netif);
    if (!mac)
        return ERR_RTE;
    if (!port_begin() && !(port_flush() && port_begin())) {
        stalled = true;
        return ERR_MEM;
    }
    u32 taken = copy_headers(p, mac);
    if (!add_pieces(p, taken))
        net_panic("net: a segment of too many pieces");
    if (net_port.checksum)
        prepare_sum(net_port.headers + ETH_HEADER, p->tot_len - IP_HEADER);
    port_end(ETH_HEADER + taken, net_port.checksum ? ETH_HEADER + IP_HEADER : 0,
              net_port.checksum ? offsetof(struct tcp_hdr, chksum) : 0);
    return ERR_OK;
}

/* lwIP tries a refused segment again only when its connection receives something or times
 * out; so after the device has room again, try all. */
static void resume_stalled(void) {
    stalled = false;
    for (struct tcp_pcb *pcb = tcp_active_pcbs, *next; pcb && !stalled; pcb = next) {
        next = pcb->next;
        if (pcb->unsent)
            tcp_output(pcb);
    }
}

bool net_flush(void) {
    bool done = port_flush();

    if (done && stalled) {
        resume_stalled();
        done = port_flush() && !stalled;
    }
    return done;
}

/* ---- receiving */

static bool lent; /* the pbuf below is lwIP's */

static void give_back(struct pbuf *p) {
    LWIP_UNUSED_ARG(p);
    lent = false;
}

static bool is_ours(const u8 *frame, u32 length) {
    return length >= ETH_HEADER + IP_HEADER && memcmp(frame, net_port.mac, 6) == 0 &&
           frame[12] == 8 && frame[13] == 0 && frame[ETH_HEADER + 9] == IP_PROTO_TCP;
}

/* RFC 1122 4.2.2.13: a SYN beyond the last connection of these ports ends its TIME-WAIT. lwIP would
 * keep the client out for as long as that lasts, and clients that abort use their ports again soon. */
static void end_time_wait(const u8 *frame, u32 length) {
    const u8 *ip = frame + ETH_HEADER;
    const struct tcp_hdr *tcp = (const void *)(ip + (ip[0] & 15) * 4u);
    u32 source;

    if ((const u8 *)(tcp + 1) > frame + length || (TCPH_FLAGS(tcp) & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
        return;
    memcpy(&source, ip + 12, sizeof source);
    for (struct tcp_pcb *pcb = tcp_tw_pcbs; pcb; pcb = pcb->next)
        if (pcb->remote_port == lwip_ntohs(tcp->src) && pcb->local_port == lwip_ntohs(tcp->dest) &&
            ip_2_ip4(&pcb->remote_ip)->addr == source) {
            if (TCP_SEQ_GT(lwip_ntohl(tcp->seqno), pcb->rcv_nxt))
                tcp_abort(pcb);
            return;
        }
}

void port_received(u8 *frame, u32 length, bool verified) {
    static struct pbuf_custom custom;
    u32 source;

    if (!is_ours(frame, length) || length > 0xffff)
        return;
    memcpy(&source, frame + ETH_HEADER + 12, sizeof source);
    neighbours_learn(&neighbours, source, frame + 6);
    end_time_wait(frame, length);
    u16_t check = verified ? 0 : NETIF_CHECKSUM_CHECK_TCP;
    u16_t make = net_port.checksum ? 0 : NETIF_CHECKSUM_GEN_TCP;
    interface.chksum_flags = NETIF_CHECKSUM_GEN_IP | NETIF_CHECKSUM_CHECK_IP | check | make;
    custom.custom_free_function = give_back;
    u16_t size = (u16_t)(length - ETH_HEADER);
    struct pbuf *p =
        pbuf_alloced_custom(PBUF_RAW, size, PBUF_REF, &custom, frame + ETH_HEADER, size);
    lent = true;
    ip4_input(p, &interface);
    if (lent)
        net_panic("net: a receiver kept a frame");
}

u32 net_receive(u32 budget) {
    return port_receive(budget);
}

/* ---- time */

/* A peer that acknowledges what was only probed leaves lwIP's persist timer running with nothing to
 * send, which lwIP (2.1.3 and 2.2.1) asserts against in the next tick: anybody could end us. */
static void stop_idle_persist(void) {
    for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
        if (pcb->persist_backoff && (pcb->unacked || !pcb->unsent))
            pcb->persist_backoff = 0;
}

u32 net_timers(void) {
    u64 now = net_now_ms();

    if (!tcp_active_pcbs && !tcp_tw_pcbs) {
        next_timer = now + TIMER_MS;
        return ~0u;
    }
    if (now >= next_timer) {
        stop_idle_persist();
        tcp_tmr();
        /* after a long pause TCP's clock goes on from here instead of catching up */
        next_timer = now >= next_timer + TIMER_MS ? now + TIMER_MS : next_timer + TIMER_MS;
    }
    return (u32)(next_timer - now);
}

static err_t set_up(struct netif *netif) {
    netif->output = send_packet;
    netif->mtu = 1500;
    netif->hwaddr_len = 6;
    memcpy(netif->hwaddr, net_port.mac, 6);
    netif->name[0] = 't';
    netif->name[1] = 'g';
    return ERR_OK;
}

void net_init(const struct net_config *config) {
    ip4_addr_t address = {config->address}, mask = {config->mask}, gateway = {0};

    memcpy(secret, config->key, sizeof secret);
    neighbours_init(&neighbours, config->address, config->mask);
    lwip_init();
    netif_add(&interface, &address, &mask, &gateway, NULL, set_up, ip4_input);
    netif_set_default(&interface);
    netif_set_up(&interface);
    netif_set_link_up(&interface);
    next_timer = net_now_ms() + TIMER_MS;
}
