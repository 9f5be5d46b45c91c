"""The manifest: which environments `init` starts, with which pages, slices and flows.

`init` is the one that obeys it; this is only a check on the host, so that a mistake is
reported as `manifest:LINE: message` before the machine is started.
"""

import ipaddress
import re
from dataclasses import dataclass, field

from targe.report import Failure

_FLAGS = {"site", "power", "trace", "control", "restart"}
_NUMBERS = {"pages", "limit"}
_VALUES = {"program", "slices", "flow", "console", "arg", "device"} | _NUMBERS
_SLICES = re.compile(r"\d{1,2}:\d{1,2}(,\d{1,2}:\d{1,2})*")
_FLOW = re.compile(r"(tcp|udp):(\d{1,5})(?:-(\d{1,5}))?|arp|icmp")
_DEVICE = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_CPUS = _SLOTS = 64
_INIT_SLICES = {0: 1}
_MOST_PAGES = 1 << 24
# Sizes of init's own tables (libos/init/manifest.h).
_MOST_ENVS = 32
_MOST_FLOWS = 8
_MOST_DEVICES = 4
_MOST_SLICE_PAIRS = 8
_MOST_PROGRAM = 63
_MOST_ARGUMENTS = 255


@dataclass
class Manifest:
    """What the host needs to know of a manifest."""
    text: bytes
    address: ipaddress.IPv4Interface = ipaddress.IPv4Interface("10.0.2.15/24")
    gateway: ipaddress.IPv4Address = ipaddress.IPv4Address("10.0.2.2")
    programs: dict = field(default_factory=dict)
    pages: int = 0
    flows: dict = field(default_factory=dict)       # the environment's name by flow
    slices: dict = field(default_factory=lambda: dict(_INIT_SLICES))    # given out, by CPU


def read(path, programs=None, cpus=_CPUS):
    """Reads and checks a manifest.

    `programs`: names that exist, or None for any; `cpus`: how many the machine has.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read the manifest {path}: {error.strerror}") from error
    result = Manifest(text)
    try:
        lines = text.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        number = text.count(b"\n", 0, error.start) + 1
        raise Failure(f"manifest:{number}: only ASCII text is allowed") from error
    for number, line in enumerate(lines, 1):
        try:
            _line(result, line.split("#", 1)[0].split())
            _check_slices(result, cpus)
            if programs is not None:
                _check_programs(result, programs)
        except ValueError as error:
            raise Failure(f"manifest:{number}: {error}") from error
    if not result.programs:
        raise Failure(f"manifest:{max(1, len(lines))}: no environment: "
                      "at least one `env` line is needed")
    return result


def _line(result, words):
    if not words:
        return
    kind, *rest = words
    if kind == "env":
        _env(result, rest)
    elif kind == "net":
        _net(result, rest)
    elif kind == "memory":
        _memory(rest)
    else:
        raise ValueError(f"unknown word '{kind}': a line begins with `env`, `net` or `memory`")


def _env(result, words):
    if not words or not _NAME.fullmatch(words[0]):
        raise ValueError("`env` needs a name of 1 to 15 letters, digits, '.', '-' or '_'")
    name = words[0]
    if name in result.programs:
        raise ValueError(f"a second environment is named '{name}'")
    if len(result.programs) == _MOST_ENVS:
        raise ValueError(f"more than {_MOST_ENVS} environments")
    found = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if key not in (_VALUES if equals else _FLAGS):
            raise ValueError(f"unknown option '{word}'")
        if key in found and key not in ("flow", "arg", "device"):
            raise ValueError(f"'{key}' is given twice")
        found.setdefault(key, []).append(value)
        _check_value(key, value)
        if key == "flow":
            for other, owner in result.flows.items():
                if owner != name and _overlap(value, other):
                    raise ValueError(f"flow={value} is already taken by '{owner}'"
                                     + (f" (flow={other})" if other != value else ""))
            result.flows.setdefault(value, name)
    _check_environment(name, found)
    result.programs[name] = found["program"][0]
    result.pages += int(found["pages"][0])
    for cpu, count in _pairs(found["slices"][0]):
        result.slices[cpu] = result.slices.get(cpu, 0) + count


def _check_environment(name, found):
    for key in ("program", "pages", "slices"):
        if key not in found:
            raise ValueError(f"'{name}' lacks {key}=")
    if len(found.get("flow", ())) > _MOST_FLOWS:
        raise ValueError(f"'{name}' has more than {_MOST_FLOWS} flows")
    if len(found.get("device", ())) > _MOST_DEVICES:
        raise ValueError(f"'{name}' has more than {_MOST_DEVICES} devices")
    if len(" ".join(found.get("arg", ()))) > _MOST_ARGUMENTS:
        raise ValueError(f"'{name}' has more than {_MOST_ARGUMENTS} bytes of arguments")
    if "limit" in found and int(found["limit"][0]) < int(found["pages"][0]):
        raise ValueError("limit= is what it may be given at most, and cannot be below pages=")


def _check_value(key, value):
    if key in _NUMBERS and not (value.isdigit() and 0 < int(value) <= _MOST_PAGES):
        raise ValueError(f"{key}= needs a number from 1 to {_MOST_PAGES}, not '{value}'")
    if key == "slices":
        if not _SLICES.fullmatch(value):
            raise ValueError(f"slices= needs CPU:COUNT[,CPU:COUNT], not '{value}'")
        if value.count(",") >= _MOST_SLICE_PAIRS:
            raise ValueError(f"slices= names more than {_MOST_SLICE_PAIRS} CPUs")
        for pair in value.split(","):
            cpu, count = _pairs(pair)[0]
            if cpu >= _CPUS or not 0 < count <= _SLOTS:
                raise ValueError(f"slices={pair}: CPUs are 0 to {_CPUS - 1}, "
                                 f"a CPU has {_SLOTS} slices")
        if len(dict(_pairs(value))) < len(_pairs(value)):
            raise ValueError(f"slices={value} names a CPU twice")
    if key == "flow":
        match = _FLOW.fullmatch(value)
        ports = [int(port) for port in match.groups()[1:] if port] if match else []
        if not match or not all(0 < port < 65536 for port in ports) or ports != sorted(set(ports)):
            raise ValueError("flow= needs tcp:PORT, udp:PORT, tcp:PORT-PORT, udp:PORT-PORT, arp or icmp, "
                             f"not '{value}'")
    if key == "device" and not _DEVICE.fullmatch(value):
        raise ValueError("device= needs VENDOR:DEVICE, four hexadecimal digits each, "
                         f"not '{value}'")
    if key == "arg" and not value:
        raise ValueError("arg= needs a text without blanks")
    if key == "console" and value not in ("read", "write", "both"):
        raise ValueError(f"console= needs read, write or both, not '{value}'")
    if key == "program" and not 0 < len(value) <= _MOST_PROGRAM:
        raise ValueError(f"program= needs a file name of 1 to {_MOST_PROGRAM} bytes")


def taker(flows, flow):
    """The environment that takes at least some of a flow's frames, or None."""
    return next((owner for other, owner in flows.items() if _overlap(flow, other)), None)


def _overlap(one, other):
    """Whether two flows want the same frames."""
    spans = []
    for value in (one, other):
        protocol, low, high = _FLOW.fullmatch(value).groups()
        spans.append((protocol or value, int(low or 0), int(high or low or 0)))
    (protocol, low, high), (protocol2, low2, high2) = spans
    return protocol == protocol2 and low <= high2 and low2 <= high


def _pairs(text):
    """CPU:COUNT[,CPU:COUNT] as pairs of numbers."""
    return [tuple(map(int, pair.split(":"))) for pair in text.split(",")]


def _check_slices(result, cpus):
    for cpu, count in result.slices.items():
        if cpu >= cpus:
            raise ValueError(f"slices= names CPU {cpu}, but the machine has "
                             f"{'only CPU 0' if cpus == 1 else f'CPUs 0 to {cpus - 1}'} (--smp)")
        if count > _SLOTS:
            kept = _INIT_SLICES.get(cpu, 0)
            raise ValueError(f"{count - kept} slices of CPU {cpu} are given out up to here, but "
                             f"there are {_SLOTS - kept}{', and one for init' if kept else ''}")


def _net(result, words):
    for word in words:
        key, _, value = word.partition("=")
        try:
            if key == "address" and "/" in value:
                result.address = ipaddress.IPv4Interface(value)
            elif key == "gateway":
                result.gateway = ipaddress.IPv4Address(value)
            else:
                raise ValueError
        except ValueError:
            raise ValueError(f"net takes address=IP/PREFIX and gateway=IP, not '{word}'") from None


def _memory(words):
    for word in words:
        key, _, value = word.partition("=")
        if not (key == "ask" and value in ("furthest", "largest", "nobody")
                or key == "deadline" and value.isdigit() and int(value) <= 60000):
            raise ValueError("memory takes ask=furthest|largest|nobody and "
                             f"deadline=MILLISECONDS, not '{word}'")


def _check_programs(result, programs):
    for program in result.programs.values():
        if program not in programs:
            names = ", ".join(sorted(programs)) or "none"
            raise ValueError(f"there is no program '{program}' (there are: {names})")
