"""Rows gathered from anywhere in this process's memory with one call and one copy.

numpy takes rows of one array. Those of many decoded pieces are taken as rows of one array too: a view of the stretch of
addresses in which all pieces lie, of which nothing but their rows is ever read. So the rows of a batch, each from
another piece, are copied once, from where the decoder wrote them to where the batch has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Array = np.ndarray[Any, Any]

#: Widths for which numpy's `take` copies a row by a few instructions; rows must then be aligned to their width.
_QUICK = frozenset({1, 2, 4, 8, 16, 32})


#: Rows that are wider are copied one by one: a view of all addresses would have more bytes than numpy counts.
WIDEST = 16 << 10
#: Bytes of a stretch on average from which on stretches are copied one by one.
_LONG = 16 << 10
#: Just below what glibc always gives back.
_AS_LARGE_AS = 31 << 20


class _Stretch:
    """What numpy asks of an object that is memory."""

    def __init__(self, start: int, width: int, step: int, rows: int) -> None:
        self.__array_interface__ = {
            "data": (start, True),
            "shape": (rows,),
            "strides": (step,),
            "typestr": f"|V{width}",
            "version": 3,
        }


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next batch, instead of giving it back to the system each time.

    To touch new memory costs more than to decode what goes into it. glibc takes the largest block that was freed so
    far for a size that comes again (mallopt(3), M_MMAP_THRESHOLD), and this is one, of which no page is ever touched.
    """
    np.empty(_AS_LARGE_AS, np.uint8)


def address(array: Array) -> int:
    """Where an array begins."""
    start: int = array.__array_interface__["data"][0]
    return start


class Places:
    """Where pieces begin whose rows have one width, by the numbers of the pieces.

    Args:
        width: bytes of a row, up to WIDEST.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._shift = width.bit_length() - 1 if width in _QUICK else 0
        self._starts = np.zeros(64, np.int64)
        self._low = self._high = 0
        self._first = np.zeros(64, np.int64)  # of each piece: rows, or bytes, behind `_low`
        self._is_quick = width in _QUICK

    def keep(self, piece: int, start: int, size: int) -> None:
        """A piece of `size` bytes begins at an address; it is held by the caller for as long as rows are asked for."""
        if piece >= len(self._starts):
            more = np.zeros(piece + 1, np.int64)
            self._starts, self._first = np.concatenate([self._starts, more]), np.concatenate([self._first, more])
        self._starts[piece] = start
        self._is_quick = self._is_quick and not start & (self._width - 1)
        if not self._high or start < self._low:
            self._low = start
            self._first = (self._starts - start) >> self._shift if self._is_quick else self._starts - start
        self._high = max(self._high, start + size)
        self._first[piece] = (start - self._low) >> self._shift if self._is_quick else start - self._low

    def rows(self, pieces: Ints, rows: Ints) -> Array:
        """Rows by piece and row in the piece: uint8 [n * width], new memory."""
        if not len(rows) or not self._width:
            return np.empty(len(rows) * self._width, np.uint8)
        if self._is_quick:
            every = np.asarray(_Stretch(self._low, self._width, self._width, (self._high - self._low) // self._width))
            return np.take(every, self._first[pieces] + rows, mode="clip").view(np.uint8)
        if self._shift:
            return gather(self._starts[pieces] + rows * self._width, self._width)
        every = np.asarray(_Stretch(self._low, self._width, 1, self._high - self._low - self._width + 1))
        return every[self._first[pieces] + rows * self._width].view(np.uint8)


def gather(addresses: Ints, width: int) -> Array:
    """Rows of `width` bytes, up to WIDEST, from where they lie: uint8 [rows * width], new memory.

    The caller holds the memory behind each of the addresses, of `width` bytes, for as long as this runs.
    """
    if not len(addresses) or not width:
        return np.empty(len(addresses) * width, np.uint8)
    low, high = int(addresses.min()), int(addresses.max())
    if width in _QUICK and not np.bitwise_or.reduce(addresses) & (width - 1):
        rows = np.asarray(_Stretch(low, width, width, (high - low) // width + 1))
        return np.take(rows, (addresses - low) >> (width.bit_length() - 1), mode="clip").view(np.uint8)
    rows = np.asarray(_Stretch(low, width, 1, high - low + 1))
    return rows[addresses - low].view(np.uint8)


def joined(values: Sequence[memoryview], piece: Sequence[int], start: Sequence[int], stop: Sequence[int]) -> Array:
    """Stretches of bytes one after the other: uint8, new memory that may be written to.

    Args:
        values: the bytes of each piece.
        piece, start, stop: of each stretch.
    """
    parts = [values[i][low:high] for i, low, high in zip(piece, start, stop, strict=True)]
    if sum(map(len, parts)) < _LONG * len(parts):
        return np.frombuffer(bytearray().join(parts), np.uint8)
    whole, at = np.empty(sum(map(len, parts)), np.uint8), 0
    for part in parts:  # numpy lets other threads run meanwhile, which is worth a call for each
        whole[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    return whole
