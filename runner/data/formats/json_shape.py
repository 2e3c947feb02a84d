"""How deep and how wide JSON lines are, and whether each is an object: looked at before the parser, which deep nesting
ends with its process, and so does a null in the place of the first object.

The parser takes memory for each row times each field that any row of a block has, so that rows which all have fields of
their own (an id as a key) would take the square of their number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from runner.data.formats.blocks import Places, cut, line_ends, places
from runner.data.limits import beyond, limits
from runner.errors import DataError

#: Rows times fields of what is parsed at a time, each of which takes 14 bytes: with a schema, and without one.
CELLS, UNKNOWN_CELLS = 16 << 20, 4 << 20
#: Levels that the parser surely survives.
_SURVIVED = 1000
_STEP, _CACHED_BYTES = 1 << 10, 64 << 10
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"(\s*:)?|[\[\]{}]', re.DOTALL)
_FIRST_NULL = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*null")
_NULL_LINE = re.compile(rb"\n[ \t\r]*null")
_NULL_BEHIND = re.compile(rb"\}[ \t]*null")
_SPACE = b" \t\r\n"
_OPENING, _CLOSING, _NO_CASE = ord("["), ord("]"), 0xDF  # without that bit '{' and '}' are these


def pieces(block: bytes) -> Iterator[bytes]:
    """A block in pieces that can be parsed without a schema, however their fields differ.

    Raises:
        DataError: a line has more fields than it may.
    """
    most = limits().fields
    ends = line_ends(block) + 1
    ends = ends if len(ends) and ends[-1] == len(block) else np.append(ends, len(block))
    keys = np.searchsorted(places(block, ord(":")), ends)
    start, before, line = 0, 0, 0
    while start < len(block):
        last = _last(keys, line, before, most)
        piece = block[start : ends[last]]
        if keys[last] - before > most:
            _check_fields(piece, most)
        yield piece
        start, before, line = int(ends[last]), int(keys[last]), last + 1


def _last(keys: Places, first: int, before: int, most: int) -> int:
    """The last line of a piece that begins with line `first`: lines times keys are few (UNKNOWN_CELLS), keys `most`.

    Args:
        keys: up to the end of each line; `before`: up to the piece.
    """
    low, high = first, min(len(keys), first + UNKNOWN_CELLS) - 1
    while low < high:
        middle = (low + high + 1) // 2
        count = int(keys[middle]) - before
        if count <= most and count * (middle - first + 1) <= UNKNOWN_CELLS:
            low = middle
        else:
            high = middle - 1
    return low


def rows_at_once(block: bytes, ends: Places, fields: int) -> Iterator[bytes]:
    """A block in pieces of as many rows as can be parsed at a time, each with so many fields.

    Args:
        ends: where its line ends are.
    """
    yield from cut(block, ends, max(1, CELLS // max(fields, 1)))


def check_lines(block: bytes, ends: Places) -> None:
    """Raise DataError for what the parser might not survive: very deep nesting, and nulls in the place of objects.

    Args:
        ends: where the line ends of the block are.
    """
    check_no_null(block)
    _check_nulls(block, ends)
    _check_depth(block, ends)


def check_no_null(block: bytes) -> None:
    """Raise DataError if the first value is null, behind a byte order mark or not."""
    if _FIRST_NULL.match(block):
        raise _null_line()


def _check_nulls(block: bytes, ends: Places) -> None:
    """Raise DataError for a null that begins a line, and is not inside an object of several lines, or that follows an
    object on its line."""
    if any(text in block for text in (b"}null", b"} ", b"}\t")) and _has_null_behind(block):
        raise _null_line()
    data = np.frombuffer(block, np.uint8)
    first = data[ends[: len(ends) - block.endswith(b"\n")] + 1]
    if not np.isin(first, list(b"n" + _SPACE)).any():
        return
    for found in _NULL_LINE.finditer(block):
        before = found.start()
        while before and block[before - 1] in _SPACE:
            before -= 1
        if not before or block[before - 1 : before] == b"}":  # inside an object it is ':', ',' or '['
            raise _null_line()


def _has_null_behind(block: bytes) -> bool:
    """Whether a null follows an object on its line, and not in a string."""
    for found in _NULL_BEHIND.finditer(block):
        before = block[block.rfind(b"\n", 0, found.start()) + 1 : found.start()]
        if b'"' not in _STRING.sub(b"", before):
            return True
    return False


def _null_line() -> DataError:
    return DataError(
        "a line that is no JSON object (it is null)",
        allowed="a JSON object on each line",
        todo="leave the line out, or write {} in its place",
    )


def _check_depth(block: bytes, ends: Places) -> None:
    """Raise DataError where lists and objects are nested so deep that the parser might not survive it.

    Args:
        ends: where the line ends of the block are.
    """
    if len(block) <= _SURVIVED:
        return
    data = np.frombuffer(block, np.uint8)
    before = data[np.maximum(ends - 1, 0)]
    before = np.where(before == ord("\r"), data[np.maximum(ends - 2, 0)], before)
    after = data[np.minimum(ends + 1, len(data) - 1)]
    # in valid JSON nothing is open there: inside a list or an object a comma would follow
    edges = np.concatenate([[0], ends[(before == ord("}")) & (after == ord("{"))] + 1, [len(data)]])
    if np.diff(edges).max() <= _SURVIVED:
        return
    opened = np.concatenate([[0], np.cumsum(_openings(data))])
    most = opened[-(-edges[1:] // _STEP)] - opened[edges[:-1] // _STEP]  # with those of their neighbours
    for i in np.flatnonzero(most > _SURVIVED).tolist():
        _check_value(block[edges[i] : edges[i + 1]])


def _openings(data: np.ndarray[Any, np.dtype[np.uint8]]) -> Places:
    """How many lists and objects begin in each `_STEP` bytes. Looks at a piece at a time, which stays in the cache."""
    found = []
    for start in range(0, len(data), _CACHED_BYTES):
        opening = (data[start : start + _CACHED_BYTES] & _NO_CASE) == _OPENING
        if len(opening) % _STEP:
            opening = np.append(opening, np.zeros(-len(opening) % _STEP, bool))
        found.append(np.bitwise_count(opening.view(np.uint64)).reshape(-1, _STEP // 8).sum(axis=1, dtype=np.intp))
    return np.concatenate(found)


def _check_value(text: bytes) -> None:
    if _depth(text) > _SURVIVED and (depth := _depth(_STRING.sub(b"", text))) > _SURVIVED:
        raise beyond("nesting", f"a line with {depth:,} lists and objects inside each other")


def _depth(text: bytes) -> int:
    data = np.frombuffer(text, np.uint8) & _NO_CASE
    steps = (data == _OPENING).astype(np.int8) - (data == _CLOSING)
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))


def _check_fields(line: bytes, most: int) -> None:
    """Count the fields of a line, those of all items of a list once."""
    places: dict[tuple[int, bytes], int] = {}
    above: list[int] = []
    here, key, count = 0, 0, 0
    for token in _TOKEN.finditer(line):
        text = token[0]
        if text in (b"[", b"{"):
            above.append(here)
            here, key = places.setdefault((key or here, text), len(places) + 1), 0
        elif text in (b"]", b"}"):
            here, key = above.pop() if above else 0, 0
        elif token[2]:
            count += (here, token[1]) not in places
            key = places.setdefault((here, token[1]), len(places) + 1)
        if count > most:
            raise beyond("fields", f"a line with more than {most:,} fields")
