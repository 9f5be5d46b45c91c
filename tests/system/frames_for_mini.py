"""Sends good, bad and damaged frames to mini; run by test_hostile.py in a network namespace.

Each frame is followed by a good ping of its own: what arrives before the answer to that is the
answer to the frame.
"""

import random
import socket
import struct
import sys

GUEST, HOST = bytes((10, 0, 2, 15)), bytes((10, 0, 2, 2))
MAC, ALL = bytes.fromhex(sys.argv[2].replace(":", "")), b"\xff" * 6
WIRE = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
WIRE.bind((sys.argv[1], 0))
WIRE.settimeout(5)
OWN = WIRE.getsockname()[4]
MARK = 0x7777


def checksum(data):
    """The Internet checksum, RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ether(payload, kind=0x800, source=OWN, to=MAC):
    """A frame."""
    return to + source + struct.pack(">H", kind) + payload


def ip(data, source=HOST, words=5, fragment=0, total=None, damage=0):
    """A frame with an IP packet; options are no-operations."""
    total = words * 4 + len(data) if total is None else total
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, total, 1, fragment, 64, 1, 0)
    head += source + GUEST + b"\1" * (words * 4 - 20)
    return ether(head[:10] + struct.pack(">H", checksum(head) ^ damage) + head[12:] + data)


def echo(size=20, kind=8, code=0, damage=0, number=9):
    """An ICMP echo message."""
    text = struct.pack(">BBHHH", kind, code, 0, number, 1) + bytes(size)
    return text[:2] + struct.pack(">H", checksum(text) ^ damage) + text[4:]


def arp(operation=1, hardware=1, lengths=0x604, sender=HOST, mac=OWN, to=ALL, cut=28):
    """An ARP frame about the guest's address."""
    text = struct.pack(">HHHH", hardware, 0x800, lengths, operation) + mac + sender + bytes(6)
    return ether((text + GUEST)[:cut], 0x806, to=to)


def answers(frame):
    """What the guest answers to a frame."""
    found = []
    WIRE.send(frame)
    WIRE.send(ip(echo(number=MARK)))
    while True:
        answer = WIRE.recv(4096)
        if answer[6:12] != MAC:
            continue
        if answer[12:14] == b"\x08\x00" and answer[38:40] == struct.pack(">H", MARK):
            return found
        found.append(answer)


GOOD = {
    "ping": ip(echo()), "odd length": ip(echo(21)), "no data": ip(echo(0)), "most": ip(echo(1472)),
    "padding": ip(echo(1)) + bytes(17), "options": ip(echo(), words=6),
    "arp": arp(), "arp to us": arp(to=MAC), "arp probe": arp(sender=bytes(4)),
    "arp padding": arp() + bytes(18)}
BAD = {
    "ip checksum": ip(echo(), damage=1), "icmp checksum": ip(echo(damage=1)),
    "total 19": ip(echo(), total=19), "total 20": ip(echo(), total=20),
    "total 27": ip(echo(), total=27), "total beyond the frame": ip(echo(), total=200),
    "total most": ip(echo(), total=65535), "options beyond": ip(b"", words=15, total=28),
    "tagged": ether(struct.pack(">HH", 5, 0x800) + ip(echo())[14:], 0x8100),
    "priority tag": ether(struct.pack(">HH", 0xa000, 0x800) + ip(echo())[14:], 0x8100),
    "service tag": ether(struct.pack(">HH", 5, 0x800) + ip(echo())[14:], 0x88a8),
    "version 6": ether(b"\x65" + ip(echo())[15:]), "ip6": ether(b"\x60" + ip(echo())[15:], 0x86dd),
    "last fragment": ip(echo(), fragment=0x3b), "reserved bit and fragment": ip(echo(), fragment=0xa000),
    "first fragment": ip(echo(), fragment=0x2000), "fragment": ip(echo(), fragment=1),
    "reply": ip(echo(kind=0)), "code": ip(echo(code=1)), "cut": ip(echo())[:40],
    "no icmp": ip(b""), "from itself": ip(echo(), source=GUEST),
    "from many": ip(echo(), source=bytes((224, 0, 0, 1))), "from all": ip(echo(), source=b"\xff" * 4),
    "from none": ip(echo(), source=bytes(4)), "from loopback": ip(echo(), source=bytes((127, 0, 0, 1))),
    "multicast sender": ether(ip(echo())[14:], source=b"\1\0\x5e\0\0\1"),
    "to everybody": ether(ip(echo())[14:], to=ALL),
    "arp reply": arp(operation=2), "arp hardware": arp(hardware=2), "arp lengths": arp(lengths=0x810),
    "arp from us": arp(sender=GUEST), "arp from many": arp(mac=ALL), "arp cut": arp(cut=27)}


def check_good(name, frame):
    """One answer, to us, with right checksums and the data that were sent."""
    found = answers(frame)
    assert len(found) == 1 and found[0][:6] == OWN, f"{name}: {len(found)} answers"
    if found[0][12:14] == b"\x08\x06":
        assert found[0][20:32] == b"\0\2" + MAC + GUEST, f"{name}: {found[0].hex()}"
        return
    total = struct.unpack_from(">H", found[0], 16)[0]
    head, data = found[0][14:34], found[0][34:14 + total]
    size = struct.unpack_from(">H", frame, 16)[0] - (frame[14] & 15) * 4
    assert not checksum(head) and not checksum(data), f"{name}: checksums of {found[0].hex()}"
    assert head[12:] == GUEST + HOST and data[0] == 0 and len(data) == size, name


def main():
    """All of it; the end status says whether all was well."""
    for name, frame in GOOD.items():
        check_good(name, frame)
    for name, frame in BAD.items():
        assert not answers(frame), f"{name} was answered"
    chance = random.Random(1)
    for _ in range(5000):
        frame = bytearray(chance.choice([*GOOD.values()]))
        for _ in range(chance.randint(1, 4)):
            frame[chance.randrange(12, len(frame))] = chance.randrange(256)
        answers(bytes(frame[:chance.randint(14, len(frame))]))
    check_good("ping after all", GOOD["ping"])


main()
