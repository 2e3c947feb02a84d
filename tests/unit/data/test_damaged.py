"""Damaged files are refused with an error, or read: Python never ends of them."""

from __future__ import annotations

import datetime
import io
import random
import tarfile
import weakref
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data import manifest
from runner.data.formats import formats, ipc, tar
from runner.data.manifest import Manifest
from runner.errors import DataError

SEED = 20261129
COUNTS = [40, pytest.param(5_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
WRITERS = {
    "snappy.parquet": {"compression": "snappy"},
    "checked.parquet": {"compression": "zstd", "write_page_checksum": True},
    "plain.parquet": {"compression": "none", "data_page_version": "2.0", "use_dictionary": False},
    "plain.arrow": {},
    "zstd.arrow": {"compression": "zstd"},
    "plain.arrows": {},
    "zstd.arrows": {"compression": "zstd"},
    "pieces.arrows": {},
    "plain.tar": {},
    "packed.tar.gz": {},
}


def table() -> pa.Table:
    """Every kind of layout that values have in memory, some inside others."""
    rows = range(60)
    return pa.table(
        {
            "whole": pa.array(rows),
            "struct": [{"texts": [str(row)] * (row % 4), "number": None if row % 3 else row * 1.5} for row in rows],
            "binary": [b"q" * row for row in rows],
            "map": pa.array([[(str(row), row)] for row in rows], pa.map_(pa.string(), pa.int32())),
            "decimal": [Decimal(row) for row in rows],
            "dictionary": pa.array([f"v{row % 5}" for row in rows]).dictionary_encode(),
            "time": [datetime.datetime(2020, 1, 1)] * len(rows),
            "fixed": pa.array([[1.0, 2.0]] * len(rows), pa.list_(pa.float32(), 2)),
            "large": pa.array(["x" * row for row in rows], pa.large_string()),
            "null": pa.nulls(len(rows)),
            "bool": [row % 2 == 0 for row in rows],
        }
    )


def write(path: Path, how: dict[str, object]) -> None:
    """Batches of 25 rows; of an archive 60 samples."""
    if ".tar" in path.name:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w", format=tarfile.PAX_FORMAT) as archive:
            for row in range(60):
                for kind in ("bin", "ä" * (row % 7) + ".cls")[: 1 + row % 2]:
                    member = tarfile.TarInfo(f"folder/{row}.{kind}")
                    member.size = 10 * row
                    archive.addfile(member, io.BytesIO(bytes([row]) * member.size))
        return
    if path.suffix == ".parquet":
        pq.write_table(table(), path, row_group_size=25, write_page_index=True, **how)
        return
    opened = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
    rows = table().drop_columns("dictionary") if "pieces" in path.name else table()
    with opened(path, rows.schema, options=pa.ipc.IpcWriteOptions(**how)) as writer:
        writer.write_table(rows, 25)


def damaged(good: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Bits and bytes changed, left out and put in; more often near the end, where footers are."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(good)
        for _ in range(chance.choice([1, 1, 2, 5])):
            first = 0 if chance.random() < 0.4 else max(0, len(data) - 2500)
            at = chance.randrange(first, len(data))
            match chance.randrange(5):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at] = chance.randrange(256)
                case 2:
                    data[at : at + 4] = chance.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"])
                case 3:
                    del data[at : at + chance.randrange(1, 9)]
                case _:
                    data[at:at] = chance.randbytes(chance.randrange(1, 5))
        yield bytes(data)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    """Whatever is changed in a file, looking at it and reading it give rows or a DataError that names it."""
    monkeypatch.setattr(ipc, "UNIT_BYTES", 1 if "pieces" in name else ipc.UNIT_BYTES)
    monkeypatch.setattr(tar, "UNIT_BYTES", 5_000)
    path = tmp_path / f"good-{name}"
    write(path, WRITERS[name])
    refused = []
    for number, data in enumerate(damaged(path.read_bytes(), SEED, count)):
        bad = tmp_path / f"{number}-{name}"  # another name each time: what is known of a file is kept by its name
        bad.write_bytes(data)
        try:
            found = manifest.build(bad)
            for shard in found.shards:
                for batch in formats.read(found.url(shard), shard):
                    assert batch.num_rows
        except DataError as error:
            refused.append(str(error))
        bad.unlink()
    assert refused
    assert all(name in error for error in refused)


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_manifest_ends_nothing(tmp_path: Path, count: int) -> None:
    """Whatever is changed in a stored manifest, it is read, or refused with a DataError."""
    for number in range(3):
        pq.write_table(table(), tmp_path / f"{number}.parquet", row_group_size=25)
    good = manifest.build(tmp_path).to_bytes()
    refused = 0
    for data in damaged(good, SEED, count):
        try:
            Manifest.from_bytes(data)
        except DataError:
            refused += 1
    assert refused > 0


def test_a_histogram_of_another_size_is_refused(tmp_path: Path) -> None:
    """A footer whose size statistics do not fit the column, of which pyarrow's own Python ends."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"texts": [["a"], [], None, ["b", "c"]]}), path)
    data = path.read_bytes()
    levels, fewer = b"\x19\x46\x02\x02\x00\x06", b"\x19\x36\x02\x02\x06"  # a list of 1, 1, 0, 3; of 1, 1, 3
    assert data.count(levels) == 1
    footer = (int.from_bytes(data[-8:-4], "little") - 1).to_bytes(4, "little")
    path.write_bytes(data[:-8].replace(levels, fewer) + footer + data[-4:])
    with pytest.raises(DataError, match="histogram size mismatch"):
        manifest.build(path)


@pytest.mark.parametrize("ending", ["arrow", "arrows"])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, ending: str) -> None:
    """Names of columns and of fields inside them; the names of lists' items are not kept, and may be anything."""
    for kind, refused in (
        (pa.schema([("NAME!", pa.int64())]), ""),
        (pa.schema([("column", pa.struct([("NAME!", pa.int64())]))]), "column 'column': "),
        (pa.schema([("column", pa.list_(pa.field("NAME!", pa.int64())))]), None),
    ):
        path = tmp_path / f"a.{ending}"
        opened = pa.ipc.new_file if ending == "arrow" else pa.ipc.new_stream
        sink = pa.BufferOutputStream()
        with opened(sink, kind) as writer:
            writer.write(pa.RecordBatch.from_arrays([pa.nulls(3, kind.field(0).type)], schema=kind))
        path.write_bytes(sink.getvalue().to_pybytes().replace(b"NAME!", b"N\xff\xfeE!"))
        if refused is None:
            assert manifest.build(path).rows == 3
        else:
            with pytest.raises(DataError, match=f"(?i){refused}.*utf-8"):
                manifest.build(path)


@pytest.mark.parametrize("changed", [b"*", b"="])
def test_a_damaged_schema_of_the_writer_is_refused(tmp_path: Path, changed: bytes) -> None:
    """Without it a duration would be read as a number."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"duration": pa.array([1, 2], pa.duration("us"))}), path)
    data = path.read_bytes()
    at = data.index(b"/////")
    path.write_bytes(data[: at + 40] + changed + data[at + 41 :])
    with pytest.raises(DataError, match="schema that its writer kept"):
        manifest.build(path)


def test_looking_at_a_footer_keeps_nothing_alive(tmp_path: Path) -> None:
    """What a caller holds while a footer is read goes when the caller goes: a loop left by `break` ends at once."""

    class Held:
        pass

    def look() -> weakref.ref[Held]:
        held = Held()
        manifest.build(tmp_path)
        return weakref.ref(held)

    pq.write_table(table(), tmp_path / "a.parquet")
    assert look()() is None
