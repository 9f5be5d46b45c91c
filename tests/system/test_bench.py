"""`targe bench`: what it refuses, what it writes, the same number of instructions twice, its end."""

import json
import signal

from harness.context import processes_with, until
from harness.system import limit
from targe import project

_COUNTER = str(project.BUILD / "bench" / "count.so")
_KEYS = ["row", "unit", "measure", "linux", "targe", "goal", "ratio"]


def _refused(ctx, *words):
    process = ctx.targe("bench", *words)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 1 and not output, f"{words} were not refused"
    lines = error.decode().splitlines()
    assert len(lines) == 1 and lines[0].startswith("targe: "), f"{words}: {error.decode()}"
    return lines[0]


def test_wrong_arguments(ctx):
    """Groups, rows and files that do not exist are refused before anything is measured."""
    assert "no group 'speed'" in _refused(ctx, "speed") and "exceptions" in _refused(ctx, "speed")
    assert "no row 'speed'" in _refused(ctx, "--breakdown", "speed")
    assert "no folder" in _refused(ctx, "--json", str(ctx.folder / "nowhere" / "figures"))
    assert "a folder, not a file" in _refused(ctx, "--json", str(ctx.folder))
    assert "--docs" in _refused(ctx, "--docs", "--quick")
    _refused(ctx, "--json")
    _refused(ctx, "--fast")


@limit(320)
def test_figures(ctx):
    """The file has a row for each row of the group."""
    file = ctx.folder / "figures"
    process = ctx.targe("bench", "exceptions", "--quick", "--json", str(file))
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error.decode()
    assert "null call" in output.decode() and "goals are met" in output.decode()
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert len(rows) > 5
    for row in rows:
        assert list(row) == _KEYS and row["measure"] == "instructions"
        assert row["targe"] > 0
        if row["linux"]:
            assert abs(row["ratio"] - row["linux"] / row["targe"]) < 1e-9
        else:
            assert row["ratio"] is None


@limit(300)
def test_inside_twice(ctx):
    """A row inside the machine costs the same instructions twice, function by function."""
    shown = [_breakdown(ctx, "prot1") for _ in range(2)]
    assert shown[0] == shown[1]
    assert "call_space_update" in shown[0] and "bench" in shown[0]


def _breakdown(ctx, row):
    process = ctx.targe("bench", "--breakdown", row)
    output, error = process.communicate(timeout=140)
    assert process.returncode == 0, error.decode()
    assert "in all" in output.decode()
    return output.decode()


@limit(300)
def test_outside_twice(ctx):
    """Requests from outside cost the same instructions twice, function by function."""
    shown = [_breakdown(ctx, "HTTP request on a kept connection") for _ in range(2)]
    assert shown[0] == shown[1]
    assert "flow_classify" in shown[0] and " web " in shown[0]


def test_ends_on_interrupt(ctx):
    """Ctrl-C ends the command and its machine."""
    process = ctx.targe("bench", "--breakdown", "connect")
    until(lambda: processes_with(_COUNTER) or process.poll() is not None, 60, "the machine")
    assert process.poll() is None, process.stderr.read().decode()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    until(lambda: not processes_with(_COUNTER), 5, "the end of QEMU")
