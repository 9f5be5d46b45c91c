/*
 * xdp.c - echoes UDP datagrams in the driver, before Linux has made a packet of the frame: the nearest that
 * Linux has to a handler in the kernel.
 *
 * Build:  clang -target bpf -O2 -c -o xdp.o xdp.c, then the section `xdp` alone (bench_linux.py)
 * Use:    attach (attach.c) loads it
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

/* The kernel's interface: what it gives to the program, and what the program answers. */
struct xdp_md { u32 data, data_end, data_meta, interface, queue, to_interface; };
enum { XDP_PASS = 2, XDP_TX = 3 };

struct __attribute__((packed)) frame {
    u8 to[6], from[6];
    u16 type;
    u8 version_length, service;
    u16 length, id, fragment;
    u8 time_to_live, protocol;
    u16 checksum;
    u32 source, destination;
    u16 from_port, to_port;
};

#define SWAP(a, b) do { typeof(a) t = a; a = b; b = t; } while (0)

__attribute__((section("xdp"), used)) int echo(struct xdp_md *context)
{
    struct frame *f = (void *)(unsigned long)context->data;

    if ((void *)(f + 1) > (void *)(unsigned long)context->data_end) return XDP_PASS;
    if (f->type != __builtin_bswap16(0x0800) || f->version_length != 0x45 || f->protocol != 17 ||
        (f->fragment & __builtin_bswap16(0x3fff)) || f->to_port != __builtin_bswap16(7))
        return XDP_PASS;
    for (int i = 0; i < 6; i++) SWAP(f->to[i], f->from[i]);
    SWAP(f->source, f->destination);
    SWAP(f->from_port, f->to_port);
    return XDP_TX;      /* the checksums stay as they are */
}
