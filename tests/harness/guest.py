"""Guest and abuse tests: they run in the machine, whose first environment is `testinit`.

It prints `test: NAME ok`, `test: NAME FAIL reason` for each test and `test: end COUNT` at last.
A test may announce itself by `test: NAME begin`, so that a crash can be laid at its door. The
machine runs once for each configuration; the tests are named guest/NAME@CONFIGURATION. With
`only=NAME` on the kernel's command line it runs that one.
"""

import contextlib
import re
import time
from dataclasses import dataclass

from harness.outcome import FAIL, Outcome
from targe import archive, boot, manifest, project
from targe.build import build
from targe.machine import Config, Machine

_SILENCE = 60
# What `testexit` on the command line makes of switching off (TEST_PASSED in kernel/dev/dev.h).
PASSED = 16 << 1 | 1
_TAIL_LINES = 40
_INIT = "testinit.elf"
_LINE = re.compile(r"test: (?:(\S+) (begin|ok|skip|FAIL)\b ?(.*)|end (\d+)\s*)")
_SOURCE = re.compile(r'^\s*TEST\(\s*"?([\w/-]+)"?', re.M)


@dataclass(frozen=True)
class Configuration:
    """One way to run the machine."""
    name: str
    variant: str
    smp: int


CONFIGURATIONS = (Configuration("debug1", "debug", 1), Configuration("debug4", "debug", 4),
                  Configuration("ubsan2", "ubsan", 2))


def _sources():
    """Tests by folder, in the order of the files."""
    for folder in ("guest", "abuse"):
        for source in sorted((project.ROOT / "tests" / folder).glob("*.c")):
            for name in _SOURCE.findall(source.read_text(encoding="utf-8")):
                yield folder, name


def test_parts(variant):
    """What the boot archive has, with the test runner as init."""
    programs = project.programs(variant)
    return archive.boot_members(programs.pop(_INIT, project.kernel(variant)),
                                manifest.read(project.DEFAULT_MANIFEST).text, programs)


@contextlib.contextmanager
def test_machine(variant, smp, append, memory=256):
    """A machine with the test runner as init; `append` goes on its command line."""
    with boot.open_archive(test_parts(variant)) as file:
        config = Config(kernel=str(project.kernel(variant)), archive=file, memory=memory,
                        append=f"testexit {append}", smp=smp, exit_device=True, net="user",
                        devices=("edu", "pci-testdev"))
        with Machine(config) as machine:
            yield machine


class GuestSuite:
    """All tests that run in the machine."""
    folder = "guest"
    configurations = CONFIGURATIONS

    def __init__(self):
        self._folders = {name: folder for folder, name in _sources()}

    def names(self):
        """All tests, read from the sources, for every configuration."""
        return [f"{folder}/{name}@{configuration.name}" for configuration in self.configurations
                for name, folder in self._folders.items()]

    def prepare(self, names):
        """Builds the variants that are needed."""
        for variant in dict.fromkeys(configuration.variant for configuration in self.configurations
                                     if self._chosen(configuration, names)):
            build(variant)

    def run(self, names):
        """Runs the machine for each configuration that has a chosen test."""
        for configuration in self.configurations:
            chosen = self._chosen(configuration, names)
            if len(chosen) == len(self._folders) > 1:
                yield from self._machine(configuration, chosen, "")
            else:
                for name in chosen:
                    yield from self._machine(configuration, [name], f"only={name}")

    def _chosen(self, configuration, names):
        return [name for name, folder in self._folders.items()
                if f"{folder}/{name}@{configuration.name}" in names]

    def _full(self, configuration, name):
        return f"{self._folders.get(name, 'guest')}/{name}@{configuration.name}"

    def _machine(self, configuration, expected, append):
        """One run of the machine; yields an outcome for each expected test."""
        with self._start(configuration, append) as machine:
            yield from self._follow(configuration, machine, expected)
            log = project.ARTIFACTS / f"guest-{configuration.name}{append and '-' + append}.log"
            log.write_text(machine.output, encoding="utf-8")

    def _start(self, configuration, append):
        return test_machine(configuration.variant, configuration.smp, append)

    def _follow(self, configuration, machine, expected):
        """Yields outcomes as the machine reports them."""
        waiting = list(expected)
        running = None
        passed = True
        began = time.monotonic()
        position = reported = 0
        while line := machine.next_line(position, _SILENCE):
            text, position = line
            match = _LINE.fullmatch(text)
            if not match:
                continue
            name, kind, reason, count = match.groups()
            if count:
                if int(count) != reported:
                    yield Outcome(f"guest/count@{configuration.name}", FAIL, 0,
                                  f"{reported} tests reported, {count} announced")
                break
            if kind == "begin":
                running = name
                continue
            now = time.monotonic()
            if kind == FAIL:
                passed = False
                reason += "\n" + _tail(machine)
            yield Outcome(self._full(configuration, name), kind, now - began, reason)
            began, reported, running = now, reported + 1, None
            if name in waiting:
                waiting.remove(name)
        ended = machine.wait(10)
        if not waiting and passed and ended != PASSED:
            yield Outcome(f"guest/end@{configuration.name}", FAIL, 0,
                          f"the machine did not end as it should: {machine.why()}\n"
                          f"{_tail(machine)}")
        yield from self._missing(configuration, machine, waiting, running)

    def _missing(self, configuration, machine, waiting, running):
        """Tests that gave no result: the one that was running, and those that never ran."""
        culprit = running or (waiting[0] if waiting else None)
        for name in waiting:
            text = f"not run: the machine stopped at {culprit}"
            if name == culprit:
                why = "no word for a minute" if machine.running() else machine.why()
                text = f"no result ({why})\n{_tail(machine)}"
            yield Outcome(self._full(configuration, name), FAIL, 0, text)


def _tail(machine):
    return "\n".join(machine.output.splitlines()[-_TAIL_LINES:])
