"""Python values of Arrow columns: as pyarrow makes them, but exact or an error.

pyarrow cuts times of day to microseconds, lets them wrap after 24 hours, and takes the least timestamp for none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner.data.values.recast import list_parts, recast
from runner.data.values.types import rebuilt, types

#: The number of a date or time that numpy and pandas take for a missing one.
NAT = -(2**63)
#: What pyarrow raises where Python's types have no such value.
NO_VALUE = (OverflowError, ValueError, KeyError, pa.ArrowException)
_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}


class Uncarried(ValueError):
    """A value that the form asked for cannot hold.

    Args:
        why: what it is.
        column, kind: where it is, and of what type.
    """

    def __init__(self, why: str, column: str = "", kind: str = "") -> None:
        super().__init__(why, column, kind)
        self.why, self.column, self.kind = why, column, kind

    def __str__(self) -> str:
        return self.why


def carried_type(kind: pa.DataType) -> pa.DataType:
    """The type of which Python has values: time of day in nanoseconds is a time since midnight."""
    return pa.duration("ns") if kind == pa.time64("ns") else rebuilt(kind, carried_type)


def to_python(array: pa.Array) -> list[Any]:
    """Python values: as `to_pylist`, but exact or an error.

    Nanoseconds are pandas' Timestamp and Timedelta (a time of day too), where they are not whole microseconds.

    Raises:
        Uncarried: a value has no place in Python's types.
    """
    exact = carried(array)
    try:
        values: list[Any] = exact.to_pylist()
    except NO_VALUE as error:
        raise Uncarried(f"a value ({' '.join(str(error).split())})") from error
    return values


def carried(array: pa.Array) -> pa.Array:
    """The array in a type of which Python has all values."""
    for leaf in _leaves(array):
        _check(leaf)
    return recast(array, carried_type(array.type))


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """The arrays of times inside an array."""
    kind = array.type
    if types.is_temporal(kind):
        yield array
    elif types.is_struct(kind):
        for child in array.flatten():
            yield from _leaves(child)
    elif types.is_list(kind) or types.is_fixed_size_list(kind):
        yield from _leaves(array.flatten())
    elif types.is_map(kind):
        for child in list_parts(array)[1].flatten():
            yield from _leaves(child)


def _check(array: pa.Array) -> None:
    """Raises Uncarried where pyarrow would give another time without a word."""
    kind = array.type
    if types.is_interval(kind) or types.is_date32(kind):
        return
    found = pc.min_max(array.view(pa.int32() if types.is_time32(kind) else pa.int64())).as_py()
    if found["min"] is None:
        return
    if types.is_time(kind) and (found["min"] < 0 or found["max"] >= _DAY[kind.unit]):
        raise Uncarried("a time of day of 24 hours or more")
    if found["min"] == NAT:
        raise Uncarried("the least possible value, which stands for a missing one")
    if types.is_date64(kind):
        numbers = array.view(pa.int64())
        days = pc.divide(numbers, _DAY["ms"])
        if pc.any(pc.not_equal(pc.multiply(days, _DAY["ms"]), numbers)).as_py():
            raise Uncarried("a date that is not a whole day")
