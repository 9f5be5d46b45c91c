"""docs/first-libos.md: what the page shows is done word for word, in a copy of the project."""

import re
import shutil
import signal
import subprocess

from harness.context import collect, until
from harness.namespace import TAP
from harness.system import limit
from targe import project
from targe.machine import die_with_parent

_PAGE = project.ROOT / "docs" / "first-libos.md"
_FILE = re.compile(r"`([^`]+)`:")
_CHANGE = re.compile(r"In `([^`]+)`, (before|instead of) the line that begins with `([^`]+)`:")


def _steps(text):
    """The page's code blocks in order: (line of text before it, language, content)."""
    steps, before, block = [], "", None
    for line in text.splitlines():
        if line.startswith("```"):
            if block is None:
                language, block = line[3:], []
            else:
                steps.append((before, language, "".join(f"{text}\n" for text in block)))
                before, block = "", None
        elif block is not None:
            block.append(line)
        elif line.strip():
            before = line.strip()
    assert block is None, "a code block has no end"
    return steps


class _Reader:
    """Does what the page says, in a folder of its own."""

    def __init__(self, ctx):
        self._ctx = ctx
        self._prefix = ctx.network().prefix
        self._root = ctx.folder / "targe"
        self._machine = None
        self._printed = bytearray()
        shutil.copytree(project.ROOT, self._root, symlinks=True,
                        ignore=shutil.ignore_patterns(".git", "artifacts", "__pycache__", "host",
                                                      "debug", "ubsan"))
        # The network that the page makes is the test's own namespace.
        self._shell(f"ip link delete {TAP}")

    def do(self, before, language, content):
        """One code block: a file, a change to one, commands, or what they print."""
        change, file = _CHANGE.fullmatch(before), _FILE.fullmatch(before)
        if language == "sh" and "targe run" in content:
            self._run(content)
        elif language == "sh":
            self._printed = bytearray(self._shell(content), "utf-8")
        elif language == "text":
            self._expect(content)
        elif change:
            self._change(*change.groups(), content)
        elif file:
            (self._root / file.group(1)).write_text(content, encoding="ascii")
        else:
            raise AssertionError(f"the page does not say what this is:\n{content}")

    def end(self):
        """Ctrl-C, as the page says."""
        if self._machine:
            self._machine.send_signal(signal.SIGINT)
            assert self._machine.wait(20) == 0, self._printed.decode()
            self._machine = None

    def _change(self, name, place, start, content):
        file = self._root / name
        lines = file.read_text(encoding="ascii").splitlines(keepends=True)
        found = [number for number, line in enumerate(lines) if line.startswith(start)]
        assert len(found) == 1, f"{len(found)} lines of {name} begin with {start}"
        after = found[0] + (place == "instead of")
        lines[found[0]:after] = [content] if place == "instead of" else [content, "\n"]
        file.write_text("".join(lines), encoding="ascii")

    def _shell(self, commands):
        done = subprocess.run([*self._prefix, "sh", "-e", "-c", commands], cwd=self._root,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, timeout=30, check=False)
        assert done.returncode == 0, f"{commands}{done.stdout}"
        return done.stdout

    def _run(self, command):
        self.end()
        self._machine = subprocess.Popen(
            [*self._prefix, "sh", "-c", f"exec {command}"], cwd=self._root,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent)
        self._ctx.callback(self._kill, self._machine)
        self._printed = collect(self._machine)

    @staticmethod
    def _kill(machine):
        if machine.poll() is None:
            machine.send_signal(signal.SIGTERM)
            machine.wait(20)
        machine.stdout.close()

    def _expect(self, content):
        for line in content.splitlines():
            wanted = re.compile(re.sub(r"\d+", r"\\d+", re.escape(line)).encode())
            try:
                until(lambda: wanted.search(self._printed), 90 if self._machine else 0, line)
            except AssertionError as error:
                raise AssertionError(f"{error}; printed was:\n{self._printed.decode()}") from error


@limit(300)
def test_page(ctx):
    """Every code block of the page is carried out; what it says is printed is printed."""
    reader = _Reader(ctx)
    for step in _steps(_PAGE.read_text(encoding="utf-8")):
        reader.do(*step)
    reader.end()
