/* The conditions of ARP, ICMP, UDP and TCP flows: RFC 826, 791, 792, 768, 9293. The kernel knows
 * none of these protocols. */
#include "init/flows.h"

#define ETHER_DESTINATION 0
#define ETHER_SOURCE 6
#define ETHER_TYPE 12
#define IP 14
#define IP_FRAGMENT (IP + 6)
#define IP_PROTOCOL (IP + 9)
#define IP_SOURCE (IP + 12)
#define IP_DESTINATION (IP + 16)
#define ARP_SENDER_MAC 22
#define ARP_SENDER_IP 28
#define ARP_TARGET_IP 38

static void match(struct condition *c, u16 offset, u8 width, u32 mask, u32 value) {
    c->atom[c->count++] = (struct atom){.offset = offset, .width = width, .mask = mask, .value = value};
}

static void match_mac(struct condition *c, u16 offset, const u8 mac[6]) {
    match(c, offset, 4, ~0u, (u32)mac[0] << 24 | (u32)mac[1] << 16 | (u32)mac[2] << 8 | mac[3]);
    match(c, offset + 4, 2, 0xffff, (u32)mac[4] << 8 | mac[5]);
}

static void ip_conditions(struct condition *c, const struct manifest *m, const struct manifest_flow *f, u16 address,
                          u16 port) {
    match(c, ETHER_TYPE, 2, 0xffff, 0x0800);
    match(c, IP, 1, 0xf0, 0x40);
    match(c, IP_FRAGMENT, 2, 0xbfff, 0); /* all but "do not" */
    match(c, IP_PROTOCOL, 1, 0xff, f->protocol);
    match(c, address, 4, ~0u, m->address);
    if (f->protocol == START_ICMP)
        return;
    c->atom[c->count++] = (struct atom){.kind = ATOM_SHIFT, .offset = IP, .width = 1, .mask = 0xf, .value = 4};
    c->atom[c->count++] = (struct atom){
        .kind = ATOM_RANGE, .offset = port, .width = 2, .mask = 0xffff, .value = f->port, .high = f->last};
}

void flow_conditions(const struct manifest *m, const u8 mac[6], const struct manifest_flow *f,
                     struct flow_spec *spec) {
    *spec = (struct flow_spec){.receive.count = 0};
    match_mac(&spec->transmit, ETHER_SOURCE, mac);
    if (f->protocol == START_ARP) {
        match(&spec->receive, ETHER_TYPE, 2, 0xffff, 0x0806);
        match(&spec->receive, ARP_TARGET_IP, 4, ~0u, m->address);
        match(&spec->transmit, ETHER_TYPE, 2, 0xffff, 0x0806);
        match_mac(&spec->transmit, ARP_SENDER_MAC, mac);
        match(&spec->transmit, ARP_SENDER_IP, 4, ~0u, m->address);
        return;
    }
    match_mac(&spec->receive, ETHER_DESTINATION, mac);
    ip_conditions(&spec->receive, m, f, IP_DESTINATION, 2);
    ip_conditions(&spec->transmit, m, f, IP_SOURCE, 0);
}
