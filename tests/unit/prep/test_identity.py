"""An identity preparation is the identity: random tables through reader, forms of batches and writer."""

from __future__ import annotations

import re
from datetime import datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.catalog import Catalog
from runner.data.values.types import plain_type, written_type
from runner.errors import DataError
from runner.prep.batches import to_format, to_table
from runner.prep.stage import run_prep
from runner.spec import Dataset, Prep
from runner.store import Store
from runner.worker.pool.base import InlinePool
from tests.unit.data.arrow_kit import NAMES, any_array, any_type, values_of
from tests.unit.prep.kit import identity, make_scope

FORMS = ["arrow", "numpy", "pandas", "rows"]
#: What pyarrow writes to Parquet not at all, or ends the process over.
_NOT_IN_PARQUET = re.compile(r"\[0\]|view|run_end")


def write(table: pa.Table, path: Path, rows: int) -> None:
    """A file of row groups or record batches of so many rows."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows)
        return
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        for batch in table.to_batches(max_chunksize=rows):
            file.write_batch(batch)


def stored(path: Path) -> pa.Table:
    """What a file holds, by pyarrow alone."""
    return pq.ParquetFile(path).read() if path.suffix == ".parquet" else pa.ipc.open_file(str(path)).read_all()


def prepared(folder: Path, form: str, batch_size: int) -> pa.Table:
    """What an identity stage makes of the files in ``in``, by pyarrow alone."""
    stage = Prep(
        "p", fn=identity, source=Dataset(url=str(folder / "in")), sink="out", batch_format=form, batch_size=batch_size
    )
    run_prep(stage, make_scope(folder / "store", stage), InlinePool())
    manifest = Catalog(Store(str(folder / "store"))).latest("out")
    assert manifest is not None
    files = [pq.ParquetFile(manifest.url(shard)).read() for shard in manifest.shards]
    return pa.concat_tables(files, promote_options="permissive")


def any_table(random: np.random.Generator, suffix: str, folder: Path, group: int) -> pa.Table:
    """A table of columns of any type that a file of this kind can hold, and pyarrow can read again."""
    rows = int(random.integers(1, 14))
    columns = {}
    for number in range(len(NAMES) + 3):
        name = NAMES[number] if number < len(NAMES) else f"c{number}"
        table = pa.table({name: any_array(random, any_type(random), rows)})
        if suffix == ".parquet" and _NOT_IN_PARQUET.search(str(table.schema.field(0).type)):
            continue
        try:
            write(table, folder / f"probe{suffix}", group)
            stored(folder / f"probe{suffix}")
        except (pa.ArrowException, OSError):
            continue
        columns[name] = table.column(0)
    return pa.table(columns)


def refused(said: str, schema: pa.Schema, file: Path) -> str:
    """The column that an error is about; it must name the shard and the type, too."""
    named = re.search(r"column '(.*)' of type (.*?)(: batch_format=|, which Parquet cannot hold)", said)
    assert named is not None
    assert str(file) in said
    assert str(plain_type(schema.field(named[1]).type)) == named[2]
    return named[1]


def check(random: np.random.Generator, suffix: str, form: str, folder: Path) -> int:
    """Every column of a random table is what it was, or an error names it, its type and the shard.

    Returns:
        How many columns came through.
    """
    folder.mkdir()
    group = int(random.integers(1, 6))
    table = any_table(random, suffix, folder, group)
    for attempt in range(table.num_columns):
        place = folder / str(attempt)
        (place / "in").mkdir(parents=True)
        file = place / "in" / f"t{suffix}"
        write(table, file, group)
        source = stored(file)
        try:
            out = prepared(place, form, int(random.choice([1, 2, 3, 5, 100])))
        except DataError as error:
            table = table.drop_columns([refused(str(error), source.schema, file)])
            continue
        assert out.schema.names == source.schema.names
        for field in source.schema:
            column = out.column(field.name)
            assert plain_type(column.type).equals(written_type(field.type), check_metadata=True), field
            assert values_of(column) == values_of(source.column(field.name)), field
        return int(table.num_columns)
    return 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_any_table_comes_out_as_it_went_in(suffix: str, form: str, tmp_path: Path) -> None:
    """Of every type, nested, null, empty or sliced, in every form and cut: equal values in the documented type."""
    assert sum(check(np.random.default_rng(seed), suffix, form, tmp_path / str(seed)) for seed in range(2)) > 5


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_many_tables_come_out_as_they_went_in(suffix: str, form: str, tmp_path: Path) -> None:
    """As above, for some hundred tables."""
    for seed in range(1000, 1150):
        check(np.random.default_rng(seed), suffix, form, tmp_path / str(seed))


# -- one by one ------------------------------------------------------------------------------------------------------

NAN = float("nan")
COLUMNS: dict[str, pa.Array] = {
    "nullable": pa.array([2**53 + 1, None, 5]),
    "unsigned": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "fraction": pa.array([1.5, None, NAN]),
    "half": pa.array([1.5, None, NAN], pa.float16()),
    "flag": pa.array([True, None, False]),
    "nanoseconds": pa.array([1_700_000_000_123_456_789, None, -1], pa.timestamp("ns", "UTC")),
    "duration": pa.array([1_234_567, None, 0], pa.duration("ns")),
    "time": pa.array([1_234_567, None, 0], pa.time64("ns")),
    "far": pa.array([2**40, None, -(2**36)], pa.timestamp("ms")),
    "clocks": pa.array([1_729_989_000, 1_729_992_600, None], pa.timestamp("ms", "Europe/Berlin")),
    "decimal": pa.array([Decimal("1.10"), None, Decimal("99999.99")], pa.decimal128(10, 2)),
    "list": pa.array([[1, None], None, [2**53 + 1]]),
    "fractions": pa.array([[NAN, None], None, [-0.0]]),
    "map": pa.array([[("a", 1), ("b", None)], None, []], pa.map_(pa.string(), pa.int8())),
    "struct": pa.array([{"item": [None], "element": 1}, None, {"item": [], "element": None}]),
    "nothing": pa.nulls(3),
    "fixed": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int8(), 2)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_keeps_its_type_in_every_batch(name: str, form: str) -> None:
    """Whatever a batch holds, with nulls or without, its columns come back in the type of the input."""
    whole = pa.record_batch({name: COLUMNS[name]})
    schema = pa.schema([pa.field(name, plain_type(whole.schema.field(0).type))])
    for batch in (whole, *(whole.slice(i, 1) for i in range(3))):
        table = to_table(to_format(pa.record_batch([batch.column(0).cast(schema.field(0).type)], schema), form), schema)
        assert table is not None
        assert table.schema.field(0).type == written_type(schema.field(0).type)
        assert values_of(table.column(0)) == values_of(batch.column(0))


def test_missing_and_nan_stay_apart_through_arithmetic() -> None:
    """In numpy a missing fraction stays missing in arithmetic; in pandas NaN is missing, and NaN as a value stays."""
    batch = pa.record_batch({"x": pa.array([1.0, None, NAN])})
    numpy = to_format(batch, "numpy")
    assert np.isnan(numpy["x"]).tolist() == [False, True, True]
    narrow = to_table({"x": (numpy["x"] + 1).astype(np.float32)}, batch.schema)
    assert narrow is not None
    assert str(narrow.column("x").to_pylist()) == "[2.0, None, nan]"
    frame = to_format(batch, "pandas")
    assert frame["x"].isna().tolist() == [False, True, True]
    shifted = to_table(frame.assign(x=frame["x"].shift(1)), batch.schema)
    assert shifted is not None
    assert str(shifted.column("x").to_pylist()) == "[None, 1.0, None]"


#: What a function made of a column of int32, and the type of the result.
RETURNED: list[tuple[Any, pa.DataType]] = [
    ({"x": np.array([1, 2], np.int64)}, pa.int64()),
    ({"x": np.array([0.5, 1.0])}, pa.float64()),
    ({"x": [1.0, 2.0]}, pa.float64()),
    ({"x": ["a", None]}, pa.string()),
    ({"x": [2**40, None]}, pa.int64()),
    ({"x": [7, None]}, pa.int32()),
    ([{"x": None}], pa.int32()),
    (pd.DataFrame({"x": pd.array([1, None], "Int64")}), pa.int64()),
    ({"x": [True]}, pa.bool_()),
]


@pytest.mark.parametrize(("value", "kind"), RETURNED)
def test_what_has_another_type_keeps_it(value: Any, kind: pa.DataType) -> None:
    """The input's type is a hint for values that have lost theirs, and changes none that has its own."""
    table = to_table(value, pa.schema([("x", pa.int32())]))
    assert table is not None
    assert table.schema.field("x").type == kind


@pytest.mark.parametrize(
    ("value", "given", "kind"),
    [
        (0.1, pa.float32(), pa.float64()),
        (0.5, pa.float32(), pa.float32()),
        ([0.1], pa.list_(pa.float16()), pa.list_(pa.float64())),
        ({"a": 0.5}, pa.struct([("a", pa.float16())]), pa.struct([("a", pa.float16())])),
        ({"a": 1, "b": 2}, pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int64()), ("b", pa.int64())])),
        (Decimal("1.255"), pa.decimal128(10, 2), pa.decimal128(4, 3)),
        (datetime(2020, 1, 1, 0, 0, 0, 5), pa.timestamp("ms"), pa.timestamp("us")),
        (datetime(2020, 1, 1), pa.timestamp("us", "UTC"), pa.timestamp("us")),
        (datetime(2020, 1, 1, 5), pa.date32(), pa.timestamp("us")),
        (time(0, 0, 0, 5), pa.time32("ms"), pa.time64("us")),
        ("2020-01-01", pa.date32(), pa.string()),
        (1, pa.timestamp("us"), pa.int64()),
        (b"ab", pa.string(), pa.binary()),
    ],
)
@pytest.mark.parametrize("rows", [1, 2])
def test_no_value_is_bent_to_the_type_of_the_input(
    value: Any, given: pa.DataType, kind: pa.DataType, rows: int
) -> None:
    """A value that the input's type has not is kept as it is, in the type that it shows."""
    values = [value] + [None] * (rows - 1)
    table = to_table({"x": values}, pa.schema([("x", plain_type(given))]))
    assert table is not None
    assert plain_type(table.schema.field("x").type) == plain_type(kind)
    assert table.column("x").to_pylist() == values


@pytest.mark.parametrize(
    ("array", "form", "words"),
    [
        (pa.array([2**50], pa.timestamp("ms")), "rows", "timestamp[ms]"),
        (pa.array([90_000], pa.time32("s")), "rows", "time32[s]: "),
        (pa.array([-(2**63)], pa.int64()).view(pa.timestamp("ns")), "numpy", "the least possible value"),
        (pa.array([5], pa.timestamp("ms", "Moon/Crater")), "rows", "timestamp[ms, tz=Moon/Crater]"),
        (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "arrow", "month_day_nano_interval"),
        (pa.array([{}], pa.struct([])), "rows", "a struct without fields"),
    ],
)
def test_what_cannot_be_kept_is_said(array: pa.Array, form: str, words: str, tmp_path: Path) -> None:
    """A value without a place in the form or in the file is an error that names column, type and shard."""
    (tmp_path / "in").mkdir()
    write(pa.table({"odd": array}), tmp_path / "in" / "t.arrow", 5)
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, form, 10)
    for word in ("column 'odd'", words, str(tmp_path / "in" / "t.arrow")):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([5], pa.timestamp("ms", "Moon/Crater")),
        pa.array([-(2**63)], pa.int64()).view(pa.timestamp("ns")),
        pa.array([2**29], pa.int32()).view(pa.date32()),
        pa.array(np.array([0x7FF8_0000_0000_0007], np.uint64).view(np.float64)),
    ],
)
def test_pandas_keeps_odd_values_in_arrow_types(array: pa.Array) -> None:
    """What pandas' own types lack (zones, ends of ranges, bits of NaNs) is kept in its Arrow types."""
    batch = pa.record_batch({"x": array})
    frame = to_format(batch, "pandas")
    assert isinstance(frame["x"].dtype, pd.ArrowDtype)
    table = to_table(frame, batch.schema)
    assert table is not None
    assert table.column("x").combine_chunks().buffers()[1].to_pybytes()[:8] == array.buffers()[1].to_pybytes()[:8]
