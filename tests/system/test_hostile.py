"""Hostile input from the network to mini and to the monitor."""

import contextlib
import socket
import sys
from pathlib import Path

from harness.context import until
from harness.namespace import TAP
from targe.machine import MAC

_FRAMES = Path(__file__).with_name("frames_for_mini.py")


def test_frames(ctx):
    """mini answers good ARP and ping frames rightly, and is neither misled nor stopped by others."""
    network = ctx.network()
    manifest = ctx.folder / "manifest"
    manifest.write_text("env mini program=mini.elf pages=128 slices=0:8 flow=arp flow=icmp "
                        "console=write\n", "ascii")
    machine = ctx.machine(net=f"tap={TAP}", prefix=network.prefix, manifest=str(manifest))
    assert machine.expect("mini: ready", 30), machine.output
    network.run(sys.executable, str(_FRAMES), TAP, MAC, timeout=100)
    assert "ended" not in machine.output, machine.output


def _talk(machine, data, half_close=False):
    """What the monitor answers."""
    with socket.create_connection(("127.0.0.1", machine.config.port + 1), 10) as peer:
        peer.sendall(data)
        if half_close:
            peer.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := peer.recv(65536):
                answer += part
    return answer


def test_requests(ctx):
    """The monitor answers good requests, refuses bad ones, and takes no orders from the network."""
    machine = ctx.serving()
    for path in (b"/", b"/pages", b"/pages/0x10", b"/envs", b"/slices/0", b"/flows?x", b"/trace"):
        answer = _talk(machine, b"GET " + path + b" HTTP/1.0\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200") and body, answer
        assert f"Content-Length: {len(body)}\r".encode() in head, answer
    for request, status in (
            (b"POST / HTTP/1.0\r\n\r\n", b"405"), (b"GET /nothing HTTP/1.0\r\n\r\n", b"404"),
            (b"GET /kill/web HTTP/1.0\r\n\r\n", b"404"), (b"\r\n\r\n", b"400"),
            (b"GET /poweroff HTTP/1.0\r\n\r\n", b"404"), (b"GET\r\n\r\n", b"400"),
            (b"\xff" * 500 + b"\r\n\r\n", b"400"), (b"x" * 3000, b"400"),
            (b"GET /" + b"%n" * 300 + b" HTTP/1.0\r\n\r\n", b"404")):
        assert _talk(machine, request).startswith(b"HTTP/1.0 " + status), request
    assert _talk(machine, b"GET /envs HTTP/1.0\n\n", half_close=True).startswith(b"HTTP/1.0 200")
    assert _talk(machine, b"GET /envs", half_close=True) == b""
    assert b"there is no CPU" in _talk(machine, b"GET /trace/on HTTP/1.0\r\n\r\n")


def test_idle_connections(ctx):
    """Connections that say nothing do not keep others out, and are ended."""
    machine = ctx.serving()
    address = ("127.0.0.1", machine.config.port + 1)
    idle = [ctx.enter_context(socket.create_connection(address, 10)) for _ in range(24)]
    assert _talk(machine, b"GET /envs HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")
    idle[-1].settimeout(30)
    with contextlib.suppress(ConnectionResetError):
        assert idle[-1].recv(1) == b""
    until(lambda: _talk(machine, b"GET / HTTP/1.0\r\n\r\n"), 10, "an answer")
