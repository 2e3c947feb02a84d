"""Types by name: every type that Arrow writes as text is read back, and what is none is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from runner.errors import SpecError
from runner.spec import Dataset
from runner.spec.types import parse

TYPES = [
    pa.null(), pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.binary(),
    pa.large_string(), pa.large_binary(), pa.string_view(), pa.binary(16), pa.date32(), pa.date64(), pa.time32("ms"),
    pa.time64("ns"), pa.timestamp("us"), pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("s", "+02:00"),
    pa.duration("ms"), pa.decimal32(5, 2), pa.decimal128(10, -2), pa.decimal256(60, 3), pa.list_(pa.int32()),
    pa.list_(pa.field("element", pa.string(), nullable=False)), pa.list_(pa.float32(), 8),
    pa.list_(pa.list_(pa.field("x", pa.int8()), 3)), pa.map_(pa.string(), pa.list_(pa.int64())),
    pa.struct([("a", pa.int64()), ("b c", pa.struct([("d", pa.decimal128(4, 1))])), ("e", pa.timestamp("us", "UTC"))]),
    pa.struct([pa.field("a", pa.int64(), nullable=False), ("b", pa.map_(pa.int32(), pa.string()))]), pa.struct([]),
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_round_trip(kind: pa.DataType) -> None:
    """A type is the one that its own text names."""
    assert parse(str(kind)).equals(kind)


@pytest.mark.parametrize(
    ("name", "kind"), [("str", pa.string()), ("list<int32>", pa.list_(pa.field("element", pa.int32())))]
)
def test_short_names(name: str, kind: pa.DataType) -> None:
    """Usual short names are taken too."""
    assert parse(name).equals(kind)


BAD = [
    "", "strin", "int65", "timestamp", "timestamp[day]", "time32[ns]", "duration[us, tz=UTC]", "list<int32", "list<>",
    "struct<int64>", "struct<a: int64", "decimal128(99, 2)", "int64 x", "fixed_size_list<int8>", "list<" * 200 + "int8",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_unknown_names(name: str) -> None:
    """A text that names no type is refused where the dataset is defined, with its column and what is allowed."""
    with pytest.raises(SpecError, match=r"schema\['x'\]"):
        Dataset("a.csv", schema={"x": name})


def test_a_schema_of_pyarrow() -> None:
    """A schema of pyarrow says the same as its names and types; a dictionary is its values."""
    schema = pa.schema([("a", pa.int32()), ("b", pa.list_(pa.string()))])
    assert Dataset("a.csv", schema=schema) == Dataset("a.csv", schema={"a": "int32", "b": "list<item: string>"})
    with pytest.raises(SpecError, match="tells whole"):
        Dataset("a.csv", schema={"a": pa.dictionary(pa.int8(), pa.string())})
