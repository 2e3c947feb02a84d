"""Whole numbers in text that a double would change: those beyond 2^53 that are not a sum of its 53 bits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from runner.errors import DataError

#: 2^53 has 16 digits, so no number of fewer digits can be changed.
DIGITS = 16
#: Of longer runs of digits it does not matter what is around them.
_LONGEST = 400
_STEP = DIGITS // 2
_EITHER = np.zeros(256, bool)
_EITHER[[ord("."), ord("e"), ord("E")]] = True


def changed_by_double(number: str) -> bool:
    """Whether a double of this whole number is another number."""
    return len(number) > _LONGEST or float(number) == float("inf") or int(float(number)) != int(number)


def rounded(column: str, number: str) -> DataError:
    """The error that says so."""
    shown = number if len(number) <= 50 else f"{number[:20]}... ({len(number)} digits)"
    return DataError(
        f"column '{column}': the whole number {shown} would be rounded to a 64-bit fraction",
        allowed="whole numbers of up to 38 digits; beside fractions, only those that a 64-bit fraction holds",
        todo="write such numbers as strings, or leave the column out with columns=",
    )


def suspects(text: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where in a text whole numbers of `DIGITS` digits or more may stand: one position inside each, sorted.

    Quick rather than exact: none is missed, but digits inside longer words are found too. Digits after a '.' and
    before a '.' or an exponent are not whole numbers.
    """
    data = np.frombuffer(text, np.uint8)
    digit = (data - ord("0")) < 10  # unsigned: what is smaller wraps round
    at = np.flatnonzero(digit[::_STEP][:-1] & digit[_STEP::_STEP]) * _STEP  # DIGITS digits hold two neighbours of these
    at = at[digit[at + _STEP // 2]]
    for offset in (1, 2, 3, 5, 6, 7):
        at = at[digit[at + offset]]
    starts, ends = at.copy(), at + _STEP
    _walk(digit, starts, -1)
    _walk(digit, ends, 1)
    long = ends - starts + 1 >= DIGITS
    starts, ends = starts[long], ends[long]
    before, after = data[np.maximum(starts - 1, 0)], data[np.minimum(ends + 1, len(data) - 1)]
    whole = ((starts == 0) | (before != ord("."))) & ((ends + 1 >= len(data)) | ~_EITHER[after])
    return np.unique(starts[whole])


def _walk(digit: np.ndarray[Any, np.dtype[np.bool_]], places: np.ndarray[Any, np.dtype[np.int64]], step: int) -> None:
    """Moves each place to the last digit of its run, in the direction of `step`; at most `_LONGEST` digits far."""
    going = np.arange(len(places))
    for _ in range(_LONGEST):
        if not len(going):
            return
        ahead = places[going] + step
        inside = (ahead >= 0) & (ahead < len(digit))
        going, ahead = going[inside], ahead[inside]
        more = digit[ahead]
        going, ahead = going[more], ahead[more]
        places[going] = ahead


class _Whole(str):
    """A whole number as it is written."""


def json_paths(block: bytes) -> Iterator[tuple[str, str]]:
    """Path ('a.b[]') and value of each whole number in JSON lines that a double would change."""
    done = -1
    for place in suspects(block).tolist():
        if place < done:
            continue
        start, end = block.rfind(b"\n", 0, place) + 1, block.find(b"\n", place)
        done = len(block) if end < 0 else end
        try:
            row = json.loads(block[start:done], parse_int=_Whole)
        except (ValueError, RecursionError):  # an object over several lines; whether it is valid is the parser's to say
            continue
        yield from _long(row, "")


def _long(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _long(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _long(inner, f"{path}[]")
    elif isinstance(value, _Whole) and changed_by_double(value):
        yield path, value
