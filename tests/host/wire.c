/* See wire.h. Frames are made on the heap's terms: each received one is lent in a block of exactly its
 * size, so that the sanitizer notices who reads beyond it. */
#include "wire.h"
#include "tcp/sum.h"
#include "tcp/tcp.h"
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            abort(); \
    } while (0)

struct wire wire;
struct port net_port;
static u8 headers[PORT_HEADERS];
static u8 bytes[2048];
static u32 used, pieces;

bool port_begin(void) {
    if (wire.begun == wire.room)
        return false;
    net_port.headers = headers;
    memset(headers, 0xa5, sizeof headers);
    used = pieces = 0;
    return true;
}

u32 port_add(const void *data, u32 length) {
    u32 done = 0;

    while (done < length && pieces < 4) { /* cut at "pages" of 1,000 bytes, as on Targe at 4,096 */
        const u8 *at = (const u8 *)data + done;
        u32 left = 1000 - (u32)((u64)at % 1000), part = length - done < left ? length - done : left;
        CHECK(used + part <= 1460);
        memcpy(bytes + used, at, part);
        used += part;
        done += part;
        pieces++;
    }
    return done;
}

static u16 tcp_sum(const struct headers *h, const u8 *tcp, u32 length) {
    u16 rest[2] = {__builtin_bswap16(6), __builtin_bswap16((u16)length)};

    return sum_join(sum_join(sum_bytes(&h->source, 8), sum_bytes(rest, 4), false), sum_bytes(tcp, length),
                    false);
}

void port_end(u32 header_length, u32 sum_start, u32 sum_offset) {
    u8 frame[2048];
    struct headers *h = (void *)frame;
    struct sent *s = &wire.out[wire.out_last++ % WIRE_FRAMES];

    CHECK(wire.out_last - wire.out_first < WIRE_FRAMES && header_length >= sizeof *h);
    wire.begun++;
    memcpy(frame, headers, header_length);
    memcpy(frame + header_length, bytes, used);
    u32 header = header_length - HEADERS_TCP, length = header + used;
    CHECK(h->type == __builtin_bswap16(0x800) && h->version == 0x45 && h->protocol == 6);
    CHECK(__builtin_bswap16(h->length) == 20 + length && h->source == WIRE_ADDRESS);
    CHECK(sum_bytes(frame + HEADERS_IP, 20) == 0xffff);
    CHECK(net_port.checksum == (sum_start != 0) && net_port.checksum == (sum_offset != 0));
    if (sum_start) { /* what a device does */
        CHECK(sum_start == HEADERS_TCP && sum_offset == HEADERS_SUM);
        h->sum = (u16)~sum_bytes(frame + HEADERS_TCP, length);
    }
    CHECK(tcp_sum(h, frame + HEADERS_TCP, length) == 0xffff);
    CHECK((h->offset >> 4) * 4u == header && h->source_port == __builtin_bswap16(WIRE_PORT));
    *s = (struct sent){.peer = __builtin_bswap32(h->destination), .port = __builtin_bswap16(h->destination_port),
                       .seq = __builtin_bswap32(h->seq), .ack = __builtin_bswap32(h->ack), .flags = h->flags,
                       .window = __builtin_bswap16(h->window), .options_length = (u8)(header - 20), .length = used};
    memcpy(s->options, frame + sizeof *h, s->options_length);
    memcpy(s->data, bytes, used);
}

bool port_flush(void) {
    if (wire.blocked)
        return false;
    wire.begun = 0;
    return true;
}

u32 port_receive(u32 budget) {
    u32 count = 0;

    for (; count < budget && wire.in_first != wire.in_last; count++) {
        u32 i = wire.in_first++ % WIRE_FRAMES;
        u8 *copy = malloc(wire.in_length[i] ? wire.in_length[i] : 1);
        memcpy(copy, wire.in[i], wire.in_length[i]);
        port_received(copy, wire.in_length[i], false);
        free(copy);
    }
    return count;
}

u64 port_now_ms(void) { return wire.now_ms; }

void wire_init(bool checksum) {
    net_port = (struct port){.mac = {2, 0, 0, 0, 0, 2}, .checksum = checksum};
    wire.now_ms = 5000;
    wire.room = 32;
    wire.blocked = false;
    wire.begun = wire.out_first = wire.out_last = wire.in_first = wire.in_last = 0;
}

const struct sent *wire_take(void) {
    return wire.out_first == wire.out_last ? NULL : &wire.out[wire.out_first++ % WIRE_FRAMES];
}

u8 *wire_give(const struct sent *s) {
    u32 i = wire.in_last++ % WIRE_FRAMES, options = (s->options_length + 3u) / 4 * 4, header = 20 + options;
    u8 *frame = wire.in[i];
    struct headers *h = (void *)frame;

    CHECK(wire.in_last - wire.in_first < WIRE_FRAMES);
    memset(frame, 0, sizeof *h + options);
    *h = (struct headers){.to = {2, 0, 0, 0, 0, 2}, .from = {2, 0, 0, 0, 0, 7}, .type = __builtin_bswap16(0x800),
                          .version = 0x45, .length = __builtin_bswap16((u16)(20 + header + s->length)), .hops = 64,
                          .protocol = 6, .source = __builtin_bswap32(s->peer), .destination = WIRE_ADDRESS,
                          .source_port = __builtin_bswap16(s->port), .destination_port = __builtin_bswap16(WIRE_PORT),
                          .seq = __builtin_bswap32(s->seq), .ack = __builtin_bswap32(s->ack),
                          .offset = (u8)(header / 4 << 4), .flags = s->flags, .window = __builtin_bswap16(s->window)};
    memcpy(frame + sizeof *h, s->options, s->options_length);
    memcpy(frame + HEADERS_TCP + header, s->data, s->length);
    h->ip_sum = (u16)~sum_bytes(frame + HEADERS_IP, 20);
    h->sum = (u16)~tcp_sum(h, frame + HEADERS_TCP, header + s->length);
    wire.in_length[i] = HEADERS_TCP + header + s->length;
    return frame;
}

void wire_turn(void) {
    tcp_clock();
    while (tcp_receive(64))
        ;
    tcp_timers();
    tcp_flush();
}
