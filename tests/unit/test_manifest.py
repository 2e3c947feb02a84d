"""Manifests: one id for the same data, kept as Parquet; lanes and blocks that fit the data."""

from __future__ import annotations

import pickle
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.layout import layout
from runner.data.manifest import UNCOUNTED, Manifest, build, from_files
from runner.data.parquet import units_of
from runner.data.shards import Shard, Unit
from runner.data.source import list_files
from runner.errors import DataError
from tests.data_kit import register_remote

MIB = 1 << 20


def write(folder: Path, name: str = "a.parquet", start: int = 0, **columns: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": np.arange(start, start + 100), **columns})
    pq.write_table(table, folder / name, row_group_size=40)
    return folder


def test_same_data_same_id(tmp_path: Path) -> None:
    """The same files have the same id in another folder, written at another time, and in memory."""
    for name in ("one", "two"):
        write(tmp_path / name / "k=1")
        write(tmp_path / name / "k=2", start=100)
    fsspec.filesystem("memory").put(f"{tmp_path}/one/", "/manifest/", recursive=True)
    ids = {build(url).id for url in (f"{tmp_path}/one", f"{tmp_path}/two/", "memory://manifest")}
    assert len(ids) == 1


def test_other_data_other_id(tmp_path: Path) -> None:
    """Appended, renamed, changed and differently chosen data each have another id."""
    ids = [build(str(write(tmp_path / "d"))).id]
    ids.append(build(str(write(tmp_path / "d", "b.parquet"))).id)
    (tmp_path / "d" / "b.parquet").rename(tmp_path / "d" / "c.parquet")
    ids.append(build(str(tmp_path / "d")).id)
    ids.append(build(str(write(tmp_path / "d", "c.parquet", start=5))).id)
    write(tmp_path / "e", extra=np.arange(100))
    ids += [build(f"{tmp_path}/e").id, build(f"{tmp_path}/e", columns=["id"]).id]
    assert len(set(ids)) == len(ids)


def test_kept_as_bytes(tmp_path: Path) -> None:
    """A manifest goes through bytes and through pickle unchanged; the same one always has the same bytes."""
    for folder in ("k=1", "k=__HIVE_DEFAULT_PARTITION__"):
        write(tmp_path / folder, text=["é"] * 100)
    manifest = build(str(tmp_path))
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again == manifest == pickle.loads(pickle.dumps(manifest))
    assert again.id == manifest.id
    assert again.to_bytes() == manifest.to_bytes()


@pytest.mark.parametrize("data", [b"", b"PAR1", b"{}"])
def test_not_a_manifest(data: bytes) -> None:
    """Other bytes are a DataError."""
    with pytest.raises(DataError, match="no manifest"):
        Manifest.from_bytes(data)


def test_sums(tmp_path: Path) -> None:
    """Rows, bytes, units and URLs add up."""
    manifest = build(str(write(write(tmp_path), "b.parquet")))
    assert manifest.rows == 200
    assert manifest.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert [(shard, unit.rows) for shard, unit in manifest.units] == [
        (0, 40),
        (0, 40),
        (0, 20),
        (1, 40),
        (1, 40),
        (1, 20),
    ]
    assert [manifest.url(shard) for shard in manifest.shards] == [f"{tmp_path}/a.parquet", f"{tmp_path}/b.parquet"]


def test_counted(tmp_path: Path) -> None:
    """Lines are uncounted until they are read once; counting changes the rows and drops what has none."""
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    (tmp_path / "b.csv").write_text("x\n")
    manifest = build(str(tmp_path))
    assert manifest.rows == UNCOUNTED
    assert [shard.rows for shard in manifest.counted().shards] == [2, 0]
    assert manifest.counted() == build(str(tmp_path), count=True)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"id": np.arange(3.0)}, "'id': double here, int64 in"),
        ({"id": np.arange(3), "more": np.arange(3)}, "'more': int64 here, no such column in"),
        ({"more": np.arange(3)}, "'more': int64 here"),
        ({}, "'id': no such column here, int64 in"),
    ],
)
def test_schema_drift(tmp_path: Path, other: dict[str, np.ndarray], words: str) -> None:
    """Files whose columns contradict each other are an error that names both files and the column."""
    write(tmp_path)
    pq.write_table(pa.table(other), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=f"b.parquet: schema drift in the column {words}.*a.parquet"):
        build(str(tmp_path))


def test_drift_of_partitions(tmp_path: Path) -> None:
    """Files at another depth of partitions are an error that names both."""
    write(tmp_path)
    write(tmp_path / "k=1")
    with pytest.raises(DataError, match=r"k=1/a\.parquet: schema drift in the partitions.*a\.parquet"):
        build(str(tmp_path))


def test_no_drift(tmp_path: Path) -> None:
    """Another order of columns, nulls allowed or not, and a column that is null throughout are one schema."""
    lists = pa.array([[1]], pa.list_(pa.int32()))
    tight = pa.array([[2]], pa.list_(pa.field("element", pa.int32(), nullable=False)))
    pq.write_table(pa.table({"a": [1], "l": lists, "s": pa.nulls(1)}), tmp_path / "a.parquet")
    schema = pa.schema([("s", pa.string()), ("l", tight.type), pa.field("a", pa.int64(), nullable=False)])
    pq.write_table(pa.table({"s": ["x"], "l": tight, "a": [2]}, schema=schema), tmp_path / "b.parquet")
    manifest = build(str(tmp_path))
    rows = [row for i in range(2) for batch in manifest.read(i) for row in batch.to_pylist()]
    assert rows == [{"a": 1, "l": [1], "s": None}, {"a": 2, "l": [2], "s": "x"}]
    assert {batch.schema for i in range(2) for batch in manifest.read(i)} == {manifest.schema}


def test_only_empty_files(tmp_path: Path) -> None:
    """Files of lines without a line are an error."""
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="only empty files"):
        build(str(tmp_path))


def test_made_from_known_shards(tmp_path: Path) -> None:
    """A writer that knows its footers makes the very manifest that listing and inspecting makes."""
    write(tmp_path)
    (file,) = list_files(str(tmp_path))
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    shard = Shard(file.path, file.size, file.etag, "parquet", units_of(metadata))
    made = Manifest.of(str(tmp_path), [shard], metadata.schema.to_arrow_schema())
    assert made == from_files([file], "parquet")
    assert made.id == build(str(tmp_path)).id


def test_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A footer is fetched by one ranged read, once; a row group by its own range alone."""
    remote = register_remote(monkeypatch)
    remote.said = {"ETag": "e"}
    noise = np.random.default_rng(0).bytes(100 * 4096)
    write(tmp_path, noise=pa.array([noise[i : i + 4096] for i in range(0, len(noise), 4096)]))
    data = (tmp_path / "a.parquet").read_bytes()
    fsspec.filesystem("remote").pipe("/b/a.parquet", data)
    manifest = build("remote://b")
    assert len(remote.reads) == 1
    assert sum(batch.num_rows for batch in manifest.read(0, [1])) == 40
    unit = manifest.shards[0].units[1]
    assert remote.reads[1:] == [("/b/a.parquet", unit.start, unit.start + unit.length)]
    assert remote.reads[0][1] > unit.start + unit.length
    remote.short = 1
    with pytest.raises(DataError, match=r"remote:///b/a\.parquet \(unit 0\).*asked for bytes"):
        list(manifest.read(0, [0]))


# -- lanes and blocks ------------------------------------------------------------------------------------------------


def units(count: int, decoded: int, compressed: int) -> list[Unit]:
    return [Unit(i, 100, decoded, 0, compressed) for i in range(count)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (units(1, 1000, 500), (1, 1000)),
        (units(8, 8 * MIB, MIB), (1, 64 * MIB)),
        (units(1000, MIB, MIB), (32, 8 * MIB)),
        (units(1000, 64 * MIB, 20 * MIB), (16, 8 * MIB)),
        (units(1000, 512 * MIB, 128 * MIB), (4, 8 * MIB)),
        (units(13, 16 * MIB, 8 * MIB), (8, 8 * MIB)),
        (units(1, 256 * MIB, 50 * MIB), (8, 8 * MIB)),
        (units(3, 10, 0), (1, 30)),
        (units(2, 0, 0), (1, 1)),
    ],
)
def test_layout(given: list[Unit], expected: tuple[int, int]) -> None:
    """Small data is one block; lanes get fewer as units get larger, and never many more than there are units."""
    assert layout(given) == expected


def test_layout_is_bounded() -> None:
    """What all lanes hold at a time stays within half a GiB wherever the fewest lanes fit into it."""
    for size in (1, 5, 20, 60, 100, 110):
        lanes, block = layout(units(10_000, 8 * size * MIB, size * MIB))
        assert lanes * (block + (size * MIB if size > 1 else 0)) <= 512 * MIB
