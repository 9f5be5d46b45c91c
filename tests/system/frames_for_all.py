"""Sends floods and frames of every kind of damage to a machine; run by test_hostile.py in a network namespace.

    frames_for_all.py TAP MAC SECONDS SEED

With SEED 0 it sends one frame that nobody wants, as fast as it can; else frames that are right except in some
places, of all protocols that the machine speaks and some that it does not.
"""

import random
import socket
import struct
import sys
import time

TAP, MAC, SECONDS, SEED = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
GUEST, HOST = bytes((10, 0, 2, 15)), bytes((10, 0, 2, 77))
TO, ALL = bytes.fromhex(MAC.replace(":", "")), b"\xff" * 6
WIRE = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
WIRE.bind((TAP, 0))
OWN = WIRE.getsockname()[4]
CHANCE = random.Random(SEED)
PORTS = (7, 53, 80, 81, 443, 11211)
EDGES = (0, 1, 4, 5, 7, 15, 19, 20, 21, 40, 255, 256, 1480, 1500, 0x1fff, 0x2000, 0x3fff, 0x7fff, 0x8000, 0xffff)


def checksum(data):
    """The Internet checksum, RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def number(good):
    """Mostly the right one; or one at an edge, or any."""
    return good if CHANCE.random() < 0.8 else CHANCE.choice(EDGES) if CHANCE.random() < 0.7 else \
        CHANCE.randrange(65536)


def some_bytes(most):
    """So many, at most."""
    return CHANCE.randbytes(CHANCE.choice((0, 1, 7, 8, 20, CHANCE.randrange(most + 1), most)))


def tcp():
    """A segment: any flags, any length of its header, options of any kind."""
    options = CHANCE.choice((b"", b"\x02\x04\x05\xb4", b"\x02\x00", b"\x03\xff\x00", b"\x01" * 7, b"\x02\x04\x00\x00",
                             CHANCE.randbytes(CHANCE.randrange(41))))
    options += b"\0" * (-len(options) % 4)
    words = 5 + len(options) // 4 if CHANCE.random() < 0.9 else CHANCE.randrange(16)
    return struct.pack(">HHIIBBHHH", CHANCE.randrange(65536), CHANCE.choice(PORTS), CHANCE.randrange(1 << 32),
                       CHANCE.choice((0, CHANCE.randrange(1 << 32))), words % 16 << 4,
                       CHANCE.choice((2, 2, 2, 4, 16, 17, 18, 0, 63, CHANCE.randrange(256))), number(8192), 0,
                       number(0)) + options + CHANCE.choice((b"", b"GET / HTTP/1.1\r\n\r\n", some_bytes(1200)))


def udp():
    """A datagram."""
    data = some_bytes(1400)
    return struct.pack(">HHHH", CHANCE.choice((7, 53, CHANCE.randrange(65536))), CHANCE.choice(PORTS),
                       number(8 + len(data)) & 0xffff, 0) + data


def icmp():
    """A message of any kind, echo and unreachable (with a packet inside) most often."""
    kind = CHANCE.choice((8, 8, 3, 3, 0, 5, 11, 13, CHANCE.randrange(256)))
    inside = b"\x45" + CHANCE.randbytes(27) if kind in (3, 5, 11) else some_bytes(1400)
    return struct.pack(">BBHI", kind, CHANCE.choice((0, 0, 1, 4, 255)), 0, CHANCE.randrange(1 << 32)) + inside


def with_sum(protocol, data):
    """The right checksum, mostly, so that what is wrong lies deeper."""
    at = {1: 2, 6: 16, 17: 6}.get(protocol)
    if at is None or len(data) < at + 2 or CHANCE.random() < 0.1:
        return data
    pseudo = b"" if protocol == 1 else HOST + GUEST + struct.pack(">BBH", 0, protocol, len(data))
    return data[:at] + struct.pack(">H", checksum(pseudo + data)) + data[at + 2:]


def ipv4():
    """A packet, or a fragment of one."""
    protocol, make = CHANCE.choice(((6, tcp), (6, tcp), (17, udp), (1, icmp), (CHANCE.randrange(256), lambda: some_bytes(1400))))
    data = with_sum(protocol, make())
    options = CHANCE.choice((b"", b"", b"", b"\1" * 4, b"\x83\x03\x04\0", b"\x07\xff\0\0", CHANCE.randbytes(40)))
    words = 5 + len(options) // 4 if CHANCE.random() < 0.9 else CHANCE.randrange(16)
    fragment = CHANCE.choice((0, 0, 0, 0x4000, 0x2000, 0x2000 | CHANCE.randrange(300), CHANCE.randrange(0x2000)))
    head = struct.pack(">BBHHHBBH", number(4) % 16 << 4 | words % 16, 0, number(20 + len(options) + len(data)) & 0xffff,
                       CHANCE.randrange(8), fragment, CHANCE.choice((64, 1, 0)), protocol, 0)
    source = CHANCE.choice((HOST, HOST, HOST, GUEST, b"\xff" * 4, bytes(4), CHANCE.randbytes(4)))
    head += source + GUEST + options
    if CHANCE.random() < 0.95:
        head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    return 0x800, (head + data)[:1500]


def arp():
    """Any operation, any lengths."""
    return 0x806, (struct.pack(">HHBBH", number(1), number(0x800), number(6) % 256, number(4) % 256, number(1)) +
                   CHANCE.choice((OWN, ALL, TO)) + CHANCE.choice((HOST, GUEST)) + bytes(6) +
                   CHANCE.choice((GUEST, HOST)))[:CHANCE.choice((28, 28, 28, CHANCE.randrange(29)))]


def ipv6():
    """A packet with a row of extension headers."""
    return 0x86dd, b"\x60" + bytes(3) + struct.pack(">HBB", number(60), CHANCE.choice((0, 6, 17, 43, 44, 58, 60)), 64) + \
        CHANCE.randbytes(CHANCE.randrange(200))


def vlan():
    """One tag or a tower of them."""
    kind, data = ipv4()
    for _ in range(CHANCE.choice((1, 1, 2, 30))):
        data = struct.pack(">HH", CHANCE.randrange(65536), kind) + data
        kind = CHANCE.choice((0x8100, 0x88a8))
    return kind, data[:1500]


def frame():
    """A frame: cut off, padded, or with some bytes changed, now and then."""
    kind, data = CHANCE.choice((ipv4, ipv4, ipv4, ipv4, arp, ipv6, vlan, lambda: (CHANCE.randrange(65536), some_bytes(1500))))()
    made = bytearray(CHANCE.choice((TO, TO, TO, ALL, b"\1\0\x5e\0\0\1", CHANCE.randbytes(6))) +
                     CHANCE.choice((OWN, OWN, ALL, TO)) + struct.pack(">H", kind) + data)
    if CHANCE.random() < 0.2:
        for _ in range(CHANCE.randint(1, 8)):
            made[CHANCE.randrange(len(made))] = CHANCE.randrange(256)
    if CHANCE.random() < 0.1:
        del made[CHANCE.randint(14, len(made)):]
    return bytes(made + bytes(CHANCE.choice((0, 0, 0, max(0, 60 - len(made))))))[:1514]


def main():
    """Prints how many were sent."""
    end, sent = time.monotonic() + SECONDS, 0
    unwanted = ALL + OWN + b"\x88\xb5" + bytes(46)
    while time.monotonic() < end:
        for _ in range(100):
            try:
                WIRE.send(unwanted if SEED == 0 else frame())
                sent += 1
            except (OSError, BlockingIOError):
                time.sleep(0.001)  # the queue is full
    print(sent)


main()
