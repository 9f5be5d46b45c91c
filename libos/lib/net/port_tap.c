/* A port on Linux, see port_tap.h. A frame is one read or write on the device, after a header that
 * is virtio-net's. */
#include "net/port_tap.h"
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PIECES 4 /* as SEND_PIECES */

static struct {
    int fd;
    u8 headers[PORT_HEADERS];
    struct iovec part[2 + PIECES]; /* the first two: what goes before the headers, and they */
    int parts;
} tap;
struct port net_port;

bool port_begin(void) {
    net_port.headers = tap.headers;
    tap.parts = 2;
    return true;
}

u32 port_add(const void *data, u32 length) {
    if (tap.parts == 2 + PIECES)
        return 0;
    tap.part[tap.parts++] = (struct iovec){(void *)data, length};
    return length;
}

void port_end(u32 header_length, u32 sum_start, u32 sum_offset) {
    struct virtio_net_hdr header = {0};

    if (sum_start) {
        header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header.csum_start = (__u16)sum_start;
        header.csum_offset = (__u16)sum_offset;
    }
    tap.part[0] = (struct iovec){&header, sizeof header};
    tap.part[1] = (struct iovec){tap.headers, header_length};
    if (writev(tap.fd, tap.part, tap.parts) < 0)
        return; /* lost, as on any network */
}

bool port_flush(void) { return true; }

u32 port_receive(u32 budget) {
    static u8 buffer[sizeof(struct virtio_net_hdr) + 2048];
    struct virtio_net_hdr header;
    u32 count = 0;

    for (; count < budget; count++) {
        ssize_t n = read(tap.fd, buffer, sizeof buffer);
        if (n < (ssize_t)sizeof header)
            break;
        memcpy(&header, buffer, sizeof header);
        bool verified = header.flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID);
        port_received(buffer + sizeof header, (u32)n - sizeof header, verified);
    }
    return count;
}

u64 port_now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

void port_tap_wait(u32 ms) {
    struct pollfd p = {tap.fd, POLLIN, 0};

    poll(&p, 1, ms > 1000 ? 1000 : (int)ms);
}

bool port_tap_open(const char *name, const u8 mac[6], bool checksum) {
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

    tap.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tap.fd < 0)
        return false;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(tap.fd, TUNSETIFF, &request) < 0 ||
        ioctl(tap.fd, TUNSETOFFLOAD, checksum ? TUN_F_CSUM : 0) < 0) {
        close(tap.fd);
        return false;
    }
    net_port.checksum = checksum;
    memcpy(net_port.mac, mac, 6);
    return true;
}
