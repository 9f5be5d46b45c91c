"""The randomised campaign through all calls of memory, for longer than among the guest tests."""

import os
import random

from harness.guest import test_machine
from harness.system import limit
from targe.build import build

_SECONDS = 60 if os.environ.get("CI") else 8


def _campaign(memory, smp, seconds):
    build("debug")
    seed = random.randrange(1, 1 << 31)
    with test_machine("debug", smp, f"only=campaign campaign={seed},{seconds}", memory) as machine:
        position = 0
        while line := machine.next_line(position, 60):
            text, position = line
            if text.startswith("test: campaign ") and not text.endswith("begin"):
                assert text == "test: campaign ok", f"seed {seed}: {text}"
                return
        raise AssertionError(f"seed {seed}: {machine.why()}")


@limit(300)
def test_campaign(ctx):
    """No page is lost while four CPUs make all calls of memory at random, the checker running."""
    _campaign(256, 4, _SECONDS)


@limit(120)
def test_sizes(ctx):
    """The same, shortly, on the smallest and the largest machine."""
    _campaign(64, 2, 3)
    _campaign(16384, 2, 3)
