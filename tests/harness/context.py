"""What a system test works with: machines, commands, folders and ports of its own.

Everything opened here is closed when the test ends, machines first.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from harness import namespace
from harness.http import Connection
from targe import boot, project, run
from targe.machine import Machine, die_with_parent

_TAIL_LINES = 25


class Context(contextlib.ExitStack):
    """One for each test."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self._machines = []
        self._folder = None

    @property
    def folder(self):
        """A folder that is removed after the test."""
        if self._folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="targe-test-",
                                                        ignore_cleanup_errors=True)
            self._folder = Path(self.enter_context(temporary))
        return self._folder

    def artifact(self, name):
        """Where to leave a file for people to look at."""
        return project.ARTIFACTS / f"{self.name.replace('/', '-')}-{name}"

    def options(self, **settings):
        """Options of `targe run`, with the given ones changed."""
        options = SimpleNamespace(
            site=None, manifest=None, append=None, port=free_port(), smp=1, memory=None,
            accel="tcg", machine="q35", net="user", pcap=None, screen=None,
            headless=True)
        vars(options).update(settings)
        return options

    def machine(self, variant="release", prefix=(), queues=1, card="", **settings):
        """Boots a machine as `targe run` would; does not wait for it."""
        config, _ = boot.prepare(self.options(**settings), variant)
        config.prefix = prefix
        config.queues = queues
        config.card = card
        with config.archive:
            return self.start(config)

    def start(self, config):
        """Starts a machine from a ready configuration."""
        machine = self.enter_context(Machine(config))
        self._machines.append(machine)
        return machine

    def serving(self, seconds=30, **settings):
        """Boots a machine and waits until it answers a request."""
        machine = self.machine(**settings)
        wait_for_answer(machine, seconds)
        return machine

    def connect(self, machine, timeout=15):
        """A connection to the machine's site."""
        return self.enter_context(Connection("127.0.0.1", machine.config.port, timeout))

    def targe(self, *arguments, **popen):
        """Starts `./targe`; killed after the test if it still runs."""
        process = subprocess.Popen(
            [str(project.ROOT / "targe"), *arguments], cwd=project.ROOT,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
               "stderr": subprocess.PIPE, "preexec_fn": die_with_parent, **popen})
        self.callback(_end, process)
        return process

    def network(self):
        """A network namespace with a tap for a machine."""
        return self.enter_context(namespace.Namespace())

    def console_tails(self):
        """The last lines of every machine's console, for a failure's report."""
        text = ""
        for number, machine in enumerate(self._machines):
            lines = machine.output.splitlines()[-_TAIL_LINES:]
            text += f"\nconsole of machine {number}:\n" + "\n".join(lines)
            self.artifact(f"console{number}.log").write_text(machine.output, encoding="utf-8")
        return text


def _end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def free_port():
    """A port that is free, as is the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


def wait_for_answer(machine, seconds=30):
    """Waits until the machine's site answers; fails if it ends or the time is over."""
    limit = time.monotonic() + seconds
    answered = run.wait_for_answer("127.0.0.1", machine.config.port,
                                   lambda: machine.running() and time.monotonic() < limit)
    assert machine.running(), f"the machine ended: {machine.why()}"
    assert answered, f"no answer within {seconds} s"


def until(condition, seconds, what):
    """Waits for a condition to hold; gives what it returned."""
    limit = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < limit, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return result


def processes_with(text):
    """Numbers of the processes whose command line contains a text."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = Path(entry.path, "cmdline").read_bytes()
                if text.encode() in words:
                    found.append(int(entry.name))
    return found


def collect(process):
    """Reads a process's standard output in the background; gives the growing bytearray."""
    data = bytearray()

    def read():
        with contextlib.suppress(ValueError, OSError):
            while chunk := os.read(process.stdout.fileno(), 65536):
                data.extend(chunk)

    threading.Thread(target=read, daemon=True).start()
    return data
