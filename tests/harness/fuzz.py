"""Runs fuzz targets from their kept corpus, as a part of system tests."""

import os
import subprocess

from targe import project


def fuzz(*targets):
    """Each for a minute in CI, else for 5 seconds; a finding is an AssertionError."""
    seconds = "60" if os.environ.get("CI") else "5"
    done = subprocess.run([project.ROOT / "tests" / "fuzz" / "run", seconds, *targets],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-4000:]
