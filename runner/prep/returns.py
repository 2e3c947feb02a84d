"""What a function returned as Arrow columns again: with the types of its input where the values have them.

What has a type of its own (Arrow and numpy arrays, pandas columns) keeps it. Where a form has lost the type (Python
values, objects, numpy's times) the column of the same name in the input says which one is meant; it is taken only if
every value is in it, unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.values.python import carried_type
from runner.data.values.recast import recast
from runner.data.values.types import fields_of, types
from runner.prep.forms import MARKS, Values

_ARROW_ERRORS = (pa.ArrowException, ValueError, TypeError, OverflowError)


def is_series(values: Any) -> bool:
    """Whether it is a column or an index of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(values, pandas.Series | pandas.Index)


def to_column(values: Any, hint: pa.DataType | None) -> pa.Array:
    """A list, an array [rows, ...] or a pandas column as an Arrow array; further axes become fixed-size lists.

    Args:
        hint: the type of the input's column of that name.

    Raises:
        pyarrow.ArrowException, ValueError, TypeError, OverflowError: the values are of no one type.
    """
    if is_series(values):
        return _from_series(values, hint)
    if isinstance(values, np.ndarray):
        return _from_ndarray(values, hint)
    if values and isinstance(values[0], np.ndarray) and values[0].ndim > 1 and not _is_list(hint):
        return _from_ndarray(np.ma.stack(values) if _some_masked(values) else np.stack(values), hint)
    return _from_objects(values, hint)


def _is_list(kind: pa.DataType | None) -> bool:
    return kind is not None and bool(types.is_list(kind))


def _some_masked(values: Iterable[Any]) -> bool:
    return any(isinstance(value, np.ma.MaskedArray) for value in values)


# -- arrays ----------------------------------------------------------------------------------------------------------


def _from_ndarray(values: Values, hint: pa.DataType | None) -> pa.Array:
    if values.ndim == 1:
        return _from_flat(values, hint)
    leaf = hint
    for _ in values.shape[1:]:
        leaf = leaf.value_type if leaf is not None and types.is_fixed_size_list(leaf) else None
    flat = values.reshape(-1) if _some_masked([values]) else np.ascontiguousarray(values).reshape(-1)
    array = _from_flat(flat, leaf)
    for depth in reversed(range(1, values.ndim)):
        count = int(np.prod(values.shape[:depth]))
        kind = pa.list_(pa.field("element", array.type), values.shape[depth])
        array = pa.Array.from_buffers(kind, count, [None], 0, children=[array])
    return array


def _from_flat(values: Values, hint: pa.DataType | None) -> pa.Array:
    values = _in_known_units(values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("=")))
    if isinstance(values, np.ma.MaskedArray):
        return _as_meant(pa.array(values.data, mask=np.ma.getmaskarray(values)), hint)
    if values.dtype.kind == "f":
        return _from_fractions(values, missing_is_nan=False)
    if values.dtype.kind in "mM":
        return _as_meant(pa.array(values), hint)
    if values.dtype.kind == "O":
        return _from_objects(values, hint)
    return pa.array(values)


#: Numpy's units of times that Arrow lacks, and the largest that holds them.
_UNITS = {"Y": "D", "M": "D", "W": "D", "h": "s", "m": "s"}


def _in_known_units(values: Values) -> Values:
    """Times in a unit that Arrow has too. Raises OverflowError where one is beyond it."""
    kind = values.dtype.kind
    if kind not in "mM":
        return values
    unit, count = np.datetime_data(values.dtype)
    if count == 1 and unit not in _UNITS:
        return values
    wanted = np.dtype(f"{kind}8[{_UNITS.get(unit, unit)}]")
    cast = values.astype(wanted)
    if not np.array_equal(np.asarray(cast.astype(values.dtype)).view("i8"), np.asarray(values).view("i8")):
        raise OverflowError(f"a time of {values.dtype} that {wanted} cannot hold")
    return cast


def _from_fractions(values: Values, *, missing_is_nan: bool) -> pa.Array:
    """Fractions whose marks (see `forms`) are taken out again."""
    nan = np.isnan(values)
    if not nan.any() or values.itemsize not in MARKS:
        return pa.array(values)
    marks = MARKS[values.itemsize]
    values = np.ascontiguousarray(values)
    bits = values.view(marks.bits)
    plain = bits & ~marks.bits(marks.sign)
    real = nan & (plain == marks.value)
    if real.any():
        bits = bits.copy()
        bits[real] &= marks.bits(marks.sign | marks.nan)
        values = bits.view(values.dtype)
    absent = nan & ~real if missing_is_nan else nan & (plain == marks.null)
    return pa.array(values, mask=absent if absent.any() else None)


def _as_meant(array: pa.Array, hint: pa.DataType | None) -> pa.Array:
    """Numpy's times have no zones, and know no dates in milliseconds and no times of day."""
    have = array.type
    if hint is None or have == hint:
        return array
    if types.is_timestamp(have) and types.is_timestamp(hint) and have.tz is None:
        return array.view(pa.timestamp(have.unit, hint.tz))
    if (types.is_timestamp(have) and types.is_date64(hint)) or (types.is_duration(have) and types.is_time64(hint)):
        try:
            return recast(array, hint)
        except _ARROW_ERRORS:
            return array
    return array


def _from_series(series: Any, hint: pa.DataType | None) -> pa.Array:
    if not isinstance(series.dtype, np.dtype):
        array = pa.array(series, from_pandas=True)
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    values = series.to_numpy()
    if values.dtype.kind == "f":
        return _from_fractions(values, missing_is_nan=True)
    if values.dtype.kind == "O":
        import pandas

        absent = np.asarray(pandas.isna(series), bool)
        values = values.copy()
        values[absent] = None
        return _from_objects(values, hint)
    array = pa.array(series, from_pandas=True)
    return _as_meant(array, hint) if types.is_duration(array.type) else array


# -- Python values ---------------------------------------------------------------------------------------------------


def _from_objects(values: Any, hint: pa.DataType | None) -> pa.Array:
    """A list or an array of Python values; None is null."""
    arrays = _of_arrays(values, hint)
    if arrays is not None:
        return arrays
    if hint is not None:
        try:
            return _fitted(values, hint)
        except _ARROW_ERRORS:  # they are something else now: their own type says what
            pass
    return pa.array(values)


def _fitted(values: Any, hint: pa.DataType) -> pa.Array:
    """The values in the type `hint`, or in the one that they have of its kind. Raises where they are of another."""
    try:
        found = pa.infer_type(values)
    except _ARROW_ERRORS:  # a map's pairs have no one type
        found = None
    build, meant = (carried_type(hint), hint) if found is None else _meant(found, hint)
    array = pa.array(values, build)
    try:
        return recast(array, meant)
    except _ARROW_ERRORS:
        return array


def _meant(found: pa.DataType, hint: pa.DataType) -> tuple[pa.DataType, pa.DataType]:
    """(the type to build values in that look like `found`, the type that they should have at last).

    The first holds every value that Python may have of this kind, so that building rounds and cuts nothing.
    """
    if types.is_null(found):
        return carried_type(hint), hint
    for kind in (types.is_integer, types.is_boolean, types.is_string, types.is_decimal, types.is_interval):
        if kind(found) and kind(hint):
            return hint, hint
    if types.is_floating(found) and types.is_floating(hint):
        return pa.float64(), hint
    if _is_bytes(found) and _is_bytes(hint):
        return hint, hint
    if types.is_temporal(found) and types.is_temporal(hint):
        return _meant_time(found, hint)
    if types.is_list(found) and types.is_map(hint):
        return carried_type(hint), hint
    if types.is_list(found) and types.is_list(hint):
        build, meant = _meant(found.value_type, hint.value_type)
        return pa.list_(pa.field("element", build)), pa.list_(pa.field("element", meant))
    if types.is_list(found) and types.is_fixed_size_list(hint):
        build, meant = _meant(found.value_type, hint.value_type)
        return pa.list_(pa.field("element", build), hint.list_size), pa.list_(
            pa.field("element", meant), hint.list_size
        )
    if types.is_struct(found) and types.is_struct(hint):
        looks = {field.name: field.type for field in fields_of(found)}
        if looks.keys() == {field.name for field in fields_of(hint)}:
            pairs = {field.name: _meant(looks[field.name], field.type) for field in fields_of(hint)}
            build, meant = (pa.struct([(name, pair[i]) for name, pair in pairs.items()]) for i in (0, 1))
            return build, meant
    return found, found


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(types.is_binary(kind) or types.is_fixed_size_binary(kind))


def _meant_time(found: pa.DataType, hint: pa.DataType) -> tuple[pa.DataType, pa.DataType]:
    unit = "ns" if getattr(hint, "unit", "us") == "ns" else "us"
    if types.is_date(found) and types.is_date(hint):
        return pa.date32(), hint
    if types.is_timestamp(found) and types.is_timestamp(hint) and (found.tz is None) == (hint.tz is None):
        return pa.timestamp(unit, hint.tz), hint
    if types.is_time(found) and types.is_time(hint):
        return pa.time64("us"), hint
    if types.is_duration(found) and types.is_duration(hint):
        return pa.duration(unit), hint
    if types.is_duration(found) and hint == pa.time64("ns"):
        return pa.duration("ns"), hint
    return found, found


def _of_arrays(values: Any, hint: pa.DataType | None) -> pa.Array | None:
    """The lists that arrays of one type are (None is null); None if the values are something else."""
    first = next((value for value in values if value is not None), None)
    if not isinstance(first, np.ndarray):
        return None
    some = [value for value in values if value is not None]
    if not all(isinstance(value, np.ndarray) and value.ndim for value in some):
        return None
    if len({(value.dtype, value.shape[1:]) for value in some}) > 1:
        return None
    inside = hint.value_type if hint is not None and (types.is_list(hint) or types.is_fixed_size_list(hint)) else None
    items = _from_ndarray(np.ma.concatenate(some) if _some_masked(some) else np.concatenate(some), inside)
    absent = np.fromiter((value is None for value in values), bool, len(values))
    lengths = np.fromiter((0 if value is None else len(value) for value in values), np.int64, len(values))
    if hint is not None and types.is_fixed_size_list(hint) and (lengths[~absent] == hint.list_size).all():
        return _fixed(items, absent, hint.list_size)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] >= 2**31:
        raise OverflowError(f"{offsets[-1]} values in the lists of one batch")
    bits = pa.py_buffer(np.packbits(~absent, bitorder="little")) if absent.any() else None
    buffers = [bits, pa.py_buffer(offsets.astype(np.int32))]
    kind = pa.list_(pa.field("element", items.type))
    return pa.Array.from_buffers(kind, len(values), buffers, int(absent.sum()), children=[items])


def _fixed(items: pa.Array, absent: Values, size: int) -> pa.Array:
    """Fixed-size lists of the items of those rows that are there."""
    starts = (np.cumsum(~absent) - 1) * size
    places = starts[:, None] + np.arange(size)
    spread = items.take(pa.array(places.reshape(-1), mask=np.repeat(absent, size)))
    bits = pa.py_buffer(np.packbits(~absent, bitorder="little")) if absent.any() else None
    kind = pa.list_(pa.field("element", items.type), size)
    return pa.Array.from_buffers(kind, len(absent), [bits], int(absent.sum()), children=[spread])
