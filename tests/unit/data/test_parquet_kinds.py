"""Parquet of every kind that pyarrow writes: encodings, codecs, pages, types, nesting. Each has the values that pyarrow
reads, by a Prep and by a Stream, or is refused with a reason."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from runner.data.manifest import Manifest, build
from runner.data.stream import Stream
from runner.data.stream.ragged import Ragged
from runner.errors import DataError
from runner.prep.task_input import TaskInput
from runner.prep.tasks import plan_tasks
from tests.unit.data.arrow_kit import DECIMALS, NUMBERS, TEXTS, TIMES, any_array, values_of

types = pa.types
#: Rows of the row groups of each file: some, none, one, and the rest.
GROUPS = (5, 0, 1, 4)
ROWS = sum(GROUPS)
CODECS = ("none", "snappy", "gzip", "brotli", "lz4", "zstd")
#: Encodings that are not chosen by themselves, with the types that have them.
ENCODINGS: dict[str, list[pa.DataType]] = {
    "PLAIN": [pa.bool_(), pa.int8(), pa.uint32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary(7)],
    "DELTA_BINARY_PACKED": [pa.int16(), pa.int32(), pa.int64(), pa.uint64(), pa.timestamp("us"), pa.date32()],
    "DELTA_LENGTH_BYTE_ARRAY": [pa.string(), pa.binary(), pa.large_string()],
    "DELTA_BYTE_ARRAY": [pa.string(), pa.binary(), pa.binary(7), pa.decimal128(30, 3)],
    "RLE": [pa.bool_()],
    "BYTE_STREAM_SPLIT": [pa.float16(), pa.float32(), pa.float64(), pa.int32(), pa.int64(), pa.binary(7)],
}
NESTED: list[pa.DataType] = [
    pa.list_(pa.int32()),
    pa.list_(pa.field("element", pa.int32(), nullable=False)),
    pa.large_list(pa.string()),
    pa.list_view(pa.int32()),
    pa.list_(pa.float32(), 3),
    pa.list_(pa.list_(pa.float16(), 2), 2),
    pa.list_(pa.list_(pa.int64())),
    pa.list_(pa.list_(pa.list_(pa.string()))),
    pa.struct([("a", pa.int32()), ("b", pa.string())]),
    pa.struct([("a", pa.struct([("b", pa.list_(pa.struct([("c", pa.bool_())])))]))]),
    pa.list_(pa.struct([("a", pa.decimal128(20, 5)), ("b", pa.timestamp("us", "UTC"))])),
    pa.map_(pa.string(), pa.int32()),
    pa.map_(pa.int32(), pa.list_(pa.string())),
    pa.map_(pa.string(), pa.map_(pa.date32(), pa.struct([("x", pa.binary())]))),
    pa.list_(pa.map_(pa.string(), pa.float64())),
    pa.list_(pa.dictionary(pa.int32(), pa.string())),
]


def extension_types() -> dict[str, pa.Array]:
    """Columns of types whose storage is what is read."""
    words = pa.array(["a", None, "b", "a", "c"] * 2)
    return {
        "uuid": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([uuid.UUID(int=i).bytes for i in range(ROWS)], pa.binary(16))
        ),
        "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}'] * ROWS)),
        "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1] * (ROWS // 2), pa.int8())),
        "opaque": pa.ExtensionArray.from_storage(pa.opaque(pa.int32(), "t", "v"), pa.array(range(ROWS), pa.int32())),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(ROWS * 6.0).reshape(ROWS, 2, 3)),
        "dictionary": words.dictionary_encode(),
        "dictionary of numbers": pa.array([7, None, 9, 7, 7] * 2).dictionary_encode(),
        "null": pa.nulls(ROWS),
    }


def filled(kind: pa.DataType, nulls: bool = True) -> pa.Array:
    """Values of a type: the same each time, with nulls at every depth or none."""
    for seed in range(100):
        array = any_array(np.random.default_rng(seed), kind, ROWS)
        if (array.null_count > 0) == nulls and not (nulls is False and has_nulls(array)) and in_years(array):
            return array
    raise AssertionError(kind)


def has_nulls(array: pa.Array) -> bool:
    return "None" in repr(values_of(array))


def in_years(array: pa.Array) -> bool:
    """Whether Python and pyarrow's writer know every time in it."""
    try:
        array.to_pylist()
        pq.write_table(pa.table({"v": array}), pa.BufferOutputStream())
    except (ValueError, OverflowError, pa.ArrowException):
        return False
    return True


def cases() -> Iterator[Any]:
    """(column, options of the writer), named."""
    every = [*NUMBERS, *TIMES, *DECIMALS, *(kind for kind in TEXTS if kind != pa.binary(0))]
    for kind in [*every, *NESTED]:
        yield pytest.param(filled(kind), {}, id=f"{kind}")
    for kind in [*NUMBERS, *TIMES[:4], *DECIMALS[:3], *NESTED[:7], pa.string(), pa.binary(5)]:
        yield pytest.param(filled(kind, nulls=False), {}, id=f"{kind} without nulls")
    for encoding, kinds in ENCODINGS.items():
        for number, kind in enumerate(kinds):
            page = ("1.0", "2.0")[number % 2]
            how = {"use_dictionary": False, "column_encoding": {"v": encoding}, "data_page_version": page}
            yield pytest.param(filled(kind, nulls=number % 2 == 0), how, id=f"{encoding} {kind} {page}")
    for name, array in extension_types().items():
        yield pytest.param(array, {}, id=name)
        yield pytest.param(array, {"store_schema": False}, id=f"{name} without a schema")
    for codec in CODECS:
        for page in ("1.0", "2.0"):
            how = {"compression": codec, "data_page_version": page, "write_page_checksum": page == "2.0"}
            yield pytest.param(filled(NESTED[9]), how, id=f"{codec} {page}")
    odd = filled(pa.timestamp("ns"))
    yield pytest.param(odd, {"use_deprecated_int96_timestamps": True}, id="int96")
    yield pytest.param(filled(pa.list_(pa.int32())), {"use_compliant_nested_type": False}, id="old names in lists")
    yield pytest.param(filled(pa.decimal128(10, 2)), {"store_decimal_as_integer": True}, id="decimals as integers")
    yield pytest.param(filled(pa.string()), {"version": "1.0", "write_statistics": False}, id="version 1")


def write(path: Path, array: pa.Array, how: dict[str, Any]) -> None:
    """The column in row groups of GROUPS, and again as one that is required where it has no nulls."""
    table = pa.table({"v": array})
    if not array.null_count and not isinstance(array.type, pa.BaseExtensionType):
        table = table.append_column(pa.field("required", array.type, nullable=False), array)
        if "column_encoding" in how:
            how = {**how, "column_encoding": {**how["column_encoding"], "required": how["column_encoding"]["v"]}}
    with pq.ParquetWriter(path, table.schema, **how) as writer:
        start = 0
        for rows in GROUPS:
            writer.write_table(table.slice(start, rows), row_group_size=max(rows, 1))
            start += rows


def by_prep(found: Manifest) -> pa.Table:
    """As a Prep reads it."""
    inputs = [TaskInput(task, found.base, found.options, found.schema) for task in plan_tasks(found, "")]
    return pa.Table.from_batches([batch for one in inputs for batch in one.rows()], schema=found.schema)


def by_stream(found: Manifest, as_: str, rows: int = 4) -> list[Any]:
    """Batches in file order."""
    with Stream(found, rows, as_=as_, shuffle=False, tail="wrap", threads=1) as stream:
        return list(stream)


@pytest.mark.parametrize(("array", "how"), list(cases()))
def test_every_kind_has_its_values(tmp_path: Path, array: pa.Array, how: dict[str, Any]) -> None:
    """What pyarrow reads of the file is what comes out, as Arrow, as numpy's arrays and by a Prep."""
    path = tmp_path / "a.parquet"
    write(path, array, how)
    found, expected = build(path), pq.read_table(path)
    assert [unit.rows for _, unit in found.units] == [rows for rows in GROUPS if rows]
    prep = by_prep(found)
    arrow = by_stream(found, "arrow")
    for name in expected.column_names:
        told = values_of(expected[name])
        if types.is_fixed_size_list(found.schema.field(name).type) and array.type != found.schema.field(name).type:
            told = np.reshape(told, (ROWS, 2, 3)).tolist() if isinstance(array.type, pa.FixedShapeTensorType) else told
        assert values_of(prep[name]) == told
        assert [value for batch in arrow for value in values_of(batch[name])][:ROWS] == told
    column = prep["v"].combine_chunks()
    if has_nulls(column) and not has_place_for_nulls(column.type):
        with pytest.raises(DataError, match="(?s)'v'.*null"):
            by_stream(found, "numpy")
        return
    numpy = by_stream(found, "numpy")
    shown = [value for batch in numpy for value in listed(batch["v"])][:ROWS]
    assert same(shown, in_batch(column)), (shown, in_batch(column))


def has_place_for_nulls(kind: pa.DataType) -> bool:
    """Whether a batch of numpy's arrays has a form for them: NaN, or None."""
    return not (
        is_number(kind) or ((types.is_list(kind) or types.is_fixed_size_list(kind)) and is_inside(kind.value_type))
    )


def is_number(kind: pa.DataType) -> bool:
    return (
        types.is_integer(kind) or types.is_boolean(kind) or types.is_temporal(kind) or types.is_fixed_size_binary(kind)
    )


def is_inside(kind: pa.DataType) -> bool:
    return is_number(kind) or types.is_floating(kind) or (types.is_fixed_size_list(kind) and is_inside(kind.value_type))


def listed(value: Any) -> list[Any]:
    """The rows of a column of a batch."""
    return value if isinstance(value, list) else value.tolist()


def in_batch(array: pa.Array) -> list[Any]:
    """What a batch of numpy's arrays has of a column, told from docs/streaming.md."""
    kind = array.type
    if types.is_temporal(kind) and not array.null_count:
        width = pa.int32() if types.is_date32(kind) or types.is_time32(kind) else pa.int64()
        return list(array.view(width).to_pylist())
    if types.is_fixed_size_binary(kind) and not array.null_count and not types.is_decimal(kind):
        return [list(value) for value in array.to_pylist()]
    if types.is_floating(kind):
        return [float("nan") if value is None else value for value in array.to_pylist()]
    return list(array.to_pylist())


def same(left: Any, right: Any) -> bool:
    """NaN is NaN."""
    return repr(left) == repr(right)


def test_what_parquet_has_not_comes_from_arrow(tmp_path: Path) -> None:
    """Run ends, views of strings and of lists, and dictionaries in lists, of an Arrow file."""
    words = pa.array(["a", "a", None, "b", "long " * 9] * 2)
    table = pa.table(
        {
            "ends": pc.run_end_encode(words),
            "views": words.cast(pa.string_view()),
            "binary": filled(pa.binary_view()),
            "lists": filled(pa.large_list_view(pa.int32())),
            "of words": filled(pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        }
    )
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table, 4)
    found = build(tmp_path / "a.arrow")
    batches = by_stream(found, "arrow", 5)
    for name in table.column_names:
        told = values_of(table[name])
        assert values_of(by_prep(found)[name]) == told
        assert [value for batch in batches for value in values_of(batch[name])] == told


def test_torch_has_them_too(tmp_path: Path) -> None:
    """Numbers, times and lists of them are tensors of the same values as numpy's arrays."""
    kinds = [kind for kind in [*NUMBERS, *TIMES, pa.binary(5), *NESTED[:6]] if not types.is_large_list(kind)]
    table = pa.table({str(number): filled(kind, nulls=False) for number, kind in enumerate(kinds)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    found = build(tmp_path / "a.parquet")
    for tensors, arrays in zip(by_stream(found, "torch", 5), by_stream(found, "numpy", 5), strict=True):
        for name in table.column_names:
            assert same(listed(tensors[name]), listed(arrays[name]))
            assert type(tensors[name]).__name__ == ("Ragged" if isinstance(arrays[name], Ragged) else "Tensor")


def test_a_table_without_columns_or_rows_says_so(tmp_path: Path) -> None:
    """There is nothing to stream in a file without rows, or whose rows have no columns."""
    rows = pa.table({"v": range(3)})
    pq.write_table(rows.slice(0, 0), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="no rows"):
        Stream(str(tmp_path / "rows.parquet"), 1, as_="numpy")
    pq.write_table(rows.select([]), tmp_path / "columns.parquet")
    with pytest.raises(DataError, match="no rows"):
        Stream(str(tmp_path / "columns.parquet"), 1, as_="numpy")


def test_what_parquet_has_and_a_batch_has_not_is_refused(tmp_path: Path) -> None:
    """Years after 9999 inside structures, which Python's dates do not have: Arrow's arrays have them."""
    late = pa.array([{"day": 3_000_000}], pa.struct([("day", pa.int32())])).cast(pa.struct([("day", pa.date32())]))
    pq.write_table(pa.table({"v": late}), tmp_path / "a.parquet")
    found = build(tmp_path / "a.parquet")
    assert values_of(by_stream(found, "arrow", 1)[0]["v"]) == [{"day": 3_000_000 * 86_400 * 10**9}]
    with pytest.raises(DataError, match=r"(?s)'v'.*years"):
        by_stream(found, "numpy", 1)


def test_decimals_and_times_of_every_width_keep_their_digits(tmp_path: Path) -> None:
    """The largest that each has."""
    columns = {
        f"{precision}": pa.array([Decimal(10**precision - 1), Decimal(1 - 10**precision), None], kind(precision, 0))
        for precision, kind in [
            (1, pa.decimal128),
            (9, pa.decimal128),
            (18, pa.decimal128),
            (38, pa.decimal128),
            (76, pa.decimal256),
        ]
    }
    columns["time"] = pa.array([datetime.time(23, 59, 59, 999_999), None, datetime.time()], pa.time64("us"))
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = build(tmp_path / "a.parquet")
    batch = by_stream(found, "arrow", 3)[0]
    for name, column in columns.items():
        assert batch[name].to_pylist() == column.to_pylist()
