"""Rows of different length in one buffer: strings, bytes and lists of numbers, without an object for each value."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: What a row is given as.
KINDS = ("text", "bytes", "list")


class Ragged:
    """A column of a batch whose rows differ in length: row i is ``values[offsets[i]:offsets[i + 1]]``.

    Indexing and iterating give each row as a value of Python's where it is text (str) or bytes, and as a view of
    `values` where it is a list; a row that is null is None. `tolist` gives all of them.

    Args:
        values: torch tensor or numpy array [sum of lengths, ...]; uint8 for text and bytes.
        offsets: of the same library, int64 [rows + 1], from 0 up.
        kind: 'text' (UTF-8), 'bytes' or 'list'.
        valid: numpy bool [rows], False where a row is null (its length is 0); None where none is.
        bounds: the offsets as a numpy array, where `offsets` is on a device.
    """

    __slots__ = ("_bounds", "kind", "offsets", "valid", "values")
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, values: Any, offsets: Any, kind: str = "list", valid: Array | None = None, bounds: Array | None = None
    ) -> None:
        self.values, self.offsets, self.kind, self.valid = values, offsets, kind, valid
        self._bounds = _host(offsets) if bounds is None else bounds  # where rows are is known without a device

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            start, stop, step = row.indices(len(self))
            if step != 1:
                raise IndexError(f"a step of {step}; rows of a Ragged are taken one by one, or in a stretch")
            return self.rows(start, max(start, stop))
        count = len(self)
        if not -count <= row < count:
            raise IndexError(f"row {row} of {count}")
        row = int(row) % count
        if self.valid is not None and not self.valid[row]:
            return None
        part = self.values[int(self._bounds[row]) : int(self._bounds[row + 1])]
        return part if self.kind == "list" else _value(part, self.kind)

    def __iter__(self) -> Iterator[Any]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> Any:
        if isinstance(other, Ragged) or (isinstance(other, list | tuple) and self.kind != "list"):
            return self.tolist() == (other.tolist() if isinstance(other, Ragged) else list(other))
        return NotImplemented

    def __repr__(self) -> str:
        return f"Ragged({self.kind}, {len(self)} rows, {len(self.values)} values of {self.values.dtype})"

    def rows(self, start: int, stop: int) -> Ragged:
        """Rows [start, stop), whose values are a view."""
        offsets = self.offsets[start : stop + 1]
        low, high = int(self._bounds[start]), int(self._bounds[stop])
        valid = None if self.valid is None else self.valid[start:stop]
        return Ragged(self.values[low:high], offsets - low if low else offsets, self.kind, valid)

    @property
    def lengths(self) -> Any:
        """Values of each row: int64 [rows]."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def nbytes(self) -> int:
        """Bytes of values and offsets."""
        return int(self.values.nbytes) + int(self.offsets.nbytes)

    def tolist(self) -> list[Any]:
        """Each row as a value of Python's: str, bytes, list, or None."""
        if self.kind == "list":
            return [None if row is None else row.tolist() for row in self]
        data = memoryview(_host(self.values))
        bounds = self._bounds.tolist()
        found = [bytes(data[low:high]) for low, high in itertools.pairwise(bounds)]
        given: list[Any] = [value.decode() for value in found] if self.kind == "text" else found
        if self.valid is not None:
            given = [value if valid else None for value, valid in zip(given, self.valid.tolist(), strict=True)]
        return given

    def to(self, device: Any, non_blocking: bool = False) -> Ragged:
        """The column on another device if it is lists; text and bytes are of use to the processor alone."""
        if self.kind != "list":
            return self
        values, offsets = (part.to(device, non_blocking=non_blocking) for part in (self.values, self.offsets))
        return Ragged(values, offsets, self.kind, self.valid, self._bounds)

    def pin_memory(self, device: Any = None) -> Ragged:
        """The column in memory from which a GPU copies by itself (a DataLoader with `pin_memory` asks for it)."""
        return Ragged(self.values.pin_memory(), self.offsets.pin_memory(), self.kind, self.valid)

    def tensors(self, torch: Any) -> Ragged:
        """The column of numpy's arrays as one of tensors, without a copy."""
        return Ragged(torch.from_numpy(self.values), torch.from_numpy(self.offsets), self.kind, self.valid)


def _host(values: Any) -> Any:
    return values if isinstance(values, np.ndarray) else values.cpu().numpy()


def _value(part: Any, kind: str) -> str | bytes:
    data = _host(part).tobytes()
    return data.decode() if kind == "text" else data
