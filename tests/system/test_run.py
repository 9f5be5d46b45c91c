"""The `run` command: what it prints, how it ends, and every mistake it reports."""

import os
import pty
import signal
import socket
import sys
import termios
import time
from unittest import mock

from harness.context import collect, free_port, processes_with, until
from harness.system import limit
from targe import packages
from targe.report import Failure
from targe.run import explain_end


def _marker(port):
    """What only the QEMU of this test has in its command line."""
    return f"hostfwd=tcp:127.0.0.1:{port}-"


def _headless(ctx, port, *more):
    process = ctx.targe("run", "--headless", "--accel", "tcg", "--port", str(port), *more)
    output = collect(process)
    until(lambda: b"serving" in output or process.poll() is not None, 60, "the address")
    assert f"http://127.0.0.1:{port}\n".encode() in output, process.stderr.read().decode()
    return process


def _nothing_left(port):
    until(lambda: not processes_with(_marker(port)), 5, "the end of QEMU")


def test_headless_ends_on_signals(ctx):
    """SIGINT and SIGTERM end the command and the machine cleanly."""
    for number in (signal.SIGINT, signal.SIGTERM):
        port = free_port()
        process = _headless(ctx, port)
        assert processes_with(_marker(port)), "QEMU runs without the expected option"
        process.send_signal(number)
        assert process.wait(10) == 0
        _nothing_left(port)


def test_machine_dies_with_command(ctx):
    """Even a command that is killed leaves no machine behind."""
    port = free_port()
    process = _headless(ctx, port)
    process.kill()
    process.wait()
    _nothing_left(port)


class _OnTerminal:
    """`./targe run` on a terminal of its own."""

    def __init__(self, ctx, *arguments):
        self.port = free_port()
        self._outer, self._inner = pty.openpty()
        ctx.callback(os.close, self._outer)
        ctx.callback(os.close, self._inner)
        self.before = termios.tcgetattr(self._inner)

        def own_terminal():
            os.setsid()
            os.close(os.open(os.ttyname(self._inner), os.O_RDWR))

        self.process = ctx.targe("run", "--accel", "tcg", "--port", str(self.port), *arguments,
                                 stdin=self._inner, stdout=self._inner, stderr=self._inner,
                                 preexec_fn=own_terminal)
        self.output = bytearray()

    def type(self, text):
        os.write(self._outer, text)

    def expect(self, text, seconds=60):
        """Waits for text after what was expected before."""
        limit_time = time.monotonic() + seconds
        os.set_blocking(self._outer, False)
        while text not in self.output:
            assert time.monotonic() < limit_time, f"no {text!r} in {bytes(self.output)!r}"
            try:
                self.output += os.read(self._outer, 65536)
            except BlockingIOError:
                time.sleep(0.02)
        del self.output[:self.output.index(text) + len(text)]

    def ended(self):
        """Waits for the end; the terminal must be as it was."""
        status = self.process.wait(15)
        assert termios.tcgetattr(self._inner) == self.before, "the terminal is changed"
        return status


def test_control_c(ctx):
    """Ctrl-C on the console ends all, and the terminal is as before."""
    terminal = _OnTerminal(ctx)
    terminal.expect(f"serving http://127.0.0.1:{terminal.port}".encode())
    terminal.type(b"\x03")
    assert terminal.ended() == 0
    _nothing_left(terminal.port)


def test_poweroff(ctx):
    """The monitor's `poweroff`, typed on the terminal, ends all."""
    terminal = _OnTerminal(ctx)
    terminal.expect(b"serving")
    terminal.expect(b"targe> ")     # who types earlier may be heard by nobody
    terminal.type(b"poweroff\r")
    terminal.expect(b"switched itself off")
    assert terminal.ended() == 0
    _nothing_left(terminal.port)


def test_reset(ctx):
    """The monitor's `reset` ends the command too, and is no error, on every machine."""
    for machine in ("q35", "pc", "microvm"):
        terminal = _OnTerminal(ctx, "--machine", machine)
        terminal.expect(b"serving")
        terminal.expect(b"targe> ")     # who types earlier may be heard by nobody
        terminal.type(b"reset\r")
        terminal.expect(b"the machine asked to start again")
        assert terminal.ended() == 0
        _nothing_left(terminal.port)


def test_control_c_while_booting(ctx):
    """Ctrl-C before the machine answers leaves nothing either."""
    terminal = _OnTerminal(ctx)
    terminal.expect(b"booting")
    terminal.type(b"\x03")
    assert terminal.ended() == 0
    _nothing_left(terminal.port)


def _refused(ctx, expected, *arguments):
    """The command fails and says `expected` in its last line, with no other complaint."""
    process = ctx.targe("run", "--headless", "--accel", "tcg", *arguments)
    out, errors = process.communicate(timeout=60)
    lines = errors.decode().splitlines()
    assert process.returncode not in (0, None), lines
    assert lines and expected in lines[-1], f"{expected!r} expected: {lines}"
    assert all(line.startswith("targe: ") for line in lines), lines
    assert not out, out


def test_wrong_options(ctx):
    """Options that make no sense."""
    _refused(ctx, "unrecognized arguments: --nonsense", "--nonsense")
    _refused(ctx, "--smp takes 1 to 64", "--smp", "65")
    _refused(ctx, "invalid int value", "--port", "http")
    _refused(ctx, "--port takes 1 to 65534", "--port", "65535")
    _refused(ctx, "--memory takes a size", "--memory", "much")
    _refused(ctx, "--net takes user", "--net", "wifi")
    _refused(ctx, "no network interface", "--net", "tap=nosuchtap")
    _refused(ctx, "invalid choice: 'fast'", "--accel", "fast")
    _refused(ctx, "--pcap needs a network", "--net", "none", "--pcap", "x")


def test_port_in_use(ctx):
    """Either of the two ports is taken."""
    for offset in (0, 1):
        port = free_port()
        with socket.socket() as other:
            other.bind(("127.0.0.1", port + offset))
            other.listen()
            _refused(ctx, f"port {port + offset} is in use", "--port", str(port))


def test_missing_site(ctx):
    """A site folder that is not there, or is a file, or has no first page."""
    file = ctx.folder / "file"
    file.touch()
    none = ctx.folder / "none"
    _refused(ctx, f"the site folder {none} does not exist", "--site", str(none))
    _refused(ctx, f"--site takes a folder, but {file} is a file", "--site", str(file))
    process = ctx.targe("run", "--headless", "--site", str(ctx.folder), "--port", "0")
    errors = process.communicate(timeout=60)[1].decode()
    assert f"targe: warning: {ctx.folder} has no index.html" in errors, errors


def test_missing_output_folder(ctx):
    """Files are to be written where there is no folder, or where one is."""
    for name, message in ((ctx.folder / "none" / "x", "there is no folder"),
                          (ctx.folder, "this is a folder")):
        _refused(ctx, message, "--pcap", str(name))
        process = ctx.targe("iso", "--output", str(name))
        errors = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 1 and errors.startswith(f"targe: --output {name}: "), errors
        assert len(errors.splitlines()) == 1, errors


@limit(180)
def test_too_little_memory(ctx):
    """The message says how much is needed, and that much is enough."""
    process = ctx.targe("run", "--headless", "--accel", "tcg", "--memory", "16M",
                        "--port", str(free_port()))
    _, errors = process.communicate(timeout=60)
    last = errors.decode().splitlines()[-1]
    assert process.returncode != 0 and "too little memory: 16 MB" in last, last
    needed = last.rsplit("--memory ", 1)[1].rstrip(")")
    ctx.serving(memory=needed)


def test_broken_manifest(ctx):
    """Each mistake is reported with its line."""
    good = "env web program=web pages=4096 slices=0:8 flow=tcp:80 site"
    cases = (
        ("", "manifest:1: no environment"),
        ("program web", "manifest:1: unknown word 'program'"),
        (f"# fine\n\n{good} loud", "manifest:3: unknown option 'loud'"),
        (f"{good}\n{good}", "manifest:2: a second environment is named 'web'"),
        ("env web program=web pages=1", "manifest:1: 'web' lacks slices="),
        ("env web program=web pages=x slices=0:1", "manifest:1: pages= needs a number"),
        ("env web program=web pages=1 slices=0", "manifest:1: slices= needs"),
        ("env web program=web pages=1 slices=0:1 flow=tcp:99999", "manifest:1: flow= needs"),
        ("env web program=web pages=1 slices=0:1 device=1234", "manifest:1: device= needs"),
        ("env web program=web pages=2 slices=0:1 limit=1", "manifest:1: limit= is"),
        ("env web program=web pages=1 slices=0:1,0:2", "manifest:1: slices=0:1,0:2 names a CPU"),
        ("env web program=web pages=1 slices=0:1 arg=", "manifest:1: arg= needs"),
        ("env web program=web pages=1 slices=0:1 console=loud", "manifest:1: console= needs"),
        ("env a program=mini.elf pages=1 slices=0:1 flow=udp:9-8", "manifest:1: flow= needs"),
        ("env a program=mini.elf pages=1 slices=0:1 flow=tcp:70-80\n"
         "env b program=mini.elf pages=1 slices=0:1 flow=udp:80 flow=tcp:80",
         "manifest:2: flow=tcp:80 is already taken by 'a' (flow=tcp:70-80)"),
        ("env web program=none pages=1 slices=0:1", "manifest:1: there is no program 'none'"),
        ("env web program=web pages=1 slices=0:1", "manifest:1: there is no program 'web'"),
        (f"{good}\nenv b program=web pages=1 slices=0:1,1:1",
         "manifest:2: slices= names CPU 1, but the machine has only CPU 0"),
        (f"{good}\nenv b program=web pages=1 slices=0:56", "manifest:2: 64 slices of CPU 0"),
        (f"net address=10.0.2.15\n{good}", "manifest:1: net takes"),
        ("# \u00fc\n", "manifest:1: only ASCII"),
    )
    file = ctx.folder / "manifest"
    for text, message in cases:
        file.write_text(text, encoding="utf-8")
        _refused(ctx, message, "--manifest", str(file), "--port", str(free_port()))
    _refused(ctx, "cannot read the manifest", "--manifest", str(ctx.folder / "none"))


def test_init_gives_up(ctx):
    """A machine that switches itself off because it cannot go on is an error, and says why."""
    file = ctx.folder / "manifest"
    file.write_text("env mini program=mini.elf pages=100 slices=0:8 limit=1\n", encoding="ascii")
    with mock.patch("targe.manifest._check_environment"):    # so that init finds the mistake
        machine = ctx.machine(manifest=str(file), net="none")
    assert machine.wait(60) == 0, "the machine does not end"
    try:
        explain_end(machine, headless=False)
    except Failure as failure:
        assert "the machine gave up: manifest:1: limit= is" in str(failure), failure
    else:
        raise AssertionError("the end counts as good")


def test_web_not_started(ctx):
    """A script hears of a web server that init cannot start, and need not wait."""
    file = ctx.folder / "manifest"
    file.write_text("env web program=web.elf pages=3 slices=0:8 flow=tcp:80 site\n",
                    encoding="ascii")
    process = ctx.targe("run", "--headless", "--accel", "tcg", "--manifest", str(file),
                        "--port", str(free_port()))
    out, errors = process.communicate(timeout=60)
    lines = errors.decode().splitlines()
    assert process.returncode == 1 and not out, (process.returncode, out)
    assert "targe: init: web cannot be started: limit" in lines, lines
    assert "'web', which is to serve the site, was not started" in lines[-1], lines


def test_no_web_server(ctx):
    """Where the manifest has no server on port 80 the command says that it waits for none, and the machine runs on."""
    file = ctx.folder / "manifest"
    file.write_text("env monitor program=monitor.elf pages=2000 slices=0:8 console=both\n", encoding="ascii")
    process = ctx.targe("run", "--headless", "--accel", "tcg", "--manifest", str(file), "--port", str(free_port()))
    said = b""
    while b"no site to wait for" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    assert process.poll() is None, "the machine has ended"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0 and b"stopped" in process.stderr.read()


def test_missing_packages(ctx):
    """Missing packages: without rights, the command to run; with them, apt-get is called."""
    tools = ctx.folder / "tools"
    log = ctx.folder / "log"
    tools.mkdir()
    for name, script in (("dpkg-query", "exit 1"), ("sudo", "exit 1"),
                         ("apt-cache", "echo '  Candidate: 1.0'"),
                         ("apt-get", f'echo "apt-get $*" >> {log}')):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
        (tools / name).chmod(0o755)
    with mock.patch.dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}"), \
            mock.patch.object(sys, "stdin", open(os.devnull, encoding="ascii")):
        with mock.patch("os.geteuid", return_value=1000):
            try:
                packages.ensure("build")
                raise AssertionError("nothing was missing")
            except Failure as failure:
                assert "run: sudo apt-get install -y --no-install-recommends gcc" in str(failure)
        with mock.patch("os.geteuid", return_value=0):
            packages.ensure("build")
    assert "install -y --no-install-recommends gcc make" in log.read_text(encoding="ascii")


def test_kvm_that_does_not_work(ctx):
    """--accel auto falls back to TCG when a KVM guest does not run."""
    from targe import accel
    with mock.patch.object(accel, "kvm_problem", return_value="for the test"):
        assert accel.choose("auto", "release") == "tcg"
        try:
            accel.choose("kvm", "release")
            raise AssertionError("--accel kvm did not fail")
        except Failure as failure:
            assert "for the test" in str(failure)
    assert accel.choose("tcg", "release") == "tcg"
    assert accel.choose("auto", "release") in ("kvm", "tcg")
