#!/usr/bin/env python3
"""Hostile TCP against the web server: random but plausible segments on many connections.

usage: tcp.py SECONDS [SEED]

Run it beside a server, as root in its network namespace, where tap0 is the way to it:

    WEB_HOST=build/host/web-host-asan libos/web/host/try.sh site python3 tests/fuzz/tcp.py 20

Ends with 1 if the server does not answer an honest request afterwards.
"""

import random
import select
import socket
import struct
import sys
import time
import urllib.error
import urllib.request

SERVER, OURS = "10.9.0.2", "10.9.0.7"  # nobody has the second: nothing resets our connections
SERVER_MAC = bytes.fromhex("020000000002")
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
REQUESTS = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /live.js HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /machine.json HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
            b"junk\r\n\r\n", b"GE", b"T / HTTP/1.1\r\n", b"Host: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc")


def checksum(data):
    """The Internet checksum."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


def segment(mac, port, seq, ack, flags, window, data, options=b""):
    """A whole frame from our `port` to the server's 80."""
    ends = socket.inet_aton(OURS) + socket.inet_aton(SERVER)
    tcp = struct.pack("!HHIIBBHHH", port, 80, seq & 0xffffffff, ack & 0xffffffff,
                      (20 + len(options)) << 2, flags, window, 0, 0) + options + data
    total = checksum(ends + struct.pack("!BBH", 0, 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + ends
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return SERVER_MAC + mac + b"\x08\0" + ip + tcp


class Connection:
    """What we know of one connection: our next sequence number, and the server's."""

    def __init__(self):
        self.seq, self.ack = random.getrandbits(32), 0


class Attack:
    """Connections by port, and the socket that all goes through."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800))
        self.socket.bind(("tap0", 0))
        self.mac = self.socket.getsockname()[4]
        self.connections = {}

    def begin(self):
        """A SYN with good, odd or random options."""
        port, connection = random.randrange(1024, 65535), Connection()
        mss = struct.pack("!BBH", 2, 4, random.choice((0, 1, 9, 128, 536, 1460, 65535)))
        options = random.choice((b"", mss, mss + b"\1\3\3\7",
                                 random.randbytes(4 * random.randrange(10))))
        self.connections[port] = connection
        window = random.choice((0, 1, 100, 65535))
        self.socket.send(segment(self.mac, port, connection.seq, 0, SYN, window, b"", options))
        connection.seq += 1

    def go_on(self):
        """A segment that mostly fits, of an open connection."""
        port = random.choice(list(self.connections))
        connection = self.connections[port]
        data = random.choice(REQUESTS) if random.random() < 0.5 else b""
        data = (data * random.choice((1,) * 20 + (5, 30)))[:1400]
        flags = ACK | random.choice((0, 0, 0, PSH, FIN))
        if random.random() < 0.03:
            flags = random.getrandbits(8)
        seq = connection.seq + (random.randrange(-2000, 20000) if random.random() < 0.15 else 0)
        ack = connection.ack + (random.randrange(-3000, 3000) if random.random() < 0.1 else 0)
        options = random.randbytes(4 * random.randrange(10)) if random.random() < 0.05 else b""
        frame = segment(self.mac, port, seq, ack, flags,
                        random.choice((65535, 65535, 0, 1, 500, 4000)), data, options)
        self.socket.send(self.damage(frame))
        if seq == connection.seq and random.random() < 0.85:
            connection.seq += len(data) + (flags & FIN)
        if flags & RST or random.random() < 0.01:
            del self.connections[port]

    @staticmethod
    def damage(frame):
        """Now and then, a bit is wrong or the end is missing."""
        if random.random() < 0.02:
            frame = bytearray(frame)
            frame[random.randrange(14, len(frame))] ^= 1 << random.randrange(8)
        if random.random() < 0.01:
            frame = frame[:random.randrange(14, len(frame))]
        return bytes(frame)

    def listen(self):
        """Learns where the server's side of each connection is."""
        while select.select([self.socket], [], [], 0)[0]:
            frame = self.socket.recv(2048)
            if frame[6:12] != SERVER_MAC or frame[23] != 6:
                continue
            _, port, seq, _, offset, flags = struct.unpack("!HHIIBB", frame[34:48])
            connection = self.connections.get(port)
            if not connection:
                continue
            length = struct.unpack("!H", frame[16:18])[0] - 20 - (offset >> 4) * 4
            if flags & RST:
                del self.connections[port]
            elif flags & SYN:
                connection.ack = seq + 1
            elif random.random() < 0.9:
                connection.ack = seq + length + (flags & FIN)

    def run(self, seconds):
        """Attacks for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(20):
                few = len(self.connections) < 200 and random.random() < 0.2
                (self.begin if few or not self.connections else self.go_on)()
            self.listen()


def alive():
    """Does the server answer?"""
    try:
        with urllib.request.urlopen(f"http://{SERVER}/", timeout=10) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def main():
    """See above."""
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    random.seed(seed)
    Attack().run(float(sys.argv[1]))
    print(f"seed {seed}: the server {'answers' if alive() else 'DOES NOT ANSWER'}")
    sys.exit(0 if alive() else 1)


if __name__ == "__main__":
    main()
