"""Values of Arrow columns as JSON that holds all of them: no digit is lost, whatever the type.

Whole numbers and decimals are numbers of JSON with all their digits. Fractions are the shortest number that gives the
same double; NaN and the infinities, which JSON has not, are the strings "NaN", "Infinity", "-Infinity". Bytes are a
string in base64. Dates, times and moments are strings of ISO 8601 with all digits of their unit (a moment with a zone
is in UTC and ends in Z), durations too (``PT1.500S``). Maps are lists of pairs.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner.data.values.types import types

NULL = "null"
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_DAY_S, _DAY_MS = 86_400, 86_400_000


def rows(batch: pa.RecordBatch) -> Iterator[str]:
    """Each row as a JSON object on one line, in ASCII.

    Raises:
        UnicodeDecodeError: a string is not UTF-8.
    """
    names = [f"{text(name)}: " for name in batch.schema.names]
    if not names:
        yield from itertools.repeat("{}", batch.num_rows)
        return
    for values in zip(*(texts(column) for column in batch.columns), strict=True):
        yield "{" + ", ".join(map(str.__add__, names, values)) + "}"


def text(words: str) -> str:
    """A string of JSON that no terminal obeys."""
    return json.dumps(words).replace("\x7f", "\\u007f")


def texts(array: pa.Array) -> list[str]:
    """The JSON of each value. Raises UnicodeDecodeError: a string is not UTF-8."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return texts(array.storage)
    if types.is_null(kind):
        return [NULL] * len(array)
    if types.is_dictionary(kind):
        words = texts(array.dictionary)
        return [NULL if i is None else words[i] for i in array.indices.to_pylist()]
    if types.is_run_end_encoded(kind):
        return texts(pc.run_end_decode(array))
    if types.is_struct(kind):
        return _structs(array)
    if types.is_nested(kind) and not types.is_union(kind):
        return _lists(array)
    stored, shown = _leaf(kind)
    values = (array if stored is None else array.view(stored)).to_pylist()
    return [NULL if value is None else shown(value) for value in values]


def _structs(array: pa.StructArray) -> list[str]:
    names = [f"{text(field.name)}: " for field in array.type]
    parts = [texts(child) for child in array.flatten()]
    whole = [
        "{" + ", ".join(map(str.__add__, names, values)) + "}"
        for values in (zip(*parts, strict=True) if parts else [()] * len(array))
    ]
    return [one if there else NULL for one, there in zip(whole, array.is_valid().to_pylist(), strict=True)]


def _lists(array: pa.Array) -> list[str]:
    if types.is_map(array.type):
        return _maps(array)
    lengths = pc.list_value_length(array).to_pylist()
    if types.is_null(array.type.value_type):
        inner = [NULL] * sum(length or 0 for length in lengths)
    else:
        inner = texts(array.flatten())
    values = iter(inner)
    return [NULL if n is None else f"[{', '.join(itertools.islice(values, n))}]" for n in lengths]


def _maps(array: pa.MapArray) -> list[str]:
    if not len(array):
        return []
    ends = array.offsets.to_pylist()
    keys, items = (texts(child) for child in array.values.slice(ends[0], ends[-1] - ends[0]).flatten())
    pairs = [f"[{key}, {item}]" for key, item in zip(keys, items, strict=True)]
    bounds = [end - ends[0] for end in ends]
    stretches = zip(bounds[:-1], bounds[1:], array.is_valid().to_pylist(), strict=True)
    return [f"[{', '.join(pairs[start:stop])}]" if there else NULL for start, stop, there in stretches]


def _leaf(kind: pa.DataType) -> tuple[pa.DataType | None, Callable[[Any], str]]:
    """The type as whose numbers values are taken (None: as they are), and how one is written."""
    if types.is_boolean(kind):
        return None, lambda value: "true" if value else "false"
    if types.is_integer(kind):
        return None, str
    if types.is_floating(kind):
        return None, _fraction
    if types.is_decimal(kind):
        return None, lambda value: format(value, "f")
    if types.is_interval(kind):
        return None, lambda value: f'{{"months": {value[0]}, "days": {value[1]}, "nanoseconds": {value[2]}}}'
    if types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64(), _time(kind)
    return None, _other


def _other(value: Any) -> str:
    """Strings and bytes, and what a union holds."""
    if isinstance(value, bytes):
        return f'"{base64.b64encode(value).decode()}"'
    if isinstance(value, float):
        return _fraction(value)
    if isinstance(value, bool | int):
        return str(value).lower()
    return NULL if value is None else text(str(value))


def _fraction(value: Any) -> str:
    number = float(value)
    if math.isfinite(number):
        return repr(number)
    return '"NaN"' if math.isnan(number) else '"Infinity"' if number > 0 else '"-Infinity"'


# -- times -----------------------------------------------------------------------------------------------------------


def _time(kind: pa.DataType) -> Callable[[int], str]:
    if types.is_date32(kind):
        return lambda days: f'"{_date(days)}"'
    if types.is_date64(kind):
        return lambda ms: f'"{_date(ms // _DAY_MS)}"' if ms % _DAY_MS == 0 else f'"{_moment(ms, 3)}"'
    digits = _DIGITS[kind.unit]
    if types.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        return lambda number: f'"{_moment(number, digits)}{zone}"'
    if types.is_duration(kind):
        return lambda number: f'"{_sign(number)}PT{_seconds(abs(number), digits)}S"'
    return lambda number: f'"{_sign(number)}{_clock(abs(number), digits)}"'


def _sign(number: int) -> str:
    return "-" if number < 0 else ""


def _seconds(number: int, digits: int, least: int = 1) -> str:
    """Seconds with all digits; of `least` places before the point."""
    whole, rest = divmod(number, 10**digits)
    return f"{whole:0{least}d}.{rest:0{digits}d}" if digits else f"{whole:0{least}d}"


def _clock(number: int, digits: int) -> str:
    minutes, rest = divmod(number, 60 * 10**digits)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{_seconds(rest, digits, 2)}"


def _moment(number: int, digits: int) -> str:
    days, rest = divmod(number, _DAY_S * 10**digits)
    return f"{_date(days)}T{_clock(rest, digits)}"


def _date(days: int) -> str:
    """Days since 1970 in the Gregorian calendar, of any year: Python's own ends at 9999.

    A year of 400 years begins in March, so that a leap day is its last (as in Howard Hinnant's "chrono-compatible
    low-level date algorithms").
    """
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    number = day - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year += 400 * era + (month <= 2)
    shown = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+07d}"
    return f"{shown}-{month:02d}-{number:02d}"
