"""Which documents a packed row is made of: kept as the lengths of their runs, given as a number for each token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]

#: Of a field whose rows are runs: what is given of them, and the tokens of a row.
KEY = b"runner.runs"
DOCUMENT, POSITION = "document", "position"
#: A row: the place of its first token in its document, then the tokens of each document in it.
KIND = pa.list_(pa.field("element", pa.int32(), nullable=False))


def field(name: str, what: str, length: int) -> pa.Field:
    """A column of runs."""
    return pa.field(name, KIND, nullable=False, metadata={KEY: f"{what} {length}".encode()})


def asked(one: pa.Field) -> tuple[str, int] | None:
    """What is given of a column of runs, and the tokens of a row; None of any other column."""
    said = (one.metadata or {}).get(KEY)
    if said is None:
        return None
    what, length = said.decode().split()
    return what, int(length)


def encoded(lengths: Ints, first: int, length: int) -> tuple[pa.Array, Ints, int]:
    """Documents as rows of runs.

    Args:
        lengths: of the documents, each 1 or more.
        first: the place of the first token in the first of them.
        length: tokens of a row. Tokens that fill no row are left over.

    Returns:
        (rows of KIND, the lengths of what is left over, the place of its first token in its document)
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    rows = total // length
    cut = rows * length
    bounds = np.union1d(ends, np.arange(0, cut + 1, length, dtype=np.int64))
    document = np.searchsorted(ends, bounds, side="right")  # in which each bound's first token lies
    begin = np.concatenate([[-first], ends])[document] if len(ends) else bounds
    inside = int(np.searchsorted(bounds, cut))
    starts, places = bounds[:inside], bounds[:inside] - begin[:inside]
    sizes = np.diff(bounds[: inside + 1])
    counts = np.bincount(starts // length, minlength=rows) + 1
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    flat = np.empty(int(offsets[-1]), np.int32)
    is_run = np.ones(len(flat), bool)
    is_run[offsets[:-1]] = False
    flat[offsets[:-1]] = places[starts % length == 0]
    flat[is_run] = sizes
    return _rows(flat, offsets), np.diff(bounds[inside:]), int(bounds[inside] - begin[inside]) if total > cut else 0


def last(lengths: Ints, first: int) -> pa.Array:
    """A row that is filled up behind these documents."""
    flat = np.concatenate([[first], lengths]).astype(np.int32)
    return _rows(flat, np.array([0, len(flat)]))


def expanded(values: NDArray[Any], offsets: Ints, length: int, what: str) -> NDArray[np.int32]:
    """Rows of runs as int32 [rows, length].

    Args:
        values, offsets: row i is ``values[offsets[i]:offsets[i + 1]]``.
        what: DOCUMENT: the document's number in the row, -1 where it is filled up; POSITION: the token's place in its
            document, 0 where it is filled up.
    """
    rows = len(offsets) - 1
    starts = offsets[:-1] + np.arange(rows)  # of each row among runs, of which it has one more: what fills it up
    sizes = np.zeros(len(values) + rows, np.int64)
    is_fill = np.zeros(len(sizes), bool)
    is_fill[offsets[1:] + np.arange(rows)] = True
    sizes[~is_fill] = values
    sizes[starts] = 0  # a place, and no run
    ends = np.cumsum(sizes)
    before = np.concatenate([[0], ends[starts[1:] - 1]]) if rows else ends
    sizes[is_fill] = length - (ends[is_fill] - before)
    if what == DOCUMENT:
        number = np.arange(len(sizes)) - np.repeat(starts, np.diff(offsets) + 1) - 1
        number[is_fill] = -1
        return np.repeat(number.astype(np.int32), sizes).reshape(rows, length)
    base = np.cumsum(sizes) - sizes
    base[starts + 1] -= values[offsets[:-1]]
    found = np.arange(rows * length, dtype=np.int32)
    found -= np.repeat(base.astype(np.int32), sizes)
    filled = np.flatnonzero(is_fill & (sizes > 0))
    for end, size in zip((np.cumsum(sizes)[filled]).tolist(), sizes[filled].tolist(), strict=True):
        found[end - size : end] = 0
    return found.reshape(rows, length)


def _rows(flat: NDArray[np.int32], offsets: Ints) -> pa.Array:
    items = pa.Array.from_buffers(pa.int32(), len(flat), [None, pa.py_buffer(flat)])
    ends = pa.py_buffer(offsets.astype(np.int32))
    return pa.Array.from_buffers(KIND, len(offsets) - 1, [None, ends], children=[items])
