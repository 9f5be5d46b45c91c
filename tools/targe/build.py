"""Building by make, one build at a time, with a live line and the compiler's own messages."""

import fcntl
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager

from targe import project
from targe.report import Failure, Progress, say

_TARGET = re.compile(r"(?:^|\s)-o (\S+)")
_COMMAND = re.compile(r"^\S*(gcc|clang|cc|ar|ld|python3|mkdir|touch|make)\b")


def build(variant="release", goals=(), settings=()):
    """Makes the goals (default: kernel and programs) of a variant."""
    what = " ".join(goals) or variant
    began = time.monotonic()
    with _only_one():
        _make([f"VARIANT={variant}", *settings, *goals], f"building {what}")
    say(f"built {what} in {time.monotonic() - began:.1f} s")


def clean():
    """Removes all that was made."""
    subprocess.run(["rm", "-rf", "--", str(project.BUILD)], check=True)


@contextmanager
def _only_one():
    """Two builds in one tree would write the same files."""
    project.BUILD.mkdir(exist_ok=True)
    with open(project.BUILD / ".lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(arguments, title):
    progress = Progress(title)
    command = ["make", "--no-print-directory", "--output-sync=target",
               f"-j{os.cpu_count() or 1}", *arguments]
    lines = []
    with subprocess.Popen(command, cwd=project.ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            target = _TARGET.search(line)
            if target:
                progress.show(target.group(1))
    progress.clear()
    if process.returncode != 0:
        # The commands themselves only hide what the compiler says.
        for line in lines:
            if not _COMMAND.match(line):
                print(line, file=sys.stderr)
        raise Failure("the build failed, see above")
