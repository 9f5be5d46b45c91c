"""What the web library OS understands of HTTP/1.1."""

import time

from harness.fuzz import fuzz
from harness.http import Closed, Connection
from harness.system import limit

_TEXT = b"".join(b"line %05d\n" % number for number in range(20000))


def _start(ctx):
    site = ctx.folder / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_bytes(b"<h1>home</h1>")
    (site / "sub" / "index.html").write_bytes(b"<h1>sub</h1>")
    (site / "text.txt").write_bytes(_TEXT)
    (site / "a b.css").write_bytes(b"p {}")
    (site / "empty").write_bytes(b"")
    return ctx.serving(site=str(site))


def _raw(ctx, machine, request):
    """The status that a request's bytes get."""
    connection = ctx.connect(machine)
    connection.send(request)
    return connection.response().status


def test_keep_alive(ctx):
    """Many requests over one connection; `Connection: close` ends it."""
    connection = ctx.connect(_start(ctx))
    for _ in range(50):
        assert connection.get("/").body == b"<h1>home</h1>"
        assert connection.get("/text.txt").body == _TEXT
    assert connection.get("/", Connection="close").status == 200
    assert connection.closed()


def test_http_1_0(ctx):
    """HTTP/1.0 without keep-alive: the connection is closed after the answer."""
    connection = ctx.connect(_start(ctx))
    connection.send(b"GET / HTTP/1.0\r\n\r\n")
    assert connection.response().body == b"<h1>home</h1>"
    assert connection.closed()


def test_pipelining(ctx):
    """Requests sent together are answered in order."""
    connection = ctx.connect(_start(ctx))
    paths = ["/", "/text.txt", "/none", "/sub/", "/empty"] * 8
    connection.send(b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode()
                             for path in paths))
    for path in paths:
        answer = connection.response()
        assert answer.status == (404 if path == "/none" else 200), (path, answer.status)
        if path == "/text.txt":
            assert answer.body == _TEXT


def test_request_in_pieces(ctx):
    """A request that comes byte by byte."""
    connection = ctx.connect(_start(ctx))
    for byte in b"GET /sub/index.html HTTP/1.1\r\nHost: x\r\n\r\n":
        connection.send(bytes([byte]))
        time.sleep(0.005)
    assert connection.response().body == b"<h1>sub</h1>"


def test_head(ctx):
    """HEAD gives the headers of GET and no body."""
    connection = ctx.connect(_start(ctx))
    answer = connection.get("/text.txt", method="HEAD")
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(_TEXT))
    assert connection.get("/").body == b"<h1>home</h1>"


def test_ranges(ctx):
    """First bytes, last bytes, the middle, to the end, and beyond it."""
    connection = ctx.connect(_start(ctx))
    size = len(_TEXT)
    for asked, first, last in (("0-0", 0, 0), ("10-99", 10, 99), ("-7", size - 7, size - 1),
                               (f"{size - 3}-", size - 3, size - 1),
                               (f"5-{size + 1000}", 5, size - 1)):
        answer = connection.get("/text.txt", Range=f"bytes={asked}")
        assert answer.status == 206, (asked, answer.status)
        assert answer.body == _TEXT[first:last + 1], asked
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}", answer.headers
    answer = connection.get("/text.txt", Range=f"bytes={size}-")
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{size}"
    assert connection.get("/text.txt", Range="lines=1-2").status == 200


def test_conditional(ctx):
    """A client that has the file already is told so."""
    connection = ctx.connect(_start(ctx))
    headers = connection.get("/text.txt").headers
    tag, date = headers["etag"], headers["last-modified"]
    assert connection.get("/text.txt", If_None_Match=tag).status == 304
    assert connection.get("/text.txt", If_None_Match='"other"').status == 200
    assert connection.get("/text.txt", If_None_Match=f'"other", {tag}').status == 304
    assert connection.get("/text.txt", If_Modified_Since=date).status == 304
    old = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert connection.get("/text.txt", If_Modified_Since=old).status == 200
    assert connection.get("/text.txt", If_Range=tag, Range="bytes=0-4").status == 206
    assert connection.get("/text.txt", If_Range='"other"', Range="bytes=0-4").status == 200


def test_types(ctx):
    """Content types by the end of the name."""
    connection = ctx.connect(_start(ctx))
    assert connection.get("/").headers["content-type"].startswith("text/html")
    assert connection.get("/text.txt").headers["content-type"].startswith("text/plain")
    assert connection.get("/a%20b.css").headers["content-type"].startswith("text/css")


def test_folders(ctx):
    """A folder's index, and the way to it without the slash."""
    connection = ctx.connect(_start(ctx))
    assert connection.get("/sub/").body == b"<h1>sub</h1>"
    answer = connection.get("/sub")
    assert answer.status == 301
    assert answer.headers["location"].endswith("/sub/")


def test_paths(ctx):
    """Nobody leaves the site by dots."""
    connection = ctx.connect(_start(ctx))
    assert connection.get("/sub/../index.html").status in (200, 400, 404)
    for path in ("/../manifest", "/..%2fmanifest", "/%2e%2e/init", "/sub/../../init", "//init"):
        assert connection.get(path).status in (400, 404), path


def test_refusals(ctx):
    """404, 405 with Allow, 501, 505, 400 and 413, each as it should be."""
    machine = _start(ctx)
    connection = ctx.connect(machine)
    assert connection.get("/none").status == 404
    answer = connection.get("/", method="DELETE")
    assert answer.status == 405 and "GET" in answer.headers["allow"], answer
    for request in (b"GET / HTTP/1.1\r\n\r\n", b"\0\1\2\r\n\r\n", b"GET\r\n\r\n",
                    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\n"):
        assert _raw(ctx, machine, request) == 400, request
    assert _raw(ctx, machine, b"GET / HTTP/3.0\r\nHost: x\r\n\r\n") == 505
    large = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    assert _raw(ctx, machine, large) in (405, 413)
    long = b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert _raw(ctx, machine, long) in (413, 414, 431)
    headers = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 20000 + b"\r\n"
    assert _raw(ctx, machine, headers) in (400, 413, 431)
    assert ctx.connect(machine).get("/").status == 200


@limit(180)
def test_slow_clients(ctx):
    """Clients that send nothing, or half a request, are cut off; others are not held up."""
    machine = _start(ctx)
    silent = [ctx.connect(machine, 90) for _ in range(5)]
    half = [ctx.connect(machine, 90) for _ in range(5)]
    for connection in half:
        connection.send(b"GET / HTTP/1.1\r\nHo")
    assert ctx.connect(machine).get("/").status == 200
    for connection in half + silent:
        try:
            assert connection.response().status in (400, 408)
        except (Closed, ConnectionResetError):
            pass
    assert ctx.connect(machine).get("/").status == 200


def test_client_goes_away(ctx):
    """Clients that leave in the middle of an answer cost nothing."""
    machine = _start(ctx)
    # With many more, QEMU's user networking itself pauses for half a minute.
    for _ in range(10):
        with Connection("127.0.0.1", machine.config.port) as connection:
            connection.send(b"GET /text.txt HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    assert ctx.connect(machine).get("/text.txt").body == _TEXT


@limit(300)
def test_fuzz(_ctx):
    """The HTTP server on bytes that come in any pieces, from the kept corpus."""
    fuzz("fuzz_http")
