/* TCP over a port: lwIP with one interface, for a single-threaded server.
 *
 * Call net_init once, then in a loop: net_receive, net_timers, net_flush. lwIP's own calls
 * (tcp_*) may be used between net_init and the end of the program, from callbacks or
 * between the others. Addresses are in network byte order. */
#pragma once
#include "net/port.h"

struct net_config {
    u32 address;
    u32 mask;
    u64 key[2]; /* secret: makes sequence numbers unpredictable */
};

void net_init(const struct net_config *config);
/* Handles at most `budget` waiting frames; returns how many there were. */
u32 net_receive(u32 budget);
/* Runs TCP's timers as far as they are due. Returns how many ms remain until the next is, or
 * ~0 if no connection needs any. */
u32 net_timers(void);
/* Sends what has been queued. False: the device is full; call again soon. */
bool net_flush(void);
u64 net_now_ms(void);
/* To be called first in every accept callback. False: refuse this peer (return an error). Without
 * it a peer can choose segment and window sizes that lwIP ends the program for. */
struct tcp_pcb;
bool net_welcome(struct tcp_pcb *pcb);
/* A connection that is somebody's has an argument (tcp_arg). Those without are half open or closing,
 * and the oldest of them gives way when there is no room for a new one. */
/* To be had from the program: ends it, because something that cannot happen did. */
__attribute__((noreturn)) void net_panic(const char *message);
