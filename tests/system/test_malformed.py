"""Malformed frames of every kind, made by scapy: nothing that was promised is lost, and the counters say where they went."""

import subprocess
from pathlib import Path

from harness.context import until
from harness.machine_json import machine_json_at
from harness.namespace import GUEST, TAP
from harness.outcome import Skip
from harness.system import limit
from targe import project
from targe.machine import MAC

_FRAMES = Path(__file__).with_name("malformed_frames.py")
_PYTHON = "/usr/bin/python3"  # the distribution's own, which has scapy
_OTHERS = 40  # frames that the host sends by itself: for its IPv6, mostly


def _sent(network, group):
    """Sends a group of frames: how many they were, and what changed."""
    before = machine_json_at(network, GUEST)
    count = int(network.run(_PYTHON, str(_FRAMES), TAP, MAC, group, timeout=150).split()[-1])
    after = machine_json_at(network, GUEST)
    change = {name: sum(cpu[name] for cpu in after["trace"]) - sum(cpu[name] for cpu in before["trace"])
              for name in ("packets", "unclaimed", "nonsense", "put_off")}
    for name in ("filled", "handled", "dropped", "dropped_bad", "refused"):
        change[name] = sum(flow[name] for flow in after["flows"]) - sum(flow[name] for flow in before["flows"])
    return count, change


@limit(400)
def test_malformed(ctx):
    """Frames that no filter wants are unclaimed, others their library OS sees through; everybody else is served all the while."""
    if subprocess.run([_PYTHON, "-c", "import scapy"], check=False, capture_output=True).returncode:
        raise Skip(f"{_PYTHON} has no scapy")
    network = ctx.network()
    machine = ctx.machine(net=f"tap={TAP}", prefix=network.prefix, manifest=str(project.ROOT / "apps" / "echo" / "manifest"))
    assert machine.expect("echo: ready", 30), machine.output
    until(lambda: machine_json_at(network, GUEST), 30, "the machine's state")
    network.run("ip", "link", "set", TAP, "mtu", "9000")
    for group in ("unclaimed", "flows", "device"):
        count, change = _sent(network, group)
        least = {"unclaimed": 300, "flows": 500, "device": 20}[group]
        assert count > least, (group, count)
        if group == "unclaimed":
            assert count <= change["unclaimed"] <= count + _OTHERS, (group, count, change)
        else:
            assert change["unclaimed"] <= _OTHERS, (group, count, change)
        if group == "flows":  # and each of the good ones between them
            assert change["filled"] + change["handled"] >= 1.5 * count, (group, count, change)
        assert not any(change[name] for name in ("nonsense", "dropped", "dropped_bad", "refused")), (group, change)
    assert "ended" not in machine.output and "panic" not in machine.output, machine.output
    machine.write(b"check\r")
    assert machine.expect(r"\n0 contradictions found", 20), machine.output
