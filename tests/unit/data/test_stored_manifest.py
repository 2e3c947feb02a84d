"""Manifests as somebody else may have written them: none leads out of its folder, none ends or fills the process."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import runner
from runner.data import stored_manifest
from runner.data.catalog import Catalog, manifest_key
from runner.data.manifest import Manifest, Shard, Unit
from runner.data.shards import AllUnits, PackedUnits, numbers_of, packed
from runner.errors import DataError
from runner.prep.stage import run_prep
from runner.spec import Prep
from runner.store import Store
from runner.worker.pool.base import InlinePool
from tests.unit.prep.kit import identity, make_scope

SMALL = Manifest.of("/d", [Shard("a", 1, "md5:0", "text", (Unit(0, 1, 1, 0, 1),))], pa.schema([("text", pa.string())]))


def parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def rewritten(change: Callable[[dict[str, Any]], str]) -> bytes:
    """A manifest's bytes with another head."""
    table = pq.read_table(pa.BufferReader(SMALL.to_bytes()))
    head = json.loads(table.schema.metadata[b"runner.manifest"])
    return parquet_bytes(table.replace_schema_metadata({b"runner.manifest": change(head).encode()}))


def deep(levels: int) -> pa.Schema:
    kind = pa.int64()
    for _ in range(levels):
        kind = pa.list_(pa.field("element", kind))
    return pa.schema([("x", kind)])


OUTSIDE = [
    "/etc/passwd", "../secret", "a/../../secret", "a/..", "./a", ".", "..", "", "a\\..\\b", "a\0b", "a\nb", "a\x1bb",
    "s3://other/key", "a/http://169.254.169.254/latest", "%2e%2e/secret", "a/%2E%2E%2Fsecret", "..%2fsecret", "..%5cb",
]  # fmt: skip
INSIDE = ["a.parquet", "k=1/..x/a", "a b/~c", "k=2020-01-01 00%3A00/x", "ä/…", "a//b", "...", "a::b", "x?y=1"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_shards_stay_in_their_folder(path: str) -> None:
    """A manifest that names a file outside of its folder is neither read nor written, and the error names it."""
    table = pq.read_table(pa.BufferReader(SMALL.to_bytes()))
    table = table.set_column(0, table.schema.field(0), pa.array([path]))
    with pytest.raises(DataError, match="manifest: a path that leads out of its folder"):
        Manifest.from_bytes(parquet_bytes(table))
    with pytest.raises(DataError, match="/d: a path that leads out of its folder"):
        replace(SMALL, shards=(replace(SMALL.shards[0], path=path),)).to_bytes()


def test_odd_names_are_names() -> None:
    """Names that only look odd are names of files as any other."""
    shards = [Shard(path, 1, "md5:0", "files", (Unit(0, 1, 1, 0, 1),)) for path in INSIDE]
    manifest = Manifest.of("/d", shards, pa.schema([("path", pa.string())]))
    assert [shard.path for shard in Manifest.from_bytes(manifest.to_bytes()).shards] == INSIDE


DEEP = "[" * 100_000
HEADS: dict[str, Any] = {
    "version": [2, "1", None, 1e400], "base": [None, 1, ["a"]], "options": [None, [1], "x"],
    "lanes": [0, -1, 2**40, 1.5, float("inf"), float("nan"), True, "1"], "block_bytes": [0, 2**60, float("-inf")],
    "schema": ["", "AAAA", "not base64!", None, 7],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HEADS.items() for value in values])
def test_heads_that_are_none(name: str, value: Any) -> None:
    """Whatever else is in the place of a field of the head is an error, not a crash: also infinities and NaN."""
    data = rewritten(lambda head: json.dumps({**head, name: value}))
    with pytest.raises(DataError, match="manifest"):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "1", DEEP, '{"a":' * 100_000, '{"version": ' + "9" * 5000 + "}", '{"version": NaN}', "{"]
)
def test_json_that_is_no_head(text: str) -> None:
    """JSON of any depth and any number is an error that says that there is no manifest."""
    with pytest.raises(DataError, match="manifest"):
        Manifest.from_bytes(rewritten(lambda head: text))


@pytest.mark.parametrize("schema", [pa.schema([("x", pa.dictionary(pa.int8(), pa.string()))]), deep(150), deep(60)])
def test_schemas_that_no_reader_gives(schema: pa.Schema) -> None:
    """A schema in types that data is never read in, or nested too deep, is an error."""
    text = base64.b64encode(schema.serialize().to_pybytes()).decode()
    data = rewritten(lambda head: json.dumps({**head, "schema": text}))
    if schema == deep(60):
        assert Manifest.from_bytes(data).schema == schema
        return
    with pytest.raises(DataError, match="manifest"):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("size", -1),
        ("size", None),
        ("etag", None),
        ("format", "pickle"),
        ("format", None),
        ("partitions", DEEP),
        ("partitions", '{"k": 1}'),
        ("partitions", "[]"),
        ("partitions", '{"k": Infinity}'),
        ("partitions", None),
        ("path", None),
        ("units", None),
        ("units", [None]),
        ("units", [{"index": -1}]),
        ("units", [{"rows": -2}]),
        ("units", [{"rows": 2**62}]),
        ("units", [{"bytes": 2**60}]),
        ("units", [{"start": -1}]),
        ("units", [{}]),
    ],
)
def test_rows_that_are_none(column: str, value: Any) -> None:
    """Whatever a shard or a unit claims that none can have is an error."""
    if column == "units" and value and value[0]:
        value = [{"index": 0, "rows": 1, "bytes": 1, "start": 0, "length": 1, **value[0]}]
    table = pq.read_table(pa.BufferReader(SMALL.to_bytes()))
    rows = [{**table.to_pylist()[0], column: value}]
    with pytest.raises(DataError, match="manifest"):
        Manifest.from_bytes(parquet_bytes(pa.Table.from_pylist(rows, schema=table.schema)))


def test_other_columns_are_no_manifest() -> None:
    """A table of other columns, or bytes that are no table, are no manifest."""
    for data in (b"", b"PAR1", parquet_bytes(pa.table({"x": [1]})), parquet_bytes(pa.table({}))):
        with pytest.raises(DataError, match="manifest"):
            Manifest.from_bytes(data)


@pytest.mark.parametrize("path", ["../../../../home/credentials", "/home/credentials"])
def test_a_published_version_that_names_others_files(tmp_path: Path, path: str) -> None:
    """Whoever publishes a manifest that names a file of the reader's gets nothing of it: no stage reads it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/credentials").write_text("secret\n")
    store = Store(str(tmp_path / "store"))
    catalog = Catalog(store)
    folder = "_versions/r261123-181119k4-p-x1-1"
    catalog.publish("corpus", SMALL, {"key": None, "stage": "p", "run": None, "bytes_in": 0}, folder)
    table = pq.read_table(pa.BufferReader(SMALL.to_bytes()))
    hostile = parquet_bytes(table.set_column(0, table.schema.field(0), pa.array([path])))
    store.put(manifest_key("corpus", SMALL.id), hostile)
    with pytest.raises(DataError, match="a path that leads out of its folder"):
        catalog.latest("corpus")
    stage = Prep("clean", fn=identity, source="corpus", sink="clean")
    with pytest.raises(DataError, match="a path that leads out of its folder"):
        run_prep(stage, make_scope(tmp_path / "store", stage), InlinePool())
    with pytest.raises(DataError, match="a path that leads out of its folder"):
        runner.dataset("corpus", store=store).to_table()


def test_all_rows_at_once_say_what_each_says() -> None:
    """A manifest that is read as a whole is the one that is read file by file; one in which anything is odd is not."""
    units = (Unit(0, 3, 40, 0, 20), Unit(2, 1, 8, 20, 5))
    shards = [
        Shard("a/x", 25, "md5:1", "parquet", units, {"k": "1", "j": None}),
        Shard("a/ü", 0, "etag:2", "parquet", ()),
        Shard("b", 25, "md5:1", "parquet", units[:1], {"k": "1", "j": None}),
    ]
    data = Manifest.of("/d", shards, pa.schema([("x", pa.int64())])).to_bytes()
    table = pq.read_table(pa.BufferReader(data))
    assert stored_manifest.at_once(table) == tuple(shards) == tuple(stored_manifest.one_by_one(table))
    odd = {
        "size": [-1, 0, 25],
        "format": ["parquet", "exe", "parquet"],
        "partitions": ["{}", '{"k": 1}', "{}"],
        "etag": ["md5:1", None, "md5:1"],
        "units": [[], [{"index": 0, "rows": 1, "bytes": 1 << 62, "start": 0, "length": 1}], []],
    }
    for name, values in odd.items():
        place = table.schema.get_field_index(name)
        wrong = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
        assert stored_manifest.at_once(wrong) is None
        with pytest.raises((DataError, ValueError)):
            tuple(stored_manifest.one_by_one(wrong))


def test_many_units_of_a_file_are_as_a_tuple_of_them() -> None:
    """Units that are kept as numbers alone are equal to the tuple of them, in every way that it is asked."""
    units = tuple(Unit(i, 3 * i, i << 40, i, 7) for i in range(20))
    kept = packed(units)
    assert isinstance(kept, PackedUnits)
    assert kept == units == tuple(kept)
    assert units == kept == packed(units) != packed(units[1:])
    assert (kept[3], kept[-1], kept[2:5], len(kept)) == (units[3], units[-1], units[2:5], 20)
    assert (hash(kept), repr(kept), kept.index(units[7])) == (hash(units), repr(units), 7)
    assert pickle.loads(pickle.dumps(kept)) == units
    assert numbers_of(kept, "bytes") == numbers_of(units, "bytes") == [unit.bytes for unit in units]
    with pytest.raises(IndexError):
        kept[20]
    assert packed(units[:2]) == units[:2]
    shard, plain = (Shard("a", 7, "md5:0", "parquet", some) for some in (kept, units))
    assert shard == plain
    assert Manifest.of("/d", [shard], SMALL.schema).to_bytes() == Manifest.of("/d", [plain], SMALL.schema).to_bytes()


def test_units_are_found_by_their_number() -> None:
    """The units of all files, by number, from the end and in slices, are those of each file one after the other."""
    counts = [2, 0, 3, 1, 0]
    shards = [
        Shard(str(i), 9, "", "parquet", tuple(Unit(j, i, j, 0, 9) for j in range(count)))
        for i, count in enumerate(counts)
    ]
    found, pairs = AllUnits(shards), [(i, unit) for i, shard in enumerate(shards) for unit in shard.units]
    assert list(found) == [found[i] for i in range(len(found))] == pairs
    assert (found[-1], found[1:4], found[::-2]) == (pairs[-1], pairs[1:4], pairs[::-2])
    assert found.numbers("rows").tolist() == [unit.rows for _, unit in pairs]
    for place in (len(pairs), -len(pairs) - 1):
        with pytest.raises(IndexError):
            found[place]
    assert not len(AllUnits([]))
