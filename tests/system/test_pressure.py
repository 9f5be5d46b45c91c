"""Memory under pressure: apps/pressure, as the home page shows it."""

import re

from harness.context import until
from harness.machine_json import environment, machine_json
from harness.system import limit
from targe import project

_MANIFEST = project.ROOT / "apps" / "pressure" / "manifest"


def _start(ctx, **settings):
    return ctx.serving(manifest=str(_MANIFEST), memory="160M", **settings)


def _reports(machine, name):
    """What an environment has said, line by line."""
    return re.findall(rf"^(?:targe> )?{name}: (.*)$", machine.output.replace("\r", ""), re.M)


def _expect(machine, pattern, seconds):
    assert machine.expect(pattern, seconds), f"the console does not say '{pattern}'"


def _numbers(line):
    return [int(number) for number in re.findall(r"\d+", line)]


def _pages(machine, name):
    return environment(machine_json(machine), name)["pages"]


def _nothing_wrong(machine):
    assert "ended:" not in machine.output, "an environment has ended"
    for line in _reports(machine, "cache"):
        if " wrong" in line:
            assert " 0 wrong" in line and "lost 0" in line, line
    for line in _reports(machine, "hungry"):
        assert " wrong" not in line or " 0 wrong" in line, line


@limit(150)
def test_cache_gives_and_mute_is_taken_from(ctx):
    """The one furthest above its guarantee is asked: first the mute one, then the cache."""
    machine = _start(ctx)
    _expect(machine, r"mute: \d+ pages, 10 of them vital", 20)
    _expect(machine, "init: mute is asked for", 60)
    _expect(machine, "init: mute did not answer: [1-9]", 20)
    _expect(machine, "hungry: got room for", 20)
    _expect(machine, "init: cache is asked for", 60)
    _expect(machine, "given back [1-9]", 30)
    _expect(machine, "hungry: used 4096 pages, 0 wrong", 60)
    said = len(_reports(machine, "cache"))
    until(lambda: len(_reports(machine, "cache")) > said + 1, 20, "the cache goes on")
    left = [_numbers(line) for line in _reports(machine, "mute") if "are left" in line]
    assert left[-1][0] < left[0][0], "the mute one has lost pages and goes on"
    assert left[-1][0] + left[-1][2] <= left[-1][1], left[-1]
    assert _pages(machine, "hungry") > 512, "it has what it was given room for"
    _nothing_wrong(machine)


@limit(100)
def test_seen_on_the_home_page(ctx):
    """The exposed pages show who holds how much: the cache grows, then shrinks."""
    machine = _start(ctx)
    until(lambda: _pages(machine, "cache") > 8000, 40, "the cache grows")
    until(lambda: _pages(machine, "hungry") > 2000, 60, "the hungry one gets memory")
    before = _pages(machine, "mute")
    until(lambda: _pages(machine, "mute") < before or "cache is asked" in machine.output, 40,
          "somebody has less")
    _nothing_wrong(machine)


@limit(100)
def test_four_cpus(ctx):
    """The same while three more CPUs idle: TLBs are flushed everywhere."""
    machine = _start(ctx, smp=4)
    _expect(machine, "hungry: used 2048 pages, 0 wrong", 60)
    _nothing_wrong(machine)


def _who_is_asked(ctx, policy):
    """Whom init asks first, the cache having most of all but much of it guaranteed, by this line of the manifest."""
    text = _MANIFEST.read_text("ascii")
    text = text.replace("pages=1024 limit=1000000 slices=0:8", "pages=12000 limit=1000000 slices=0:8")
    text = text.replace("share=52", "share=60") + f"memory ask={policy}\n"
    file = ctx.folder / f"manifest-{policy}"
    file.write_text(text, "ascii")
    machine = ctx.serving(manifest=str(file), memory="160M")
    found = machine.expect(r"init: (\w+) is asked for|hungry: (there is no room)", 60)
    assert found, "nobody is asked, and nobody refused"
    return (found.group(1) or found.group(2)).decode()


@limit(150)
def test_whom_the_manifest_says(ctx):
    """Who is asked is policy, and replaced in the manifest: the furthest above its guarantee, the largest, nobody."""
    assert _who_is_asked(ctx, "furthest") == "mute"
    assert _who_is_asked(ctx, "largest") == "cache"
    assert _who_is_asked(ctx, "nobody") == "there is no room"
