"""`targe filter EXPRESSION`: an expression in the syntax of pcap-filter as a condition of the kernel's.

A condition is one conjunction. An expression that is several is refused with what they are, so that
it can be narrowed, or be bound as several flows.
"""

import ipaddress
import struct
import subprocess
import sys

from targe import packages, project
from targe.build import build
from targe.conjunction import Inexpressible, Range, alternatives
from targe.pcap_expression import BadExpression, parse
from targe.report import Failure

_MATCH, _SHIFT, _RANGE = range(3)
_KINDS = ("MATCH", "SHIFT", "RANGE")
_FIELDS = 64  # bytes that a condition sees, before the shift and after it
_ATOMS = 24
_MOST_SHOWN = 6
_ETHERNET = 1


def filter_(options):
    """Prints the condition, and counts the frames of a file that satisfy it. Gives the exit status."""
    condition = condition_of(options.expression)
    packages.ensure("build")
    build(goals=["host"])
    frames = read_pcap(options.pcap) if options.pcap else []
    taken = run(condition, frames)
    _show(options.expression, condition)
    if options.pcap:
        print(f"\n{sum(taken)} of {len(frames)} frames in {options.pcap} satisfy it")
    return 0


def condition_of(expression):
    """Atoms: (kind, offset, width, mask, value, high, note). Fails if it is not one conjunction."""
    try:
        found = alternatives(parse(expression))
        if len(found) == 1:
            return _atoms(found[0])
    except (BadExpression, Inexpressible) as error:
        raise Failure(str(error)) from None
    if not found:
        raise Failure("no frame satisfies this")
    shown = "\n".join(f"  {_in_words(one)}" for one in found[:_MOST_SHOWN])
    more = "\n  ..." if len(found) > _MOST_SHOWN else ""
    raise Failure(f"a condition is one conjunction, but this is any of {len(found)}; narrow it "
                  f"(ip or ip6, src or dst, tcp or udp), or bind a flow for each:\n{shown}{more}")


def run(condition, frames):
    """Whether each frame satisfies it, as the kernel sees it. Fails if the kernel would refuse it."""
    lines = [" ".join(str(number) for number in atom[:6]) for atom in condition]
    lines += ["frames"] + [frame.hex() for frame in frames]
    done = subprocess.run([project.BUILD / "host" / "targe-filter"], input="\n".join(lines) + "\n",
                          stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Failure(done.stdout.strip() or f"targe-filter ended with status {done.returncode}")
    return [line == "1" for line in done.stdout.split()]


# ---- atoms

def _atoms(one):
    if one.unlike:
        raise Failure(f"no condition can say that something is not: {one.unlike[0].name}")
    parts = sorted({match.part for match in one.fields} | {part for part, _ in one.ranges})
    if len([part for part in parts if part]) > 1:
        raise Failure("a condition can follow one IP header only")
    atoms = []
    for part in parts or [0]:
        if part:
            atoms.append((_SHIFT, part, 1, 0x0f, 4, 0, "on by the IP header's length"))
        in_part = [(match.offset, _MATCH, match) for match in one.fields if match.part == part]
        in_part += [(offset, _RANGE, Range(part, offset, *span, one.names[part, offset]))
                    for (where, offset), span in one.ranges.items() if where == part]
        for offset, kind, what in sorted(in_part, key=lambda entry: entry[:2]):
            if kind == _MATCH:
                atoms.append((_MATCH, offset, what.width, what.mask, what.value, 0, what.name))
            else:
                atoms.append((_RANGE, offset, 2, 0xffff, what.low, what.high, f"{what.name}s"))
    if any(offset + width > _FIELDS for _, offset, width, *_ in atoms):
        raise Failure(f"a condition sees {_FIELDS} bytes from the frame's start, and {_FIELDS} behind the IP header")
    if len(atoms) > _ATOMS:
        raise Failure(f"a condition has at most {_ATOMS} atoms; this needs {len(atoms)}")
    if len(one.ranges) > 1:
        raise Failure("a condition has at most one range")
    return atoms


def _in_words(one):
    words = [f"{match.name}" for match in one.fields]
    words += [f"{one.names[key]} {low}-{high}" for key, (low, high) in one.ranges.items()]
    words += [f"not {match.name}" for match in one.unlike]
    return ", ".join(dict.fromkeys(words)) or "every frame"


# ---- what is printed

def _show(expression, condition):
    print(expression or "(every frame)")
    print()
    for kind, offset, width, mask, value, high, note in condition:
        if kind == _SHIFT:
            words = f"SHIFT {offset:2}   {mask:#x} {value}"
        elif kind == _RANGE:
            words = f"RANGE {offset:2}   {value} {high}"
        else:
            words = f"MATCH {offset:2} {width} {mask:#0{2 + 2 * width}x} {value:#0{2 + 2 * width}x}"
        print(f"    {words:<34}{note}")
    print("\nin C:\n")
    print(f"    static const struct condition condition = {{.count = {len(condition)}, .atom = {{")
    for kind, offset, width, mask, value, high, _ in condition:
        kind_word = f".kind = ATOM_{_KINDS[kind]}, " if kind else ""
        high_word = f", .high = {high}" if kind == _RANGE else ""
        shown = value if kind else f"{value:#x}"
        print(f"        {{{kind_word}.offset = {offset}, .width = {width}, .mask = {mask:#x}, .value = {shown}{high_word}}},")
    print("    }};")
    words = manifest_word(condition)
    print(f"\nin a manifest: {words}" if words else "\na manifest has no word for it")


def manifest_word(condition):
    """The manifest's flow that receives exactly this, apart from what each such flow demands: the
    machine's own addresses, and whole datagrams."""
    fields = {(kind, offset): (mask, value, high) for kind, offset, _, mask, value, high, _ in condition}
    ether = fields.pop((_MATCH, 12), (0, 0, 0))[1]
    address = fields.pop((_MATCH, 38 if ether == 0x806 else 30), None)
    if address and address[0] != 0xffffffff:
        return None
    note = f" (on a machine with net address={ipaddress.IPv4Address(address[1])}/...)" if address else ""
    if ether == 0x806:
        return None if fields else f"flow=arp{note}"
    protocol = {1: "icmp", 6: "tcp", 17: "udp"}.get(fields.pop((_MATCH, 23), (0, 0, 0))[1])
    fields.pop((_MATCH, 20), None)
    fields.pop((_SHIFT, 14), None)
    port, ports = fields.pop((_MATCH, 2), None), fields.pop((_RANGE, 2), None)
    if ether != 0x800 or not protocol or fields or (protocol == "icmp") == bool(port or ports):
        return None
    if protocol == "icmp":
        return f"flow=icmp{note}"
    return f"flow={protocol}:{port[1]}{note}" if port else f"flow={protocol}:{ports[1]}-{ports[2]}{note}"


# ---- files

def read_pcap(path):
    """The frames of a file that tcpdump or QEMU wrote."""
    with open(path, "rb") as file:
        data = file.read()
    order = {b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">",
             b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<"}.get(data[:4])
    if not order or len(data) < 24:
        raise Failure(f"{path} is no pcap file (pcapng: convert it with tcpdump -r or editcap)")
    if struct.unpack(order + "I", data[20:24])[0] & 0x0fffffff != _ETHERNET:
        raise Failure(f"{path} is not of Ethernet")
    frames, at = [], 24
    while at + 16 <= len(data):
        length = struct.unpack(order + "I", data[at + 8:at + 12])[0]
        frames.append(data[at + 16:at + 16 + length])
        at += 16 + length
    if at != len(data):
        print(f"targe: {path} ends within a frame", file=sys.stderr)
    return frames
