"""The network's other sides: ARP, ping, two library OSes at one address, captured frames."""

import json
import re
import struct
import subprocess
import urllib.request

from harness.context import until
from harness.namespace import GUEST, HOST, TAP
from harness.system import limit
from targe.machine import MAC

_PCAP_MAGIC = 0xa1b2c3d4


def _on_tap(ctx, **settings):
    network = ctx.network()
    machine = ctx.machine(net=f"tap={TAP}", prefix=network.prefix, **settings)
    until(lambda: _ping(network, 1) == 0, 30, "an answer to ping")
    return network, machine


def _ping(network, count, size=56):
    return subprocess.run([*network.prefix, "ping", "-c", str(count), "-i", "0.05", "-W", "2",
                           "-s", str(size), "-q", GUEST], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False).returncode


def test_ping_and_arp(ctx):
    """ICMP echo is answered, with small and large packets, from the right address."""
    network, _ = _on_tap(ctx)
    for size in (0, 1, 56, 1400, 1472):
        out = network.run("ping", "-c", "5", "-i", "0.05", "-W", "2", "-s", str(size), GUEST)
        assert "5 received" in out, out
    neighbours = network.run("ip", "neighbour", "show", "dev", TAP)
    assert re.search(rf"{GUEST} .*{MAC}", neighbours), neighbours


def test_tap_serves(ctx):
    """The site is served over a tap, and ping still answers beside it."""
    network, _ = _on_tap(ctx)
    out = until(lambda: subprocess.run(
        [*network.prefix, "curl", "-s", "-m", "5", f"http://{GUEST}/machine.json"],
        stdout=subprocess.PIPE, check=False).stdout, 20, "an answer over the tap")
    assert out.startswith(b"{")
    assert _ping(network, 3) == 0


def test_two_owners_of_one_address(ctx):
    """Port 80 is the web library OS's, port 81 the monitor's, at the same address."""
    machine = ctx.serving()
    with urllib.request.urlopen(f"http://127.0.0.1:{machine.config.port}/", timeout=15) as page:
        first = page.read()
    address = f"http://127.0.0.1:{machine.config.port + 1}/"
    with urllib.request.urlopen(address, timeout=15) as page:
        second = page.read()
    assert first and second and first != second


def test_captured_frames(ctx):
    """--pcap writes all frames in a form that other programs read."""
    capture = ctx.folder / "frames.pcap"
    machine = ctx.serving(pcap=str(capture))
    ctx.connect(machine).get("/")
    machine.stop()
    data = capture.read_bytes()
    assert struct.unpack_from("<I", data)[0] == _PCAP_MAGIC
    assert b"HTTP/1.1 200" in data
    position, frames = 24, 0
    while position < len(data):
        position += 16 + struct.unpack_from("<I", data, position + 8)[0]
        frames += 1
    assert position == len(data) and frames > 5


def test_several_queues(ctx):
    """Each CPU has queues of its own: frames reach several, and all is answered through them."""
    network = ctx.network()
    network.run("ip", "link", "delete", TAP)
    network.run("ip", "tuntap", "add", "dev", TAP, "mode", "tap", "multi_queue")
    network.run("ip", "addr", "add", f"{HOST}/24", "dev", TAP)
    network.run("ip", "link", "set", TAP, "up")
    machine = ctx.machine(net=f"tap={TAP}", prefix=network.prefix, smp=3, queues=4)
    until(lambda: _ping(network, 1) == 0, 30, "an answer to ping")
    assert "pairs of queues: 3" in machine.output, machine.output
    for _ in range(3):  # 60 connections: the tap spreads them over the queues by their ports
        network.run("curl", "-s", "-m", "20", "-Z", "--parallel-max", "20", "-o", "/dev/null", "--no-keepalive",
                    f"http://{GUEST}/?[1-20]", "-H", "Connection: close")
    state = json.loads(network.run("curl", "-s", "-m", "10", f"http://{GUEST}/machine.json"))
    packets = [cpu["packets"] for cpu in state["trace"]]
    assert sum(count > 0 for count in packets) >= 2, packets
    assert not any(cpu["nonsense"] for cpu in state["trace"])
    assert _ping(network, 20) == 0


@limit(120)
def test_lesser_devices(ctx):
    """A device that cannot hold back events, takes no tables of descriptors or cannot sum: all is answered."""
    network = ctx.network()
    for bus in ("q35", "microvm"):
        for card in ("event_idx=off", "indirect_desc=off", "event_idx=off,indirect_desc=off", "csum=off,guest_csum=off"):
            machine = ctx.machine(net=f"tap={TAP}", prefix=network.prefix, machine=bus, card=card)
            until(lambda: _ping(network, 1) == 0, 30, f"an answer to ping, {bus}, {card}")
            network.run("curl", "-s", "-f", "-m", "20", "-Z", "--parallel-max", "20", "-o", "/dev/null",
                        f"http://{GUEST}/?[1-200]", "-H", "Connection: close")  # more frames than a ring has places
            state = json.loads(network.run("curl", "-s", "-f", "-m", "10", f"http://{GUEST}/machine.json"))
            assert not any(cpu["nonsense"] for cpu in state["trace"]), (bus, card)
            assert ("software" if "csum" in card else "device") in re.search(r"checksums by (\w+)", machine.output)[1]
            assert _ping(network, 10) == 0, (bus, card)
            machine.stop()
