"""What two CPUs do in the time in which one does so much: calls, faults, allocations and transfers of environments
that have nothing in common (bench/guest/scaling.c). One run under plain emulation, each row against itself."""

from targe.bench_machine import TIME
from targe.bench_result import Result

_ROWS = ("calls", "faults", "allocations", "transfers")
_GOAL = 180


def measure_scaling(run, progress):
    """Results, in hundredths of one CPU's throughput. `run` boots a machine into rows: it gives their values."""
    names = [f"scale_{name}" for name in _ROWS]
    values = run(names, [*TIME, "-smp", "2"], progress)
    progress.done("compared two CPUs with one")
    return [Result(f"{name} of two CPUs", "% of one's", "throughput of two CPUs",
                   targe=values[f"scale_{name}"], group="scaling", goal=_GOAL, at_least=True)
            for name in _ROWS]
