"""Footers that are kept with a plan: given back as they are stored in the files, within bounds, and never trusted."""

from __future__ import annotations

import io
import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data import footers as kept
from runner.data.files.fetch import Fetched, fetched
from runner.data.footers import Footers
from runner.data.formats import parquet_footer
from runner.data.manifest import Manifest, build
from runner.data.shards import Shard
from runner.data.stream import Stream
from runner.errors import DataDamaged
from tests.unit.data.kit import register_remote


def shard(number: int, size: int = 1000) -> Shard:
    return Shard(f"{number}.parquet", size, f"md5:{number:032x}", "parquet", ())


def filled(count: int, length: int = 3000) -> tuple[Footers, list[bytes]]:
    draw = random.Random(0)
    common = draw.randbytes(length - 20)
    values = [common + draw.randbytes(20) for _ in range(count)]
    footers = Footers()
    for number, value in enumerate(values):
        footers.add(shard(number), value)
    return footers, values


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings."""
    found: list[str] = []
    monkeypatch.setattr(kept._log, "warning", lambda words, *_: found.append(words))
    return found


def test_each_file_has_its_own() -> None:
    """What was added comes back, here, from the bytes and from a pickle; of another size or tag nothing does."""
    footers, values = filled(200)
    data = footers.to_bytes()
    assert len(data) < sum(map(len, values)) / 10
    for one in (footers, Footers(lambda: data), pickle.loads(pickle.dumps(filled(200)[0]))):
        assert len(one) == 200
        order = random.Random(1).sample(range(200), 200)
        assert [one.get(shard(number)) for number in order] == [values[number] for number in order]
        for other in (shard(200), shard(7, size=1001), replace(shard(7), etag="md5:8")):
            assert one.get(other) is None
            assert not one.has(other)


def test_there_are_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too large is not kept, and none is once all together are too many bytes."""
    footers = Footers()
    footers.add(shard(0), bytes(kept.LARGEST_BYTES + 1))
    footers.add(shard(1), bytes(kept.LARGEST_BYTES))
    assert (footers.get(shard(0)), len(footers)) == (None, 1)
    monkeypatch.setattr(kept, "MOST_BYTES", 300_000)
    footers, draw = Footers(), random.Random(0)
    for number in range(20):
        footers.add(shard(number), draw.randbytes(100_000))
    assert 3 <= len(footers) <= 6
    assert len(Footers(footers.to_bytes)) == len(footers)


def damaged(data: bytes) -> dict[str, bytes]:
    table = pq.read_table(pa.BufferReader(data))

    def written(**changed: object) -> bytes:
        sink = io.BytesIO()
        columns = [changed.get(name, table[name].to_pylist()) for name in table.schema.names]
        pq.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, table.schema, strict=True)],
                                schema=table.schema), sink)  # fmt: skip
        return sink.getvalue()

    lengths = table["lengths"].to_pylist()
    return {
        "nothing": b"",
        "cut": data[: len(data) // 2],
        "other": data[:-8] + b"\0" * 8,
        "null": written(block=[None] * len(table)),
        "negative": written(lengths=[[-1, *one[1:]] for one in lengths]),
        "huge": written(lengths=[[1 << 60, *one[1:]] for one in lengths]),
        "fewer": written(lengths=[one[1:] for one in lengths]),
    }


@pytest.mark.parametrize("kind", ["nothing", "cut", "other", "null", "negative", "huge", "fewer"])
def test_what_is_damaged_is_as_if_it_were_not_there(kind: str, said: list[str]) -> None:
    """A file of footers that is none is said, and gives none."""
    data = damaged(filled(60)[0].to_bytes())[kind]
    assert Footers(lambda: data).get(shard(3)) is None
    assert "each file's is read from it" in said[0]


def test_what_was_not_kept_is_no_error(said: list[str]) -> None:
    """A bundle of an older runner has no such file."""

    def load() -> bytes:
        raise FileNotFoundError

    assert Footers(load).get(shard(0)) is None
    assert not said


@pytest.mark.parametrize("block", [b"", b"x" * 50])
def test_a_block_that_is_none_gives_nothing(block: bytes) -> None:
    """A block that cannot be decompressed is no error: its files are asked."""
    footers, _ = filled(60)
    footers._seal()
    footers._blocks[0] = block
    assert footers.get(shard(0)) is None


def test_a_footer_that_is_kept_is_used_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    """A manifest reads by the footer that it keeps, and where that is damaged by the file's own."""
    pq.write_table(pa.table({"x": np.arange(100)}), tmp_path / "a.parquet", row_group_size=40)
    plain = build(str(tmp_path))
    (one,) = plain.shards
    right = plain.footer(one).stored

    def read(stored: bytes) -> tuple[list[int], int]:
        footers, asked = Footers(), []
        footers.add(one, stored)
        manifest = Manifest.from_bytes(plain.to_bytes(), lambda: asked.append(1) or footers.to_bytes())
        parquet_footer._anew()
        batches = list(manifest.read(0))
        return [x for batch in batches for x in batch["x"].to_pylist()], len(asked)

    for stored in (right, right[:-9] + b"\xff" * 9, b"no footer"):
        assert read(stored) == (list(range(100)), 1)


def test_a_footer_by_which_a_file_cannot_be_read_is_asked_for(tmp_path: Path) -> None:
    """A stream that fails by the footer of a plan, which says what a footer can say, reads by the file's own."""
    for name, codec in (("a", "none"), ("b", "zstd")):
        (tmp_path / name).mkdir()
        table = pa.table({"x": np.arange(5000) % 7})
        pq.write_table(
            table, tmp_path / name / "a.parquet", row_group_size=2000, compression=codec, use_dictionary=False
        )
    plain, other = (build(str(tmp_path / name)) for name in ("a", "b"))
    footers = Footers()
    footers.add(plain.shards[0], other.footer(other.shards[0]).stored)
    parquet_footer._anew()
    wrong = replace(plain, footers=footers)
    with pytest.raises(DataDamaged):
        list(wrong.read(0))
    parquet_footer._anew()
    stream = Stream(wrong, 100, as_="numpy", shuffle=False)
    assert [x for batch in stream for x in batch["x"].tolist()] == (np.arange(5000) % 7).tolist()


def test_local_files_are_asked_themselves(tmp_path: Path) -> None:
    """Of files of this machine none is kept: to read it again costs nothing, and tells whether it was replaced."""
    pq.write_table(pa.table({"x": np.arange(100)}), tmp_path / "a.parquet")
    assert not build(str(tmp_path)).footers
    assert not build(str(tmp_path)).with_footers().footers


def sent(before: Fetched) -> int:
    """Requests since then, but for those beside a late one."""
    now = fetched() - before
    return now.requests - now.hedges


def test_each_footer_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of remote files the plan reads them, and nobody else does: not who reads the rows, nor who plans again by what
    is kept; what was planned without them is completed."""
    fs = register_remote(monkeypatch)()
    for number in range(5):
        sink = io.BytesIO()
        pq.write_table(pa.table({"x": np.arange(100) + number}), sink, row_group_size=50)
        fs.pipe_file(f"/f/{number}.parquet", sink.getvalue())
    manifest = build("remote://f")
    assert len(manifest.footers) == 5
    bare = Manifest.from_bytes(manifest.to_bytes())

    def asked(one: Manifest) -> int:
        parquet_footer._anew()
        before = fetched()
        rows = [batch for shard in range(5) for batch in one.read(shard)]
        assert sum(batch.num_rows for batch in rows) == 500
        return sent(before)

    assert asked(bare) == asked(manifest) + 5
    parquet_footer._anew()
    before = fetched()
    again = manifest.with_footers()
    assert sent(before) == 0
    completed = bare.with_footers()
    assert sent(before) == 5
    assert again.footers.to_bytes() == completed.footers.to_bytes() == manifest.footers.to_bytes()
    assert asked(completed) == asked(manifest)
