"""`targe run`: boots the machine and stays until it ends or Ctrl-C."""

import http.client
import sys
import threading
import time
from contextlib import nullcontext

from targe import boot, console, packages
from targe.build import build
from targe.machine import Machine
from targe.report import Failure, Stopped, say

_TAIL_LINES = 20


def run(options):
    """Installs, builds, boots and attends the machine. Gives the exit status."""
    boot.check(options)
    packages.ensure("run")
    build("release")
    config, settings = boot.prepare(options, "release")
    with config.archive:
        machine = Machine(config, None if options.headless else console.show)
        with nullcontext() if options.headless else console.Terminal(), machine:
            say(f"booting ({config.machine}, {config.accel}, {config.smp} "
                f"CPU{'s' * (config.smp > 1)}, {config.memory} MB); Ctrl-C ends the machine")
            _announce_later(machine, config, settings)
            try:
                console.attend(machine, keys=not options.headless)
            except (KeyboardInterrupt, Stopped):
                print(file=sys.stderr)
                say("stopped")
                return 0
            machine.wait()
    return _explain_end(machine, options)


def _explain_end(machine, options):
    reason = machine.why()
    if reason == "poweroff":
        say("the machine has switched itself off")
        return 0
    if options.headless:
        print("\n".join(machine.output.splitlines()[-_TAIL_LINES:]), file=sys.stderr)
    if reason == "reset":
        raise Failure("the machine stopped by a reset: it crashed, or asked to start again")
    raise Failure(f"the machine ended: {reason}")


def _announce_later(machine, config, settings):
    """Prints the site's address once the machine has answered a request."""
    if config.net == "none":
        return
    if config.net == "user":
        host, port = "127.0.0.1", config.port
    else:
        host, port = str(settings.address.ip), 80
    address = f"http://{host}:{port}" if port != 80 else f"http://{host}"
    threading.Thread(target=_announce, args=(machine, host, port, address), daemon=True).start()


def _announce(machine, host, port, address):
    if wait_for_answer(host, port, machine.running):
        # The console may be in the middle of a line.
        print(f"\ntarge: serving {address}", flush=True)


def wait_for_answer(host, port, go_on):
    """Asks again and again until somebody speaks HTTP, or `go_on()` is false; gives which.

    What is sent to a machine that still boots is lost, so the first attempts are short; a slow
    machine gets more time with each.
    """
    timeout = 0.3
    while go_on():
        if _answers(host, port, timeout):
            return True
        timeout = min(timeout * 1.3, 5)
        time.sleep(0.05)
    return False


def _answers(host, port, timeout):
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        connection.getresponse()
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
