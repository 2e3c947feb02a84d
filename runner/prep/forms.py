"""Columns as pandas, numpy and Python have them, with every value kept: none is rounded, cut or made missing.

Columns come in plain types (see `runner.data.values.types`); `runner.prep.returns` is the way back. Where a null or a
time has no place in the usual form, a wider one is taken: objects in numpy, nullable and Arrow types in pandas.

Fractions stay fast arrays although they may be missing or NaN: one of the two is a NaN whose spare bits say so. Numpy
knows no missing fractions, so there the nulls are marked; in pandas NaN means missing, so there the NaNs are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.values.python import NAT, NO_VALUE, Uncarried, carried, to_python
from runner.data.values.recast import fixed_values, list_parts
from runner.data.values.types import types

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Marks:
    """The bits of NaNs of one width; the marks are in the highest of the spare bits, so that a change of width keeps
    them.

    Args:
        bits: the unsigned type of the width.
        sign, nan: the bit of the sign; the usual NaN.
        null: a missing value among numpy's fractions.
        value: a NaN that is a value among pandas' fractions.
    """

    bits: type[np.unsignedinteger[Any]]
    sign: int
    nan: int
    null: int
    value: int


def _marks(bits: type[np.unsignedinteger[Any]], width: int, nan: int, shift: int) -> Marks:
    return Marks(bits, 1 << (width - 1), nan, nan | 0x155 << shift, nan | 0x0AA << shift)


#: By bytes of a fraction.
MARKS = {
    2: _marks(np.uint16, 16, 0x7E00, 0),
    4: _marks(np.uint32, 32, 0x7FC0_0000, 13),
    8: _marks(np.uint64, 64, 0x7FF8_0000_0000_0000, 42),
}


def objects(values: Any, count: int) -> Values:
    """An array of so many Python values, whatever they are."""
    return np.fromiter(values, dtype=object, count=count)


# -- numpy -----------------------------------------------------------------------------------------------------------


def to_numpy(array: pa.Array) -> Values:
    """A writable array [rows, ...].

    Numbers, booleans, dates, timestamps and durations are arrays of their own type, fractions with marked nulls, times
    of day in nanoseconds timedelta64. Fixed-size lists without nulls have the shape that they say. All else is an
    array of objects with None where there is nothing: whole numbers and booleans with nulls, lists (as arrays),
    strings, binary, decimals, times of day, structs and maps.

    Raises:
        Uncarried: a value has no place in it.
    """
    kind = array.type
    if types.is_floating(kind):
        return _marked_nulls(array)
    if (types.is_integer(kind) or types.is_boolean(kind)) and not array.null_count:
        return _own(array.to_numpy(zero_copy_only=False))
    if types.is_date(kind) or types.is_timestamp(kind) or types.is_duration(kind) or kind == pa.time64("ns"):
        values = times(array)
        if values is None:
            raise Uncarried("the least possible value, which numpy takes for a missing one")
        return values
    if types.is_fixed_size_list(kind):
        inner = fixed_values(array)
        if not array.null_count and not inner.null_count and kind.list_size:
            values = to_numpy(inner)
            return values.reshape(len(array), kind.list_size, *values.shape[1:])
    if types.is_list(kind) or types.is_fixed_size_list(kind):
        return _lists(array)
    if types.is_string(kind) or types.is_binary(kind) or types.is_fixed_size_binary(kind):
        return _own(array.to_numpy(zero_copy_only=False))
    return objects(to_python(array), len(array))


def _own(values: Values) -> Values:
    return values if values.flags.writeable else values.copy()


@dataclass(frozen=True)
class _Nans:
    """The NaNs of an array of fractions.

    Args:
        marks: of their width.
        bits: a view of all fractions, so that marks can be set.
        absent: which of these are missing.
        real: which are NaN as a value.
    """

    marks: Marks
    bits: Values
    absent: Values
    real: Values

    def unsigned(self) -> Values:
        """The bits of those that are values, without the sign."""
        bits: Values = self.bits[self.real] & ~self.marks.bits(self.marks.sign)
        return bits


def _fractions(array: pa.Array) -> tuple[Values, _Nans | None]:
    """A writable array with NaN for null, and its NaNs, if there are any."""
    values = _own(array.to_numpy(zero_copy_only=False))
    nan = np.isnan(values)
    if not nan.any():
        return values, None
    marks, absent = MARKS[values.itemsize], _absent(array)
    return values, _Nans(marks, values.view(marks.bits), absent, nan & ~absent)


def _marked_nulls(array: pa.Array) -> Values:
    values, nans = _fractions(array)
    if nans is not None:
        if np.isin(nans.unsigned(), (nans.marks.null, nans.marks.value)).any():
            raise Uncarried("a NaN with the bits that mark a missing value")
        nans.bits[nans.absent] = nans.marks.null
    return values


def _absent(array: pa.Array) -> Values:
    if not array.null_count:
        return np.zeros(len(array), bool)
    absent: Values = array.is_null().to_numpy(zero_copy_only=False)
    return absent


def times(array: pa.Array) -> Values | None:
    """Dates, timestamps and durations as datetime64 and timedelta64, NaT for null; None if a value is NaT's own."""
    kind = array.type
    if types.is_date32(kind):
        numbers, name = array.view(pa.int32()).cast(pa.int64()), "datetime64[D]"
    else:
        unit = "ms" if types.is_date64(kind) else kind.unit
        span = types.is_duration(kind) or types.is_time(kind)
        numbers, name = array.view(pa.int64()), f"{'timedelta64' if span else 'datetime64'}[{unit}]"
    values = numbers.fill_null(NAT) if array.null_count else numbers
    values_np = _own(values.to_numpy(zero_copy_only=False))
    if np.count_nonzero(values_np == NAT) != array.null_count:
        return None
    return values_np.view(name)


def _lists(array: pa.Array) -> Values:
    """An array of arrays, None for null."""
    if types.is_fixed_size_list(array.type):
        offsets = np.arange(len(array) + 1) * array.type.list_size
        values = fixed_values(array)
    else:
        offsets, values = list_parts(array)
    nulls_inside = types.is_floating(values.type) and values.null_count
    inner = objects(values.to_pylist(), len(values)) if nulls_inside else to_numpy(values)
    items: Iterator[Any] = (inner[start:stop] for start, stop in itertools.pairwise(offsets.tolist()))
    if array.null_count:
        items = (None if absent else item for absent, item in zip(_absent(array).tolist(), items, strict=True))
    return objects(items, len(array))


# -- pandas ----------------------------------------------------------------------------------------------------------


def to_pandas(batch: pa.RecordBatch) -> Any:
    """A DataFrame. Columns are of numpy's types where these keep the values, else of pandas' nullable types (whole
    numbers and booleans with nulls), of pandas' Arrow types (times outside Python's range or of unknown zones), or
    objects as in `to_numpy`. In fractions NaN is missing, and NaN as a value is marked.

    Raises:
        Uncarried: a value has no place in it.
    """
    import pandas

    return pandas.DataFrame(dict(columns_of(batch, lambda column: _series(pandas, column))), copy=False)


def to_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """A dict of Python values for each row (see `to_python`). Raises Uncarried."""
    columns = dict(columns_of(batch, carried))
    try:
        rows: list[dict[str, Any]] = pa.RecordBatch.from_pydict(columns).to_pylist()
    except NO_VALUE:
        dict(columns_of(batch, to_python))  # raises, and says in which column
        raise
    return rows


def columns_of(batch: pa.RecordBatch, change: Callable[[pa.Array], Any]) -> Iterator[tuple[str, Any]]:
    """(name, changed column) of a batch; where that raises Uncarried, the column is named."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            yield field.name, change(column)
        except Uncarried as wrong:
            raise Uncarried(wrong.why, field.name, str(field.type)) from wrong.__cause__


def _series(pandas: Any, array: pa.Array) -> Any:
    kind = array.type
    if types.is_floating(kind):
        values = _marked_nans(array)
        return _arrow(pandas, array) if values is None else values
    if array.null_count and (types.is_integer(kind) or types.is_boolean(kind)):
        zero = array.fill_null(False if types.is_boolean(kind) else 0).to_numpy(zero_copy_only=False)
        make = pandas.arrays.BooleanArray if types.is_boolean(kind) else pandas.arrays.IntegerArray
        return make(_own(zero), _absent(array))
    if types.is_timestamp(kind) or types.is_duration(kind) or kind == pa.time64("ns"):
        return _times_series(pandas, array)
    if types.is_date(kind) or types.is_time(kind):
        try:
            return objects(to_python(array), len(array))
        except Uncarried:
            return _arrow(pandas, array)
    if types.is_string(kind):
        return array.to_pandas()
    values = to_numpy(array)
    return values if values.ndim == 1 else objects(values, len(values))


def _times_series(pandas: Any, array: pa.Array) -> Any:
    values, kind = times(array), array.type
    if values is None:
        return _arrow(pandas, array)
    if not types.is_timestamp(kind) or kind.tz is None:
        return values
    try:
        series = array.to_pandas()
        kept = pa.array(series.iloc[:0]).type == kind
    except (ValueError, KeyError, OSError, pa.ArrowException):  # a zone that this machine does not know
        kept = False
    return series if kept else _arrow(pandas, array)


def _arrow(pandas: Any, array: pa.Array) -> Any:
    return pandas.arrays.ArrowExtensionArray(pa.chunked_array([array]))


def _marked_nans(array: pa.Array) -> Values | None:
    """Fractions with NaN for null and marked NaNs; None if a NaN has bits of its own."""
    values, nans = _fractions(array)
    if nans is not None:
        if (nans.unsigned() != nans.marks.nan).any():
            return None
        nans.bits[nans.real] |= nans.marks.bits(nans.marks.value)
        nans.bits[nans.absent] = nans.marks.nan
    return values
