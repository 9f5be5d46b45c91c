"""`targe run`: boots the machine and stays until it ends or Ctrl-C."""

import http.client
import os
import re
import socket
import sys
import threading
import time
from contextlib import nullcontext

from targe import boot, console, packages
from targe.build import build
from targe.machine import Machine
from targe.manifest import taker
from targe.report import Failure, Stopped, say

_TAIL_LINES = 20
_RESET_ASKED = "targe: reset as asked"      # the kernel's last line (kernel/core/console.c)
# How long a script waits for a site that is to be served. Slow machines answer within seconds.
_PATIENCE = 120
# The last words of a kernel, or of `init`, that cannot go on and switches the machine off.
_GAVE_UP = re.compile(r"targe: panic: .*|manifest:\d+: .*|init: cannot go on: .*")
_NOT_STARTED = re.compile(rb"init: (\S+) cannot be started: .*")


def run(options):
    """Installs, builds, boots and attends the machine. Gives the exit status."""
    boot.check(options)
    packages.ensure("run")
    build("release")
    config, settings = boot.prepare(options, "release")
    starts = _Starts() if options.headless else None
    with config.archive:
        machine = Machine(config, starts.take if options.headless else console.show)
        with nullcontext() if options.headless else console.Terminal(), machine:
            try:
                say(f"booting ({config.machine}, {config.accel}, {config.smp} "
                    f"CPU{'s' * (config.smp > 1)}, {config.memory} MB); Ctrl-C ends the machine")
                serving = _Serving(machine, config, settings, starts)
                serving.start()
                console.attend(machine, keys=not options.headless)
            except (KeyboardInterrupt, Stopped):
                print(file=sys.stderr)
                say("stopped")
                return 0
            machine.wait()
    if serving.failure:
        _show_tail(machine)
        raise Failure(serving.failure)
    return explain_end(machine, options.headless)


class _Starts:
    """Reads the unseen console: environments that `init` could not start are said and kept."""

    def __init__(self):
        self.failed = set()
        self._rest = b""

    def take(self, data):
        """The console's next bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            found = _NOT_STARTED.search(line)
            if found:
                say(found.group().decode("utf-8", "replace").rstrip("\r"))
                self.failed.add(found.group(1).decode("utf-8", "replace"))


def _show_tail(machine):
    print("\n".join(machine.output.splitlines()[-_TAIL_LINES:]), file=sys.stderr)


def explain_end(machine, headless):
    """Says why a machine ended by itself. Gives the exit status; one that failed is a Failure."""
    reason = machine.why()
    last = machine.output.rstrip().splitlines()[-2:]
    given_up = next(filter(_GAVE_UP.fullmatch, last), None)
    if reason == "poweroff" and given_up:
        raise Failure(f"the machine gave up: {given_up}")
    if reason == "poweroff":
        say("the machine has switched itself off")
        return 0
    if reason == "reset" and machine.output.rstrip().endswith(_RESET_ASKED):
        say("the machine asked to start again; ./targe run does that")
        return 0
    if headless:
        _show_tail(machine)
    if reason == "reset":
        raise Failure("the machine stopped by a reset that nobody asked for: it crashed")
    raise Failure(f"the machine ended: {reason}")


class _Serving(threading.Thread):
    """Prints the site's address once the machine has answered a request.

    With `starts` (a script cannot see the console) a machine that does not serve what its manifest
    promises is ended; `failure` then says why.
    """

    def __init__(self, machine, config, settings, starts):
        super().__init__(daemon=True)
        self.failure = None
        self._machine = machine
        self._config = config
        self._starts = starts
        self._address = str(settings.address.ip)
        self._server = taker(settings.flows, "tcp:80")
        self._limit = time.monotonic() + _PATIENCE

    def run(self):
        if self._config.net == "none":
            return
        if not self._server:
            say("the manifest gives nobody flow=tcp:80, so there is no site to wait for")
            return
        host, port, device = "127.0.0.1", self._config.port, None
        if self._config.net != "user":
            host, port = self._address, 80
            device = _wire(self._config.net.removeprefix("tap="))
        address = f"http://{host}:{port}" if port != 80 else f"http://{host}"
        if wait_for_answer(host, port, self._go_on, device) and self._machine.running():
            # The console may be in the middle of a line, a prompt mostly: it is shown again.
            unfinished = "" if self._starts else self._machine.output.rpartition("\n")[2]
            print(f"\ntarge: serving {address}", end=f"\n{unfinished}", flush=True)
        elif self.failure:
            self._machine.stop()

    def _go_on(self):
        if self._starts:
            if self._server in self._starts.failed:
                self.failure = f"'{self._server}', which is to serve the site, was not started"
            elif time.monotonic() > self._limit:
                self.failure = f"the site has not answered within {_PATIENCE} s"
        return self._machine.running() and not self.failure


def _wire(tap):
    """The interface that the host reaches the machine by: the tap, or the bridge it is part of."""
    try:
        return os.path.basename(os.readlink(f"/sys/class/net/{tap}/master"))
    except OSError:
        return tap


def wait_for_answer(host, port, go_on, device=None):
    """Asks again and again until somebody speaks HTTP, or `go_on()` is false; gives which.

    What is sent to a machine that still boots is lost, so the first attempts are short; a slow
    machine gets more time with each. With `device`, only answers that come in there count: at the
    address of a machine on a tap there may be somebody else, or this host itself.
    """
    timeout = 0.3
    while go_on():
        if _answers(host, port, timeout, device):
            return True
        timeout = min(timeout * 1.3, 5)
        time.sleep(0.05)
    return False


def _answers(host, port, timeout, device):
    connection = http.client.HTTPConnection(host, port)
    with socket.socket() as probe:
        try:
            probe.settimeout(timeout)
            if device:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            probe.connect((host, port))
            if device and probe.getsockname()[0] == host:
                return False
            connection.sock = probe
            connection.request("GET", "/", headers={"Connection": "close"})
            connection.getresponse()
            return True
        except (OSError, http.client.HTTPException):
            return False
