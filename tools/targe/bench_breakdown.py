"""`targe bench --breakdown ROW`: where the instructions of a row go, function by function.

The row runs twice, the second time with twice the operations; what was executed more, divided by
the operations more, is what one operation costs. The counts are exact (bench/count.c). What a row
does between its timed parts is counted too.
"""

import bisect
import subprocess

from targe import project
from targe.bench_machine import ICOUNT, Counter
from targe.report import Failure

_SILENCE = 60
_LEAST = 0.05


def breakdown(make_machine, row):
    """Prints the functions by what they cost. Gives the exit status."""
    few, first = _run(make_machine, row, 1)
    many, second = _run(make_machine, row, 2)
    spent = {pc: (count - first.get(pc, 0)) / (many - few) for pc, count in second.items()}
    show(f"{row}: instructions for each operation, with what is done around it", spent,
         Symbols("bench.elf"))
    return 0


def show(title, spent, symbols):
    """Prints functions by what they cost; `spent` is by address."""
    costs = {}
    for pc, cost in spent.items():
        name = symbols.name(pc)
        costs[name] = costs.get(name, 0) + cost
    print(title)
    for name, cost in sorted(costs.items(), key=lambda item: -item[1]):
        if cost >= _LEAST:
            print(f"{cost:12,.2f}  {name}")
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


class Symbols:
    """Names of the kernel's and a program's functions by address."""

    def __init__(self, program):
        found = []
        for path in (project.kernel("release"), project.programs("release")[program]):
            listed = subprocess.run(["nm", "-n", "--defined-only", str(path)],
                                    stdout=subprocess.PIPE, text=True, check=True).stdout
            for line in listed.splitlines():
                address, kind, name = line.split()
                if kind in "tT":
                    found.append((int(address, 16), name))
        found.sort()
        self._addresses = [address for address, _ in found]
        self._names = [name for _, name in found]

    def address(self, name):
        """Where a function begins."""
        return self._addresses[self._names.index(name)]

    def name(self, address):
        """The function that an address lies in."""
        at = bisect.bisect(self._addresses, address) - 1
        return self._names[at] if at >= 0 else "before all programs"
