"""Runs fuzz targets from their kept corpus, as a part of system tests."""

import os
import subprocess

from targe import project

_RUN = project.ROOT / "tests" / "fuzz" / "run"


def fuzz(*targets, seconds=20):
    """All at once, for so many seconds in CI, else for 5; a finding is an AssertionError."""
    built = subprocess.run(["make", "--no-print-directory", "fuzz"], cwd=project.ROOT, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert built.returncode == 0, built.stdout[-4000:]
    if not os.environ.get("CI"):
        seconds = 5
    running = [subprocess.Popen([_RUN, str(seconds), target], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, errors="replace") for target in targets]
    said = [process.communicate()[0] for process in running]
    for process, text in zip(running, said):
        assert process.returncode == 0, text[-4000:]
