"""The monitor, the second library OS, on the console of the machine."""

import re

from harness.context import until, wait_for_answer
from harness.machine_json import environment, machine_json

_PROMPT = "targe> "


class _Console:
    """The monitor's console: types a command and gives what it printed."""

    def __init__(self, machine):
        self._machine = machine
        assert machine.expect(re.escape(_PROMPT), 30), "the monitor does not prompt"

    def ask(self, command, seconds=20):
        """The output of a command."""
        mark = self._machine.mark()
        self._machine.write(command.encode() + b"\r")
        found = self._machine.expect(rf"(?s)\n(.*?){re.escape(_PROMPT)}", seconds, mark)
        assert found, f"no prompt after '{command}'"
        return found.group(1).decode().replace("\r", "")


def test_views(ctx):
    """help, pages, envs, slices, flows and trace show the machine."""
    machine = ctx.serving(smp=2)
    console = _Console(machine)
    text = console.ask("help")
    for command in ("pages", "envs", "slices", "flows", "trace", "kill", "poweroff"):
        assert command in text, text
        help_ = console.ask(f"help {command}").strip().splitlines()
        assert help_ and all(line.split()[0] == command for line in help_), help_
    assert "free" in console.ask("pages")
    text = console.ask("envs")
    for name in ("init", "mini", "web", "monitor"):
        assert name in text, text
    for command in ("slices", "flows", "trace"):
        text = console.ask(command)
        assert re.search(r"\d", text) and "rror" not in text, text
    for line in console.ask("envs").splitlines():
        assert len(line) <= 80, line


def test_line_editing(ctx):
    """Backspace, the arrows and the history work."""
    console = _Console(ctx.serving())
    assert "poweroff" in console.ask("hepX\x7f\x1b[Dl")
    assert "poweroff" in console.ask("\x1b[A")


def test_mistakes(ctx):
    """Unknown commands and names get a line and nothing happens."""
    machine = ctx.serving()
    console = _Console(machine)
    for command in ("nonsense", "kill nobody", "kill", "pages x", "envs x", "trace off x",
                    "help nonsense", "a" * 300):
        assert 1 <= len(console.ask(command).strip().splitlines()) <= 3, command
    assert "takes nothing" in console.ask("flows x")
    console.ask("")
    assert machine.running() and ctx.connect(machine).get("/").status == 200


def test_pasting(ctx):
    """What is pasted while the monitor does something else waits for it: nothing is lost."""
    machine = ctx.serving()
    _Console(machine)
    mark = machine.mark()
    machine.write(b"kill mini\r" + b"".join(b"pages %d\r" % page for page in range(100, 300)))
    for page in range(100, 300):
        assert machine.expect(rf"targe> pages {page}\r", 20, mark), f"pages {page} is lost"


def test_typed_early(ctx):
    """So does what is typed before the monitor is there."""
    machine = ctx.machine()
    assert machine.expect("CPUs: 1", 30), "it does not boot"
    machine.write(b"pages 100\r")
    assert machine.expect(r"targe> pages 100\r", 30), "it is lost"


def test_kill_and_start(ctx):
    """Killing the web library OS frees all it held and leaves the rest; it can be started again."""
    machine = ctx.serving(smp=2, manifest=_without_restart(ctx))
    console = _Console(machine)
    before = environment(machine_json(machine), "web")["pages"]
    _free(console)  # maps what it looks at, for which it takes pages
    free = _free(console)
    console.ask("kill web")
    assert not re.search(r"\bweb\b", console.ask("envs"))
    assert _free(console) >= free + before, "pages are not free again"
    assert "0" in console.ask("check")
    console.ask("start web")
    wait_for_answer(machine)
    state = machine_json(machine)
    assert environment(state, "monitor") and environment(state, "mini")
    for _ in range(5):
        console.ask("kill web")
        console.ask("start web")
        wait_for_answer(machine)
    until(lambda: abs(_free(console) - free) <= 2, 10, f"about {free} free pages again")


def test_restart(ctx):
    """What was killed stays away, though the manifest says `restart`, until it is started."""
    machine = ctx.serving()
    console = _Console(machine)
    assert environment(machine_json(machine), "mini")
    console.ask("kill mini")
    assert "mini" not in console.ask("envs").replace("envs", "")
    console.ask("start mini")
    until(lambda: environment(machine_json(machine), "mini"), 10, "mini again")
    assert ctx.connect(machine).get("/").status == 200


def test_poweroff(ctx):
    """`poweroff` ends the machine."""
    machine = ctx.serving()
    _Console(machine)
    machine.write(b"poweroff\r")
    assert machine.wait(10) == 0, "the machine does not end"
    assert machine.why() == "poweroff", machine.why()


def _free(console):
    """Free pages, as the monitor tells them."""
    text = console.ask("pages")
    found = re.search(r"(\d[\d,]*)\s+(?:pages\s+)?free|free\D*?(\d[\d,]*)", text)
    assert found, text
    return int((found.group(1) or found.group(2)).replace(",", ""))


def _without_restart(ctx):
    """The usual manifest, but nothing is restarted by itself."""
    from targe import project
    file = ctx.folder / "manifest"
    file.write_text(re.sub(r"\brestart\b", "", project.DEFAULT_MANIFEST.read_text("ascii")), "ascii")
    return str(file)
