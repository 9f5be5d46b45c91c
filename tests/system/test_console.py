"""Typing faster than anybody reads: what is typed waits in the serial line."""

_MANIFEST = """
env mini  program=mini.elf pages=128  slices=0:4  flow=arp flow=icmp
env web   program=web.elf  pages=4096 slices=0:32 flow=tcp:80 site
env deaf  program=deaf.elf pages=64   slices=0:4  console=both
"""
_CHARACTERS = 2000  # as deaf.c has it


def test_waits_for_its_reader(ctx):
    """Of 2,000 characters, pasted while their reader does not listen, none is lost; the others run on."""
    file = ctx.folder / "manifest"
    file.write_text(_MANIFEST, encoding="ascii")
    machine = ctx.serving(manifest=str(file))
    assert machine.expect("deaf: does not listen", 20), machine.why()
    machine.write(bytes(ord("a") + n % 26 for n in range(_CHARACTERS)))
    found = machine.expect(r"deaf: (\d+) wait", 20)
    assert found and int(found.group(1)) == 63, "half of an event ring takes what is typed"
    assert ctx.connect(machine).get("/").status == 200
    found = machine.expect(r"deaf: (\d+) characters, (\d+) wrong, (\d+) lost", 20)
    assert found and [int(n) for n in found.groups()] == [_CHARACTERS, 0, 0], machine.output[-300:]
