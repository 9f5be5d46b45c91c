"""Handlers in the kernel, seen from the network: the echo of a counter (apps/echo)."""

import socket
import struct
import subprocess
import sys
import textwrap
import time

from harness.context import until
from harness.machine_json import machine_json_at
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
    host, port, turns, size, *how = sys.argv[1], *(int(word) for word in sys.argv[2:5]), *sys.argv[5:]
    rest = bytes(i * 7 % 256 for i in range(size - 8))
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    s.connect((host, port))
    if "none" in how:
        s.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
    n = 0
    for turn in range(turns):
        for attempt in range(5):
            if "whole" in how:  # sent in two parts, its checksum is made by the host and not by the device
                s.send(struct.pack(">Q", n), socket.MSG_MORE)
            s.send(rest if "whole" in how else struct.pack(">Q", n) + rest)
            try:
                got = s.recv(2000)
                break
            except TimeoutError:
                pass
        else:
            sys.exit("no answer")
        assert got[8:] == rest, got
        value, = struct.unpack(">Q", got[:8])
        assert value == n + 1, (value, n)
        n = value
    print(n)
"""


def test_echo(ctx):
    """The counter of datagrams comes back increased, by a handler and by a library OS."""
    network, _ = _boot(ctx, "echo", "echo: ready")
    for port in (HANDLER, LIBRARY, LAST):
        for size in (60, 8, 9, 18, 59, 61, 150):
            assert _inside(network, _COUNTER, GUEST, port, 100, size).strip() == "100"


def test_echo_checksums(ctx):
    """Checksums that the device vouches for, whole ones and none: the handler answers all kinds, and the host believes it."""
    network, _ = _boot(ctx, "echo", "echo: ready")

    def handled():
        flows = machine_json_at(network, GUEST)["flows"]
        return next(f for f in flows if str(HANDLER) in f["takes"])["handled"]

    for how in ("device", "whole", "none"):
        for size in (60, 9, 150):
            assert _inside(network, _COUNTER, GUEST, HANDLER, 300, size, how).strip() == "300"
    limit = time.monotonic() + 10  # the page that says so is not made anew each time
    while handled() < 8 * 300 and time.monotonic() < limit:
        time.sleep(0.1)
    assert handled() >= 8 * 300  # some are the library OS's, when it owes a slice


def test_judge(ctx):
    """A predicate keeps from the library OS what is no counter: its ring gets the others only."""
    network, _ = _boot(ctx, "echo", "echo: ready")

    def flow():
        flows = machine_json_at(network, GUEST)["flows"]
        return next(f for f in flows if str(LIBRARY) in f["takes"])

    before = flow()
    _inside(network, """
        import socket, sys
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for n in range(100):
            s.sendto(bytes(n % 8), (sys.argv[1], int(sys.argv[2])))
    """, GUEST, LIBRARY)
    assert _inside(network, _COUNTER, GUEST, LIBRARY, 10, 60).strip() == "10"
    # /machine.json may be some tenths of a second old
    after = until(lambda: (state := flow())["handled"] - before["handled"] >= 100 and state, 10, "the frames to be judged")
    assert after["handled"] - before["handled"] == 100, (before, after)
    assert 10 <= after["filled"] - before["filled"] < 20, (before, after)  # some, if a datagram was sent again


# ---- kvcache

_MEMCACHED = """
    import os, random, socket, struct, sys, time

    class Cache:
        def __init__(self, host):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.connect((host, 11211))
            self.socket.settimeout(0.3)
            self.number = 0

        def send(self, text, header=None):
            self.number = self.number % 65535 + 1
            self.socket.send((header or struct.pack(">HHHH", self.number, 0, 1, 0)) + text)

        def answer(self):
            parts, count = {}, 1
            while len(parts) < count:
                data = self.socket.recv(2000)
                number, part, count, zero = struct.unpack(">HHHH", data[:8])
                if number == self.number:
                    assert zero == 0 and part < count, data
                    parts[part] = data[8:]
            return b"".join(parts[part] for part in sorted(parts))

        def ask(self, text):
            for attempt in range(10):
                try:
                    self.send(text)
                    return self.answer()
                except TimeoutError:
                    pass
            sys.exit(f"no answer to {text!r}")

        def set(self, key, value, word=b"set", flags=0, expires=0):
            return self.ask(b"%s %s %d %d %d\\r\\n%s\\r\\n" % (word, key, flags, expires, len(value), value))

        def stats(self):
            lines = self.ask(b"stats\\r\\n").split(b"\\r\\n")
            assert lines[-2:] == [b"END", b""], lines
            return {line.split()[1].decode(): int(line.split()[2]) for line in lines[:-2]}

    cache = Cache(sys.argv[1])
    def value(text): return b"VALUE k 5 %d\\r\\n%s\\r\\nEND\\r\\n" % (len(text), text)
"""


def _kvcache(ctx, text):
    network, machine = _boot(ctx, "kvcache", "kvcache: ready")
    _inside(network, textwrap.dedent(_MEMCACHED) + textwrap.dedent(text), GUEST)
    assert machine.running()


def test_kvcache(ctx):
    """The commands of memcached's text protocol; a get of one key is the handler's."""
    _kvcache(ctx, """
        assert cache.ask(b"get k\\r\\n") == b"END\\r\\n"
        assert cache.set(b"k", b"one", b"replace", 5) == b"NOT_STORED\\r\\n"
        assert cache.set(b"k", b"one", flags=5) == b"STORED\\r\\n"
        assert cache.ask(b"get k\\r\\n") == value(b"one")
        assert cache.set(b"k", b"two", b"add", 5) == b"NOT_STORED\\r\\n"
        assert cache.set(b"k", b"", b"replace", 5) == b"STORED\\r\\n"
        assert cache.ask(b"get k\\r\\n") == value(b"")
        for size in (1, 2, 3, 99, 100, 101, 150, 151, 1000, 1024):
            data = bytes(random.randrange(256) for _ in range(size))
            assert cache.set(b"k", data, flags=5) == b"STORED\\r\\n"
            for _ in range(20):
                assert cache.ask(b"get k\\r\\n") == value(data)
        before = cache.stats()
        assert before["handler_hits"] >= 200 and before["handler_misses"] >= 1, before
        first = cache.ask(b"gets k\\r\\n")
        assert first.startswith(b"VALUE k 5 1024 ") and first.endswith(data + b"\\r\\nEND\\r\\n")
        assert cache.set(b"k", data, flags=5) == b"STORED\\r\\n"
        assert cache.ask(b"gets k\\r\\n").split(b"\\r\\n")[0] != first.split(b"\\r\\n")[0]
        assert cache.set(b"other", b"x") == b"STORED\\r\\n"
        both = cache.ask(b"get k none other\\r\\n")
        assert both == value(data)[:-5] + b"VALUE other 0 1\\r\\nx\\r\\nEND\\r\\n", both
        assert cache.stats()["handler_hits"] == before["handler_hits"]
        many = cache.ask(b"get" + b" k" * 7 + b"\\r\\n")     # several datagrams
        assert many == value(data)[:-5] * 7 + b"END\\r\\n"
        assert cache.ask(b"delete k\\r\\n") == b"DELETED\\r\\n"
        assert cache.ask(b"delete k\\r\\n") == b"NOT_FOUND\\r\\n"
        assert cache.ask(b"get k\\r\\n") == b"END\\r\\n"
        assert cache.ask(b"version\\r\\n").startswith(b"VERSION ")
        cache.send(b"set q 0 0 1 noreply\\r\\nq\\r\\n")
        assert cache.ask(b"gets q\\r\\n").startswith(b"VALUE q 0 1 ")
        cache.send(b"delete q noreply\\r\\n")
        assert cache.ask(b"gets q\\r\\n") == b"END\\r\\n"
        for expires, there in ((-1, False), (1, True), (2000000000, True), (1000000000, False)):
            assert cache.set(b"e", b"x", expires=expires) == b"STORED\\r\\n"
            assert (cache.ask(b"get e\\r\\n") != b"END\\r\\n") == there, expires
        key = b"x" * 250
        assert cache.set(key, b"long") == b"STORED\\r\\n"
        assert b"long" in cache.ask(b"get " + key + b"\\r\\n")
        # more than there are places for: what is there is right
        for n in range(600):
            assert cache.set(b"n%d" % n, b"%d" % n * 10) == b"STORED\\r\\n"
        found = 0
        for n in range(600):
            got = cache.ask(b"get n%d\\r\\n" % n)
            if got != b"END\\r\\n":
                assert got == b"VALUE n%d 0 %d\\r\\n%s\\r\\nEND\\r\\n" % (n, len(b"%d" % n * 10), b"%d" % n * 10), got
                found += 1
        assert 200 < found <= 500, found
        assert cache.stats()["evictions"] > 100
    """)


_COMMANDS = """
    def answers(*lines):
        for text, answer in lines:
            got = cache.ask(text)
            assert got == answer, (text, got, answer)

    def unique(key):
        return cache.ask(b"gets " + key + b"\\r\\n").split()[4]

    answers(
        (b"append k 1 0 1\\r\\nx\\r\\n", b"NOT_STORED\\r\\n"), (b"prepend k 1 0 1\\r\\nx\\r\\n", b"NOT_STORED\\r\\n"),
        (b"cas k 1 0 1 5\\r\\nx\\r\\n", b"NOT_FOUND\\r\\n"), (b"incr k 1\\r\\n", b"NOT_FOUND\\r\\n"),
        (b"decr k 1\\r\\n", b"NOT_FOUND\\r\\n"), (b"touch k 0\\r\\n", b"NOT_FOUND\\r\\n"), (b"gat 0 k\\r\\n", b"END\\r\\n"),
        (b"set k 5 0 3\\r\\none\\r\\n", b"STORED\\r\\n"), (b"append k 9 0 2\\r\\n+2\\r\\n", b"STORED\\r\\n"),
        (b"prepend k 9 0 2\\r\\n0+\\r\\n", b"STORED\\r\\n"), (b"get k\\r\\n", value(b"0+one+2")),
        (b"incr k 1\\r\\n", b"CLIENT_ERROR cannot increment or decrement non-numeric value\\r\\n"),
        (b"set n 7 0 2\\r\\n98\\r\\n", b"STORED\\r\\n"), (b"incr n 1\\r\\n", b"99\\r\\n"), (b"incr n 1\\r\\n", b"100\\r\\n"),
        (b"get n\\r\\n", b"VALUE n 7 3\\r\\n100\\r\\nEND\\r\\n"), (b"incr n 18446744073709551615\\r\\n", b"99\\r\\n"),
        (b"decr n 90\\r\\n", b"9\\r\\n"), (b"decr n 100\\r\\n", b"0\\r\\n"),
        (b"incr n x\\r\\n", b"CLIENT_ERROR invalid numeric delta argument\\r\\n"), (b"incr n\\r\\n", b"ERROR\\r\\n"),
        (b"incr n 18446744073709551616\\r\\n", b"CLIENT_ERROR invalid numeric delta argument\\r\\n"))
    number = unique(b"k")
    answers((b"cas k 5 0 1 " + number + b"\\r\\nA\\r\\n", b"STORED\\r\\n"), (b"cas k 5 0 1 " + number + b"\\r\\nB\\r\\n", b"EXISTS\\r\\n"),
            (b"get k\\r\\n", value(b"A")), (b"set n 7 0 1\\r\\n0\\r\\n", b"STORED\\r\\n"))
    cache.send(b"cas k 5 0 1 " + unique(b"k") + b" noreply\\r\\nC\\r\\n")
    for text in (b"append k 5 0 1 noreply\\r\\nD\\r\\n", b"prepend k 5 0 1 noreply\\r\\nB\\r\\n", b"incr n 5 noreply\\r\\n",
                 b"touch k 1000 noreply\\r\\n", b"verbosity 1 noreply\\r\\n"):
        cache.send(text)
    answers((b"gets none\\r\\n", b"END\\r\\n"), (b"get k\\r\\n", value(b"BCD")), (b"get n\\r\\n", b"VALUE n 7 1\\r\\n5\\r\\nEND\\r\\n"),
            (b"verbosity 1\\r\\n", b"OK\\r\\n"), (b"touch k -1\\r\\n", b"TOUCHED\\r\\n"), (b"get k\\r\\n", b"END\\r\\n"),
            (b"add k 5 0 1\\r\\nE\\r\\n", b"STORED\\r\\n"), (b"gat 1000 k\\r\\n", value(b"E")),
            (b"gat -1 k\\r\\n", value(b"E")), (b"get k\\r\\n", b"END\\r\\n"), (b"touch n 2\\r\\n", b"TOUCHED\\r\\n"),
            (b"get n\\r\\n", b"VALUE n 7 1\\r\\n5\\r\\nEND\\r\\n"))
    time.sleep(3.1)
    answers((b"get n\\r\\n", b"END\\r\\n"), (b"set k 5 0 1\\r\\nF\\r\\n", b"STORED\\r\\n"), (b"flush_all\\r\\n", b"OK\\r\\n"),
            (b"get k\\r\\n", b"END\\r\\n"))
    time.sleep(1.1)  # memcached's clock has seconds
    answers((b"set k 5 0 1\\r\\nG\\r\\n", b"STORED\\r\\n"), (b"flush_all 2\\r\\n", b"OK\\r\\n"), (b"get k\\r\\n", value(b"G")),
            (b"set m 5 0 1\\r\\nH\\r\\n", b"STORED\\r\\n"), (b"get m\\r\\n", value(b"H").replace(b" k ", b" m ")))
    time.sleep(3.1)
    answers((b"get k\\r\\n", b"END\\r\\n"), (b"get m\\r\\n", b"END\\r\\n"), (b"set m 5 0 1\\r\\nI\\r\\n", b"STORED\\r\\n"),
            (b"get m\\r\\n", b"VALUE m 5 1\\r\\nI\\r\\nEND\\r\\n"))
    cache.send(b"flush_all noreply\\r\\n")
    answers((b"gets m\\r\\n", b"END\\r\\n"),)
    assert b"STAT cmd_touch " in cache.ask(b"stats\\r\\n")
"""


def test_kvcache_commands(ctx):
    """The other commands: what they answer is what memcached answers."""
    _kvcache(ctx, _COMMANDS)


def test_kvcache_hostile(ctx):
    """Errors as the protocol has them, and datagrams of every kind: it goes on as before."""
    _kvcache(ctx, """
        assert cache.set(b"k", b"here", flags=5) == b"STORED\\r\\n"
        for text, answer in (
                (b"\\r\\n", b"ERROR"), (b"nonsense\\r\\n", b"ERROR"), (b"get\\r\\n", b"ERROR"), (b"get k", b"ERROR"),
                (b"get " + b"x" * 251 + b"\\r\\n", b"CLIENT_ERROR"), (b"get \\x01\\r\\n", b"CLIENT_ERROR"),
                (b"set k 0 0\\r\\n", b"ERROR"), (b"set k a 0 1\\r\\nx\\r\\n", b"CLIENT_ERROR"),
                (b"set k 0 0 -1\\r\\nx\\r\\n", b"CLIENT_ERROR"), (b"set k 0 0 9\\r\\nx\\r\\n", b"CLIENT_ERROR bad data"),
                (b"set k 0 0 1\\r\\nxyz\\r\\n", b"CLIENT_ERROR bad data"),
                (b"set k 0 0 99999999999999999999\\r\\nx\\r\\n", b"CLIENT_ERROR"),
                (b"set k 0 0 1025\\r\\n" + b"x" * 1025 + b"\\r\\n", b"SERVER_ERROR object too large"),
                (b"set " + b"x" * 251 + b" 0 0 1\\r\\nx\\r\\n", b"CLIENT_ERROR"), (b"delete\\r\\n", b"ERROR"),
                (b"delete k 5\\r\\n", b"CLIENT_ERROR"), (b"get" + b" k" * 60 + b"\\r\\n", b"VALUE k 5 4"), (b"cas k 0 0 1 x\\r\\nx\\r\\n", b"CLIENT_ERROR"),
                (b"append k 0 0 1024\\r\\n" + b"x" * 1024 + b"\\r\\n", b"SERVER_ERROR object too large"),
                (b"touch k x\\r\\n", b"CLIENT_ERROR"), (b"flush_all x\\r\\n", b"CLIENT_ERROR"), (b"touch k\\r\\n", b"ERROR"), (b"gat 5\\r\\n", b"ERROR"),
                (b"incr k\\x01 1\\r\\n", b"CLIENT_ERROR"), (b"verbosity\\r\\n", b"ERROR")):
            got = cache.ask(text)
            assert got.startswith(answer), (text, got)
        cache.send(b"get k\\r\\n", struct.pack(">HHHH", 1, 0, 2, 0))
        cache.number = 1
        assert cache.answer().startswith(b"SERVER_ERROR multi-packet")
        generator = random.Random(7)
        pieces = [b"get ", b"set ", b"k", b" ", b"\\r\\n", b"\\n", b"0", b"1", b"x" * 250, b"\\x00", b"\\xff", b"noreply",
                  b"99999999999", b"-1", b"add ", b"delete ", b"stats", b"gets "]
        for n in range(3000):
            if n % 3:
                text = b"".join(generator.choice(pieces) for _ in range(generator.randrange(12)))
            else:
                text = generator.randbytes(generator.choice((0, 1, 7, 8, 20, 200, 1400)))
            header = b"" if n % 5 == 0 else struct.pack(">HHHH", n & 0xffff, 0, 1, generator.randrange(2))
            cache.socket.send(header + text)
            if n % 100 == 0:
                cache.socket.close()
                cache.__init__(sys.argv[1])
                cache.number = 40000 + n
                assert cache.set(b"k", b"here", flags=5) == b"STORED\\r\\n"
                assert cache.ask(b"get k\\r\\n") == value(b"here")
        assert cache.stats()["handler_hits"] >= 30
    """)
