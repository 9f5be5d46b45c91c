"""A plain HTTP/1.1 client that sends exactly the bytes that a test gives it."""

import socket
from dataclasses import dataclass


class Closed(Exception):
    """The server closed the connection where an answer was expected."""


@dataclass
class Response:
    """One answer. Names of headers are in lower case."""
    status: int
    headers: dict
    body: bytes


class Connection:
    """One connection; a context manager."""

    def __init__(self, host, port, timeout=15):
        self._socket = socket.create_connection((host, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        """Sends bytes as they are."""
        self._socket.sendall(data)

    def get(self, path, method="GET", **headers):
        """Sends a request and reads its answer. An underscore in a header stands for '-'."""
        lines = [f"{method} {path} HTTP/1.1", "Host: targe"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        return self.response(head=method == "HEAD")

    def response(self, head=False):
        """Reads one answer."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        start, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = start.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        bare = head or status in ("204", "304") or status.startswith("1")
        length = 0 if bare else int(headers.get("content-length", -1))
        return Response(int(status), headers, self._body(length))

    def closed(self):
        """Whether the server closes the connection now, having sent nothing more."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _body(self, length):
        if length < 0:
            try:
                while True:
                    self._more()
            except Closed:
                body, self._rest = self._rest, b""
                return body
        while len(self._rest) < length:
            self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return body

    def _more(self):
        data = self._socket.recv(65536)
        if not data:
            raise Closed
        self._rest += data
