"""Arrow's files on other machines: which ranges of them are fetched, and that the rows are those of the disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runner.data.files.fetch import pool as pools
from runner.data.files.fetch import promise as promises_of
from runner.data.files.fetch.spans import SHAPES, Shape
from runner.data.formats import ipc_away
from runner.data.manifest import build
from runner.data.stream import Stream
from tests.unit.data.arrow_kit import any_array, any_type, values_of
from tests.unit.data.kit import RemoteFileSystem, register_remote


def written(table: pa.Table, kind: str, codec: str | None, rows: int) -> bytes:
    sink, options = io.BytesIO(), pa.ipc.IpcWriteOptions(compression=codec)
    with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def values(batches: Iterator[pa.RecordBatch]) -> list[list[Any]]:
    return [values_of(column) for batch in batches for column in batch.columns]


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> type[RemoteFileSystem]:
    """A store of which each buffer may be asked for by itself."""
    monkeypatch.setattr(pools, "_pool", None)
    monkeypatch.setitem(SHAPES, "", Shape(gap=0, most=20_000))
    monkeypatch.setattr(ipc_away, "_LARGE_BYTES", 0)
    monkeypatch.setattr(ipc_away, "_HEAD_BYTES", 64)
    monkeypatch.setattr(ipc_away, "_TAIL_BYTES", 64)
    ipc_away._anew()
    return register_remote(monkeypatch)


@pytest.mark.parametrize("kind", ["arrow", "arrows"])
@pytest.mark.parametrize("codec", [None, "zstd", "lz4"])
@pytest.mark.parametrize("seed", range(4))
def test_columns_of_every_type_are_those_of_the_disk(
    remote: type[RemoteFileSystem], tmp_path: Path, kind: str, codec: str | None, seed: int
) -> None:
    """Of random types each column by itself, and all of them, promised and not: the same rows, and nothing is held."""
    draw = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {"n": pa.array(range(60))}
    for i in range(6):
        array = any_array(draw, any_type(draw), 60)
        columns[f"c{i}"] = array
    data = written(pa.table(columns), kind, codec, 20)
    (tmp_path / f"a.{kind}").write_bytes(data)
    remote().pipe_file(f"/data/a.{kind}", data)
    here, there = build(str(tmp_path)), build("remote://data")
    assert here.shards[0].units == there.shards[0].units
    for names in (None, ["n"], *([name] for name in here.schema.names), ["c1", "c4"]):
        expected = values(here.read(0, columns=names))
        assert values(there.read(0, columns=names)) == expected
        promises = [there.ahead(0, unit, names or here.schema.names) for unit in range(len(there.shards[0].units))]
        assert all(promises)
        assert values(there.read(0, columns=names)) == expected
    assert not promises_of._parts
    assert not pools.pool()._held


def floats(rows: int = 6000) -> pa.Table:
    draw = np.random.default_rng(1)
    return pa.table({f"x{i}": draw.random(rows) for i in range(16)})


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_of_some_columns_their_buffers_alone_are_fetched(remote: type[RemoteFileSystem], codec: str | None) -> None:
    """Two of sixteen columns take about an eighth of the bytes, each once; the footer is asked for once."""
    remote().pipe_file("/data/a.arrow", written(floats(), "arrow", codec, 2000))
    manifest = build("remote://data")
    list(manifest.read(0, [0], ["x3"]))
    remote.reads.clear()
    found = pa.Table.from_batches(manifest.read(0, columns=["x3", "x9"]))
    assert found == floats().select(["x3", "x9"])
    size = manifest.shards[0].size
    assert sum(end - start for _, start, end in remote.reads) < size / 6
    asked = sorted((start, end) for _, start, end in remote.reads)
    last = manifest.shards[0].size - 2000
    assert asked[-1][1] < last


def test_a_small_stream_is_fetched_at_once(remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is one unit takes the requests of its bytes, and none for each of its messages."""
    monkeypatch.setitem(SHAPES, "", Shape(gap=0, most=1 << 20))
    table = pa.table({"name": pa.array(["a", "b", "a"] * 1000).dictionary_encode(), "x": range(3000)})
    remote().pipe_file("/data/a.arrows", written(table, "arrows", None, 100))
    manifest = build("remote://data")
    list(manifest.read(0))
    remote.reads.clear()
    assert [row for batch in manifest.read(0) for row in batch.to_pylist()] == table.to_pylist()
    assert len(remote.reads) == 1


@pytest.mark.parametrize("kind", ["arrow", "arrows"])
def test_a_stream_of_remote_batches_has_the_order_of_the_disk(
    remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """Two epochs with the units asked for ahead: the same batches, from few requests for each unit."""
    monkeypatch.setattr("runner.data.lanes.SMALL_BYTES", 0)
    monkeypatch.setattr("runner.data.lanes.BLOCK_BYTES", 40_000)
    monkeypatch.setattr("runner.data.lanes.WINDOW_BYTES", 40_000)
    monkeypatch.setattr("runner.data.formats.ipc.UNIT_BYTES", 50_000)
    monkeypatch.setitem(SHAPES, "", Shape(gap=0, most=1 << 20))
    data = written(floats(20_000), kind, None, 500)
    (tmp_path / f"a.{kind}").write_bytes(data)
    remote().pipe_file(f"/data/a.{kind}", data)
    here, there = build(str(tmp_path)), build("remote://data")

    def batches(manifest: Any) -> list[bytes]:
        with Stream(manifest, batch_size=100, epochs=2, seed=1, as_="numpy", threads=2) as stream:
            return [batch[name].tobytes() for batch in stream for name in manifest.schema.names]

    expected = batches(here)
    remote.reads.clear()
    assert batches(there) == expected
    units = len(there.shards[0].units)
    assert units > 8
    assert len(remote.reads) <= 2 * units + 4
