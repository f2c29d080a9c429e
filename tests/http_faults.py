"""A loopback HTTP server that answers as a test says: with a status, by hanging up, by silence, or from upstream.

Everything it was asked is kept in `requests`, with whole bodies.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    """Path and query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fault: Literal["", "reset", "truncate", "silence"] = ""
    """`reset`: the connection is torn down unanswered. `truncate`: half of the answer, then it is closed.
    `silence`: no answer until the server stops."""


Answerer = Callable[[Request], Reply]


def in_turn(*replies: Reply) -> Answerer:
    """The replies one after the other, then the last one for ever."""
    left = list(replies)
    lock = threading.Lock()

    def answer(_: Request) -> Reply:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer


def forward(url: str) -> Answerer:
    """What the server at `url` says."""
    address = urlsplit(url)

    def answer(request: Request) -> Reply:
        upstream = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
        try:
            headers = {name: value for name, value in request.headers.items() if name != "transfer-encoding"}
            upstream.request(request.method, request.target, body=request.body, headers=headers)
            response = upstream.getresponse()
            body = response.read()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
            if request.method == "HEAD":
                kept["content-length"] = response.getheader("content-length", "0")
            return Reply(response.status, body, kept)
        finally:
            upstream.close()

    return answer


_HOP = ("connection", "transfer-encoding", "content-length", "date", "server")


@dataclass
class FaultyServer:
    url: str
    requests: list[Request]
    connections: int = 0
    """How many were made."""

    @property
    def asked(self) -> list[str]:
        """The methods, in the order of arrival."""
        return [request.method for request in self.requests]


@contextmanager
def faulty_server(answerer: Answerer) -> Iterator[FaultyServer]:
    requests: list[Request] = []
    stopped = threading.Event()
    counting = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with counting:
                faulty.connections += 1

        def respond(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            chunked = self.headers.get("transfer-encoding") == "chunked"
            headers = {name.lower(): value for name, value in self.headers.items() if name.lower() != "expect"}
            body = self._chunks() if chunked else self.rfile.read(length)
            if len(body) < length:  # the client thought better of it
                self.close_connection = True
                return
            request = Request(self.command, self.path, headers, body)
            requests.append(request)
            self._send(answerer(request))

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = respond

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _send(self, reply: Reply) -> None:
            if reply.fault == "silence":
                stopped.wait()
            if reply.fault in ("silence", "reset"):
                self._reset()
                return
            self.send_response(reply.status)
            length = {"content-length": str(len(reply.body))}
            for name, value in {**length, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: len(reply.body) // 2] if reply.fault == "truncate" else reply.body)
            self.close_connection = reply.fault == "truncate"

        def _reset(self) -> None:
            # Closed at once and with a reset, not with the polite end that a client may take for an empty answer.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def finish(self) -> None:
            if self.connection.fileno() >= 0:
                super().finish()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    faulty = FaultyServer(f"http://127.0.0.1:{server.server_port}", requests)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield faulty
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
