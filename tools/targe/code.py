"""`targe code FILE.o`: verifies a program for the kernel's virtual machine, as the kernel would.

The host tool build/host/targe-code does the work, with the kernel's own sources; here the source
lines are added, which llvm-objdump finds in the object's debug information.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from targe import packages, project
from targe.build import build
from targe.report import Failure

_SECTION = re.compile(r"^Disassembly of section (.*):$")
_LINE = re.compile(r"^; (\S.*):(\d+)$")
_SLOT = re.compile(r"^\s*(\d+):\t")


def code(options):
    """Prints the program with what is known of it, or why it is refused. Gives the exit status."""
    packages.ensure("code")
    if not os.path.isfile(options.file):
        raise Failure(f"no such file: {options.file}")
    tool = project.BUILD / "host" / "targe-code"
    build(goals=["host"])
    words = [tool, options.file]
    for name in ("profile", "section"):
        if getattr(options, name):
            words += [f"--{name}", getattr(options, name)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode not in (0, 1):
        raise Failure(f"{tool.name} ended with status {done.returncode}")
    source = _Source(options.file)
    for line in done.stdout.splitlines():
        _print(line, source)
    sys.stdout.flush()
    return done.returncode


def _print(line, source):
    """A line of the tool: words divided by tabs, the first often a place."""
    first, *rest = line.split("\t")
    if first == "refused":
        place = source.place(rest[0])
        print(f"refused at {rest[0]}{f' ({place})' if place else ''}: {rest[1]}")
        text = source.text(rest[0])
        if text:
            print(f"    source       {text}")
    elif first == "at":
        print(f"    instruction  {rest[0]}")
    elif ":" in first and len(rest) == 2:
        text = source.new_text(first)
        if text:
            print(f"{source.place(first)}: {text}")
        insn, note = rest
        print(f"{insn:<44}{note}".rstrip(" ;"))
    elif rest:
        print(f"{first + ':':<10}{rest[0]}")
    else:
        print(first)


class _Source:
    """Which source line each instruction comes from, as far as the object says."""

    def __init__(self, file):
        self._lines = {}
        self._texts = {}
        self._last = None
        listing = subprocess.run(["llvm-objdump", "-d", "-l", "--no-show-raw-insn", file],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                 errors="replace", check=False).stdout
        section, where = "", None
        for line in listing.splitlines():
            if match := _SECTION.match(line):
                section, where = match.group(1), None
            elif match := _LINE.match(line):
                where = match.group(1), int(match.group(2))
            elif (match := _SLOT.match(line)) and where:
                self._lines[f"{section}:{match.group(1)}"] = where

    def place(self, slot):
        """FILE:LINE, or nothing."""
        where = self._lines.get(slot)
        return f"{Path(where[0]).name}:{where[1]}" if where else ""

    def text(self, slot):
        """The source line, if its file is there."""
        where = self._lines.get(slot)
        if not where:
            return ""
        if where[0] not in self._texts:
            try:
                text = Path(where[0]).read_text(encoding="utf-8", errors="replace")
            except OSError:
                text = ""
            self._texts[where[0]] = text.splitlines()
        lines = self._texts[where[0]]
        return lines[where[1] - 1].strip() if where[1] <= len(lines) else ""

    def new_text(self, slot):
        """The same, unless it was asked for just before."""
        where = self._lines.get(slot)
        if where == self._last:
            return ""
        self._last = where
        return self.text(slot)
