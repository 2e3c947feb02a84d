"""A proxy before an object store (or any server of HTTP/1.1) that is as slow, and as faulty, as it is told to be.

    python benchmarks/streaming/proxy.py http://127.0.0.1:7070 --first-byte-ms 30 --megabytes-per-s 80
    python benchmarks/streaming/proxy.py http://127.0.0.1:7070 --refuse 0.01 --cut 0.001 --stall 0.002

Prints its own URL, and serves until its standard input ends, so that it never outlives who has started it. Requests are
passed on as they are, signatures included (they are made for the proxy's address, which the store sees too). Faults are
drawn for each GET of an object, from a generator with a seed: of so many requests the same number fails, whichever they
are. ``GET /-/counts`` tells what was asked and sent so far, as JSON.

From Python: ``with proxied(url, Manner(first_byte_s=0.03)) as proxy: ... proxy.url ... proxy.counts()``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from urllib.parse import urlsplit

COUNTS = "/-/counts"
#: Bytes that are passed on at a time where there is a rate, and where there is none.
_PACED_BYTES, _PIECE_BYTES = 64 << 10, 256 << 10
#: Longest head of a request or an answer.
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class Manner:
    """How the proxy behaves.

    Args:
        first_byte_s: from a request to the first byte of its answer, at least.
        bytes_per_s: of a connection; 0: as fast as it goes.
        refuse: share of GETs that are answered 503 and not passed on.
        cut: share of GETs whose connection ends within the body.
        stall: share of GETs whose body stands still at some place, for `stall_s` seconds.
        seed: of the generator that draws the faults.
    """

    first_byte_s: float = 0.0
    bytes_per_s: float = 0.0
    refuse: float = 0.0
    cut: float = 0.0
    stall: float = 0.0
    stall_s: float = 5.0
    seed: int = 0


@dataclass
class Counts:
    """What a proxy has seen: GETs with a body (all of them, and by fault), bytes of bodies sent, other requests, and
    the most GETs that were under way at a time.
    """

    gets: int = 0
    refused: int = 0
    cut: int = 0
    stalled: int = 0
    bytes: int = 0
    others: int = 0
    most_at_once: int = 0
    at_once: int = 0


@dataclass(frozen=True)
class Proxy:
    """One that runs."""

    url: str

    def counts(self) -> Counts:
        """What it has seen so far."""
        with urllib.request.urlopen(self.url + COUNTS, timeout=10) as answer:
            return Counts(**json.load(answer))


@contextmanager
def proxied(upstream: str, manner: Manner | None = None) -> Iterator[Proxy]:
    """Run a proxy before `upstream` in a process of its own until the block ends."""
    manner = manner or Manner()
    command = [sys.executable, __file__, upstream, "--manner", json.dumps(asdict(manner))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"no proxy: exit status {process.wait(10)}")
        try:
            yield Proxy(url)
        finally:
            process.kill()


class _Over(Exception):
    """The connection ends here."""


@dataclass
class _Fault:
    """What goes wrong with one answer, and at which share of its body."""

    refuse: bool = False
    cut_at: float | None = None
    stall_at: float | None = None


class _Server:
    def __init__(self, upstream: str, manner: Manner) -> None:
        where = urlsplit(upstream)
        self._host, self._port = where.hostname or "127.0.0.1", where.port or 80
        self._manner, self._random, self._counts = manner, random.Random(manner.seed), Counts()
        self._held: set[object] = set()  # asyncio itself keeps no task

    async def serve(self, port: int) -> None:
        """Until standard input ends."""
        server = await asyncio.start_server(self._client, "127.0.0.1", port, limit=_HEAD_BYTES)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The requests of one connection, which has one of its own to the store."""
        store: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._held.add(asyncio.current_task())
        try:
            while head := await _head(reader):
                method, target = head[0].split(b" ")[:2]
                if target == COUNTS.encode():
                    await self._tell(writer)
                    continue
                begin, fault = _now(), self._drawn(method)
                if fault.refuse:
                    await self._refuse(writer, begin)
                    continue
                if store is None:
                    store = await asyncio.open_connection(self._host, self._port, limit=_HEAD_BYTES)
                await _pass_request(head, reader, store[1], writer)
                self._counts.at_once += method == b"GET"
                self._counts.most_at_once = max(self._counts.most_at_once, self._counts.at_once)
                try:
                    await self._pass_answer(method, store[0], writer, begin, fault)
                finally:
                    self._counts.at_once -= method == b"GET"
        except (_Over, OSError, asyncio.IncompleteReadError):
            pass  # whoever has closed it knows
        finally:
            self._held.discard(asyncio.current_task())
            for end in (writer, store[1] if store else None):
                if end is not None:
                    end.close()  # what is written already is still sent

    def _drawn(self, method: bytes) -> _Fault:
        if method != b"GET":
            self._counts.others += 1
            return _Fault()
        self._counts.gets += 1
        manner, draws = self._manner, [self._random.random() for _ in range(4)]
        if draws[0] < manner.refuse:
            self._counts.refused += 1
            return _Fault(refuse=True)
        if draws[1] < manner.cut:
            self._counts.cut += 1
            return _Fault(cut_at=draws[3])
        if draws[2] < manner.stall:
            self._counts.stalled += 1
            return _Fault(stall_at=draws[3])
        return _Fault()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        body = json.dumps(asdict(self._counts)).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()

    async def _refuse(self, writer: asyncio.StreamWriter, begin: float) -> None:
        await self._first_byte(begin)
        body = b"<Error><Code>SlowDown</Code><Message>slower</Message></Error>"
        writer.write(
            b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        writer.write(body)
        await writer.drain()

    async def _first_byte(self, begin: float) -> None:
        await asyncio.sleep(max(0.0, begin + self._manner.first_byte_s - _now()))

    async def _pass_answer(
        self,
        method: bytes,
        store: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        begin: float,
        fault: _Fault,
    ) -> None:
        head = await _head(store)
        if not head:
            raise _Over
        status, named = int(head[0].split(b" ")[1]), _named(head)
        await self._first_byte(begin)
        writer.write(b"\r\n".join(head) + b"\r\n\r\n")
        if method != b"HEAD" and status >= 200 and status not in (204, 304):
            if named.get(b"transfer-encoding", b"").lower() == b"chunked":
                await _pass_chunks(store, writer)
            else:
                await self._pass_body(store, writer, int(named.get(b"content-length", b"0")), fault)
        await writer.drain()
        if named.get(b"connection", b"").lower() == b"close":
            raise _Over

    async def _pass_body(
        self, store: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int, fault: _Fault
    ) -> None:
        rate = self._manner.bytes_per_s
        cut, stall = (None if at is None else int(at * length) for at in (fault.cut_at, fault.stall_at))
        begin, sent = _now(), 0
        while sent < length:
            if cut is not None and sent >= cut:
                await writer.drain()
                raise _Over
            if stall is not None and sent >= stall:
                await asyncio.sleep(self._manner.stall_s)
                stall, begin = None, begin + self._manner.stall_s
            stop = min(at for at in (cut, stall, length) if at is not None and at > sent)
            data = await store.read(min(stop - sent, _PACED_BYTES if rate else _PIECE_BYTES))
            if not data:
                raise _Over
            writer.write(data)
            await writer.drain()
            sent += len(data)
            self._counts.bytes += len(data)
            if rate and (early := begin + sent / rate - _now()) > 0:
                await asyncio.sleep(early)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _head(reader: asyncio.StreamReader) -> list[bytes]:
    """The lines of a head; none where the connection has ended before it."""
    try:
        return (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    except asyncio.IncompleteReadError:
        return []


def _named(head: list[bytes]) -> dict[bytes, bytes]:
    """The fields of a head, by their names in small letters."""
    pairs = (line.partition(b":") for line in head[1:])
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _pass_request(
    head: list[bytes], reader: asyncio.StreamReader, store: asyncio.StreamWriter, client: asyncio.StreamWriter
) -> None:
    """Who waits to be told to go on is told so here."""
    named = _named(head)
    if b"expect" in named:
        client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = [line for line in head if not line.lower().startswith(b"expect:")]
    store.write(b"\r\n".join(head) + b"\r\n\r\n")
    if named.get(b"transfer-encoding", b"").lower() == b"chunked":
        await _pass_chunks(reader, store)
    left = int(named.get(b"content-length", b"0"))
    while left:
        data = await reader.read(min(left, _PIECE_BYTES))
        if not data:
            raise _Over
        store.write(data)
        left -= len(data)
        await store.drain()
    await store.drain()


async def _pass_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body whose length nobody tells beforehand, as it is."""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        writer.write(line + await reader.readexactly(size + 2))
        await writer.drain()
        if not size:
            return


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("upstream", help="URL of the server, of plain HTTP")
    parser.add_argument("--port", type=int, default=0, help="to listen at; 0: a free one")
    parser.add_argument("--first-byte-ms", type=float, default=0.0)
    parser.add_argument("--megabytes-per-s", type=float, default=0.0, help="of a connection, in 1,000,000 bytes")
    for name in ("refuse", "cut", "stall"):
        parser.add_argument(f"--{name}", type=float, default=0.0, help="share of GETs")
    parser.add_argument("--stall-s", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--manner", help="all of that as JSON: " + ", ".join(field.name for field in fields(Manner)))
    given = parser.parse_args()
    manner = Manner(
        given.first_byte_ms / 1000,
        given.megabytes_per_s * 1e6,
        given.refuse,
        given.cut,
        given.stall,
        given.stall_s,
        given.seed,
    )
    if given.manner:
        manner = Manner(**json.loads(given.manner))
    with suppress(KeyboardInterrupt):
        asyncio.run(_Server(given.upstream, manner).serve(given.port))


if __name__ == "__main__":
    main()
