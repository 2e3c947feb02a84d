"""Every value comes back from the forms that a function may ask for, or the form says that it cannot hold it."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pytest

from runner.data.values.python import Uncarried
from runner.prep.batches import to_format, to_table

UTC = datetime.UTC
MOST = 2**64 - 1

COLUMNS = {
    "unsigned": pa.array([0, MOST, 2**63 + 1], pa.uint64()),
    "unsigned with nulls": pa.array([None, MOST, 2**53 + 1], pa.uint64()),
    "whole with nulls": pa.array([None, -(2**63), 2**63 - 1], pa.int64()),
    "booleans with nulls": pa.array([None, True, False]),
    "nanoseconds": pa.array([1_700_000_000_123_456_789, None, 1], pa.timestamp("ns")),
    "nanoseconds of a zone": pa.array([1_700_000_000_123_456_789, None, 1], pa.timestamp("ns", "Europe/Berlin")),
    "spans of nanoseconds": pa.array([1, None, -(2**62) - 1], pa.duration("ns")),
    "times of day": pa.array([1, None, 86_399_999_999_999], pa.time64("ns")),
    "decimals": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("-99999999999999999999999999.99")]),
    "wide decimals": pa.array([decimal.Decimal(10) ** 60 + 1, None, decimal.Decimal(0)], pa.decimal256(70, 2)),
    "maps": pa.array([[("b", MOST), ("a", None)], None, []], pa.map_(pa.string(), pa.uint64())),
    "maps of times": pa.array([[(1, 1_700_000_000_123_456_789)], None, []], pa.map_(pa.int8(), pa.timestamp("ns"))),
    "lists of unsigned": pa.array([[MOST, None], None, []], pa.list_(pa.uint64())),
    "structs": pa.array(
        [{"u": MOST, "t": 1}, None, {"u": None, "t": None}], pa.struct([("u", pa.uint64()), ("t", pa.timestamp("ns"))])
    ),
    "dates": pa.array([datetime.date(1, 1, 1), None, datetime.date(9999, 12, 31)]),
    "fractions": pa.array([float("nan"), None, -0.0]),
}


@pytest.mark.parametrize("form", ["numpy", "pandas", "rows"])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_function_that_returns_what_it_got_changes_no_value(form: str, name: str) -> None:
    """Nanoseconds, whole numbers with nulls and beyond 2**53, decimals, maps and what is inside of others: the same."""
    batch = pa.RecordBatch.from_arrays([COLUMNS[name]], names=["c"])
    table = to_table(to_format(batch, form), batch.schema)
    plain = to_table(batch)
    assert table is not None
    assert plain is not None
    assert table.schema.field("c").type == plain.schema.field("c").type
    assert str(table.column("c").combine_chunks()) == str(plain.column("c").combine_chunks())


def test_what_rows_cannot_hold_is_said() -> None:
    """A year that Python's times have not is an error with the column's name and type, and no other year."""
    batch = pa.RecordBatch.from_arrays([pa.array([2**62], pa.timestamp("us"))], names=["when"])
    with pytest.raises(Uncarried) as wrong:
        to_format(batch, "rows")
    assert (wrong.value.column, wrong.value.kind) == ("when", "timestamp[us]")
