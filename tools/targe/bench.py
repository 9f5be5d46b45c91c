"""`targe bench`: the same rows on Targe and on Linux, in the same emulated machine.

What is compared is in bench/rows.toml. Rows of the first four groups run inside (bench/guest,
bench/linux/bench.c); those of network, web and size are asked for from outside (bench_outside).
Only one machine runs at a time.
"""

import statistics
import tomllib

from targe import accel, archive, boot, manifest, packages, project
from targe.bench_breakdown import breakdown
from targe.bench_linux import APPEND, Linux
from targe.bench_machine import ICOUNT, KVM, TIME, Running, machine_words
from targe.bench_outside import breakdown_outside, measure_outside, read_requests
from targe.bench_report import publish
from targe.bench_result import Result
from targe.bench_scaling import measure_scaling
from targe.build import build
from targe.report import Failure, Progress, say

ROWS = project.ROOT / "bench" / "rows.toml"
INSIDE = ("exceptions", "memory", "ipc", "processor")
OUTSIDE = ("network", "web", "size")
_SILENCE = 300
_BOOTS = 3
_MOST_NAMES = 200
# Sizes of machine in MB between which the cost of a page must not change.
_SIZES = (128, 512, 2048, 16384)
_FLAT = ("page_alloc", "page_free", "page_map", "page_unmap", "prot1", "prot100", "dirty",
         "revoke_return", "repossess", "repossess_search")


def bench(options):
    """Runs the command. Gives the exit status."""
    groups = _groups(options.groups)
    broken_down = _breakdown(options.breakdown)
    if options.json:
        boot.check_output("--json", options.json)
    if options.docs and (options.quick or options.groups):
        raise Failure("--docs needs all rows: without --quick, without groups")
    packages.ensure("bench")
    build("release")
    (project.BUILD / "bench").mkdir(exist_ok=True)
    if broken_down:
        return broken_down()
    measures = _time_measures(options.quick)
    linux = _linux()
    results = []
    inside = [group for group in groups if group in INSIDE]
    rows = [row for row in read_rows() if row["group"] in inside]
    if rows:
        results += _instructions(rows, linux, options.quick)
        for words, measure in measures:
            results += _time(rows, linux, words, measure)
    if "processor" in groups and not options.quick:
        results += measure_scaling(_run_scaling, Progress("comparing two CPUs with one"))
    if "memory" in groups:
        results += _flatness(_SIZES[:2] if options.quick else _SIZES)
    outside = [group for group in groups if group in OUTSIDE]
    if outside:
        results += measure_outside(outside, linux, measures)
    publish(results, linux.version if linux else None, options)
    return 0


def _groups(names):
    known = (*INSIDE, *OUTSIDE)
    for name in names:
        if name not in known:
            raise Failure(f"there is no group '{name}' of rows; there are: {', '.join(known)}")
    return [group for group in known if not names or group in names]


def _breakdown(wanted):
    """What breaks a row down; the row is named as in the table or by its short name."""
    if not wanted:
        return None
    outside = {row.row: row.name for row in read_requests()}
    inside = {row["row"]: row["targe"] for row in read_rows()}
    if wanted in outside or wanted in outside.values():
        return lambda: breakdown_outside(outside.get(wanted, wanted))
    if wanted in inside or wanted in inside.values():
        return lambda: breakdown(_targe_machine, inside.get(wanted, wanted))
    names = ", ".join([*outside.values(), *inside.values()])
    raise Failure(f"there is no row '{wanted}' to break down; there are: {names}")


def read_rows():
    """The rows that run inside the machine."""
    with open(ROWS, "rb") as file:
        return tomllib.load(file)["row"]


def _time_measures(quick):
    """The ways to take times: words of QEMU's command line, and what the table calls them."""
    if quick:
        return []
    problem = accel.kvm_problem("release")
    if problem:
        say(f"no times under KVM: {problem}")
    return [(TIME, "ns under TCG")] + ([] if problem else [(KVM, "ns under KVM")])


def _linux():
    """The Linux to compare with; None where Debian's kernel cannot be had."""
    try:
        return Linux()
    except Failure as failure:
        say(f"no comparison with Linux: {failure}")
        return None


# ---- one boot of each system

def _targe_machine(words, append, memory=None, extra=()):
    """A machine that boots into the rows. Gives it and the archive to be closed afterwards."""
    program = project.programs("release")["bench.elf"]
    parts = archive.boot_members(program, manifest.read(project.DEFAULT_MANIFEST).text, {})
    file = boot.open_archive(parts)
    machine = machine_words(memory) if memory else machine_words()
    return file, Running([*machine, *words, *extra, "-kernel", str(project.kernel("release")),
                          "-initrd", f"/dev/fd/{file.fileno()}", "-append", append], (file,))


def _run_targe(names, words, samples, progress, memory=None, ticks=False):
    """Values by row: (median, least, most of nine in ten); ns, or what the row says under ICOUNT or with `ticks`."""
    values = {}
    for part in _parts(names):
        values |= _boot_targe(part, words, samples, progress, memory, ticks or words is ICOUNT)
    return values


def _parts(names):
    """The names in parts: the kernel's command line is short."""
    part = []
    for name in names:
        if part and len(",".join([*part, name])) > _MOST_NAMES:
            yield part
            part = []
        part.append(name)
    yield part


def _boot_targe(names, words, samples, progress, memory, ticks):
    file, machine = _targe_machine(words, f"rows={','.join(names)} samples={samples}", memory)
    values, scale = {}, 1.0
    with file, machine:
        while (line := machine.next_line(_SILENCE)) is not None:
            fields = line.split("\t")
            if fields[:2] == ["META", "tsc_hz"] and not ticks:
                scale = 1e9 / int(fields[2])
            if fields[0] != "BENCH":
                continue
            if fields[2] != "ok":
                raise Failure(f"the row {fields[1]} failed on Targe: {fields[2]}")
            values[fields[1]] = [int(number) / 100 * scale for number in fields[6:9]]
            progress.show(f"Targe: {fields[1]}")
    missing = [name for name in names if name not in values]
    if missing:
        raise Failure(f"the machine ended before the row {missing[0]}: "
                      f"{' / '.join(machine.lines[-3:])}")
    return values


def _run_scaling(names, words, progress):
    """Shares by row; they are no times."""
    values = _run_targe(names, words, 1, progress, ticks=True)
    return {name: value[0] for name, value in values.items()}


def _run_linux(linux, names, words, samples, progress):
    """The same of Linux."""
    append = f"{APPEND} -- rows {samples} {' '.join(names)}"
    ticks = words is ICOUNT
    values = {}
    machine = Running([*words, *machine_words(), "-kernel", str(linux.kernel),
                       "-initrd", str(linux.initramfs("rows")), "-append", append])
    progress.show("Linux boots")
    with machine:
        while (line := machine.next_line(_SILENCE)) is not None:
            fields = line.split("\t")
            if fields[0] != "BENCH":
                continue
            if fields[2] != "ok":
                say(f"Linux has no {fields[1]}: {fields[2]}")
                continue
            at = 10 if ticks else 6
            values[fields[1]] = [float(fields[at]), float(fields[at + 1]), float(fields[at + 3])]
            progress.show(f"Linux: {fields[1]}")
    return values


def _names(rows):
    linux = list(dict.fromkeys(row["linux"] for row in rows if "linux" in row))
    return [row["targe"] for row in rows], linux


def _result(row, measure, targe, linux):
    value = linux.get(row.get("linux"))
    return Result(row["row"], row["unit"], measure, group=row["group"], paper=row.get("paper"),
                  linux=value[0] / row.get("parts", 1) if value else None,
                  targe=targe[row["targe"]][0])


def _instructions(rows, linux, quick):
    ours, theirs = _names(rows)
    progress = Progress("counting instructions")
    targe = _run_targe(ours, ICOUNT, 5 if quick else 15, progress)
    other = _run_linux(linux, theirs, ICOUNT, 5 if quick else 15, progress) if linux else {}
    progress.done("counted instructions")
    results = [_result(row, "instructions", targe, other) for row in rows]
    for result, row in zip(results, rows):
        result.goal = row.get("goal")
    return results


def _time(rows, linux, words, measure):
    """Nanoseconds: the median over several boots of each boot's median, and their range."""
    ours, theirs = _names(rows)
    progress = Progress(f"taking times: {measure}")
    targe, other = [], []
    for number in range(_BOOTS):
        progress.show(f"boot {number + 1} of {_BOOTS}")
        targe.append(_run_targe(ours, words, 7, progress))
        if linux:
            other.append(_run_linux(linux, theirs, words, 7, progress))
    progress.done(f"took times: {measure}, {_BOOTS} boots")
    results = []
    for row in rows:
        result = _result(row, measure, _median(targe), _median(other))
        result.spread = (f"{_range(other, row.get('linux'), row.get('parts', 1))}; "
                         f"{_range(targe, row['targe'], 1)}")
        results.append(result)
    return results


def _median(runs):
    names = set().union(*runs) if runs else ()
    return {name: [statistics.median(run[name][0] for run in runs if name in run)]
            for name in names}


def _range(runs, name, parts):
    values = [run[name][0] / parts for run in runs if name in run]
    return f"{min(values):,.0f} to {max(values):,.0f}" if values else "-"


def _flatness(sizes):
    """What pages cost in machines of several sizes. The goal: as in the smallest."""
    progress = Progress("counting instructions by size of memory")
    runs = {}
    for size in sizes:
        progress.show(f"{size} MB")
        runs[size] = _run_targe(_FLAT, ICOUNT, 5, progress, size)
    progress.done("counted instructions by size of memory")
    first = runs[sizes[0]]
    return [Result(f"{name} in a machine of {size} MB", "call", "instructions",
                   targe=values[name][0], group="memory by size",
                   goal=round(first[name][0] * 1.05) if size != sizes[0] else None)
            for name in _FLAT for size, values in runs.items()]

