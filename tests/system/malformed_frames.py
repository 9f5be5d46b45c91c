"""Sends malformed frames of every kind, made by scapy, to a machine; run by test_malformed.py in a network namespace.

    malformed_frames.py TAP MAC GROUP      GROUP: "unclaimed", "flows", "device"

The kinds of `unclaimed` are such that no flow's filter wants them; those of `flows` satisfy a filter and are for its
library OS to see through; those of `device` never come as far as the kernel. Each frame is sent several times, and after each
a counter is echoed by a handler or by a library OS, an address is asked for, a ping sent, or a page fetched over a connection
that stays open all the while: nothing of that may be lost. Prints how many frames were sent.
"""

import random
import socket
import struct
import sys
import time

from scapy.compat import raw
from scapy.layers.inet import (ICMP, IP, TCP, UDP, IPOption_LSRR, IPOption_RR, IPOption_SSRR, IPOption_Timestamp, fragment)
from scapy.layers.inet6 import (ICMPv6EchoRequest, ICMPv6ND_NA, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
                                IPv6ExtHdrHopByHop, IPv6ExtHdrRouting)
from scapy.layers.l2 import ARP, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Raw, fuzz

TAP, MAC, GROUP = sys.argv[1], sys.argv[2], sys.argv[3]
GUEST, HOST, TIMES = "10.0.2.15", "10.0.2.2", 3
HANDLER, LIBRARY, NOBODYS = 7000, 7001, 9000
ALL = "ff:ff:ff:ff:ff:ff"

WIRE = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
WIRE.bind((TAP, 0))
OWN = WIRE.getsockname()[4].hex(":")
DATA = bytes(range(60))


def ether(**fields):
    """A header for the machine."""
    return Ether(**{"dst": MAC, "src": OWN, **fields})


def ip(**fields):
    """A header for the machine's address."""
    return ether() / IP(**{"src": HOST, "dst": GUEST, **fields})


def udp(port=HANDLER, **fields):
    """A datagram that would be answered, were it not for something else."""
    return UDP(sport=5000, dport=port, **fields) / Raw(DATA)


def tcp(**fields):
    """A segment for the web server."""
    return TCP(**{"sport": 5000, "dport": 80, "flags": "S", **fields})


def ping(**fields):
    """An echo request."""
    return ICMP(**{"type": 8, "id": 5, **fields}) / Raw(DATA)


def arp(**fields):
    """A question for the machine's address."""
    return ether(dst=ALL) / ARP(**{"op": 1, "hwsrc": OWN, "psrc": HOST, "pdst": GUEST, **fields})


def ip6(**fields):
    """A packet for the address that the machine would have."""
    return ether() / IPv6(**{"src": "fe80::2", "dst": "fe80::5054:ff:fe12:3456", **fields})


def tags(count, kind=Dot1Q):
    """So many VLAN tags."""
    header = ether()
    for vlan in range(count):
        header = header / kind(vlan=vlan + 1)
    return header


def cut(frame, length):
    """Its first bytes."""
    return raw(frame)[:length]


def changed(frame, at, value):
    """With other bytes at a place."""
    data = bytearray(raw(frame))
    data[at:at + len(value)] = value
    return bytes(data)


def unclaimed():
    """Frames that no filter wants, by their kinds."""
    inner = IP(src=HOST, dst=GUEST) / udp()
    yield "ethernet: for another station", Ether(dst="52:54:00:00:00:77", src=OWN) / inner
    yield "ethernet: to all", ether(dst=ALL) / inner
    yield "ethernet: to many", ether(dst="01:00:5e:00:00:01") / inner
    yield "ethernet: nothing but a header", ether(type=0x800)
    for kind in (0, 0x600, 0x805, 0x8035, 0x8808, 0x9000, 0xffff):
        yield f"ethernet: type {kind:#x}", ether(type=kind) / Raw(DATA)
    yield "802.3: LLC", Dot3(dst=MAC, src=OWN) / LLC() / STP()
    yield "802.3: SNAP around IP", Dot3(dst=MAC, src=OWN) / LLC(dsap=0xaa, ssap=0xaa, ctrl=3) / SNAP(code=0x800) / inner
    yield "802.3: a length that lies", Dot3(dst=MAC, src=OWN, len=1500) / LLC() / Raw(DATA)
    for kind in (Dot1Q, Dot1AD):
        for count in (1, 2, 30):
            yield f"vlan: {count} {kind.__name__}", tags(count, kind) / inner
        yield f"vlan: {kind.__name__} and nothing", tags(1, kind)
    yield "vlan: a cut tag", cut(tags(1), 16)
    yield "vlan: priority", ether() / Dot1Q(vlan=0, prio=7) / inner
    yield "vlan: ARP", ether(dst=ALL) / Dot1Q(vlan=5) / ARP(op=1, psrc=HOST, pdst=GUEST)
    yield "arp: for another", arp(pdst="10.0.2.77")
    for length in (14, 15, 22, 28, 38, 41):
        yield f"arp: cut at {length}", cut(arp(), length)
    for version in (0, 1, 5, 6, 15):
        yield f"ipv4: version {version}", ip(version=version) / udp()
    for words in (0, 1, 2, 3, 4):
        yield f"ipv4: a header of {words} words", ip(ihl=words) / udp()
    yield "ipv4: a header longer than the frame", cut(ip(ihl=15) / udp(), 60)
    for protocol in (0, 2, 4, 41, 47, 50, 51, 132, 255):
        yield f"ipv4: protocol {protocol}", ip(proto=protocol) / Raw(DATA)
    for address in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "10.0.2.255", "255.255.255.255", "10.0.2.14"):
        yield f"ipv4: for {address}", ether() / IP(src=HOST, dst=address) / udp()
    for length in (15, 20, 23, 30, 33):
        yield f"ipv4: cut at {length}", cut(ip() / udp(), length)
    yield "ipv4: cut in its options", cut(ip(options=[IPOption_RR(routers=["1.1.1.1"] * 8)]) / udp(), 50)
    whole = IP(src=HOST, dst=GUEST, id=77) / UDP(sport=5000, dport=HANDLER) / Raw(bytes(3000))
    for number, part in enumerate(fragment(whole, 1000)):
        yield f"ipv4: fragment {number}", ether() / part
    yield "ipv4: overlapping fragments, first", ip(id=9, flags="MF") / udp()
    yield "ipv4: overlapping fragments, second", ip(id=9, frag=3) / Raw(bytes(40))
    yield "ipv4: a fragment beyond all", ip(frag=0x1fff, flags="MF") / Raw(bytes(1400))
    yield "ipv4: more fragments and do not", ip(flags="MF+DF") / udp()
    yield "ipv4: the reserved bit", ip(flags="evil") / udp()
    yield "ipv4: a tiny first fragment", ip(flags="MF", proto=6) / Raw(raw(tcp())[:8])
    for port in (0, NOBODYS, 65535):
        yield f"udp: to port {port}", ip() / udp(port)
    for length in (34, 35, 36, 37):
        yield f"udp: cut at {length}", cut(ip() / udp(), length)
        yield f"tcp: cut at {length}", cut(ip() / tcp(), length)
    yield "tcp: to port 82", ip() / tcp(dport=82)
    yield "icmp: of IPv6 in IPv4", ip(proto=58) / Raw(DATA)
    yield "ipv6: udp", ip6() / udp()
    yield "ipv6: tcp", ip6() / tcp()
    yield "ipv6: echo", ip6() / ICMPv6EchoRequest(data=DATA)
    yield "ipv6: a neighbour that nobody asked", ip6() / ICMPv6ND_NA(tgt="fe80::2")
    yield "ipv6: version 4", ip6(version=4) / udp()
    for length in (0, 1, 0xffff):
        yield f"ipv6: length {length}", ip6(plen=length) / udp()
    for length in (15, 20, 53):
        yield f"ipv6: cut at {length}", cut(ip6() / udp(), length)
    yield "ipv6: a fragment", ip6() / IPv6ExtHdrFragment(offset=100, m=1) / Raw(DATA)
    yield "ipv6: options for all", ip6() / IPv6ExtHdrHopByHop() / udp()
    yield "ipv6: a route", ip6() / IPv6ExtHdrRouting(type=0, addresses=["fe80::1"] * 3) / udp()
    tower = ip6()
    for _ in range(20):
        tower = tower / IPv6ExtHdrDestOpt()
    yield "ipv6: a tower of options", tower / udp()
    random.seed(5)
    for number in range(20):
        yield f"ipv6: at random {number}", ether() / fuzz(IPv6()) / Raw(DATA)


def flows():
    """Frames that a filter wants, for its library OS to see through."""
    for field, value in (("hwtype", 2), ("hwtype", 0xffff), ("ptype", 0x86dd), ("hwlen", 8), ("hwlen", 0), ("plen", 16),
                         ("op", 0), ("op", 2), ("op", 3), ("op", 9), ("op", 0xffff), ("psrc", GUEST), ("hwsrc", ALL),
                         ("hwsrc", "01:00:5e:00:00:01"), ("psrc", "255.255.255.255"), ("psrc", "224.0.0.1")):
        frame = bytearray(raw(arp(**({field: value} if field not in ("hwlen", "plen") else {}))))
        if field in ("hwlen", "plen"):
            frame[18 if field == "hwlen" else 19] = value
        yield f"arp: {field} {value}", bytes(frame)
    yield "arp: a long one", arp() / Raw(bytes(1400))
    for name, protocol in (("udp", udp), ("icmp", ping), ("tcp", tcp)):
        good = raw(ip() / protocol())
        yield f"{name}: IP's checksum", changed(good, 24, b"\x12\x34")
        for total in (0, 19, 20, 27, 28, 1500, 65535):
            yield f"{name}: an IP length of {total}", ip(len=total) / protocol()
        yield f"{name}: its checksum", changed(good, {"udp": 40, "icmp": 36, "tcp": 50}[name], b"\x12\x34")
        yield f"{name}: cut", good[:42]
        yield f"{name}: a header of 15 words, cut", changed(good, 14, b"\x4f") if name == "icmp" else good[:40]
        for source in (GUEST, "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"):
            yield f"{name}: from {source}", ip(src=source) / protocol()
        yield f"{name}: from many stations", ether(src="01:00:5e:00:00:01") / IP(src=HOST, dst=GUEST) / protocol()
        for option in (IPOption_RR(routers=["1.2.3.4"] * 3), IPOption_LSRR(routers=["1.2.3.4"]),
                       IPOption_SSRR(routers=["1.2.3.4"]), IPOption_Timestamp(), b"\x07\xff\x04\x00", b"\x83\x00\x00\x00",
                       b"\x00" * 40, b"\x01" * 40, b"\x99\x01\x00\x00"):
            yield f"{name}: IP options", ip(options=option) / protocol()
    yield "udp: no header's length is right", changed(ip(ihl=0, len=HANDLER) / udp(), 36, struct.pack(">H", HANDLER))
    for length in (0, 7, 8, 9, 67, 69, 65535):
        yield f"udp: a length of {length}", ip() / udp(len=length)
    yield "udp: to itself", ip(src=GUEST) / UDP(sport=HANDLER, dport=HANDLER) / Raw(DATA)
    yield "udp: from its own port", ip() / UDP(sport=HANDLER, dport=HANDLER) / Raw(DATA)
    yield "udp: nothing in it", ip() / UDP(sport=5000, dport=LIBRARY)
    for kind in (0, 3, 4, 5, 9, 10, 11, 12, 13, 15, 17, 30, 255):
        yield f"icmp: type {kind}", ip() / ICMP(type=kind, code=1) / IP(src=GUEST, dst=HOST) / Raw(bytes(8))
    yield "icmp: an error about nothing", ip() / ICMP(type=3, code=4)
    yield "icmp: an error about a cut header", ip() / ICMP(type=3, code=3) / Raw(b"\x4f" + bytes(7))
    yield "icmp: echo with a code", ip() / ping(code=77)
    for flags in ("", "F", "SF", "SR", "FPU", "SAFRPU", "A", "R", "SA"):
        yield f"tcp: flags {flags or 'none'}", ip() / tcp(flags=flags, seq=5, ack=6)
    for words in (0, 4, 15):
        yield f"tcp: a header of {words} words", ip() / tcp(dataofs=words)
    for options in ([("MSS", 0)], [("MSS", 65535)], [("WScale", 255)], [("SAckOK", b"")] * 8, b"\x02\x00\x00\x00",
                    b"\x02\xff\x05\xb4", b"\x03\x03\xff\x00", b"\xff" * 40, b"\x08\x0a" + bytes(2)):
        if isinstance(options, bytes):
            words = 5 + len(options) // 4
            yield "tcp: options that are none", ip() / tcp(dataofs=words) / Raw(options)
        else:
            yield f"tcp: options {options[0]}", ip() / tcp(options=options)
    yield "tcp: a SYN with data", ip() / tcp() / Raw(bytes(1000))
    yield "tcp: urgent", ip() / tcp(flags="AU", urgptr=65535) / Raw(DATA)
    yield "tcp: to itself", ip(src=GUEST) / tcp(sport=80)
    random.seed(6)
    for number in range(60):
        body = random.choice((lambda: fuzz(TCP(dport=80)), lambda: fuzz(UDP(dport=LIBRARY)), lambda: fuzz(ICMP())))()
        yield f"at random {number}", ip() / body / Raw(random.randbytes(random.randrange(200)))


def device():
    """Frames that are longer than any that the machine has buffers for."""
    for size in (1515, 2000, 2034, 2048, 2049, 4000, 8900):
        yield f"a frame of {size} bytes", raw(ip() / UDP(sport=5000, dport=HANDLER))[:42] + bytes(size - 42)


class Others:
    """What the others were promised: each request is answered."""

    def __init__(self):
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((HOST, 5555))
        self.web = socket.create_connection((GUEST, 80), 20)
        self.counter = 0
        WIRE.settimeout(20)

    def count(self, port):
        """A counter comes back increased."""
        self.counter += 2
        question, answer = (struct.pack(">Q", self.counter + n) + DATA for n in (0, 1))
        self.udp.settimeout(20)
        self.udp.sendto(question, (GUEST, port))
        while self.udp.recv(2000) != answer:
            pass  # an answer to what came before

    @staticmethod
    def ask(frame, is_answer):
        """A frame brings another."""
        WIRE.send(raw(frame))
        while not is_answer(WIRE.recv(4096)):
            pass

    def fetch(self):
        """A page, over the connection that was there at the beginning."""
        self.web.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = self.web.recv(4096)
            assert part, "the connection is lost"
            answer += part
        assert answer.startswith(b"HTTP/1.1 200"), answer

    def go_on(self, turn):
        """One of these, in turn."""
        if turn % 5 == 0:
            self.count(HANDLER)
        elif turn % 5 == 1:
            self.count(LIBRARY)
        elif turn % 5 == 2:
            sender = bytes.fromhex(MAC.replace(":", ""))
            self.ask(arp(), lambda f: f[12:14] == b"\x08\x06" and f[6:12] == sender and f[20:22] == b"\0\2")
        elif turn % 5 == 3:
            self.ask(ip() / ping(seq=turn), lambda f: f[23] == 1 and f[34] == 0 and f[40:42] == struct.pack(">H", turn))
        else:
            self.fetch()


def main():
    """All kinds of the group."""
    others, sent = Others(), 0
    for _, frame in {"unclaimed": unclaimed, "flows": flows, "device": device}[GROUP]():
        for _ in range(TIMES):
            WIRE.send(raw(frame))
            sent += 1
            others.go_on(sent)
    time.sleep(1)  # /machine.json may be some tenths of a second old
    print(sent)


main()
