"""The checker is itself checked: what it compares is falsified in a running machine, word by word."""

import re

from harness.context import free_port
from targe import project

_SCRIPT = project.ROOT / "tests" / "system" / "check.gdb"


def test_finds_what_is_wrong(ctx):
    """Page array, tables, contexts, rings, flows, slices, the free map and the counts of holders: each falsified word is found."""
    process = ctx.targe("debug", "--accel", "tcg", "--batch", str(_SCRIPT), "--port", str(free_port()))
    out, errors = process.communicate(timeout=100)
    found = dict(re.findall(r"^check ([\w ]+): (-?\d+)$", out.decode(), re.M))
    assert found.pop("at first", "") == "0" and found.pop("at last", "") == "0", out.decode()[-2000:] + errors.decode()[-500:]
    assert len(found) == 15, found
    missed = [name for name, count in found.items() if int(count) < 1]
    assert not missed, f"not found: {missed}"
