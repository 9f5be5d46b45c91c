/* How lwIP is built for Targe: TCP over IPv4 for servers, called from one thread, with all
 * memory in static pools. NET_CONNECTIONS scales it; everything else follows. With 2048 it
 * takes about 7 MB, with 64 about 220 KB.
 *
 * Two choices are made together. TCP_QUEUE_OOSEQ 0: a frame is used up when input returns, so
 * receive buffers go straight back to the ring. TCP_OVERSIZE 0: what is written with a copy
 * takes exactly its size, since every response is one or two writes. */
#pragma once

#ifndef NET_CONNECTIONS
#define NET_CONNECTIONS 2048 /* connections that may be open at once */
#endif
/* Segments of all connections together. A server that lets each connection have 2 * 1,460 bytes, and
 * all together 2 * 536 for each beyond that, never uses them up, even if every segment has only
 * NET_LEAST_MSS bytes: 6 and 2 for each connection, and 2 for the ends of each. */
#define NET_LEAST_MSS 536 /* who asks for less is refused: net_welcome */
#define NET_SEGMENTS (NET_CONNECTIONS * 10)

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_TIMERS 0 /* net.c calls tcp_tmr */
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
#define LWIP_STATS 0
#define LWIP_SINGLE_NETIF 1

#define LWIP_IPV4 1
#define LWIP_IPV6 0
#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_ICMP 0
#define LWIP_RAW 0
#define LWIP_UDP 0
#define LWIP_DNS 0
#define IP_REASSEMBLY 0
#define IP_FRAG 0 /* the kernel lets no fragment out */
#define IP_OPTIONS_ALLOWED 1

#define MEM_LIBC_MALLOC 0
#define MEMP_MEM_MALLOC 0
#define MEM_ALIGNMENT 8
#define MEM_USE_POOLS 1 /* lwippools.h */
#define MEMP_USE_CUSTOM_POOLS 1
#define MEM_USE_POOLS_TRY_BIGGER_POOL 1
#define MEMP_NUM_TCP_PCB (NET_CONNECTIONS + NET_CONNECTIONS / 8) /* some closing ones as well */
#define MEMP_NUM_TCP_PCB_LISTEN 2
#define MEMP_NUM_TCP_SEG NET_SEGMENTS
#define MEMP_NUM_PBUF NET_SEGMENTS
#define PBUF_POOL_SIZE 1 /* unused: received frames are lent by the port */
#define PBUF_POOL_BUFSIZE 128

#define LWIP_TCP 1
#define TCP_MSS 1460
#define TCP_WND (8 * TCP_MSS) /* also the size of a connection's input buffer, see http.h */
#define TCP_SND_BUF (88 * TCP_MSS)
#define TCP_SND_QUEUELEN 400
#define TCP_SNDLOWAT (8 * TCP_MSS) /* unused, but checked */
#define TCP_OVERSIZE 0
#define TCP_QUEUE_OOSEQ 0
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 0
#define TCP_LISTEN_BACKLOG 0
#define TCP_MSL 10000UL /* waiting connections are looked through for each new one */
#define TCP_MAXRTX 8
#define TCP_SYNMAXRTX 4
#define LWIP_TCP_CALC_INITIAL_CWND(mss) ((tcpwnd_size_t)(10U * (mss))) /* RFC 6928 */
#define LWIP_CALLBACK_API 1
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1 /* they count PBUF_POOL, which is not used */

#define LWIP_CHECKSUM_CTRL_PER_NETIF 1 /* what the device does is not done again */
#define CHECKSUM_GEN_UDP 0
#define CHECKSUM_CHECK_UDP 0
#define LWIP_CHECKSUM_ON_COPY 0

#define LWIP_NETIF_TX_SINGLE_PBUF 0
#define LWIP_SUPPORT_CUSTOM_PBUF 1

#define LWIP_HOOK_TCP_ISN(local_ip, local_port, remote_ip, remote_port)                            \
    net_initial_sequence(ip_2_ip4(local_ip)->addr, local_port, ip_2_ip4(remote_ip)->addr,          \
                         remote_port)
/* net.c: called for each segment before lwIP works on it. */
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, header, length, first, second, p)                          \
    net_before_segment(pcb, header, length)
struct tcp_pcb;
struct tcp_hdr;
signed char net_before_segment(struct tcp_pcb *pcb, struct tcp_hdr *header, unsigned short length);
unsigned net_initial_sequence(unsigned local, unsigned short local_port, unsigned remote,
                              unsigned short remote_port);
