"""Host tests: every tests/host/*.c is a cmocka program, built with sanitizers by `make host-tests`.

A test is named host/FILE/TEST, without the `test_` in front of either.
"""

import os
import re
import subprocess
import time

from harness.outcome import FAIL, OK, SKIP, Outcome
from targe import project
from targe.build import build
from targe.machine import die_with_parent

_SECONDS = 300
# A test is known by its parameter; what sets one up has the same but returns int.
_TEST = re.compile(r"^static void (\w+)\(void \*\*\w+\)", re.M)
_RESULT = re.compile(r"^(ok|not ok) \d+ - (\w+)(.*)$")


def _short(name):
    return name.removeprefix("test_")


class HostSuite:
    """All cmocka programs."""
    folder = "host"

    def __init__(self):
        sources = sorted((project.ROOT / "tests" / "host").glob("*.c"))
        self._tests = {}
        for source in sources:
            found = _TEST.findall(source.read_text(encoding="utf-8"))
            if found:
                self._tests[source.stem] = [f"host/{_short(source.stem)}/{_short(test)}"
                                            for test in found]

    def names(self):
        """All tests, read from the sources."""
        return [name for names in self._tests.values() for name in names]

    def prepare(self, _names):
        """Builds the programs."""
        build("debug", ["host-tests"])

    def run(self, names):
        """Runs the programs that have a chosen test."""
        for program, tests in self._tests.items():
            chosen = [name for name in tests if name in names]
            if chosen:
                yield from self._program(program, chosen)

    def _program(self, program, chosen):
        began = time.monotonic()
        environment = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP",
                           ASAN_OPTIONS="abort_on_error=0:detect_leaks=1",
                           UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1")
        try:
            done = subprocess.run(
                [project.BUILD / "host" / program], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                timeout=_SECONDS, env=environment, cwd=project.ROOT,
                preexec_fn=die_with_parent, check=False)
            text, status = done.stdout, done.returncode
        except subprocess.TimeoutExpired as error:
            text = (error.stdout or b"").decode("utf-8", "replace")
            text, status = f"{text}\nno end within {_SECONDS} s", None
        except OSError as error:
            text, status = f"cannot run build/host/{program}: {error.strerror}", None
        # cmocka gives no times: the program's is divided among its tests.
        seconds = (time.monotonic() - began) / len(chosen)
        yield from self._outcomes(program, chosen, text, status, seconds)

    @staticmethod
    def _outcomes(program, chosen, text, status, seconds):
        """One outcome a chosen test; a test without a result did not end."""
        results = {}
        for line in text.splitlines():
            match = _RESULT.match(line)
            if match:
                kind = OK if match.group(1) == "ok" else FAIL
                skipped = kind == OK and "# SKIP" in match.group(3).upper()
                results[_short(match.group(2))] = SKIP if skipped else kind
        for name in chosen:
            outcome = results.get(name.rsplit("/", 1)[1], FAIL)
            yield Outcome(name, outcome, seconds, "" if outcome == OK else text)
        # A sanitizer may complain after the last test.
        if status != 0 and FAIL not in results.values() and len(results) >= len(chosen):
            yield Outcome(f"host/{_short(program)}", FAIL, 0, f"{text}\nexit status {status}")
