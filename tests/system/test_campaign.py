"""The randomised campaign through all calls of memory, for longer than among the guest tests, and what takes longest in large machines."""

import os
import random

from harness.guest import test_machine
from harness.outcome import Skip
from harness.system import limit
from targe.build import build

_SECONDS = 60 if os.environ.get("CI") else 8
_LARGE = 16384  # MB


def _passes(name, memory, smp, append=""):
    """Runs one guest or abuse test in a machine of this size."""
    build("debug")
    with open("/proc/meminfo", encoding="ascii") as file:
        words = dict(line.split()[:2] for line in file)
    if int(words["MemTotal:"]) + int(words["SwapTotal:"]) < memory << 10:
        raise Skip(f"this host has less than {memory} MB of memory")
    with test_machine("debug", smp, f"only={name} {append}", memory) as machine:
        position = 0
        while line := machine.next_line(position, 60):
            text, position = line
            if text.startswith(f"test: {name} ") and not text.endswith("begin"):
                assert text == f"test: {name} ok", f"{memory} MB {append}: {text}"
                return
        raise AssertionError(f"{memory} MB {append}: {machine.why()}")


def _campaign(memory, smp, seconds):
    _passes("campaign", memory, smp, f"campaign={random.randrange(1, 1 << 31)},{seconds}")


@limit(300)
def test_campaign(ctx):
    """No page is lost while four CPUs make all calls of memory at random, the checker running."""
    _campaign(256, 4, _SECONDS)


@limit(120)
def test_sizes(ctx):
    """The same, shortly, on the smallest and the largest machine."""
    _campaign(64, 2, 3)
    _campaign(_LARGE, 2, 3)


@limit(240)
def test_large(ctx):
    """Those that search the whole machine and check it again and again end in time on the largest, too."""
    for name in ("revoke_slippery", "repossess_while_destroyed", "arguments_devices"):
        _passes(name, _LARGE, 2)
