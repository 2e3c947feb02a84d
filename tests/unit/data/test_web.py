"""Data on web servers, with and without ranges and lengths."""

from __future__ import annotations

import http.server
import io
import json
import os
import socket
import threading
import zlib
from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.files.engines import choose, wholes
from runner.data.files.fetch import patience
from runner.data.files.fetch.source import Source
from runner.data.files.opening import open_input
from runner.data.formats import lines
from runner.data.manifest import build
from runner.errors import DataDamaged, DataError

ROWS = [{"a": i, "b": f"text {i}"} for i in range(500)]
BODY = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
#: Where files of the first kind are sent on to.
MOVED = {"moved": "ranges", "away": "none"}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the first part of the path says."""

    protocol_version = "HTTP/1.1"
    whole: ClassVar[list[str]] = []
    #: Ranges that were asked for.
    asked: ClassVar[list[str]] = []
    body: ClassVar[bytes] = BODY

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, with_body: bool) -> None:
        kind, body = self.path.split("/")[1], self.body
        if kind in MOVED:
            self.send_response(307)
            self.send_header("Location", self.path.replace(kind, MOVED[kind]))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if kind.isdecimal() or not self.body:
            kind = kind if kind.isdecimal() else "404"
            self.send_response(int(kind))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if kind in ("ranges", "misplaced") and asked:
            first, _, last = asked.partition("-")
            if kind == "misplaced" and asked not in self.asked and int(last) + 7 < len(self.body):
                self.asked.append(asked)
                first, last = str(int(first) + 7), str(int(last) + 7)
            body = self.body[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{len(self.body)}")
        else:
            self.send_response(200)
        if kind == "ranges":
            self.send_header("Accept-Ranges", "bytes")
        if kind in ("tagged", "ranges"):
            self.send_header("ETag", f'"{zlib.crc32(self.body)}"')
        if kind == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            if body is self.body and not (asked and kind in ("ranges", "misplaced")):
                self.whole.append(kind)
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if kind == "chunked" else body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "whole", [])
    monkeypatch.setattr(Handler, "asked", [])
    monkeypatch.setattr(Handler, "body", BODY)
    monkeypatch.setattr(wholes, "_wholes", type(wholes._wholes)())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()  # between looks for its end
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()


@pytest.mark.parametrize("kind", ["ranges", "moved", "none", "chunked"])
def test_web_server(server: str, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A file is read in units from any web server; one without ranges is not asked for all again for each."""
    monkeypatch.setattr(lines, "UNIT_BYTES", 4000)
    manifest = build(f"{server}/{kind}/a.jsonl", count=True)
    assert len(manifest.units) > 3
    assert [row for batch in manifest.read(0) for row in batch.to_pylist()] == ROWS
    assert Handler.whole.count(kind) <= {"ranges": 0, "moved": 0, "none": 2, "chunked": 3}[kind]


def test_other_bytes_than_were_asked_for_are_asked_for_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of the right length whose Content-Range names another place of the file is not taken."""
    monkeypatch.setattr(lines, "UNIT_BYTES", 4000)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    manifest = build(f"{server}/misplaced/a.jsonl", count=True)
    assert [row for batch in manifest.read(0) for row in batch.to_pylist()] == ROWS
    assert open_input(f"{server}/misplaced/a.jsonl", len(BODY)).read_at(100, 50) == BODY[50:150]
    assert Handler.asked


def test_many_files_without_ranges_are_fetched_once_each(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and in whatever order they are read, but for what is late and asked for twice."""
    monkeypatch.setattr(Source, "may_hedge", lambda self: False)
    sources = [f"{server}/none/{i}.jsonl" for i in range(20)]
    manifest = build(sources, count=True)
    before = len(Handler.whole)
    for i in [*range(20), *range(20)]:
        assert sum(batch.num_rows for batch in manifest.read(i)) == len(ROWS)
    assert before == len(Handler.whole) == 20


def test_whole_files_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go with their temporary file; a forked process writes to none of its parent's."""
    for name, value in (("_wholes", {}), ("_spools", []), ("_is_own", False), ("_FULL_BYTES", 10), ("_MOST", 2)):
        monkeypatch.setattr(wholes, name, value)
    for i in range(6):
        wholes.keep(str(i), "", b"%d" % i * 6)
    found = [wholes.kept(str(i), 6, "", 1, 3) for i in range(6)]
    assert found == [None, None, b"22", b"33", b"44", b"55"]
    first = os.fork()
    if not first:
        wholes.keep("child", "", b"c" * 6)
        os._exit(0 if wholes.kept("child", 6, "", 0, 2) == b"cc" and wholes.kept("5", 6, "", 0, 2) == b"55" else 1)
    assert os.waitpid(first, 0)[1] == 0
    wholes.keep("parent", "", b"p" * 6)
    assert wholes.kept("5", 6, "", 0, 6) == b"555555"
    assert wholes.kept("parent", 6, "", 0, 6) == b"pppppp"


@pytest.mark.parametrize("kind", ["none", "tagged", "chunked"])
def test_a_file_that_is_listed_anew_is_fetched_anew(server: str, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """From a server without ranges the newer file comes, though the process keeps the older one of the same size."""
    url = f"{server}/{kind}/a.jsonl"
    before = build(url, count=True)
    monkeypatch.setattr(Handler, "body", BODY.replace(b"text", b"word"))
    after = build(url, count=True)
    assert after.id != before.id
    assert next(iter(after.read(0)))["b"][0].as_py() == "word 0"
    assert next(iter(before.read(0)))["b"][0].as_py() == "text 0"


@pytest.mark.parametrize("kind", ["ranges", "moved", "none", "tagged", "away", "chunked"])
def test_a_file_that_is_replaced_is_told_of(server: str, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A server that sends another file than was listed: by its tag, by which it is also known at another address, or
    where none is told by all of its bytes."""
    listed = build(f"{server}/{kind}/a.jsonl", count=True)
    monkeypatch.setattr(wholes, "_wholes", type(wholes._wholes)())
    monkeypatch.setattr(Handler, "body", BODY.replace(b"text", b"word"))
    with pytest.raises(DataError, match="has changed"):
        list(listed.read(0))


def test_a_parquet_file_that_is_removed_is_not_taken_for_damaged(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone, which is never set aside, though the store has no number of an error for it."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": range(9)}), sink)
    monkeypatch.setattr(Handler, "body", sink.getvalue())
    listed = build(f"{server}/ranges/a.parquet")
    monkeypatch.setattr(Handler, "body", b"")
    with pytest.raises(DataError, match="the file is gone") as caught:
        list(listed.read(0))
    assert not isinstance(caught.value, DataDamaged)


def test_signed_url(server: str) -> None:
    """The query of a URL is no part of the name that the format follows from."""
    assert build(f"{server}/ranges/a.jsonl?signature=x.y", count=True).rows == len(ROWS)


@pytest.mark.parametrize(("status", "words"), [(404, "no such file"), (403, "cannot be reached.*403"), (500, "500")])
def test_an_answer_that_is_no_file_is_told_as_what_it_is(server: str, status: int, words: str) -> None:
    """Only what a server says is absent is absent; of a refusal the status is told."""
    with pytest.raises(DataError, match=words):
        build(f"{server}/{status}/a.jsonl", count=True)


def test_a_server_that_does_not_answer_is_not_a_file_that_is_absent() -> None:
    """The cause is told: a closed port of this machine refuses the connection."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    with pytest.raises(DataError, match=r"cannot be reached \(ClientConnector"):
        build(f"http://127.0.0.1:{port}/a.jsonl", count=True)


@pytest.mark.parametrize("name", ["fsspec", ""])
@pytest.mark.parametrize("status", [403, 404, 503])
def test_the_query_of_a_url_is_in_no_error(
    server: str, name: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signed URL that is refused, gone or busy is named without what it is signed by."""
    monkeypatch.setenv(choose.VARIABLE, name)
    monkeypatch.setattr(patience, "RETRY_S", 0.01)
    url = f"{server}/{status}/a.parquet?signature=hidden"
    with pytest.raises((OSError, DataError), match=f"{server}/{status}/a.parquet") as caught:
        open_input(url, 100).read()
    assert "hidden" not in str(caught.value)
    with pytest.raises(DataError, match="no such file" if status == 404 else f"reached.*{status}") as caught:
        build(url)
    assert "hidden" not in str(caught.value)
