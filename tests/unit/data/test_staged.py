"""Remote row groups that are read as they come: what is fetched when, and that it changes no row."""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data import lanes
from runner.data.files.engines.base import Attempt
from runner.data.files.fetch import pool as pools
from runner.data.files.fetch import promise as promises_of
from runner.data.files.fetch import stages as cutting
from runner.data.files.fetch.spans import SHAPES, Shape
from runner.data.files.fetch.stages import Range, stages
from runner.data.formats import parquet, parquet_footer, parquet_pages, parquet_staged
from runner.data.limits import Limits
from runner.data.manifest import Manifest, build
from runner.data.stream import Stream
from runner.data.stream.requests import Requests
from runner.errors import DataError
from tests.unit.data.kit import RemoteFileSystem, register_remote

KIB = 1 << 10


def test_pieces_cover_ranges_that_are_read_side_by_side() -> None:
    """All bytes are in one piece, those that are needed first in the first ones, and no piece is too long."""
    draw = random.Random(2)
    for _ in range(300):
        size, shape = draw.randrange(1, 40_000_000), Shape(draw.randrange(300_000), 4 << 20)
        edges = sorted(draw.sample(range(size + 1), min(size + 1, 2 * draw.randrange(1, 9))))
        ranges = [
            Range(start, end - start + draw.choice((0, 100)), draw.random() < 0.2)
            for start, end in zip(edges[::2], edges[1::2], strict=False)
        ]
        pieces = stages(ranges, size, shape, draw.choice((1 << 20, 16 << 20)))
        assert [one.place for one in pieces] == sorted(one.place for one in pieces)
        in_file = sorted(pieces, key=lambda one: one.start)
        assert all(one.start < one.end <= two.start for one, two in itertools.pairwise(in_file))
        for one in ranges:
            end = min(one.start + one.length, size)
            inside = [piece for piece in in_file if piece.start < end and one.start < piece.end]
            assert not inside or inside[0].start <= one.start
            assert all(low.end == high.start for low, high in itertools.pairwise(inside))
            assert sum(piece.end - piece.start for piece in inside) >= end - one.start
        assert all(piece.end - piece.start <= shape.most for piece in pieces)


def table() -> pa.Table:
    """16,000 rows of whole numbers, lists, text that a dictionary names, and text that none does."""
    draw = np.random.default_rng(0)
    values = draw.integers(0, 1 << 40, 16_000 * 8)
    return pa.table(
        {
            "id": np.arange(16_000),
            "list": pa.FixedSizeListArray.from_arrays(pa.array(values), 8),
            "named": [f"name {i % 97}" for i in range(16_000)],
            "text": [draw.bytes(int(n)).hex() for n in draw.integers(10, 60, 16_000)],
            "x": pa.array(draw.random(16_000), mask=draw.random(16_000) < 0.1),
        }
    )


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> type[RemoteFileSystem]:
    """A store whose requests are small, so that units of a few hundred kilobytes come in pieces."""
    monkeypatch.setattr(pools, "_pool", None)
    monkeypatch.setitem(SHAPES, "", Shape(gap=KIB, most=32 * KIB))
    monkeypatch.setattr(cutting, "FIRST_BYTES", 4 * KIB)
    monkeypatch.setattr(parquet_staged, "LEAST_BYTES", 4 * KIB)
    monkeypatch.setattr(parquet, "BUFFER_BYTES", 4 * KIB)
    monkeypatch.setattr(parquet_footer, "_kept", parquet_footer._Kept())
    found = register_remote(monkeypatch)
    put(found)
    return found


def put(remote: type[RemoteFileSystem], **how: Any) -> None:
    sink = pa.BufferOutputStream()
    how = {"use_dictionary": ["named"], "compression": "zstd", "data_page_size": 8 * KIB, **how}
    pq.write_table(table(), sink, row_group_size=4000, write_page_checksum=True, **how)
    remote().pipe_file("/data/a.parquet", sink.getvalue().to_pybytes())


def rows_of(manifest: Manifest, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [row for batch in manifest.read(0, columns=columns, rows=500) for row in batch.to_pylist()]


@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("use_dictionary", [["named"], True, False])
def test_what_comes_in_pieces_is_what_was_written(
    remote: type[RemoteFileSystem], use_dictionary: Any, version: str, compression: str
) -> None:
    """All columns and some, each byte fetched once, and nothing held at the end."""
    put(remote, use_dictionary=use_dictionary, data_page_version=version, compression=compression)
    manifest = build("remote://data")
    for columns in (None, ["x"], ["text", "id"], ["named"], ["list", "named"]):
        remote.reads.clear()
        expected = table().select(columns or table().column_names).to_pylist()
        assert rows_of(manifest, columns) == expected
        asked = sorted((start, end) for _, start, end in remote.reads)
        padding = 100  # of a chunk that old files say too little of: there the next row group begins
        assert all(one[1] <= two[0] + padding for one, two in itertools.pairwise(asked))
    assert not pools.pool()._held
    assert not promises_of._parts


def gated(
    remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch, may: Callable[[int], bool]
) -> threading.Event:
    """Requests of a place in the file that may not be answered wait for the event."""
    read, opened = RemoteFileSystem.cat_file, threading.Event()

    def cat_file(self: RemoteFileSystem, path: str, start: int = 0, **more: Any) -> bytes:
        if not may(start):
            assert opened.wait(60)
        return read(self, path, start=start, **more)

    monkeypatch.setattr(remote, "cat_file", cat_file)
    return opened


def test_the_first_rows_of_a_unit_wait_for_the_first_pieces_alone(
    remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is there while what comes later of its row group is still on its way."""
    manifest = build("remote://data")
    unit = manifest.shards[0].units[0]
    group = parquet_footer.footer(manifest.url(manifest.shards[0]), manifest.shards[0], None).metadata.row_group(0)
    late = group.column(1).data_page_offset + 48 * KIB
    opened = gated(remote, monkeypatch, lambda start: not late <= start < unit.start + unit.length)
    batches = manifest.read(0, [0], ["list"], rows=100)
    first = next(batches)
    assert first.to_pylist() == table().select(["list"]).slice(0, first.num_rows).to_pylist()
    opened.set()
    rest = [row for batch in batches for row in batch.to_pylist()]
    assert first.to_pylist() + rest == table().select(["list"]).slice(0, 4000).to_pylist()


def test_a_promise_sends_for_what_is_needed_up_to_a_share(remote: type[RemoteFileSystem]) -> None:
    """Of a unit that is asked for in part the rest is fetched when more is asked for, and nothing twice."""
    manifest = build("remote://data")
    remote.reads.clear()
    promise = manifest.ahead(0, 0, ["list"], until=0.1)
    assert promise is not None
    assert promise.is_staged

    def came() -> int:
        for part in promise._parts:  # type: ignore[union-attr]
            assert not part.is_sent or part.over.wait(20)  # type: ignore[attr-defined]
        return sum(end - start for _, start, end in remote.reads)

    early = came()
    assert 0 < early < promise.bytes / 3
    promise.send(0.5)
    assert early < came() < 0.8 * promise.bytes
    promise.send(0.5)
    assert [row for batch in manifest.read(0, [0], ["list"]) for row in batch.to_pylist()] == table().select(
        ["list"]
    ).slice(0, 4000).to_pylist()
    assert sum(end - start for _, start, end in remote.reads) == promise.bytes
    last = manifest.ahead(0, 1, ["list"], until=0.1)
    assert last is not None
    last.drop()
    assert not promises_of._parts


def test_text_that_a_dictionary_names_unsaid_is_read_all_the_same(
    remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pages are of an encoding that the footer does not tell the row group is read once more, as a whole."""
    manifest = build("remote://data")
    monkeypatch.setattr(parquet_staged, "_must_be_whole", lambda chunk, leaf: False)
    assert rows_of(manifest) == table().to_pylist()


def test_pages_are_looked_at_before_they_are_decoded(
    remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would take too much memory is refused where it comes in pieces as where it does not."""
    put(remote, use_dictionary=False)
    manifest = build("remote://data")
    shard, seen, check = manifest.shards[0], [], parquet_staged.check_needed
    group = parquet_footer.footer(manifest.url(shard), shard, None).metadata.row_group(0)
    leaves = parquet_footer.footer(manifest.url(shard), shard, None).leaves
    data = remote().cat_file("/data/a.parquet")
    whole = parquet_pages.plan(pa.BufferReader(data), len(data), group, leaves, [1], group.total_byte_size)
    monkeypatch.setattr(parquet_staged, "check_needed", lambda *given: (seen.append(given[0]), check(*given)))
    batches = manifest.read(0, [0], ["list"], rows=100)
    next(batches)
    assert 0 < seen[-1] < whole.needed / 2
    list(batches)
    assert seen[-1] == whole.needed
    parquet_footer._anew()
    monkeypatch.setattr(Limits, "at_once", lambda self, length: whole.needed - 1)
    with pytest.raises(DataError, match=r"(?s)a.parquet.*column 'list.*AT_ONCE_BYTES"):
        list(manifest.read(0, [0], ["list"], rows=100))


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_stream_of_large_remote_units_has_the_order_of_the_disk(
    remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch, tmp_path: Any, shuffle: bool
) -> None:
    """Several lanes, two epochs and a resume in the middle: the same batches, each byte fetched about once an epoch."""
    monkeypatch.setattr(lanes, "SMALL_BYTES", 0)
    monkeypatch.setattr(lanes, "BLOCK_BYTES", 40_000)
    monkeypatch.setattr(lanes, "WINDOW_BYTES", 40_000)
    monkeypatch.setattr(lanes, "FEW_UNITS", 2)
    (tmp_path / "a.parquet").write_bytes(remote().cat_file("/data/a.parquet"))
    here, there = build(str(tmp_path)), build("remote://data")
    assert there.lanes > 1

    def batches(manifest: Manifest, at: int = 0) -> list[dict[str, Any]]:
        with Stream(manifest, batch_size=100, epochs=2, seed=4, as_="arrow", shuffle=shuffle, threads=2) as stream:
            if at:
                stream.load_state_dict({**stream.state_dict(), "epoch": 1, "samples_seen": at})
            return [{name: batch[name].to_pylist() for name in manifest.schema.names} for batch in stream]

    expected = batches(here)
    remote.reads.clear()
    assert batches(there) == expected
    size = sum(unit.length for unit in there.shards[0].units)
    assert sum(end - start for _, start, end in remote.reads) < 2.2 * size
    assert batches(there, 8000) == expected[-80:]
    assert not pools.pool()._held
    assert not promises_of._parts


def test_room_is_counted_by_what_was_asked_for_and_not_read() -> None:
    """A unit that is asked for in part takes its part of the room, until its rows are decoded."""

    class Some:
        is_staged = True

        def __init__(self) -> None:
            self.sent: list[float] = []

        def send(self, until: float, urgency: int) -> None:
            self.sent.append(until)

        def drop(self) -> None: ...

    made = Some()
    requests = Requests(lambda unit: made, 1000, 10.0, 10.0)  # type: ignore[arg-type, return-value]
    requests.ask(0, 2000, 0.25)
    answer = requests._asked[0].result
    assert answer is not None
    assert answer.result(20) is made  # type: ignore[comparison-overlap]
    assert requests.begin(0)
    assert requests.has_room
    requests.ask_on(0, 0.75)
    assert made.sent
    assert not requests.has_room
    requests.went_to(0, 0.5)
    assert requests.has_room
    requests.ask_on(1, 1.0)  # nobody has asked for it: whoever reads it fetches
    requests.went_to(0, 1.0)
    assert requests._bytes == 0
    requests.forget()


def test_what_is_needed_first_is_fetched_first(remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was asked for the most urgent goes first, whoever has asked first; before it what somebody waits for."""
    monkeypatch.setattr(pools, "AT_ONCE", 1)
    manifest = build("remote://data")
    units = manifest.shards[0].units
    promises = [manifest.ahead(0, number, ["list"], until=0.0) for number in range(4)]
    opened = gated(remote, monkeypatch, lambda start: False)
    remote.reads.clear()
    for number, urgency in ((3, 0), (0, 9), (1, 5)):
        promise = promises[number]
        assert promise is not None
        promise.send(0.1, urgency)
    batches = manifest.read(0, [2], ["list"], rows=100)
    reader = threading.Thread(target=lambda: next(batches))
    reader.start()
    while not any(part.is_awaited for part in promises[2]._parts):  # type: ignore[union-attr, attr-defined]
        reader.join(0.01)
    opened.set()
    reader.join(20)
    for number in (0, 1, 3):
        for part in promises[number]._parts:  # type: ignore[union-attr]
            assert not part.is_sent or part.over.wait(20)  # type: ignore[attr-defined]
    order = [
        next(i for i, one in enumerate(units) if one.start <= start < one.start + one.length)
        for _, start, _ in remote.reads
    ]
    assert list(dict.fromkeys(order)) == [3, 2, 1, 0]
    batches.close()  # type: ignore[attr-defined]
    for promise in promises:
        promise.drop()  # type: ignore[union-attr]


def test_units_that_are_cut_over_lanes_are_fetched_once(
    remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is decoded once, into a temporary file, is not asked for again when its next rows come, nor later."""
    monkeypatch.setattr(lanes, "SMALL_BYTES", 0)
    monkeypatch.setattr(lanes, "BLOCK_BYTES", 40_000)
    monkeypatch.setattr(lanes, "WINDOW_BYTES", 40_000)
    monkeypatch.setattr("runner.data.stream.reader.SMALL_BYTES", 0)
    manifest = build("remote://data")
    assert manifest.lanes > len(manifest.shards[0].units)
    remote.reads.clear()
    with Stream(manifest, batch_size=100, epochs=3, as_="arrow", threads=2) as stream:
        assert sum(len(batch["id"]) for batch in stream) == 3 * 16_000
        size = sum(unit.length for unit in manifest.shards[0].units)
        assert sum(end - start for _, start, end in remote.reads) < 1.1 * size
    assert not promises_of._parts


def test_how_much_is_held_of_a_unit_says_whether_it_is_read_as_it_comes(remote: type[RemoteFileSystem]) -> None:
    """Few columns of a unit need little of it at a time; all of them may be too many."""
    manifest = build("remote://data")
    few, many = ["list"], manifest.schema.names
    needed = {
        len(names): next(size for size in range(0, 64 << 20, 64 * KIB) if manifest.streams(0, 0, names, size))
        for names in (few, many)
    }
    assert needed[1] < needed[len(many)]
    assert not build("remote://data").streams(0, 0, few, needed[1] - 64 * KIB)


def in_a_fork(act: Callable[[], bool]) -> bool:
    """What is so in a forked process; False where it is not done within 20 seconds."""
    child = os.fork()
    if child == 0:
        said: list[bool] = []
        acting = threading.Thread(target=lambda: said.append(act()), daemon=True)
        acting.start()
        acting.join(20)
        os._exit(0 if said == [True] else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_process_goes_on_by_requests_of_its_own(
    remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parent and child have all rows, also where the parent waited for a piece; the child's are not the parent's."""
    manifest = build("remote://data")
    opened = gated(remote, monkeypatch, lambda start: start < 64 * KIB)
    batches = manifest.read(0, [0], ["list"], rows=100)
    first, expected = next(batches), table().select(["list"]).slice(0, 4000).to_pylist()
    opened.set()  # for both of them
    rest = [first]

    def goes_on() -> bool:
        rest.extend(batches)
        return [row for batch in rest for row in batch.to_pylist()] == expected

    assert in_a_fork(goes_on)
    assert goes_on()


def test_a_forked_process_lets_its_parent_fetch(
    remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that closes what its parent reads waits for no lock of it, and breaks off none of its requests."""
    manifest = build("remote://data")
    opened = gated(remote, monkeypatch, lambda start: start < 64 * KIB)
    batches = manifest.read(0, [0], ["list"], rows=100)
    next(batches)

    def closes() -> bool:
        monkeypatch.setattr(Attempt, "break_off", lambda self: broken.append(self))
        batches.close()  # type: ignore[attr-defined]
        return not broken

    broken: list[Attempt] = []
    held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with pools.pool().lock:
            held.set()
            may_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    done = in_a_fork(closes)
    may_go.set()
    holder.join()
    opened.set()
    assert done
    assert sum(batch.num_rows for batch in batches) > 0
