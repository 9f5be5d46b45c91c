"""Many requests, many connections."""

import json
import re
import subprocess
import time

from harness.context import until
from harness.machine_json import machine_json, machine_json_at
from harness.namespace import GUEST, TAP
from harness.system import limit

_CONNECTIONS = 1000
_REQUESTS = 200000
_THREADS = 2
_LONGEST = 120  # seconds
# Prints the account for the test to read.
_SCRIPT = """
function done(summary)
    local e = summary.errors
    print(string.format('account {"requests": %d, "connect": %d, "read": %d, "write": %d, ' ..
        '"status": %d, "timeout": %d}',
        summary.requests, e.connect, e.read, e.write, e.status, e.timeout))
end
"""


def _account(text):
    found = re.search(r"^account (.*)$", text, re.M)
    assert found, text
    account = json.loads(found.group(1))
    requests = account.pop("requests")
    assert not any(account.values()), f"{requests} requests, errors: {account}"
    return requests


def _wrk(ctx, prefix, connections, seconds, address):
    script = ctx.folder / "account.lua"
    script.write_text(_SCRIPT, encoding="ascii")
    words = [*prefix, "prlimit", "--nofile=4096:4096", "wrk", "-t", str(_THREADS),
             "-c", str(connections), "-d", str(seconds), "--timeout", "20", "-s", str(script),
             address]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=seconds + 60, check=False)
    ctx.artifact("wrk.txt").write_text(done.stdout, encoding="utf-8")
    assert done.returncode == 0, done.stdout
    return _account(done.stdout)


def _site(ctx):
    """A site of one page of a usual size, 1 KB."""
    site = ctx.folder / "site"
    site.mkdir()
    (site / "index.html").write_bytes(b"<p>Hello, machine!</p>\n" * 44)
    return str(site)


def test_wrk(ctx):
    """wrk for some seconds over QEMU's user networking, no error."""
    machine = ctx.serving(site=_site(ctx))
    address = f"http://127.0.0.1:{machine.config.port}/index.html"
    assert _wrk(ctx, (), 16, 5, address) > 100
    assert machine_json(machine)["memory"]["free"] > 0


@limit(420)
def test_thousand_connections(ctx):
    """1,000 connections at once, 200,000 requests, no error, free pages as before."""
    network = ctx.network()
    ctx.machine(net=f"tap={TAP}", smp=2, prefix=network.prefix,
                site=_site(ctx))
    until(lambda: _answers(network), 30, "an answer over the tap")
    before = _free_at_rest(network)
    address = f"http://{GUEST}/index.html"
    # wrk is given a time, not a number: each run tells how long the next must be.
    seconds = 4
    requests = _wrk(ctx, network.prefix, _CONNECTIONS, seconds, address)
    while requests < _REQUESTS:
        assert seconds < _LONGEST, f"only {requests} requests in {seconds} s"
        seconds = min(_LONGEST, int(_REQUESTS * 1.4 * seconds / requests) + 1)
        requests = _wrk(ctx, network.prefix, _CONNECTIONS, seconds, address)
    after = _free_at_rest(network)
    assert after == before, f"{before} pages were free before, {after} are after"


def _free_at_rest(network):
    """Free pages, once their number has stayed the same for some seconds."""
    seen = []
    while len(seen) < 5 or len(set(seen[-5:])) > 1:
        assert len(seen) < 40, f"the number of free pages does not come to rest: {seen}"
        seen.append(machine_json_at(network, GUEST)["memory"]["free"])
        time.sleep(1)
    return seen[-1]


def _answers(network):
    return subprocess.run([*network.prefix, "curl", "-s", "-o", "/dev/null", "-m", "2",
                           f"http://{GUEST}/"], check=False).returncode == 0
