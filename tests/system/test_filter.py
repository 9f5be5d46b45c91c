"""`targe filter` against tcpdump: whatever an expression says, the condition takes the same frames."""

import random
import struct
import subprocess
import sys

from harness.fuzz import fuzz
from harness.system import limit
from targe import filter as tool
from targe import project
from targe.build import build
from targe.report import Failure

_FRAMES = 12000
_US, _OTHER = bytes([10, 0, 2, 15]), bytes([10, 0, 3, 15])
_ADDRESSES = (_US, _OTHER, bytes([10, 0, 2, 2]), bytes([192, 168, 1, 1]), bytes([224, 0, 0, 1]))
_US6 = bytes.fromhex("fd00000000000000000000000000000f")
_ADDRESSES6 = (_US6, bytes.fromhex("fd00000000000001000000000000000f"), bytes.fromhex("ff02") + bytes(13) + b"\x01")
_MACS = (bytes.fromhex("525400123456"), bytes.fromhex("525502020202"), b"\xff" * 6, bytes.fromhex("01005e000001"))
_PORTS = (7, 53, 79, 80, 81, 443, 7999, 8000, 8001, 8050, 8099, 8100, 65535)

# Each is one conjunction.
_EXPRESSIONS = (
    "", "ip", "arp", "rarp", "ip6", "ether proto 0x88b5", "ip and tcp", "udp and ip", "icmp", "igmp", "ip proto 47",
    "ip and tcp dst port 80", "tcp dst port 80 and dst host 10.0.2.15", "ip and udp src port 53",
    "udp dst portrange 8000-8099 and dst host 10.0.2.15", "ip and udp src and dst port 53",
    "ip and tcp src port 443 and dst portrange 8000-8099", "src net 10.0.2.0/24 and ip", "ip and dst net 10.0",
    "dst net 10.0.2.0 mask 255.255.254.0 and ip", "arp dst host 10.0.2.15", "arp and src net 10",
    "ether dst 52:54:00:12:34:56", "ether src 52:55:02:02:02:02 and ip", "ether broadcast", "ether multicast and arp",
    "not ether multicast and ip6", "ip6 and udp dst port 53", "ip6 and tcp src portrange 79-81",
    "dst host fd00::f", "src net fd00::/48 and udp dst port 53", "ip multicast",
    "ip[6:2] & 0x3fff = 0 and icmp", "ip and tcp[tcpflags] & tcp-syn != 0 and tcp[13] & 16 = 0",
    "ip and tcp dst portrange 79-81 and not tcp dst port 81", "ip and not not udp and (dst port 80 or 81)",
    "not (not ip or not tcp) and ip src host 10.0.2.2", "ip and (tcp dst port 80 or tcp dst port 81)",
    "ether proto 0x8100 and vlan 5", "ether proto 0x8100 and vlan 5 and ip and udp dst port 53",
    "ether proto 0x88a8 and vlan 5 and ether proto 0x8100 and vlan 6 and ip and tcp",
    "ether proto 0x9100 and vlan and ip6 and udp dst port 53", "arp and not ip", "ip && tcp dst port 80 && !udp",
    "ip[8] = 64 and tcp dst port 80", "ip and udp[4:2] > 40", "ip[2:2] <= 60 and icmp", "ip6[4:2] >= 20 and ip6",
    "icmp[icmptype] = 8 and icmp", "ip and sctp dst port 80", "ip and tcp and tcp", "tcp dst port 80 or 81 and ip and tcp",
    "(ip and tcp) or (ip and tcp and dst port 80)", "not port 53 and arp",
)
# These are not, or are no expressions at all.
_REFUSED = {
    "tcp port 80": "any of 4", "tcp": "any of 3", "host 10.0.2.15": "any of 6", "not ip": "any of 2",
    "port 53": "any of", "vlan 5": "any of 3", "ip proto 6 or 17": "any of 2", "ip and not tcp": "is not: IP protocol",
    "ip and udp src portrange 1-9 and dst portrange 1-9": "at most one range", "tcp and udp": "no frame",
    "tcp dst port 80 and arp": "no frame", "less 60": "less", "ip and": "something is missing", "ip and dst": "ends", "and ip": "something is missing",
    "tcp dst port 99999": "not from 0 to 65535", "dst host example.org": "no address", "(ip": "')'", "ip )": "not expected",
    "tcp[13": "expected", "ether host 10.0.2.15": "no Ethernet address", "ip and tcp dst port nonsense": "no port",
    "ip[1] > 3": "only compare", "src net 10.0.2.1/24 and ip": "no address", "ether proto 5": "lengths",
    "ip and udp[70:2] = 1": "not from 0 to 63", "ip and udp[63:2] = 1": "64 bytes", "ip broadcast": "netmask",
}


def _transport(draw, protocol):
    source = draw.choice(_PORTS)
    ports = struct.pack(">HH", source, draw.choice((source, *_PORTS)))
    if protocol == 6:
        return ports + struct.pack(">IIBBHHH", 1, 2, 0x50, draw.choice((2, 18, 16, 4)), 100, 0, 0)
    if protocol in (17, 132):
        return ports + struct.pack(">HH", draw.randrange(100), 0)
    return bytes([draw.choice((0, 8)), 0, 0, 0, 1, 2, 3, 4])


def _ipv4(draw):
    protocol = draw.choice((1, 2, 6, 6, 6, 17, 17, 17, 47, 132))
    options = bytes(4 * draw.choice((0, 0, 0, 1, 2, 10)))
    fragment = draw.choice((0, 0, 0, 0x4000, 0x2000, 185, 0x2005))
    body = _transport(draw, protocol)
    first = draw.choice((0x40, 0x40, 0x40, 0x60)) | (5 + len(options) // 4)
    if draw.random() < 0.03:
        first = draw.randrange(256)
    return struct.pack(">BBHHHBBH", first, 0, 20 + len(options) + len(body), 7, fragment, draw.choice((64, 1)),
                       protocol, 0) + draw.choice(_ADDRESSES) + draw.choice(_ADDRESSES) + options + body


def _ipv6(draw):
    protocol = draw.choice((6, 17, 17, 58, 132))
    body = _transport(draw, protocol)
    if draw.random() < 0.2:  # a fragment header, or one for hosts on the way
        body = bytes([protocol, 0, 0, 0, 0, 0, 0, 0]) + body
        protocol = draw.choice((44, 0))
    return struct.pack(">IHBB", 0x60000000, len(body), protocol, 64) + draw.choice(_ADDRESSES6) \
        + draw.choice(_ADDRESSES6) + body


def _arp(draw):
    return struct.pack(">HHBBH", 1, 0x800, 6, 4, draw.choice((1, 2))) + draw.choice(_MACS) \
        + draw.choice(_ADDRESSES) + bytes(6) + draw.choice(_ADDRESSES)


def _frame(draw):
    kind, body = draw.choice(((0x800, _ipv4),) * 5 + ((0x86dd, _ipv6),) * 2 + (
        (0x806, _arp), (0x8035, _arp), (0x88b5, _ipv4)))
    tags = b""
    for _ in range(draw.choice((0, 0, 0, 0, 1, 2))):
        tags += struct.pack(">HH", draw.choice((0x8100, 0x88a8, 0x9100)),
                            draw.choice((0, 0x2000)) | draw.choice((5, 6, 4095)))
    frame = draw.choice(_MACS) + draw.choice(_MACS) + tags + struct.pack(">H", kind) + body(draw)
    if draw.random() < 0.1:  # cut off, but within no address: tcpdump wants four bytes where a mask wants three
        return frame[:draw.randrange(16 if body is _arp else 14, len(frame) + 1, 4)]
    return frame + bytes(draw.choice((0, 30)))


def _write(path, frames):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for n, frame in enumerate(frames):
            file.write(struct.pack("<IIII", n, 0, len(frame), len(frame)) + frame)


def _tcpdump(path, expression):
    """Numbers of the frames that tcpdump takes: they are their times."""
    words = ["tcpdump", "-r", str(path), "-w", "-"] + ([expression] if expression else [])
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, f"{expression}: {done.stderr}"
    data, numbers, at = done.stdout, [], 24
    while at < len(data):
        seconds, _, length, _ = struct.unpack("<IIII", data[at:at + 16])
        numbers.append(seconds)
        at += 16 + length
    return numbers


@limit(120)
def test_as_tcpdump(ctx):
    """Every expression takes of thousands of frames, well-formed and not, those that tcpdump takes."""
    build(goals=["host"])
    draw = random.Random(20)
    frames = [_frame(draw) for _ in range(_FRAMES)]
    path = ctx.folder / "frames.pcap"
    _write(path, frames)
    assert tool.read_pcap(path) == frames
    for expression in _EXPRESSIONS:
        taken = tool.run(tool.condition_of(expression), frames)
        mine = [n for n, yes in enumerate(taken) if yes]
        theirs = _tcpdump(path, expression)
        assert mine == theirs, (expression, sorted(set(mine) ^ set(theirs))[:5])
        assert mine, f"{expression}: no frame satisfies it"


def test_not_one_conjunction(_ctx):
    """What is no conjunction, or no expression, is refused with the reason."""
    for expression, why in _REFUSED.items():
        try:
            condition = tool.condition_of(expression)
        except Failure as failure:
            assert why in str(failure), f"{expression}: {failure}"
        else:
            raise AssertionError(f"{expression}: {condition}")


def _command(*words):
    done = subprocess.run([sys.executable, "-B", project.ROOT / "tools" / "targe", "filter", *words],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_command(ctx):
    """The command shows atoms, C and the manifest's word, and counts a file's frames."""
    draw = random.Random(21)
    path = ctx.folder / "some.pcap"
    _write(path, [_frame(draw) for _ in range(300)])
    expression = "udp dst portrange 8000-8099 and dst host 10.0.2.15"
    status, out, errors = _command(expression, "--pcap", path)
    assert status == 0, out + errors
    for words in ("RANGE  2   8000 8099", "SHIFT 14   0xf 4", ".kind = ATOM_RANGE", "flow=udp:8000-8099",
                  f"{len(_tcpdump(path, expression))} of 300 frames"):
        assert words in out, out
    status, out, errors = _command("tcp port 80")
    assert status == 1 and "any of 4" in errors and not out, out + errors
    (ctx.folder / "none").write_text("no pcap", encoding="ascii")
    status, _, errors = _command("ip", "--pcap", ctx.folder / "none")
    assert status == 1 and "no pcap file" in errors, errors


@limit(300)
def test_fuzz(_ctx):
    """Admission and classifier against brute force, from the kept corpus."""
    fuzz("fuzz_filter")
