"""The rows of `targe bench` that are asked for from outside the machine, over a tap device.

Instructions are all that the guest executes while a client sends two numbers of requests: the
difference is what the requests cost. Guest and client take turns (bench/lockstep.c): the client
sends when the guest has nothing left to do, so two runs execute the same. For the time a client in
the ordinary way asks a machine that runs freely.
"""

import re
import statistics
import subprocess
import time
import tomllib
import typing

from targe import archive, boot, manifest, project
from targe.bench_breakdown import Spent, Symbols, show
from targe.bench_busy import measure_busy
from targe.bench_linux import APPEND, load_program, lockstep_program
from targe.bench_machine import ICOUNT, TIME, Counter, Running, machine_words
from targe.network import GUEST, TAP, Network
from targe.bench_result import Result
from targe.report import Failure, Progress

_FOLDER = project.ROOT / "bench"
_SMALL = "manifest-small"
_SITE = _FOLDER / "site"
_SILENCE = 300
_FEW, _MANY = 100, 500
_BOOTS = 3
_WEB = 80
_FIRST_PORT, _LAST_PORT = 20000, 60000


class Request(typing.NamedTuple):
    """A row of requests, as in bench/rows.toml."""
    name: str
    group: str
    row: str
    unit: str
    client: list            # what to ask, the port and further words
    manifest: str = "manifest"  # what runs on Targe; "": nothing
    linux: str = ""         # what runs on Linux: net, xdp or nginx; "": nothing
    goal: int = None
    paper: float = None
    more: list = []         # parameters of the client behind the number of requests


_FILTERS = ((10, 60), (1000, 72), (10000, None))
_BINDING = 1000000  # a millisecond of 1 ns instructions
_SIZES = (4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160)
_LINUX_ENTRY = 0x100000  # where a bzImage begins in protected mode, before it unpacks itself


def read_requests():
    """The rows of requests."""
    with open(_FOLDER / "rows.toml", "rb") as file:
        return [Request(**row) for row in tomllib.load(file)["request"]]


def measure_outside(groups, linux, measures):
    """Results of the groups network, web and size. `measures`: the ways to take times."""
    with Network(quiet=True) as network:
        bench = _Outside(network, linux, measures)
        results = bench.requests([row for row in read_requests() if row.group in groups])
        if "network" in groups:
            results += bench.filters()
            results += measure_busy(network, not measures)
        if "size" in groups:
            results += bench.sizes()
    return results


def breakdown_outside(name):
    """Prints where the instructions of a request go. Gives the exit status."""
    row = next(row for row in read_requests() if row.name == name)
    if not row.manifest:
        raise Failure(f"nothing on Targe answers the row '{row.row}'")
    progress = Progress(f"counting instructions of: {row.row}")
    system = _Targe(row.manifest)
    with Network(quiet=True) as network, Guided(system, network, places=True) as guided:
        marks = guided.marks(row, guided.counter.places)
    progress.done(f"counted instructions of: {row.row}")
    spent = {place: count - 2 * marks[1].get(place, 0) + marks[0].get(place, 0)
             for place, count in marks[2].items()}
    show(f"{row.row}: instructions for each {row.unit}", Spent(spent, system.programs),
         _MANY - _FEW)
    return 0


class _Targe:
    """Boots the machine with a manifest of this folder."""
    name = "Targe"

    def __init__(self, what="manifest"):
        programs = project.programs("release")
        first = programs.pop("init.elf")
        settings = manifest.read(_FOLDER / what, set(programs))
        wanted = {name: programs[name] for name in sorted(settings.programs.values())}
        self.programs = ["init.elf", *wanted]
        self._parts = archive.boot_members(first, settings.text, wanted, _SITE)
        self.entry = Symbols(project.kernel("release")).address("boot_pvh") & 0x7fffffff

    def boot(self, words, network, memory=512, counter=None):
        """The machine, and the file to be closed after it."""
        return _boot(boot.open_archive(self._parts), words, network, memory, counter,
                     project.kernel("release"), "")

    @staticmethod
    def is_whole(machine):
        """Whether the other library OS of bench/manifest-small runs too."""
        try:
            machine.expect("monitor: answering", 5)
        except Failure:
            return False
        return True


class _Linux:
    """Boots Linux with one of its servers."""
    name = "Linux"
    entry = _LINUX_ENTRY

    def __init__(self, linux, mode="net"):
        self._linux = linux
        self._mode = mode

    @staticmethod
    def is_whole(_):
        """There is one server only."""
        return True

    def boot(self, words, network, memory=512, counter=None):
        """The same as for Targe."""
        return _boot(open(self._linux.initramfs(self._mode), "rb"), words, network, memory, counter,
                     self._linux.kernel, f"{APPEND} -- {self._mode} {GUEST}")


def _boot(file, words, network, memory, counter, kernel, append):
    extra, files = (counter.words, counter.files) if counter else ((), ())
    return file, Running(
        [*words, *machine_words(memory, TAP), *extra, "-kernel", str(kernel), "-initrd",
         f"/dev/fd/{file.fileno()}", "-append", append], (file, *files), network.prefix)


class _Filters:
    """Boots the runner of the rows inside, which binds so many filters for UDP ports and sleeps."""
    name = "Targe"
    entry = None

    def __init__(self, count):
        self._append = f"filters={count}"
        self.binding = None

    def boot(self, words, network, memory=512, counter=None):
        """The same as for Targe."""
        program = project.programs("release")["bench.elf"]
        parts = archive.boot_members(program, manifest.read(_FOLDER / "manifest").text, {})
        return _boot(boot.open_archive(parts), words, network, memory, counter,
                     project.kernel("release"), self._append)

    def begin(self, guided):
        """Waits until all are bound, and hears what it takes to unbind and bind the last."""
        guided.ask(["begin", 0], 0)
        self.binding = [int(guided.machine.expect(f"META\t{what}", _SILENCE).split()[-1])
                        for what in ("binding", "range", "wide")]
        guided.machine.expect("META\tfilters", _SILENCE)


def _first_answer(guided):
    guided.ask(["await", _WEB], 0)


class Guided:
    """A machine that takes turns with the client. A context manager."""

    def __init__(self, system, network, places=False, words=ICOUNT):
        self.counter = Counter(places=places, mark=system.entry, gated=True)
        self._system, self._network, self._words = system, network, words
        self._port = _FIRST_PORT
        self.machine = self._file = None
        self._client = lockstep_program()

    def __enter__(self):
        """Boots until the first HTTP answer."""
        self.counter.__enter__()
        try:
            self._file, self.machine = self._system.boot(self._words, self._network,
                                                         counter=self.counter)
            self.machine.__enter__()
            self.counter.machine_runs()
            getattr(self._system, "begin", _first_answer)(self)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.machine:
            self.machine.__exit__()
            self._file.close()
        self.counter.__exit__()

    def ask(self, client, count, more=()):
        """Makes so many requests from ports that have not been used yet."""
        gate = self.counter.gate.fileno()
        if self._port + count > _LAST_PORT:
            self._port = _FIRST_PORT
        try:
            self._network.run(self._client, TAP, gate, self._port, *client, count, *more,
                              descriptors=(gate,))
        except Failure as failure:
            raise Failure(f"{self._system.name}: {failure}; the machine's last words: "
                          f"{self.machine.rest()}") from failure
        self._port += max(count, 64)

    def marks(self, row, read):
        """What `read` gives before a few requests, after them, and after many more."""
        self.ask(row.client, _FEW, row.more)
        marks = [read()]
        for count in (_FEW, _MANY):
            self.ask(row.client, count, row.more)
            marks.append(read())
        return marks


class _Outside:
    def __init__(self, network, linux, measures):
        self._network = network
        self._linux = linux
        self._client = load_program()
        self._measures = measures

    def _load(self, *words):
        return self._network.run(self._client, *words)

    def _await(self, machine, seconds=300):
        """Waits for the first answer; false: it does not come, or the machine has ended."""
        limit = time.monotonic() + seconds
        while machine.running() and time.monotonic() < limit:
            if "http_first\tn=1" in self._load("first", GUEST, _WEB, 3):
                return True
        return False

    # ---- requests

    def requests(self, rows):
        """Instructions and time for each request."""
        progress = Progress("counting instructions of requests")
        counts = self._each_boot(rows, self._count, progress)
        progress.done("counted instructions of requests")
        results = self._table(rows, "instructions", counts)
        for result, row in zip(results, rows):
            result.goal = row.goal
        for words, measure in self._measures:
            progress = Progress(f"taking times of requests: {measure}")
            runs = [self._each_boot(rows, lambda *what: self._time(words, *what), progress)
                    for _ in range(_BOOTS)]
            progress.done(f"took times of requests: {measure}, {_BOOTS} boots")
            values = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            results += self._table(rows, measure, values)
            for result, row in zip(results[-len(rows):], rows):
                result.spread = "; ".join(_range(runs, (name, row.name))
                                          for name in ("Linux", "Targe"))
        return results

    def _each_boot(self, rows, measure, progress):
        """Boots what the rows need. Gives the values by system and row."""
        found = {}
        for system, asked in self._boots(rows):
            progress.show(f"{system.name} boots")
            for name, value in measure(system, asked, progress).items():
                found[system.name, name] = value
        return found

    def _boots(self, rows):
        for what in dict.fromkeys(row.manifest for row in rows if row.manifest):
            yield _Targe(what), [row for row in rows if row.manifest == what]
        for mode in dict.fromkeys(row.linux for row in rows if row.linux and self._linux):
            yield _Linux(self._linux, mode), [row for row in rows if row.linux == mode]

    @staticmethod
    def _table(rows, measure, values):
        return [Result(row.row, row.unit, measure, group=row.group, paper=row.paper,
                       linux=values.get(("Linux", row.name)), targe=values.get(("Targe", row.name)))
                for row in rows]

    def _count(self, system, rows, progress):
        found = {}
        with Guided(system, self._network) as guided:
            for row in rows:
                progress.show(f"{system.name}: {row.row}")
                before, few, many = guided.marks(row, guided.counter.total)
                found[row.name] = ((many - few) - (few - before)) / (_MANY - _FEW)
        return found

    def _time(self, words, system, rows, progress):
        """The median time from request to answer, in ns."""
        found = {}
        file, machine = system.boot(words, self._network)
        with file, machine:
            if not self._await(machine):
                raise Failure(f"{system.name} does not answer; its last words: {machine.rest()}")
            for row in rows:
                progress.show(f"{system.name}: {row.row}")
                what, port = row.client
                for count in (_FEW, 2 * _MANY):
                    answer = self._load(what, GUEST, port, count, *row.more)
                found[row.name] = float(re.search(r"p50_us=([\d.]+)", answer)[1]) * 1000
        return found

    # ---- filters

    def filters(self):
        """What the kernel executes to find a packet's flow, with few and many filters bound."""
        names = _functions_of(("classify", "filter"))
        classified, bound = [], []
        for count, goal in _FILTERS:
            packet, binding = self._classify(count, names)
            classified.append(Result(f"classify a packet, {count:,} filters", "packet", "instructions",
                                     group="network", targe=packet, goal=goal))
            for what, ticks in zip(("a filter", "a range of 100 ports", "a range of 20,000 ports"), binding):
                bound.append(Result(f"unbind and bind {what}, of {count:,}", "round", "instructions",
                                    group="network", targe=ticks, goal=_BINDING))
        return classified + bound

    def _classify(self, filters, names):
        """What a packet costs, and a round of unbinding and binding."""
        progress = Progress(f"counting instructions with {filters:,} filters")
        symbols = Symbols(project.kernel("release"))
        system = _Filters(filters)
        with Guided(system, self._network, places=True) as guided:
            before = guided.counter.places()
            guided.ask(["scatter", 10000], 300, [filters])
            after = guided.counter.places()
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
        return spent / packets, system.binding

    # ---- sizes

    def sizes(self):
        """From the kernel's first instruction to the first answer; the smallest machine."""
        systems = [_Targe()] + ([_Linux(self._linux)] if self._linux else [])
        first = {system.name: self._first(system) for system in systems}
        systems[0] = _Targe(_SMALL)
        memory = {system.name: self._smallest(system) for system in systems}
        return [
            Result("kernel's entry to first HTTP answer", "ms of 1 ns instructions",
                   "instructions", group="size", linux=first.get("Linux"), targe=first["Targe"],
                   goal=30),
            Result("smallest machine that serves", "MB", "memory", group="size",
                   linux=memory.get("Linux"), targe=memory["Targe"], goal=8)]

    def _first(self, system):
        progress = Progress(f"counting instructions to the first answer of {system.name}")
        with Guided(system, self._network) as guided:
            total = guided.counter.total()
            begin = guided.counter.marked()
        if not begin:
            raise Failure(f"{system.name} was not entered at {system.entry:#x}")
        progress.done(f"counted instructions to the first answer of {system.name}")
        return (total - begin) / 1e6

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
        file, machine = system.boot(TIME, self._network, memory)
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


def _range(runs, key):
    values = [run[key] for run in runs if key in run]
    return f"{min(values):,.0f} to {max(values):,.0f}" if values else "-"
