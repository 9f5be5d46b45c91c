"""Handlers in the kernel, seen from the network: the echo of a counter (apps/echo)."""

import socket
import struct
import subprocess
import sys
import textwrap

from harness.context import until
from harness.namespace import GUEST, TAP
from targe import project

_APPS = project.ROOT / "apps"
HANDLER, LIBRARY, LAST = 7000, 7001, 7010  # the library OS has a range of ports


def _boot(ctx, app, ready, **settings):
    """A machine on a tap with this application; `ready`: what it says on the console."""
    network = ctx.network()
    machine = ctx.machine(net=f"tap={TAP}", prefix=network.prefix,
                          manifest=str(_APPS / app / "manifest"), **settings)
    found = machine.expect(ready, 30)
    assert found, f"{app} did not start"
    return network, machine


def _inside(network, text, *words):
    """Runs a Python text in the namespace; it fails by an exception."""
    return network.run(sys.executable, "-c", textwrap.dedent(text), *map(str, words))


_COUNTER = """
    import socket, struct, sys
    host, port, turns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    s.connect((host, port))
    n = 0
    for turn in range(turns):
        for attempt in range(5):
            s.send(struct.pack(">Q", n) + bytes(range(10)))
            try:
                got = s.recv(2000)
                break
            except TimeoutError:
                pass
        else:
            sys.exit("no answer")
        assert len(got) == 18 and got[8:] == bytes(range(10)), got
        value, = struct.unpack(">Q", got[:8])
        assert value == n + 1, (value, n)
        n = value
    print(n)
"""


def test_echo(ctx):
    """The counter of 60-byte datagrams comes back increased, by a handler and by a library OS."""
    network, _ = _boot(ctx, "echo", "echo: ready")
    for port in (HANDLER, LIBRARY, LAST):
        assert _inside(network, _COUNTER, GUEST, port, 500).strip() == "500"
