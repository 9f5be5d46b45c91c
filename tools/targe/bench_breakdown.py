"""`targe bench --breakdown ROW`: where the instructions of a row go, function by function.

The row runs twice, the second time with more operations; what was executed more, divided by
the operations more, is what one operation costs. The counts are exact (bench/count.c). What a row
does between its timed parts is counted too.

Programs lie at the same addresses, so a program is recognised by what it executes: each page of
memory belongs to the program whose code all instructions executed in it are.
"""

import bisect
import struct
import subprocess

from targe import project
from targe.bench_machine import ICOUNT, Counter
from targe.report import Failure

_SILENCE = 300
_LEAST = 0.05
_KERNEL = 0xffffffff80000000
_DIRECT_MAP = 0xffff800000000000


def breakdown(make_machine, row):
    """Prints the functions of a row inside by what they cost. Gives the exit status."""
    few, first = _run(make_machine, row, 1)
    many, second = _run(make_machine, row, 2)
    # Two runs put the program at the same place of the machine, but not of QEMU's memory.
    spent = Spent(second, ["bench.elf"])
    for name, cost in Spent(first, ["bench.elf"]).by_function.items():
        spent.by_function[name] = spent.by_function.get(name, 0) - cost
    # The machine waits there for QEMU to end it.
    spent.by_function.pop(("kernel", "machine_end"), None)
    show(f"{row}: instructions for each operation, with what is done around it", spent, many - few)
    return 0


def show(title, spent, operations):
    """Prints functions by what they cost for each operation."""
    costs = {name: cost / operations for name, cost in spent.by_function.items()}
    programs = {}
    for (program, _), cost in costs.items():
        programs[program] = programs.get(program, 0) + cost
    print(title)
    for (program, function), cost in sorted(costs.items(), key=lambda item: (-item[1], item[0])):
        if abs(cost) >= _LEAST:
            print(f"{cost:12,.2f}  {program:12}  {function}")
    print()
    for program, cost in sorted(programs.items(), key=lambda item: -item[1]):
        if abs(cost) >= _LEAST:
            print(f"{cost:12,.2f}  {program}")
    print(f"{sum(costs.values()):12,.2f}  in all")


def _run(make_machine, row, loops):
    """Operations done, and the counts of a run."""
    with Counter(places=True) as counter:
        file, machine = make_machine(ICOUNT, f"rows={row} samples=1 loops={loops}",
                                     extra=counter.words)
        with file, machine:
            line = machine.expect("BENCH\t", _SILENCE).split("\t")
            if line[2] != "ok":
                raise Failure(f"the row {row} failed: {line[2]}")
            while machine.next_line(_SILENCE) is not None:
                pass
        operations = int(line[4])
        return operations + operations // 8 + 1, counter.places()


class Spent:
    """Counts by place, made into counts by (program, function)."""

    def __init__(self, counts, programs):
        self._kernel = Symbols(project.kernel("release"))
        files = project.programs("release")
        self._programs = {name.removesuffix(".elf"): _Program(files[name]) for name in programs}
        pages = {}
        for place in counts:
            if place.pc < _DIRECT_MAP:
                pages.setdefault((place.page, place.pc >> 12), []).append(place)
        self._owners = {page: self._owner(places) for page, places in pages.items()}
        self.by_function = {}
        for place, count in counts.items():
            name = self._name(place)
            self.by_function[name] = self.by_function.get(name, 0) + count

    def _owner(self, places):
        """Names of the programs that all these instructions can be of; mostly one."""
        return " or ".join(name for name, program in self._programs.items()
                           if all(program.has(place) for place in places)) or "unknown"

    def _name(self, place):
        if place.pc >= _KERNEL:
            return "kernel", self._kernel.name(place.pc)
        if place.pc >= _DIRECT_MAP:
            return "kernel", "(downloaded code)"
        owner = self._owners[place.page, place.pc >> 12]
        if owner in self._programs:
            return owner, self._programs[owner].symbols.name(place.pc)
        names = {self._programs[name].symbols.name(place.pc) for name in owner.split(" or ")
                 if name in self._programs}
        return owner, " or ".join(sorted(names)) or f"{place.pc:#x}"


class Symbols:
    """Names of a program's functions by address."""

    def __init__(self, path):
        listed = subprocess.run(["nm", "-n", "--defined-only", str(path)],
                                stdout=subprocess.PIPE, text=True, check=True).stdout
        found = sorted((int(address, 16), name) for address, kind, name
                       in map(str.split, listed.splitlines()) if kind in "tT")
        self._addresses = [address for address, _ in found]
        self._names = [name.split(".lto_priv")[0] for _, name in found]

    def address(self, name):
        """Where a function begins."""
        return self._addresses[self._names.index(name)]

    def name(self, address):
        """The function that an address lies in."""
        at = bisect.bisect(self._addresses, address) - 1
        return self._names[at] if at >= 0 else "before all functions"


class _Program:
    """A program's code and symbols."""
    _HEADER, _SEGMENT = "<32xQ14xHH", "<IIQQQQQQ"

    def __init__(self, path):
        self.symbols = Symbols(path)
        data = path.read_bytes()
        at, size, count = struct.unpack_from(self._HEADER, data)
        self._segments = []
        for number in range(count):
            kind, flags, offset, address, _, length, _, _ = struct.unpack_from(
                self._SEGMENT, data, at + number * size)
            if kind == 1 and flags & 1:
                self._segments.append((address, data[offset:offset + length]))

    def has(self, place):
        """Whether that instruction is in the program."""
        return any(data.startswith(place.code, place.pc - address)
                   for address, data in self._segments
                   if address <= place.pc < address + len(data))
