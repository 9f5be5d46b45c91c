"""The paper's round trip on a busy machine: a counter in a UDP datagram of 60 bytes comes back from a handler and
from a library OS (apps/echo), while more and more environments beside them compute for ever. The handler's
answer should take as long with ten as with none; the other waits for its slices. Gives rows of the group network and
writes the plot.
"""

import math
import sys

from targe import archive, boot, manifest, project
from targe.bench_machine import TIME, Running, machine_words
from targe.network import GUEST, TAP
from targe.bench_result import Result
from targe.report import Failure, Progress, say

_BESIDE = (0, 1, 2, 4, 7, 10)
_BESIDE_QUICK = (0, 1, 10)
_WAYS = (("a handler", 7000), ("a library OS", 7001))
_PLOT = project.BUILD / "bench" / "busy.svg"
_SILENCE = 60
# The client waits at random before each datagram: one that asks again at once would often be answered in the slice
# in which the answer before was given.
_CLIENT = """
import random, socket, statistics, sys, time
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to.connect((sys.argv[1], int(sys.argv[2])))
to.settimeout(2)
times = []
for n in range(int(sys.argv[3])):
    time.sleep(random.uniform(0, 0.03))
    begun = time.perf_counter()
    to.send(n.to_bytes(8, "big") + bytes(52))
    try:
        while int.from_bytes(to.recv(100)[:8], "big") != n + 1:
            pass
    except TimeoutError:
        continue
    times.append(time.perf_counter() - begun)
print(len(times), statistics.median(times) * 1e6 if times else 0)
"""


def measure_busy(network, quick):
    """Results of both ways with each number of greedy environments."""
    progress = Progress("taking times on a busy machine")
    times = {}
    for beside in _BESIDE_QUICK if quick else _BESIDE:
        progress.show(f"{beside} greedy environments")
        for way, median in _ask(network, beside, 40 if quick else 150):
            times[way, beside] = median
    progress.done("took times on a busy machine")
    plot = _plot(times)
    _PLOT.write_text(plot, encoding="utf-8")
    say(f"the plot is in {_PLOT.relative_to(project.ROOT)}")
    return [Result(f"UDP echo by {way}, {beside} greedy beside it", "datagram", "ns under TCG",
                   group="network", targe=times[way, beside] * 1000) for way, beside in times]


def _manifest(beside):
    lines = ["net address=10.0.2.15/24 gateway=10.0.2.2",
             "env mini program=mini.elf pages=128 slices=0:2 flow=arp",
             "env echo program=echo.elf pages=512 slices=0:4 flow=udp:7000 flow=udp:7001 console=write"]
    lines += [f"env greedy{n} program=greedy.elf pages=64 slices=0:4" for n in range(beside)]
    return "\n".join(lines) + "\n"


def _ask(network, beside, count):
    """The median time to an answer, in us, by each way."""
    programs = project.programs("release")
    wanted = {name: programs[name] for name in ("mini.elf", "echo.elf", "greedy.elf")}
    path = project.BUILD / "bench" / "manifest-busy"
    path.write_text(_manifest(beside), encoding="ascii")
    text = manifest.read(path, set(programs)).text
    parts = archive.boot_members(programs["init.elf"], text, wanted)
    with boot.open_archive(parts) as file, Running(
            [*TIME, *machine_words(512, TAP), "-kernel", str(project.kernel("release")),
             "-initrd", f"/dev/fd/{file.fileno()}"], (file,), network.prefix) as machine:
        machine.expect("echo: ready", _SILENCE)
        for way, port in _WAYS:
            for asked in (5, count):
                said = network.run(sys.executable, "-c", _CLIENT, GUEST, port, asked).split()
            if int(said[0]) < count / 2:
                raise Failure(f"{way} does not answer with {beside} greedy environments beside it")
            yield way, float(said[1])


# ---- the plot: time to the answer, logarithmic, over the number of greedy environments

_LEFT, _TOP, _WIDTH, _HEIGHT = 70, 40, 460, 260
_COLOURS = ("#1a7f5a", "#b4492d")
_LEAST, _MOST = 1, 5  # powers of ten, in us


def _at(beside, microseconds):
    height = (math.log10(max(microseconds, 10)) - _LEAST) / (_MOST - _LEAST)
    return _LEFT + _WIDTH * beside / 10, _TOP + _HEIGHT * (1 - min(height, 1))


def _plot(times):
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 40}" '
           f'height="{_TOP + _HEIGHT + 60}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="#fff"/>',
           f'<text x="{_LEFT}" y="20" font-size="14">Time to the answer of a 60-byte UDP datagram (us, '
           'median)</text>']
    for power in range(_LEAST, _MOST + 1):
        _, y = _at(0, 10 ** power)
        out += [f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>',
                f'<text x="{_LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{10 ** power:,}</text>']
    for beside in (0, 1, 2, 4, 7, 10):
        x, y = _at(beside, 10)
        out.append(f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{beside}</text>')
    out.append(f'<text x="{_LEFT + _WIDTH / 2:.0f}" y="{_TOP + _HEIGHT + 40}" text-anchor="middle">'
               'environments beside it that compute for ever</text>')
    for colour, (way, _) in zip(_COLOURS, _WAYS):
        points = [_at(beside, value) for (name, beside), value in times.items() if name == way]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        out.append(f'<text x="{x - 6:.0f}" y="{y - 8:.0f}" text-anchor="end" fill="{colour}">by {way}'
                   '</text>')
    return "\n".join([*out, "</svg>", ""])
