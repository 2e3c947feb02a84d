"""One GET of a range over HTTP/1.1, straight into memory of our own.

The protocol is `http.client`'s; the body of an answer is received into one buffer, over plain connections by one call
of the system, so that a thread that fetches hardly ever asks for Python's lock: a training loop that holds it slows
nothing down here.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message

import pyarrow as pa

from runner.data.files.engines.base import Attempt, Data, Passing, Unfit

#: Seconds to connect, and without a byte of an answer.
CONNECT_S, SILENCE_S = 10.0, 10.0
#: Connections that are kept for each server, and seconds for which one is used again: servers end them soon after.
_KEPT, _KEPT_S = 64, 15.0
#: Of an answer that is no data, read to see what it says.
_WORDS_BYTES = 16 << 10


@dataclass(frozen=True)
class Server:
    """Where requests go.

    Args:
        host, port: its address.
        tls: the context of its certificates; None: plain HTTP.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Answer:
    """What came: the bytes of the range, or None and the beginning of what the server says instead."""

    status: int
    headers: Message
    data: Data | None
    words: bytes = b""


class _Connection:
    def __init__(self, server: Server) -> None:
        if server.tls is None:
            self.http: http.client.HTTPConnection = http.client.HTTPConnection(server.host, server.port, CONNECT_S)
        else:
            self.http = http.client.HTTPSConnection(server.host, server.port, timeout=CONNECT_S, context=server.tls)
        self.http.connect()
        self.socket: socket.socket = self.http.sock
        self.is_plain = server.tls is None
        self.idle_since = 0.0
        if self.is_plain:  # the system's own limit, for the socket of a Python time-out never waits for a whole body
            self.socket.settimeout(None)
            limit = struct.pack("ll", int(SILENCE_S), 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        else:
            self.socket.settimeout(SILENCE_S)

    def break_off(self) -> None:
        """Wakes the thread that reads."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """No more of it."""
        self.http.close()
        self.socket.close()

    def receive(self, answer: http.client.HTTPResponse, room: memoryview) -> int:
        """The body into `room`; bytes that came."""
        fp = answer.fp
        ahead = min(len(fp.peek()), len(room))
        at = fp.readinto(room[:ahead]) if ahead else 0
        flags = socket.MSG_WAITALL if self.is_plain else 0
        while at < len(room):
            count = self.socket.recv_into(room[at:], 0, flags)
            if not count:
                break
            at += count
        return at


_idle: dict[Server, deque[_Connection]] = {}
_lock = threading.Lock()


def _anew() -> None:
    """In a forked process: the connections are the parent's."""
    global _lock, _idle
    _lock, _idle = threading.Lock(), {}


os.register_at_fork(after_in_child=_anew)


def get(
    server: Server, target: str, headers: Mapping[str, str], start: int, end: int, attempt: Attempt, whole: int = 0
) -> Answer:
    """Ask for the bytes [start, end).

    Args:
        target: path and query, quoted.
        whole: bytes of the file, where all of it is taken for an answer too.

    Raises:
        Passing: no connection, no answer, or one that broke off.
        Unfit: a certificate that is not trusted, or an answer of another kind than this engine knows.
    """
    asked = {**headers, "Range": f"bytes={start}-{end - 1}"}
    while True:
        connection, is_used = _connection(server)
        begin = time.monotonic()
        try:
            answer = _get(connection, target, asked, end - start, attempt, whole)
        except ssl.SSLCertVerificationError as error:
            raise Unfit(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if time.monotonic() - begin >= SILENCE_S and not isinstance(error, Passing):
                raise Passing(f"nothing came for {SILENCE_S:.0f} s") from error
            if is_used and isinstance(error, ConnectionError) and not attempt.is_broken:
                continue  # the server has ended it while nobody used it
            raise error if isinstance(error, Passing) else Passing(f"{type(error).__name__}: {error}") from error
        if connection.http.sock is None:  # the server wants it closed
            connection.close()
        else:
            _keep(server, connection)
        return answer


def _get(
    connection: _Connection, target: str, headers: Mapping[str, str], length: int, attempt: Attempt, whole: int
) -> Answer:
    attempt.breaks_by(connection.break_off)
    connection.http.request("GET", target, headers=dict(headers))
    answer = connection.http.getresponse()
    if answer.status not in (200, 206):
        words = answer.read(_WORDS_BYTES)
        if not answer.isclosed():
            connection.close()
        return Answer(answer.status, answer.headers, None, words)
    if answer.status == 200 and whole:
        data = answer.read()
        if len(data) != whole:
            raise Passing(f"{len(data)} bytes came, and the file has {whole}")
        return Answer(answer.status, answer.headers, data)
    encoding = answer.headers.get("Content-Encoding", "identity")
    if answer.status == 200 or answer.length != length or encoding != "identity":
        connection.close()
        raise Unfit(f"{answer.status} with {answer.length} bytes ({encoding}), where {length} were asked for")
    room = memoryview(pa.allocate_buffer(length)).cast("B")
    count = connection.receive(answer, room)
    if count < length:
        raise Passing(f"the answer broke off after {count} of {length} bytes")
    answer.length = 0
    answer.close()
    return Answer(answer.status, answer.headers, room)


def _connection(server: Server) -> tuple[_Connection, bool]:
    """One to use, and whether it was used before."""
    now = time.monotonic()
    with _lock:
        kept = _idle.setdefault(server, deque())
        while kept:
            connection = kept.pop()
            if now - connection.idle_since < _KEPT_S:
                return connection, True
            connection.close()
    try:
        return _Connection(server), False
    except ssl.SSLCertVerificationError as error:
        raise Unfit(str(error)) from error
    except OSError as error:
        raise Passing(f"{type(error).__name__}: {error}") from error


def _keep(server: Server, connection: _Connection) -> None:
    connection.idle_since = time.monotonic()
    with _lock:
        kept = _idle.setdefault(server, deque())
        kept.append(connection)
        if len(kept) > _KEPT:
            kept.popleft().close()
