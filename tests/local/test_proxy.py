"""The proxy that the benchmarks and the tests of fetching put before a server."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from benchmarks.streaming.proxy import Manner, proxied

BODY = bytes(range(256)) * 8192


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        with suppress(ConnectionError):  # where an answer is cut
            self.wfile.write(BODY)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if data == BODY else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        connection.request(method, "/x", body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_what_is_passed_is_as_it_was_and_no_faster_than_told(upstream: str) -> None:
    """Bodies pass both ways unchanged; an answer takes the time to its first byte and that of its bytes."""
    with proxied(upstream, Manner(first_byte_s=0.1, bytes_per_s=len(BODY) / 0.2)) as proxy:
        assert ask(proxy.url, "PUT", BODY) == (200, b"")
        begin = time.monotonic()
        assert ask(proxy.url) == (200, BODY)
        assert time.monotonic() - begin > 0.29
        counts = proxy.counts()
        assert (counts.gets, counts.bytes, counts.others) == (1, len(BODY), 1)


def test_faults_come_as_often_as_told(upstream: str) -> None:
    """Refusals, cut bodies and stalls are seen by who asks, and counted."""
    with proxied(upstream, Manner(refuse=1)) as proxy:
        assert ask(proxy.url)[0] == 503
    with proxied(upstream, Manner(cut=1)) as proxy:
        for _ in range(3):
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                ask(proxy.url)
        assert proxy.counts().cut == 3
    with proxied(upstream, Manner(stall=1, stall_s=0.3)) as proxy:
        begin = time.monotonic()
        assert ask(proxy.url) == (200, BODY)
        assert time.monotonic() - begin > 0.3
        assert proxy.counts().stalled == 1
