"""The rows of `targe bench` that are asked for from outside the machine, over a tap device.

Instructions are those that the guest executes, all of them, counted by bench/count.c while a client
sends two numbers of requests: the difference is what the requests cost. Halted time counts nothing;
what the guest does by its clock meanwhile is in the figure, so that it is repeatable only to about
one in a hundred. The median of several rounds is taken.
"""

import re
import statistics
import subprocess
import time
import typing

from targe import archive, boot, manifest, project
from targe.bench_breakdown import Spent, Symbols, show
from targe.bench_linux import APPEND, load_program
from targe.bench_machine import ICOUNT_IDLE, TIME, Counter, Running, machine_words
from targe.bench_network import GUEST, TAP, Network
from targe.bench_result import Result
from targe.report import Failure, Progress

_MANIFEST = project.ROOT / "bench" / "manifest"
_SMALL = project.ROOT / "bench" / "manifest-small"
_SITE = project.ROOT / "bench" / "site"
_SILENCE = 60
_FEW, _MANY = 100, 500
_ROUNDS = 5
_UDP, _WEB = 7, 80



class _Request(typing.NamedTuple):
    """A row of requests. `words`: the client's, with N for the number."""
    name: str
    group: str
    row: str
    unit: str
    words: tuple
    goal: int


_REQUESTS = (
    _Request("echo", "network", "60-byte UDP echo by a library OS (Linux: a process)", "datagram",
             ("udp", GUEST, _UDP, "N"), 900),
    _Request("kept", "web", "HTTP request on a kept connection", "request",
             ("tcp", GUEST, _WEB, "N", 1), 3600),
    _Request("kept16", "web", "HTTP request on one of 16 kept connections", "request",
             ("tcp", GUEST, _WEB, "N", 16), None),
    _Request("connect", "web", "HTTP request with connect and close", "request",
             ("conn", GUEST, _WEB, "N"), 14000),
)
_FILTERS = ((10, 60), (1000, 72))
_SIZES = (4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160)
_LINUX_ENTRY = 0x100000  # where a bzImage begins in protected mode, before it unpacks itself


def measure_outside(groups, linux, quick):
    """Results of the groups network, web and size."""
    client = load_program()
    with Network() as network:
        bench = _Outside(network, client, linux, quick)
        results = []
        if "network" in groups or "web" in groups:
            results += bench.requests([row for row in _REQUESTS if row.group in groups])
        if "network" in groups:
            results += bench.filters()
        if "size" in groups:
            results += bench.sizes()
    return results


def request_names():
    """The rows that `breakdown_outside` takes: short name by name of the row."""
    return {request.row: request.name for request in _REQUESTS}


def breakdown_outside(name):
    """Prints where the instructions of a request go. Gives the exit status."""
    request = next(request for request in _REQUESTS if request.name == name)
    progress = Progress(f"counting instructions of: {request.row}")
    with Network() as network, Counter(places=True) as counter:
        bench = _Outside(network, load_program(), None, True)
        system = _Targe()
        file, machine = system.boot(ICOUNT_IDLE, network, 512, counter.words)
        with file, machine:
            bench.insist(system, machine)
            bench.ask(request.words, _FEW)
            marks = [counter.places()]
            for count in (_FEW, _MANY):
                bench.ask(request.words, count)
                marks.append(counter.places())
    progress.done(f"counted instructions of: {request.row}")
    spent = {place: count - 2 * marks[1].get(place, 0) + marks[0].get(place, 0)
             for place, count in marks[2].items()}
    show(f"{request.row}: instructions for each {request.unit}",
         Spent(spent, system.programs), _MANY - _FEW)
    return 0


class _Targe:
    """Boots the machine with a manifest of this folder."""
    name = "Targe"

    def __init__(self, what=_MANIFEST):
        programs = project.programs("release")
        first = programs.pop("init.elf")
        settings = manifest.read(what, set(programs))
        wanted = {name: programs[name] for name in sorted(settings.programs.values())}
        self.programs = ["init.elf", *wanted]
        self._parts = archive.boot_members(first, settings.text, wanted, _SITE)
        self.entry = next(int(line.split()[0], 16) & 0x7fffffff for line in subprocess.run(
            ["nm", str(project.kernel("release"))], stdout=subprocess.PIPE, text=True,
            check=True).stdout.splitlines() if line.endswith(" boot_pvh"))

    def boot(self, words, network, memory, extra):
        """The machine, and the file to be closed after it."""
        file = boot.open_archive(self._parts)
        return file, Running([*words, *machine_words(memory, TAP), *extra, "-kernel",
                              str(project.kernel("release")), "-initrd",
                              f"/dev/fd/{file.fileno()}"], (file,), network.prefix)

    @staticmethod
    def is_whole(machine):
        """Whether the other library OS of bench/manifest-small runs too."""
        try:
            machine.expect("monitor: answering", 5)
        except Failure:
            return False
        return True


class _Linux:
    """Boots Linux with netserv."""
    name = "Linux"
    entry = _LINUX_ENTRY

    def __init__(self, linux):
        self._linux = linux

    @staticmethod
    def is_whole(_):
        """There is one server only."""
        return True

    def boot(self, words, network, memory, extra):
        """The same as for Targe."""
        file = open(self._linux.initramfs, "rb")
        return file, Running([*words, *machine_words(memory, TAP), *extra, "-kernel",
                              str(self._linux.kernel), "-initrd", f"/dev/fd/{file.fileno()}",
                              "-append", f"{APPEND} -- net {GUEST}"], (file,), network.prefix)


class _Outside:
    def __init__(self, network, client, linux, quick):
        self._network = network
        self._client = client
        self._systems = [_Targe()] + ([_Linux(linux)] if linux else [])
        self._rounds = 3 if quick else _ROUNDS
        self._quick = quick

    def _load(self, *words):
        return self._network.run(self._client, *words)

    def _await(self, machine, seconds=120):
        """Waits for the first answer; false: it does not come, or the machine has ended."""
        limit = time.monotonic() + seconds
        while machine.running() and time.monotonic() < limit:
            if "http_first\tn=1" in self._load("first", GUEST, _WEB, 3):
                return True
        return False

    def insist(self, system, machine):
        """Fails if the machine does not answer."""
        if not self._await(machine):
            raise Failure(f"{system.name} does not answer; its last words: {machine.rest()}")

    # ---- requests

    def requests(self, rows):
        """Instructions and, under plain TCG, time for each request."""
        progress = Progress("counting instructions of requests")
        counts = {system.name: self._count(system, rows, progress) for system in self._systems}
        progress.done("counted instructions of requests")
        results = self._table(rows, counts, "instructions", True)
        if not self._quick:
            progress = Progress("taking times of requests")
            times = {system.name: self._time(system, rows, progress) for system in self._systems}
            progress.done("took times of requests")
            results += self._table(rows, times, "ns under TCG", False)
        return results

    def _table(self, rows, values, measure, goals):
        return [Result(row.row, row.unit, measure, group=row.group,
                       linux=values.get("Linux", {}).get(row.name), targe=values["Targe"][row.name],
                       goal=row.goal if goals else None)
                for row in rows]

    def _count(self, system, rows, progress):
        with Counter() as counter:
            file, machine = system.boot(ICOUNT_IDLE, self._network, 512, counter.words)
            with file, machine:
                progress.show(f"{system.name} boots")
                self.insist(system, machine)
                found = {}
                for row in rows:
                    progress.show(f"{system.name}: {row.row}")
                    self.ask(row.words, _FEW)
                    found[row.name] = statistics.median(
                        self._difference(counter, row.words) for _ in range(self._rounds))
        return found

    def ask(self, words, count):
        """Makes so many requests; gives what the client says."""
        return self._load(*(count if word == "N" else word for word in words))

    def _difference(self, counter, words):
        """What a request costs: the same work around few and many of them."""
        marks = [counter.total()]
        for count in (_FEW, _MANY):
            self.ask(words, count)
            marks.append(counter.total())
        return ((marks[2] - marks[1]) - (marks[1] - marks[0])) / (_MANY - _FEW)

    def _time(self, system, rows, progress):
        """The median time from request to answer, in ns."""
        file, machine = system.boot(TIME, self._network, 512, [])
        with file, machine:
            self.insist(system, machine)
            found = {}
            for row in rows:
                progress.show(f"{system.name}: {row.row}")
                self.ask(row.words, _FEW)
                medians = [float(re.search(r"p50_us=([\d.]+)", self.ask(row.words, 2 * _MANY))[1])
                           for _ in range(self._rounds)]
                found[row.name] = statistics.median(medians) * 1000
        return found

    # ---- filters

    def filters(self):
        """What the kernel executes to find a packet's flow, with few and many filters bound."""
        names = _functions_of(("classify", "filter"))
        return [Result(f"classify a packet, {count:,} filters", "packet", "instructions",
                             group="network", targe=self._classify(count, names), goal=goal)
                for count, goal in _FILTERS]

    def _classify(self, filters, names):
        progress = Progress(f"counting instructions with {filters:,} filters")
        symbols = Symbols(project.kernel("release"))
        program = project.programs("release")["bench.elf"]
        parts = archive.boot_members(program, manifest.read(_MANIFEST).text, {})
        with boot.open_archive(parts) as file, Counter(places=True) as counter, Running(
                [*ICOUNT_IDLE, *machine_words(tap=TAP), *counter.words, "-kernel",
                 str(project.kernel("release")), "-initrd", f"/dev/fd/{file.fileno()}",
                 "-append", f"filters={filters}"], (file,), self._network.prefix) as machine:
            machine.expect("META\tfilters", _SILENCE)
            before = counter.places()
            self._load("scatter", GUEST, 10000, 300, filters)
            after = counter.places()
        spent, packets = 0, 0
        for place, count in after.items():
            if symbols.name(place.pc) in names:
                more = count - before.get(place, 0)
                spent += more
                if place.pc == symbols.address("flow_classify"):
                    packets = more
        progress.done(f"counted instructions with {filters:,} filters: {packets} packets")
        if not packets:
            raise Failure("no packet was classified")
        return spent / packets

    # ---- sizes

    def sizes(self):
        """From the kernel's first instruction to the first answer; the smallest machine."""
        first, memory = {}, {}
        for system in self._systems:
            first[system.name] = self._first(system)
            memory[system.name] = self._smallest(
                _Targe(_SMALL) if system.name == "Targe" else system)
        return [
            Result("kernel's entry to first HTTP answer", "ms of 1 ns instructions",
                         "instructions", group="size", linux=first.get("Linux"),
                         targe=first["Targe"], goal=30),
            Result("smallest machine that serves", "MB", "memory", group="size",
                         linux=memory.get("Linux"), targe=memory["Targe"], goal=8)]

    def _first(self, system):
        progress = Progress(f"counting instructions to the first answer of {system.name}")
        with Counter(mark=system.entry) as counter:
            file, machine = system.boot(ICOUNT_IDLE, self._network, 512, counter.words)
            with file, machine:
                self.insist(system, machine)
                total = counter.total()
        if not counter.marked():
            raise Failure(f"{system.name} was not entered at {system.entry:#x}")
        progress.done(f"counted instructions to the first answer of {system.name}")
        return (total - counter.marked()) / 1e6

    def _smallest(self, system):
        """The least of _SIZES with which it answers; all larger ones are taken to do so too."""
        progress = Progress(f"seeking the smallest machine for {system.name}")
        low, high = 0, len(_SIZES) - 1
        while low < high:
            middle = (low + high) // 2
            progress.show(f"{_SIZES[middle]} MB")
            if self._serves(system, _SIZES[middle]):
                high = middle
            else:
                low = middle + 1
        progress.done(f"{system.name} serves with {_SIZES[high]} MB")
        return _SIZES[high]

    def _serves(self, system, memory):
        file, machine = system.boot(TIME, self._network, memory, [])
        with file, machine:
            return (self._await(machine, 40 if system.name == "Linux" else 5)
                    and system.is_whole(machine))


def _functions_of(sources):
    """Names of the functions in files of kernel/net."""
    names = set()
    for source in sources:
        path = project.BUILD / "release" / "kernel" / "net" / f"{source}.c.o"
        listed = subprocess.run(["nm", "--defined-only", str(path)], stdout=subprocess.PIPE,
                                text=True, check=True).stdout
        names |= {line.split()[2] for line in listed.splitlines() if line.split()[1] in "tT"}
    return names
