"""Hostile input from the network to mini and to the monitor."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from harness.context import until
from harness.machine_json import machine_json_at
from harness.namespace import GUEST, TAP
from harness.system import limit
from targe import project
from targe.machine import MAC

_FRAMES = Path(__file__).with_name("frames_for_mini.py")
_ALL_FRAMES = Path(__file__).with_name("frames_for_all.py")
_TIME, _SEED = map(int, os.environ.get("TARGE_FRAMES", "10,1").split(","))


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


def _on_tap(ctx, **settings):
    network = ctx.network()
    machine = ctx.machine(net=f"tap={TAP}", prefix=network.prefix, **settings)
    until(lambda: _answers(network), 30, "an answer over the tap")
    return network, machine


def _answers(network):
    """Whether the site is served and ping answered."""
    return all(subprocess.run([*network.prefix, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False).returncode == 0
               for words in (["curl", "-s", "-f", "-m", "5", f"http://{GUEST}/"],
                             ["ping", "-c", "1", "-W", "2", "-q", GUEST]))


@limit(_TIME + 110)
def test_any_frames(ctx):
    """Damaged frames of every protocol, at random: all libOSes go on, and the kernel's books are right."""
    network, machine = _on_tap(ctx)
    sent = int(network.run(sys.executable, str(_ALL_FRAMES), TAP, MAC, str(_TIME), str(_SEED), timeout=_TIME + 30))
    assert sent > 1000, sent
    assert until(lambda: _answers(network), 30, "an answer after all")
    state = machine_json_at(network, GUEST)
    assert sum(cpu["packets"] for cpu in state["trace"]) > sent / 10, state["trace"]
    assert not any(cpu["nonsense"] for cpu in state["trace"])
    assert "ended" not in machine.output and "panic" not in machine.output, machine.output
    machine.write(b"check\r")
    assert machine.expect(r"\n0 contradictions found", 20), machine.output


def test_flood(ctx):
    """Frames that nobody wants, as fast as a host can send them, take no more than half of a CPU from who computes."""
    network, _ = _on_tap(ctx, manifest=str(project.ROOT / "apps" / "stride" / "manifest"))
    before = machine_json_at(network, GUEST)
    network.run(sys.executable, str(_ALL_FRAMES), TAP, MAC, "6", "0", timeout=40)
    until(lambda: _answers(network), 30, "an answer after the flood")
    after = machine_json_at(network, GUEST)
    assert sum(cpu["unclaimed"] for cpu in after["trace"]) - sum(cpu["unclaimed"] for cpu in before["trace"]) > 5000

    def computed(state):
        return sum(env["runtime_ms"] for env in state["envs"])

    elapsed = after["uptime_ms"] - before["uptime_ms"]
    assert computed(after) - computed(before) > 0.4 * elapsed, (before, after)


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
            (b"GET /kill/web HTTP/1.0\r\n\r\n", b"404"), (b"GET /pages/x HTTP/1.0\r\n\r\n", b"404"),
            (b"GET /pages/99999999 HTTP/1.0\r\n\r\n", b"404"), (b"GET /envs/1 HTTP/1.0\r\n\r\n", b"404"), (b"\r\n\r\n", b"400"),
            (b"GET /poweroff HTTP/1.0\r\n\r\n", b"404"), (b"GET\r\n\r\n", b"400"),
            (b"\xff" * 500 + b"\r\n\r\n", b"400"), (b"x" * 3000, b"400"),
            (b"GET /" + b"%n" * 300 + b" HTTP/1.0\r\n\r\n", b"404")):
        assert _talk(machine, request).startswith(b"HTTP/1.0 " + status), request
    assert _talk(machine, b"GET /envs HTTP/1.0\n\n", half_close=True).startswith(b"HTTP/1.0 200")
    assert _talk(machine, b"GET /envs", half_close=True) == b""
    answer = _talk(machine, b"GET /trace/on HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 404") and b"there is no CPU" in answer, answer


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
