"""Processor time: what is given to whom, how late, on how many CPUs, and what it costs."""

import re

from harness.context import until, wait_for_answer
from harness.machine_json import machine_json
from harness.system import limit
from targe import archive, boot, manifest, project
from targe.machine import Config

_APPS = project.ROOT / "apps"


def _runtimes(machine):
    return {env["name"]: env["runtime_ms"] for env in machine_json(machine)["envs"]}


def _counted(ctx, name, smp=1):
    """A machine that runs an application, where time is counted in instructions: the host is not in it."""
    config, _ = boot.prepare(ctx.options(manifest=str(_APPS / name / "manifest"), smp=smp), "release")
    config.icount = True
    with config.archive:
        return ctx.start(config)


@limit(180)
def test_stride(ctx):
    """A scheduler outside the kernel divides its slices 3:2:1, and runtime says so."""
    machine = _counted(ctx, "stride")
    wait_for_answer(machine, 60)
    names = ("red", "green", "blue")
    until(lambda: all(_runtimes(machine)[name] > 50 for name in names), 60, "all three run")
    before = _runtimes(machine)
    until(lambda: sum(_runtimes(machine)[name] - before[name] for name in names) > 1200, 60, "they ran for a second")
    after = _runtimes(machine)
    ran = [after[name] - before[name] for name in names]
    for got, tickets in zip(ran, (3, 2, 1)):
        assert abs(got / sum(ran) - tickets / 6) < 0.04, f"{ran} ms are not 3:2:1"
    assert after["stride"] - before["stride"] < sum(ran) / 20, "the scheduler pays for the others"


def _testinit(ctx, only, smp=1, icount=True, variant="release"):
    """A machine that runs one guest test; it is there until the test of this file ends."""
    programs = project.programs(variant)
    parts = archive.boot_members(programs.pop("testinit.elf"),
                                 manifest.read(project.DEFAULT_MANIFEST).text, programs)
    with boot.open_archive(parts) as file:
        config = Config(kernel=str(project.kernel(variant)), archive=file, smp=smp,
                        append=f"only={only}" + " icount=1" * icount, exit_device=True,
                        net="user", icount=icount)
        return ctx.start(config)


def _passes(machine, name, seconds=60):
    until(lambda: f"test: {name} ok" in machine.output or "FAIL" in machine.output
          or not machine.running(), seconds, f"{name} ends")
    assert f"test: {name} ok" in machine.output, machine.output[-2000:]


def test_cost_thread(ctx):
    """Threads keep to their goals, in instructions."""
    _passes(_testinit(ctx, "thread_cost"), "thread_cost")


def test_cost_memory(ctx):
    """So do the memory calls."""
    _passes(_testinit(ctx, "memory_cost"), "memory_cost")


def test_cost_ipc(ctx):
    """So do pipes, directed yields and calls."""
    _passes(_testinit(ctx, "ipc_cost"), "ipc_cost")


@limit(180)
def test_realtime(ctx):
    """With every second slot a period is kept beside a greedy environment: never later than one
    slice and its allowance. Time is counted in instructions, so the host is not in it."""
    machine = _counted(ctx, "realtime", smp=2)
    line = re.compile(r"realtime: (\d+) periods of 1000 us, late (\d+) us at worst.*, (\d+) missed")
    until(lambda: len(line.findall(machine.output)) >= 2, 150, "two reports")
    periods, worst, missed = map(int, line.findall(machine.output)[1])
    ctx.artifact("lateness.txt").write_text(f"{periods} periods, {worst} us late at worst\n",
                                            encoding="utf-8")
    assert worst <= 1250 and not missed, f"late by {worst} us, {missed} periods missed"


def _boots(ctx, cpus, seconds=30):
    machine = ctx.serving(seconds=seconds, smp=cpus, memory="512M")
    state = machine_json(machine)
    assert len(state["cpus"]) == cpus, f"{len(state['cpus'])} CPUs instead of {cpus}"


def test_boots_1(ctx):
    """One CPU."""
    _boots(ctx, 1)


def test_boots_2(ctx):
    """Two CPUs."""
    _boots(ctx, 2)


def test_boots_4(ctx):
    """Four CPUs."""
    _boots(ctx, 4)


def test_boots_8(ctx):
    """Eight CPUs."""
    _boots(ctx, 8, 60)


@limit(240)
def test_boots_64(ctx):
    """As many as the interface has room for."""
    _boots(ctx, 64, 200)
