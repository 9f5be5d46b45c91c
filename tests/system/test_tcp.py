"""The web library OS's TCP: over a bad wire, and fuzzed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from harness import sites
from harness.context import until
from harness.namespace import GUEST, HOST, TAP
from harness.outcome import Skip
from harness.fuzz import fuzz
from harness.system import limit
from targe import project

_WIRE = Path(__file__).with_name("bad_wire.py")
_HOST_TAP = "tap1"


@limit(240)
def test_bad_wire(ctx):
    """Files arrive whole over a wire that loses, doubles and reorders frames in both directions.

    The machine's device computes no checksums here, so they are made from those kept with the files."""
    site = ctx.folder / "site"
    site.mkdir()
    sites.make(site, megabytes=3, files=25)
    got = ctx.folder / "got"
    got.mkdir()
    network = ctx.network()
    network.run("ip", "addr", "flush", "dev", TAP)
    wire = ctx.enter_context(subprocess.Popen(
        [*network.prefix, sys.executable, str(_WIRE), TAP, _HOST_TAP, "25", "7"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True))
    try:
        assert wire.stdout.readline() == "ready\n"
        network.run("ip", "addr", "add", f"{HOST}/24", "dev", _HOST_TAP)
        network.run("ip", "link", "set", _HOST_TAP, "up")
        machine = ctx.machine(net=f"tap={TAP}", prefix=network.prefix, site=str(site),
                              pcap=str(ctx.folder / "frames"))
        until(lambda: _answers(network), 60, "an answer over the wire")
        sites.fetch_all(site, f"http://{GUEST}", got, 200, network.prefix)
        assert "ended" not in machine.output, machine.output
    finally:
        wire.terminate()
        said = wire.communicate()[0]
    lost = re.search(r"(\d+) lost", said)
    assert lost and int(lost[1]) > 30, said


def _answers(network):
    return subprocess.run([*network.prefix, "curl", "-s", "-o", "/dev/null", "-m", "3",
                           f"http://{GUEST}/"], check=False).returncode == 0


@limit(300)
def test_instructions(ctx):
    """What the library OS executes for a request stays what it was: the counts are exact, some room is for compilers."""
    if not shutil.which("musl-gcc"):
        raise Skip("the bench's client is built by musl-gcc")
    ctx.network()  # skips where none can be made
    for row, most in (("kept", 1200), ("kept16", 1080), ("connect", 4200)):
        said = subprocess.run([project.ROOT / "targe", "bench", "--breakdown", row], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
        found = re.search(r"^ *([\d,.]+)  web$", said, re.M)
        assert found, said
        assert 500 < float(found[1].replace(",", "")) < most, f"{row}: {found[1]} instructions in web"


@limit(300)
def test_fuzz(_ctx):
    """Segments, time and a user of all kinds, from the kept corpus."""
    fuzz("fuzz_tcp")
