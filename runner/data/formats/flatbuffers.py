"""Tables of FlatBuffers, in which Arrow says what its messages hold: only what is looked for is decoded.

Every position is checked against the bytes that are there. What pyarrow makes of a message is checked by itself; these
are read to know what it would cost.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

Ints = np.ndarray[tuple[int, int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Table:
    """A table in `data`, at a position. All its methods raise `struct.error` or ValueError where the bytes end."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The table that the bytes begin with."""
        return cls(data, _unpack("<I", data, 0))

    def number(self, field: int, code: str, default: int = 0) -> int:
        """A number; `code` is that of the module struct."""
        at = self._place(field)
        return default if at is None else _unpack("<" + code, self.data, at)

    def table(self, field: int) -> Table | None:
        """A table inside, or None."""
        at = self._place(field)
        return None if at is None else Table(self.data, at + _unpack("<I", self.data, at))

    def rows(self, field: int, words: int) -> Ints:
        """A vector of structs of so many 64-bit words: int64 [structs, words]."""
        at = self._place(field)
        if at is None:
            return np.empty((0, words), np.int64)
        at += _unpack("<I", self.data, at)
        count = _unpack("<I", self.data, at)
        if at + 4 + 8 * words * count > len(self.data):
            raise ValueError("a vector that goes on behind the end")
        return np.frombuffer(self.data, "<i8", count * words, at + 4).reshape(count, words)

    def _place(self, field: int) -> int | None:
        """Where a field lies; None if it is not there."""
        fields = self.at - _unpack("<i", self.data, self.at)
        if fields < 0 or 4 + 2 * field >= _unpack("<H", self.data, fields):
            return None
        offset = _unpack("<H", self.data, fields + 4 + 2 * field)
        return self.at + offset if offset else None


def _unpack(code: str, data: bytes, at: int) -> int:
    return int(struct.unpack_from(code, data, at)[0])
