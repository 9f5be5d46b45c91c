"""One machine: QEMU's command line, its process, console and end.

Rules: start it from the main thread (the kernel ends QEMU when the thread that started it
ends); use it as a context manager, so that QEMU is stopped whatever happens. QEMU runs in a
session of its own: Ctrl-C reaches only the command, which then stops QEMU.
"""

import ctypes
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

from targe.accel import EXIT_DEVICE, QEMU
from targe.report import Failure

MACHINES = ("q35", "pc", "microvm")
MAC = "52:54:00:12:34:56"
_KEPT = 4 << 20
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Config:
    """What the machine is made of. Sizes in MiB; `net`: user, none or tap=NAME."""
    kernel: str = None
    archive: object = None          # an open file
    append: str = ""
    iso: str = None
    firmware: str = None
    machine: str = "q35"
    accel: str = "tcg"
    smp: int = 1
    icount: bool = False            # the TSC counts executed instructions; one thread for all CPUs
    memory: int = 256
    net: str = "none"
    queues: int = 1                 # pairs of queues of the network card; more need a tap for several
    card: str = ""                  # further properties of the network card, as -device takes them
    user_net: str = ""              # further options of QEMU's user networking
    guest: str = ""                 # the guest's address, if it is not the usual one
    port: int = 0                   # forwarded to the guest's 80, the next one to 81; 0: none
    pcap: str = None
    exit_device: bool = False
    gdb_socket: str = None
    devices: tuple = ()             # further devices, as QEMU's -device takes them
    vnc: str = ""                   # where QEMU shows the screen, as -vnc takes it; none otherwise
    prefix: tuple = ()              # a command that starts QEMU in another namespace


def command(config):
    """QEMU's command line."""
    microvm = config.machine == "microvm"
    accel = "tcg,thread=multi" if config.accel == "tcg" else config.accel
    words = [*config.prefix, QEMU, "-machine", config.machine, "-accel", accel, "-cpu", "max",
             "-smp", str(config.smp), "-m", f"{config.memory}M", "-display", "none",
             "-nodefaults", "-no-user-config", "-no-reboot",
             "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    if microvm:
        words += ["-global", "virtio-mmio.force-legacy=false"]
    if config.icount:
        words[words.index(accel)] = "tcg"
        words += ["-icount", "shift=0"]
    if config.kernel:
        words += ["-kernel", str(config.kernel)]
    if config.archive:
        words += ["-initrd", f"/dev/fd/{config.archive.fileno()}"]
    if config.append:
        words += ["-append", config.append]
    if config.iso:
        words += ["-drive", f"if=none,id=iso,media=cdrom,readonly=on,file={_escape(config.iso)}",
                  "-device", "ide-cd,drive=iso,bootindex=0"]
    if config.firmware:
        words += ["-bios", str(config.firmware)]
    for device in config.devices:
        words += ["-device", device]
    if config.vnc:
        words += ["-vnc", config.vnc]
    if config.exit_device:
        words += ["-device", EXIT_DEVICE]
    if config.gdb_socket:
        words += ["-S", "-chardev",
                  f"socket,id=gdb,path={_escape(config.gdb_socket)},server=on,wait=off",
                  "-gdb", "chardev:gdb"]
    return words + _network(config, microvm)


def _escape(path):
    """QEMU doubles commas inside an option."""
    return str(path).replace(",", ",,")


def _network(config, microvm):
    if config.net == "none":
        return []
    if config.net == "user":
        backend = f"user,id=net{config.user_net},restrict=on"
        for offset in (0, 1) if config.port else ():
            backend += (f",hostfwd=tcp:127.0.0.1:{config.port + offset}"
                        f"-{config.guest}:{80 + offset}")
    else:
        name = config.net.removeprefix("tap=")
        backend = f"tap,id=net,ifname={_escape(name)},script=no,downscript=no"
        if config.queues > 1:
            backend += f",queues={config.queues}"
        if config.pcap:  # otherwise each captured frame begins with the device's own header
            backend += ",vnet_hdr=off"
    card = "virtio-net-device" if microvm else "virtio-net-pci,disable-legacy=on,romfile="
    if config.queues > 1:
        card += f",mq=on,vectors={2 * config.queues + 2}"
    words = ["-netdev", backend, "-device", f"{card},netdev=net,mac={MAC}" + f",{config.card}" * bool(config.card)]
    if config.pcap:
        words += ["-object", f"filter-dump,id=pcap,netdev=net,file={_escape(config.pcap)}"]
    return words


def die_with_parent():
    """For a child process: ask the kernel to end it when its parent ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Machine:
    """A running machine. `on_output`, if given, gets the console's bytes in another thread."""

    def __init__(self, config, on_output=None):
        self.config = config
        self.shutdown = None
        self._on_output = on_output
        self._process = None
        self._changed = threading.Condition()
        self._output = bytearray()
        self._dropped = 0
        self._errors = bytearray()
        self._drained = False
        self._control = None
        self._answers = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Starts QEMU."""
        ours, theirs = socket.socketpair()
        with theirs:
            words = command(self.config) + [
                "-chardev", f"socket,id=control,fd={theirs.fileno()}",
                "-mon", "chardev=control,mode=control"]
            descriptors = [theirs.fileno()]
            if self.config.archive:
                descriptors.append(self.config.archive.fileno())
            try:
                self._process = subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    bufsize=0, pass_fds=descriptors, start_new_session=True,
                    preexec_fn=die_with_parent)
            except OSError as error:
                ours.close()
                raise Failure(f"cannot run {words[0]}: {error.strerror}") from error
        # QEMU reports why the machine ends only after this command.
        ours.sendall(b'{"execute": "qmp_capabilities"}\n')
        self._control = ours
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    @property
    def pid(self):
        """QEMU's process number."""
        return self._process.pid

    @property
    def output(self):
        """What the console has printed (the last 4 MB of it)."""
        with self._changed:
            return self._output.decode("utf-8", "replace")

    def write(self, data):
        """Types bytes on the console."""
        try:
            self._process.stdin.write(data)
        except BrokenPipeError:
            pass

    def expect(self, pattern, timeout, since=0):
        """Waits for text on the console; gives the match, or None if it does not come.

        `since`: where to begin, a value that `mark` gave.
        """
        expression = re.compile(pattern.encode())
        limit = time.monotonic() + timeout
        with self._changed:
            while True:
                match = expression.search(self._output, max(0, since - self._dropped))
                left = limit - time.monotonic()
                if match or self._drained or left <= 0:
                    return match
                self._changed.wait(left)

    def next_line(self, position, timeout):
        """The console's next whole line after a position, and the position after it; or None."""
        limit = time.monotonic() + timeout
        with self._changed:
            while True:
                begin = max(0, position - self._dropped)
                end = self._output.find(b"\n", begin)
                if end >= 0:
                    line = self._output[begin:end].decode("utf-8", "replace")
                    return line.rstrip("\r"), end + 1 + self._dropped
                left = limit - time.monotonic()
                if self._drained or left <= 0:
                    return None
                self._changed.wait(left)

    def mark(self):
        """The present end of the console's output."""
        with self._changed:
            return self._dropped + len(self._output)

    def running(self):
        """Whether QEMU still runs."""
        return self._process.poll() is None

    def wait(self, timeout=None):
        """Waits for QEMU to end and for all its output; gives its exit status or None."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(5)
        return status

    def stop(self):
        """Ends QEMU, whatever state it is in."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        self._process.stdin.close()

    def screendump(self, path, timeout=10):
        """Has QEMU write what the screen shows to a PPM file; says whether it did."""
        limit = time.monotonic() + timeout
        with self._changed:
            self._answers.clear()
        self._control.sendall(json.dumps(
            {"execute": "screendump", "arguments": {"filename": str(path)}}).encode() + b"\n")
        with self._changed:
            while not self._answers and time.monotonic() < limit:
                self._changed.wait(limit - time.monotonic())
            return bool(self._answers) and "return" in self._answers[0]

    def why(self):
        """How the machine ended: poweroff, reset, stopped (from outside), or an error's text."""
        if self.shutdown in ("guest-shutdown", "guest-reset"):
            return {"guest-shutdown": "poweroff", "guest-reset": "reset"}[self.shutdown]
        if self.shutdown:
            return "stopped"
        lines = [line for line in self._errors.decode("utf-8", "replace").splitlines()
                 if "warning:" not in line]
        return lines[0] if lines else f"QEMU ended with status {self._process.poll()}"

    def _read(self, control):
        """The reader thread: takes in all that QEMU says until everything is closed."""
        with selectors.DefaultSelector() as selector, control:
            selector.register(self._process.stdout, selectors.EVENT_READ, self._take_output)
            selector.register(self._process.stderr, selectors.EVENT_READ, self._errors.extend)
            events = bytearray()
            selector.register(control, selectors.EVENT_READ,
                              lambda data: self._take_events(events, data))
            while selector.get_map():
                for key, _ in selector.select():
                    try:
                        data = os.read(key.fd, 65536)
                    except ConnectionResetError:
                        data = b""
                    if data:
                        key.data(data)
                    else:
                        selector.unregister(key.fileobj)
        self._process.stdout.close()
        self._process.stderr.close()
        with self._changed:
            self._drained = True
            self._changed.notify_all()

    def _take_output(self, data):
        with self._changed:
            self._output += data
            excess = len(self._output) - _KEPT
            if excess > 0:
                del self._output[:excess]
                self._dropped += excess
            self._changed.notify_all()
        if self._on_output:
            self._on_output(data)

    def _take_events(self, events, data):
        events += data
        *lines, rest = events.split(b"\n")
        events[:] = rest
        for line in lines:
            message = json.loads(line)
            if message.get("event") == "SHUTDOWN":
                self.shutdown = message["data"]["reason"]
            if "return" in message or "error" in message:
                with self._changed:
                    self._answers.append(message)
                    self._changed.notify_all()
