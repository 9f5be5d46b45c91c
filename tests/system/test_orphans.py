"""Nobody outlives who made it: `init` ends the children of what it ends."""

import re

from harness.context import until
from harness.machine_json import machine_json

_MANIFEST = """
env mini    program=mini.elf    pages=128  slices=0:4  flow=arp flow=icmp
env web     program=web.elf     pages=4096 slices=0:32 flow=tcp:80 site
env monitor program=monitor.elf pages=2048 slices=0:8  flow=tcp:81 console=both power trace control
env parent  program=parent.elf  pages=256  slices=0:4  console=write
"""


def _names(machine):
    return [env["name"] for env in machine_json(machine)["envs"]]


def test_children_end_with_their_creator(ctx):
    """Killed and started again, twice: its children are gone each time, and their memory is free."""
    file = ctx.folder / "manifest"
    file.write_text(_MANIFEST, encoding="ascii")
    machine = ctx.serving(manifest=str(file))
    assert machine.expect("parent: 2 children", 20)
    for number in (1, 2):
        until(lambda: _names(machine).count("child") == 2, 10, "two children")
        since = machine.mark()
        machine.write(b"kill parent\n")
        assert machine.expect("init: parent was killed", 20, since)
        ended = re.findall(r"init: orphan [0-9a-f]+ ended\r?\n", machine.output)
        assert len(ended) == 2 * number, ended
        until(lambda: "child" not in _names(machine), 10, "no child")
        since = machine.mark()
        machine.write(b"start parent\n")
        assert machine.expect("parent: 2 children", 20, since)
