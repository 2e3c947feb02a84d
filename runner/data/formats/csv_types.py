"""What type the values of a CSV column show: the narrowest that gives every value back as it was written.

What a number would change stays text: '007', '+5', whole numbers of more than 38 digits. White space around numbers,
the way that a fraction or a time is written, and the spellings of nothing ('', 'NA', 'null' and others, in columns
that are not text) do not count as values.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from runner.data.formats.guess import LONG
from runner.data.formats.long_numbers import DIGITS, changed_by_double
from runner.data.values.arrays import texts

_BOOLEANS = texts(["true", "True", "TRUE", "false", "False", "FALSE"])
_TIME = r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$"
_WHOLE = r"^-?(0|[1-9]\d{0,37})$"  # pyarrow reads some longer ones, wrongly
_DIGITS = rf"^-?\d{{{DIGITS},}}$"
#: Numbers that would be read as others: a plus sign, zeros in front, hexadecimal.
_ODD = r"^(\+|-?0[0-9xX])"
_LADDER = (
    pa.int64(), pa.bool_(), pa.date32(), pa.time32("s"), pa.timestamp("s"), pa.timestamp("ns"),
    pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC"), LONG, pa.float64(),
)  # fmt: skip
_NUMBERS = (pa.int64(), LONG, pa.float64())


def type_of(values: pa.Array, likely: pa.DataType, nothing: pa.Array) -> pa.DataType:
    """The type of a column of text, given as binary.

    Args:
        likely: what earlier values were; tried first.
        nothing: the spellings of a missing value.

    Returns:
        null, int64, decimal128(38, 0), double, bool, date32, time32, timestamp, string, or binary (no UTF-8).
    """
    try:
        text = values.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.binary()
    if pa.types.is_string(likely):
        return likely
    there = text.filter(pc.invert(pc.is_in(text, nothing)))
    if not len(there):
        return pa.null()
    if not pa.types.is_null(likely) and _holds(likely, there):
        return likely
    for kind in _LADDER:
        if _holds(kind, there):
            return kind
    trimmed = pc.utf8_trim(there, " \t")
    if not trimmed.equals(there):
        for kind in _NUMBERS:
            if _holds(kind, trimmed):
                return kind
    return pa.string()


def changed_numbers(text: pa.Array) -> Iterator[str]:
    """The whole numbers of a column of text that a double would change."""
    trimmed = pc.utf8_trim(text.filter(pc.greater_equal(pc.binary_length(text), DIGITS)), " \t")
    whole = trimmed.filter(pc.match_substring_regex(trimmed, _DIGITS))
    for value in pc.unique(whole).to_pylist():
        if changed_by_double(value):
            yield value


def _holds(kind: pa.DataType, text: pa.Array) -> bool:
    """Whether the type holds all of the values, and gives them back."""
    return takes(kind, text.slice(0, 1)) and (len(text) == 1 or takes(kind, text))


def takes(kind: pa.DataType, text: pa.Array) -> bool:
    """Whether the type holds all of some values, none of them missing, and gives them back."""
    if pa.types.is_boolean(kind):
        return _all(pc.is_in(text, _BOOLEANS))
    if pa.types.is_time32(kind):
        return _all(pc.match_substring_regex(text, _TIME))
    if kind.equals(LONG) and not _all(pc.match_substring_regex(text, _WHOLE)):
        return False
    try:
        values = text.cast(kind)
    except pa.ArrowInvalid:
        return False
    if pa.types.is_integer(kind):
        return not _any_odd(text)
    if pa.types.is_floating(kind):
        return not _any_odd(text) and not _any_beyond(text, values) and next(changed_numbers(text), None) is None
    return True


def _any_odd(text: pa.Array) -> bool:
    """Whether a number is written so that reading it as one would lose how: with a plus sign, with zeros in front."""
    zero = pc.or_(pc.starts_with(text, "0"), pc.starts_with(text, "-0"))
    unlike = pc.and_(zero, pc.invert(pc.or_(pc.starts_with(text, "0."), pc.starts_with(text, "-0."))))
    few = text.filter(pc.or_(unlike, pc.starts_with(text, "+")))
    return bool(len(few)) and _any(pc.match_substring_regex(few, _ODD))


def _any_beyond(text: pa.Array, values: pa.Array) -> bool:
    """Whether a number is too large for a double, which would make it infinite."""
    infinite = text.filter(pc.is_inf(values))
    return bool(len(infinite)) and not _all(pc.match_substring(infinite, "inf", ignore_case=True))


def _all(mask: pa.Array) -> bool:
    return bool(pc.all(mask).as_py())


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask).as_py())
