"""One form for equal values: plain types, what Parquet can hold, casts that change no value, schemas made one."""

from __future__ import annotations

import copy
import os
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from runner.data.formats import columns
from runner.data.manifest import build
from runner.data.values.recast import plain, recast
from runner.data.values.types import plain_type, same, twice, unwritable, widened, written_type
from runner.errors import DataError

WORDS = pa.array(["a", None, "b", "a"])
LISTS = [[1, 2], None, [], [3, None]]
PLAIN: list[tuple[pa.Array, pa.DataType]] = [
    (WORDS.dictionary_encode(), pa.string()),
    (pc.run_end_encode(WORDS), pa.string()),
    (WORDS.cast(pa.string_view()), pa.string()),
    (WORDS.cast(pa.large_string()), pa.string()),
    (pa.array([b"a", None], pa.binary_view()), pa.binary()),
    (pa.array(LISTS, pa.large_list(pa.int8())), pa.list_(pa.field("element", pa.int8()))),
    (pa.array(LISTS, pa.list_view(pa.int8())), pa.list_(pa.field("element", pa.int8()))),
    (pa.array(LISTS, pa.large_list_view(pa.int8())), pa.list_(pa.field("element", pa.int8()))),
    (
        pa.ListArray.from_arrays([0, 1, 4], WORDS.dictionary_encode()),
        pa.list_(pa.field("element", pa.string())),
    ),
    (
        pa.StructArray.from_arrays([pc.run_end_encode(WORDS)], ["item"]),
        pa.struct([("item", pa.string())]),
    ),
    (
        pa.array([[("k", 1)], None], pa.map_(pa.large_string(), pa.int8(), keys_sorted=True)),
        pa.map_(pa.string(), pa.int8()),
    ),
    (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}", None])), pa.string()),
]


@pytest.mark.parametrize(("array", "kind"), PLAIN, ids=lambda value: str(getattr(value, "type", value)))
def test_plain_types_hold_the_same_values(array: pa.Array, kind: pa.DataType) -> None:
    """Dictionaries, run ends, views, large and extension types have a plain form, of slices too, at any depth."""
    for part in (array, array[1:], array[:0], array[1:2]):
        out = plain(part)
        out.validate(full=True)
        assert out.type.equals(kind, check_metadata=True)
        assert out.to_pylist() == part.to_pylist()


def test_tensors_keep_their_shape() -> None:
    """A tensor of a fixed shape becomes fixed-size lists of that shape."""
    values = np.arange(24).reshape(2, 3, 4)
    out = plain(pa.FixedShapeTensorArray.from_numpy_ndarray(values)[1:])
    assert out.type == pa.list_(pa.list_(pa.int64(), 4), 3)
    assert out.to_pylist() == values[1:].tolist()


def test_values_of_extension_types_run_no_code() -> None:
    """A registered extension whose values would be made by code is replaced by its storage."""

    class Trap(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.binary(), "test.trap")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Trap:
            return cls()

        def __arrow_ext_scalar_class__(self) -> Any:
            raise AssertionError("code of an extension ran")

    inner = pa.ExtensionArray.from_storage(Trap(), pa.array([b"x"]))
    assert plain(pa.ListArray.from_arrays([0, 1], inner)).to_pylist() == [[b"x"]]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([5, None], pa.timestamp("s", "UTC")), pa.timestamp("ms", "UTC")),
        (pa.array([5, None], pa.time32("s")), pa.time32("ms")),
        (pa.array([86_400_000, None], pa.date64()), pa.date32()),
        (pa.array([b"", None], pa.binary(0)), pa.binary()),
        (pa.array([[], None], pa.list_(pa.int8(), 0)), pa.list_(pa.field("element", pa.int8()))),
        (pa.array([Decimal("1100"), None], pa.decimal128(10, -2)), pa.decimal128(12, 0)),
    ],
)
def test_what_parquet_lacks_is_written_as_its_neighbour(array: pa.Array, kind: pa.DataType) -> None:
    """Types that Parquet has no place for are written in the nearest one, with equal values."""
    assert written_type(array.type) == kind
    assert recast(array, kind).to_pylist() == array.to_pylist()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (pa.struct([]), "a struct without fields"),
        (pa.list_(pa.struct([("a", pa.struct([]))])), "a struct without fields"),
        (pa.month_day_nano_interval(), "month_day_nano_interval"),
    ],
)
def test_what_cannot_be_written_is_known_from_the_type(kind: pa.DataType, why: str) -> None:
    """A type that Parquet cannot hold is known before a value is written, at any depth."""
    assert unwritable(kind) == why
    assert unwritable(pa.struct([("x", pa.list_(pa.int8()))])) is None


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([1.1]), pa.float32()),
        (pa.array([2**53 + 1]), pa.float64()),
        (pa.array([300]), pa.int8()),
        (pa.array([2**62], pa.int64()).cast(pa.timestamp("s")), pa.timestamp("ms")),
        (pa.array([1234], pa.int64()).view(pa.date64()), pa.date32()),
        (pa.array([[1.1]]), pa.list_(pa.float16())),
        (pa.array([Decimal("1.25")]), pa.decimal128(3, 1)),
        (pa.array([{"a": 1}]), pa.struct([("b", pa.int64())])),
    ],
)
def test_casts_raise_rather_than_change_a_value(array: pa.Array, kind: pa.DataType) -> None:
    """A value that the other type does not have is an error, never rounded, cut or made null."""
    with pytest.raises((pa.ArrowInvalid, pa.ArrowNotImplementedError)):
        recast(array, kind)


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        (pa.decimal128(5, 2), pa.decimal128(7, 4), pa.decimal128(7, 4)),
        (pa.decimal128(38, 0), pa.decimal128(5, 4), pa.decimal256(42, 4)),
        (pa.decimal256(76, 0), pa.decimal256(76, 76), None),
        (pa.duration("s"), pa.duration("ns"), pa.duration("ns")),
        (pa.time32("ms"), pa.time64("us"), pa.time64("us")),
        (pa.date32(), pa.date64(), pa.date64()),
        (pa.map_(pa.string(), pa.null()), pa.map_(pa.string(), pa.int8()), pa.map_(pa.string(), pa.int8())),
        (pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (pa.struct([("a", pa.null())]), pa.struct([("b", pa.null())]), None),
        (pa.int64(), pa.float64(), None),
    ],
)
def test_widening_is_symmetric(left: pa.DataType, right: pa.DataType, both: pa.DataType | None) -> None:
    """Two types have one wider type or none, whichever comes first."""
    assert widened(left, right) == widened(right, left) == both


def test_names_that_are_there_twice_are_found() -> None:
    """A name that two columns or two fields of a struct share is found at any depth, with its path."""
    pair = pa.struct([pa.field("x", pa.int8()), pa.field("x", pa.int8())])
    assert twice(pa.schema([("n", pa.int8()), ("n", pa.int8())])) == "n"
    assert twice(pa.schema([("a", pa.list_(pair))])) == "a[].x"
    assert twice(pa.schema([("a", pa.map_(pa.string(), pair))])) == "a.value.x"
    assert twice(pa.schema([("a", pa.struct([("a", pa.int8())]))])) is None


# -- files -----------------------------------------------------------------------------------------------------------


def folder(base: Path, *tables: pa.Table) -> str:
    """A folder of Parquet files."""
    for i, table in enumerate(tables):
        pq.write_table(table, base / f"{i}.parquet")
    return str(base)


def rows(url: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """All rows behind a URL."""
    manifest = build(url, columns=columns)
    return [row for i in range(len(manifest.shards)) for batch in manifest.read(i) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    "other",
    [pa.array(["a"], pa.large_string()), pa.array(["a"]).dictionary_encode(), pa.array(["a"], pa.string_view())],
    ids=lambda array: str(array.type),
)
def test_files_of_several_writers_are_one_dataset(tmp_path: Path, other: pa.Array) -> None:
    """Files that differ only in the type that their writers chose for the same values are read together."""
    assert rows(folder(tmp_path, pa.table({"s": ["a"]}), pa.table({"s": other}))) == [{"s": "a"}] * 2


def test_batches_too_large_for_plain_types_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record batch whose large strings plain ones could not address comes as several batches, in order."""
    monkeypatch.setattr(columns, "MOST_BYTES", 2000)
    table = pa.table({"s": pa.array([f"{i:0300}" for i in range(40)], pa.large_string())})
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    batches = list(build(str(tmp_path)).read(0))
    assert len(batches) > 6
    assert all(batch.schema.field("s").type == pa.string() for batch in batches)
    assert pa.Table.from_batches(batches).to_pylist() == table.to_pylist()


def test_narrow_files_are_widened(tmp_path: Path) -> None:
    """Files with numbers and decimals of other widths are one dataset; whole numbers and fractions are not."""
    narrow = pa.table({"i": pa.array([1], pa.int32()), "d": pa.array([Decimal("1.1")])})
    wide = pa.table({"i": pa.array([2**40]), "d": pa.array([Decimal("22.22")])})
    assert rows(folder(tmp_path, narrow, wide)) == narrow.to_pylist() + wide.to_pylist()
    pq.write_table(pa.table({"i": [0.5], "d": [Decimal("1.1")]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match="schema drift in the column 'i'"):
        build(str(tmp_path))


def test_only_wanted_columns_must_agree(tmp_path: Path) -> None:
    """A column that is not asked for may be absent, of another type or there twice; a wanted one may not."""
    odd = pa.Table.from_arrays(
        [pa.array([2]), pa.array(["x"]), pa.array([1]), pa.array([1])], names=["x", "y", "z", "z"]
    )
    url = folder(tmp_path, pa.table({"x": [1], "y": [1]}), odd, pa.table({"x": [3], "new": [1]}))
    assert rows(url, ["x"]) == [{"x": 1}, {"x": 2}, {"x": 3}]
    with pytest.raises(DataError, match="column 'y'"):
        rows(url, ["x", "y"])
    with pytest.raises(DataError, match="two columns named 'z'"):
        build(url)


def test_names_there_twice_are_refused(tmp_path: Path) -> None:
    """Two columns of one name in a CSV file, or two fields of one name in a struct, are an error that names them."""
    (tmp_path / "t.csv").write_text("id,value,value\n1,10,100\n")
    with pytest.raises(DataError, match="two columns .* 'value'"):
        build(str(tmp_path / "t.csv"))
    pair = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["f", "f"])
    with (
        pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, pa.schema([("s", pair.type)])) as file,
    ):
        file.write_batch(pa.record_batch([pair], ["s"]))
    with pytest.raises(DataError, match=r"two fields named 's\.f'"):
        build(str(tmp_path / "t.arrow"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1001", "-5", "0"], pa.int64()),
        (["01001", "1001"], pa.string()),
        (["+1", "1"], pa.string()),
        (["-0", "0"], pa.string()),
        (["٣", "3"], pa.string()),
    ],
)
def test_partition_values_stay_apart(tmp_path: Path, values: list[str], kind: pa.DataType) -> None:
    """Partition values are numbers only if each is written as its number is, so that no two fall together."""
    for value in values:
        (tmp_path / f"code={value}").mkdir()
        pq.write_table(pa.table({"x": [1]}), tmp_path / f"code={value}" / "t.parquet")
    assert build(str(tmp_path)).schema.field("code").type == kind
    assert len({row["code"] for row in rows(str(tmp_path))}) == len(values)


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("_delta_log/00000000000000000000.json", "Delta Lake"),
        (".hoodie/hoodie.properties", "Hudi"),
        ("metadata/v1.metadata.json", "Iceberg"),
    ],
)
def test_tables_of_other_systems_are_refused(tmp_path: Path, mark: str, name: str) -> None:
    """A folder whose rows follow from a table's log is refused by name, as a whole, by a glob and by its partition."""
    (tmp_path / mark).parent.mkdir(parents=True)
    (tmp_path / mark).write_text("{}")
    (tmp_path / "day=1").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "day=1" / "part-0.parquet")
    urls = [str(tmp_path)] if name == "Iceberg" else [str(tmp_path), f"{tmp_path}/day=*/*", f"{tmp_path}/day=1"]
    for url in urls:
        with pytest.raises(DataError, match=f"a table of {name}"):
            build(url)
    assert rows(os.path.join(tmp_path, "day=1", "part-0.parquet")) == [{"x": 1}]


def test_lists_of_nulls_in_json(tmp_path: Path) -> None:
    """Lists that hold only nulls are read whole (pyarrow's own array of them is too short)."""
    (tmp_path / "t.jsonl").write_text('{"v": [null]}\n{"v": [null, null]}\n')
    manifest = build(str(tmp_path))
    (batch,) = manifest.read(0)
    batch.validate(full=True)
    assert batch.to_pylist() == [{"v": [None]}, {"v": [None, None]}]


def test_plain_type_knows_no_depth() -> None:
    """What is plain already is its own plain form."""
    for _, kind in PLAIN:
        assert plain_type(kind).equals(kind, check_metadata=True)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.field("element", pa.int32(), nullable=False), 3),
        pa.list_(pa.field("element", pa.list_(pa.field("x", pa.float16()), 2)), 3),
        pa.struct([("a", pa.list_(pa.field("element", pa.int8()), 1))]),
        pa.map_(pa.string(), pa.int32(), keys_sorted=True),
        pa.map_(pa.string(), pa.field("v", pa.int32(), nullable=False)),
    ],
)
def test_types_in_other_processes(kind: pa.DataType) -> None:
    """A type is pickled and copied with all that it says of what is inside."""
    schema = pa.schema([("x", kind)])
    for copied in (pickle.loads(pickle.dumps(schema)), copy.deepcopy(schema)):
        assert same(copied.field("x").type, kind)
        assert str(copied) == str(schema)
