"""The machine in which both systems are measured, and what counts its instructions.

Both get the same command line but for kernel, initial archive and kernel options. Three ways to
run it: ICOUNT (one tick of the TSC is one instruction), TIME (plain TCG) and KVM.
"""

import mmap
import os
import selectors
import socket
import struct
import subprocess
import tempfile
import time
import typing

from targe import project
from targe.accel import EXIT_DEVICE, QEMU
from targe.machine import MAC, die_with_parent
from targe.report import Failure

_CLOCK = ["-seed", "1", "-rtc", "base=2024-01-01T00:00:00,clock=vm"]
ICOUNT = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", *_CLOCK]
TIME = ["-accel", "tcg,thread=multi"]
KVM = ["-accel", "kvm"]
CPU = "max,-erms"
MEMORY = 512


def machine_words(memory=MEMORY, tap=None):
    """What is the same for both systems. Memory in MB."""
    words = ["-machine", "pc", "-cpu", CPU, "-smp", "1", "-m", f"{memory}M", "-nodefaults",
             "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot",
             "-serial", "stdio", "-device", EXIT_DEVICE]
    if tap:
        words += ["-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no", "-device",
                  f"virtio-net-pci,disable-legacy=on,romfile=,netdev=net,mac={MAC}"]
    return words


class Running:
    """A machine as a context manager: its console by lines."""

    def __init__(self, words, files=(), prefix=()):
        self._words = [*prefix, QEMU, *words]
        self._files = files
        self._rest = b""
        self.lines = []

    def __enter__(self):
        descriptors = [file.fileno() for file in self._files]
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            bufsize=0, pass_fds=descriptors, start_new_session=True, preexec_fn=die_with_parent)
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()

    def running(self):
        """Whether it still runs."""
        return self._process.poll() is None

    def next_line(self, timeout):
        """The console's next line; None at its end. Too long without one: a failure."""
        limit = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0, limit - time.monotonic())):
                    raise Failure(f"the machine says nothing for {timeout} s; its last words: "
                                  f"{' / '.join(self.lines[-3:])}")
                data = os.read(self._process.stdout.fileno(), 65536)
                if not data:
                    self._explain()
                    return None
                self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        self.lines.append(line.decode("utf-8", "replace").strip())
        return self.lines[-1]

    def rest(self):
        """The last of what a machine has said that nobody listened to."""
        os.set_blocking(self._process.stdout.fileno(), False)
        return (self._process.stdout.read() or b"")[-300:].decode("utf-8", "replace").strip()

    def _explain(self):
        if self._process.wait() and not self.lines:
            errors = self._process.stderr.read().decode("utf-8", "replace").strip()
            raise Failure(f"QEMU did not start: {errors.splitlines()[-1] if errors else '?'}")

    def expect(self, text, timeout):
        """Reads until a line holds the text."""
        while (line := self.next_line(timeout)) is not None:
            if text in line:
                return line
        raise Failure(f"the machine ended before it said '{text}'; its last words: "
                      f"{' / '.join(self.lines[-3:])}")


class Place(typing.NamedTuple):
    """An instruction: its address, the page of memory that it lies in, its first bytes."""
    pc: int
    page: int
    code: bytes


class Counter:
    """The plugin bench/count.c and the file in which it counts. A context manager."""

    _HEAD = 64

    def __init__(self, places=False, mark=None, gated=False):
        self._options = ",places=on" * places + (f",mark={mark:#x}" if mark else "")
        self._gated = gated
        self.files = ()
        self.gate = None

    def __enter__(self):
        """`words` and `files` are for the machine; `gate`, if wanted, for bench/lockstep.c."""
        self._file = tempfile.NamedTemporaryFile(dir=project.BUILD / "bench")
        if self._gated:
            self.gate, machine_end = socket.socketpair()
            self.files = (machine_end,)
            self._options += f",gate={machine_end.fileno()}"
        self.words = ["-plugin", f"{_plugin()},to={self._file.name}{self._options}"]
        return self

    def __exit__(self, *_):
        self._file.close()
        for end in (*self.files, *([self.gate] if self.gate else [])):
            end.close()

    def machine_runs(self):
        """To be called when QEMU has started: then the gate's other end is its alone."""
        for end in self.files:
            end.close()

    def _head(self):
        head = os.pread(self._file.fileno(), 16, 0)
        return struct.unpack("<QQ", head) if len(head) == 16 else (0, 0)

    def total(self):
        """Instructions executed so far; 0 before the machine has begun."""
        return self._head()[0]

    def marked(self):
        """Those executed when the mark was first reached."""
        return self._head()[1]

    def places(self):
        """How often each instruction was executed, by Place."""
        with mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ) as data:
            return {Place(pc, field & ~0xfff, code.to_bytes(8, "little")[:field & 0xfff]): count
                    for pc, field, code, count in struct.iter_unpack("<QQQQ", data[self._HEAD:])
                    if pc}


def _plugin():
    """Builds the plugin if it is older than its source."""
    source, target = project.ROOT / "bench" / "count.c", project.BUILD / "bench" / "count.so"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                        "-o", str(target), str(source)], check=True)
    return target
