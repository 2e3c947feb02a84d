"""Blocks of very many units: opened before all of them are here, with the same rows in the same order."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.manifest import Manifest, build
from runner.data.stream import Stream, reader
from runner.data.stream.order import Segment
from runner.data.stream.requests import MOST_UNITS, Requests
from runner.data.stream.turns import first_rows, groups_of
from runner.errors import DataError

#: Of the tiny units, and of two larger ones among them that lie in several blocks.
TINY, LARGE = 120, 400


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Units of one to five rows, in four lanes of blocks of some 80 of them."""
    folder, draw, at = tmp_path_factory.mktemp("many"), random.Random(0), 0
    for number in range(TINY + 2):
        rows = LARGE if number in (30, 80) else draw.randrange(1, 6)
        ids = np.arange(at, at + rows)
        pq.write_table(pa.table({"id": ids, "text": [f"row {i}" for i in ids]}), folder / f"{number:04}.parquet")
        at += rows
    return replace(build(str(folder)), lanes=4, block_bytes=4_000)


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As data that does not stay in memory, with many units in most of its blocks."""
    monkeypatch.setattr(reader, "SMALL_BYTES", 0)
    monkeypatch.setattr(reader, "_MANY", 4)


def read(stream: Stream) -> list[list[int]]:
    found = []
    for batch in stream:
        assert batch["text"].tolist() == [f"row {i}" for i in batch["id"].tolist()]
        found.append(batch["id"].tolist())
    return found


def eager(monkeypatch: pytest.MonkeyPatch, *given: Any, **named: Any) -> list[list[int]]:
    """The batches as a reader gives them that waits for whole blocks."""
    with monkeypatch.context() as patched:
        patched.setattr(reader, "_MANY", 1 << 30)
        return read(Stream(*given, **named))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_order_is_the_same(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, shuffle: bool, threads: int
) -> None:
    """In each epoch and rank that of blocks that are waited for as a whole; hardly a unit is decoded twice."""
    for rank, world_size in ((0, 1), (1, 3)):
        named = {"rank": rank, "world_size": world_size, "epochs": 2, "shuffle": shuffle, "as_": "numpy", "seed": 3}
        stream = Stream(manifest, 12, threads=threads, **named)
        assert read(stream) == eager(monkeypatch, manifest, 12, **named)
        if world_size == 1:
            assert stream.rows_read < 2.2 * manifest.rows


@pytest.mark.parametrize("small", [True, False])
def test_any_step_can_be_resumed(manifest: Manifest, monkeypatch: pytest.MonkeyPatch, small: bool) -> None:
    """Also where nothing of what a block begins with is needed any more."""
    if small:
        monkeypatch.setattr(reader, "SMALL_BYTES", 1 << 30)
        manifest = replace(manifest, lanes=1, block_bytes=1 << 30)
    whole, states = [], []
    stream = Stream(manifest, 40, epochs=2, as_="numpy")
    states.append(stream.state_dict())
    for batch in stream:
        whole.append(batch["id"].tolist())
        states.append(stream.state_dict())
    for done in range(0, len(whole), 17):
        again = Stream(manifest, 40, epochs=2, as_="numpy")
        again.load_state_dict(states[done])
        assert read(again) == whole[done:]


def test_small_data_is_decoded_once(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays in memory is there for the epochs that follow, whole, though rows at the end are left out."""
    monkeypatch.setattr(reader, "SMALL_BYTES", 1 << 30)
    manifest = replace(manifest, lanes=1, block_bytes=1 << 30)
    stream = Stream(manifest, 40, epochs=4, as_="numpy")
    assert read(stream) == eager(monkeypatch, manifest, 40, epochs=4, as_="numpy")
    assert stream.rows_read == manifest.rows


def test_the_first_batch_waits_for_its_own_rows(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all other units hang, each in a thread, it is handed out."""
    order = Stream(manifest, 4, as_="numpy")._data.order.epoch(0)
    needed = set(order.rows(np.arange(4))[0].tolist())
    first = np.cumsum([0, *(len(one.units) for one in manifest.shards)]).tolist()
    go, plain = threading.Event(), Manifest.read

    def slow(self: Manifest, shard: int, units: Any = None, *rest: Any) -> Iterator[pa.RecordBatch]:
        if first[shard] + units[0] not in needed:
            assert go.wait(60)
        return plain(self, shard, units, *rest)

    monkeypatch.setattr(Manifest, "read", slow)
    stream = Stream(manifest, 4, as_="numpy", threads=64, timeout_s=30)
    begun = next(stream)["id"].tolist()
    go.set()
    rest = read(stream)
    assert [begun, *rest] == eager(monkeypatch, manifest, 4, as_="numpy")


def test_a_unit_that_is_damaged_is_named_when_its_rows_come(manifest: Manifest, tmp_path: Path) -> None:
    """The batches before it are handed out."""
    for shard in manifest.shards:
        data = Path(manifest.url(shard)).read_bytes()
        (tmp_path / shard.path).write_bytes(
            data if shard.path != "0111.parquet" else b"PAR1" + b"\xff" * 80 + data[84:]
        )
    damaged = Stream(replace(manifest, base=str(tmp_path)), 8, as_="numpy")
    whole: list[list[int]] = read(Stream(manifest, 8, as_="numpy"))
    found: list[list[int]] = []
    with pytest.raises(DataError, match=r"0111\.parquet \(unit 0\)"):
        found.extend(batch["id"].tolist() for batch in damaged)
    assert found == whole[: len(found)]
    assert 0 < len(found) < len(whole)


def test_memory_is_given_back(manifest: Manifest) -> None:
    """Broken off, resumed and read to the end, no room is counted as taken, and nothing is waited for."""
    stream = Stream(manifest, 40, epochs=2, as_="numpy")
    for _ in range(3):
        next(stream)
    stream.close()
    read(stream)
    own = stream._ahead.reader
    stream.close()
    assert not own._awaited
    assert (own._decoders.room._used, own._decoders.room._in_files) == (0, 0)


def test_tiny_remote_units_are_not_asked_for_without_end() -> None:
    """There is room for so many, whatever their bytes; one that is begun makes room for another."""
    requests = Requests(lambda unit: None, 1 << 30, 10.0, 10.0)
    try:
        for unit in range(MOST_UNITS):
            assert requests.has_room
            requests.ask(unit, 1)
        assert not requests.has_room
        requests.begin(7)
        assert requests.has_room
    finally:
        requests.forget()


def test_what_is_needed_first_is_decoded_first() -> None:
    """Groups cover each segment once, grow, and are in the order of the first rows that are needed."""
    draw = random.Random(0)
    for _ in range(50):
        counts = [draw.randrange(1, 5) for _ in range(draw.randrange(1, 90))]
        segments = [Segment(i, 0, count) for i, count in enumerate(counts)]
        rows = [i for i, count in enumerate(counts) for _ in range(count)]
        sequence = np.array(draw.sample(range(len(rows)), len(rows)))
        begin = draw.randrange(len(rows))
        first = first_rows(segments, sequence, begin).tolist()
        left = [rows[i] for i in sequence[begin:].tolist()]
        assert first == [begin + left.index(i) if i in left else len(rows) for i in range(len(counts))]
        groups = groups_of(np.arange(len(counts)), np.array(first))
        flat = [i for group in groups for i in group]
        assert sorted(flat) == list(range(len(counts)))
        assert [first[i] for i in flat] == sorted(first)
        assert len(groups[0]) == 1
        assert max(map(len, groups)) <= 16
