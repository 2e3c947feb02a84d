"""What a manifest is made of: a shard is a file, a unit is the piece of it that is read at once."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter
from typing import Any, overload

import numpy as np

#: Rows of a unit that nobody has counted yet (JSON lines, CSV and text before a scan).
UNCOUNTED = -1


@dataclass(frozen=True, slots=True)  # there may be millions
class Unit:
    """A Parquet row group, an Arrow record batch, a byte range of lines, a run of samples in tar, or a whole file.

    Args:
        index: position in the shard, from 0.
        rows: how many rows, or UNCOUNTED.
        bytes: an estimate of the size in memory once decoded, all columns.
        start: first byte in the file (0 where the format does not tell).
        length: bytes in the file.
    """

    index: int
    rows: int
    bytes: int
    start: int
    length: int

    def within(self, size: int) -> int:
        """Bytes in a file of `size` bytes: what says more of itself says too much."""
        return min(self.length, size)


_FIELDS = ("index", "rows", "bytes", "start", "length")
#: Units of a shard from which on they are kept as numbers alone.
MANY = 4


class PackedUnits(Sequence[Unit]):
    """The units of a shard that has many, as numbers: 40 bytes each, where objects would take 200.

    Args:
        numbers: of one unit after the other, in the order of the fields.
    """

    __slots__ = ("numbers",)

    def __init__(self, numbers: array[int]) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers) // len(_FIELDS)

    @overload
    def __getitem__(self, place: int) -> Unit: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Unit, ...]: ...
    def __getitem__(self, place: int | slice) -> Unit | tuple[Unit, ...]:
        if isinstance(place, slice):
            return tuple(self[i] for i in range(*place.indices(len(self))))
        at = len(_FIELDS) * range(len(self))[place]
        return Unit(*self.numbers[at : at + len(_FIELDS)])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedUnits):
            return self.numbers == other.numbers
        return tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def packed(units: Sequence[Unit]) -> Sequence[Unit]:
    """The units, in less memory where they are many."""
    if len(units) < MANY or isinstance(units, PackedUnits):
        return units
    try:
        return PackedUnits(array("q", [getattr(unit, name) for unit in units for name in _FIELDS]))
    except OverflowError:
        return units


def numbers_of(units: Sequence[Unit], name: str) -> list[int]:
    """One of the numbers of each unit."""
    if isinstance(units, PackedUnits):
        return units.numbers[_FIELDS.index(name) :: len(_FIELDS)].tolist()
    return [getattr(unit, name) for unit in units]


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of a dataset.

    Args:
        path: relative to the manifest's base, with '/'.
        size: bytes of the file.
        etag: hash of the content: 'md5:<hex>' where it can be known, 'sha256:<hex>' of what a Prep wrote (in an object
            store with its MD5 behind, which is the store's tag), else 'etag:<what the store says>'.
        format: parquet, ipc, jsonl, csv, text, tar or files.
        units: in file order; a tuple, or the like (see `packed`).
        partitions: hive partition columns of this file, name -> value as written in the path (None for Hive's
            default).
    """

    path: str
    size: int
    etag: str
    format: str
    units: Sequence[Unit]
    partitions: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all units, or UNCOUNTED if one of them is not counted."""
        counts = numbers_of(self.units, "rows")
        return UNCOUNTED if UNCOUNTED in counts else sum(counts)


class AllUnits(Sequence[tuple[int, Unit]]):
    """The units of several shards in their order, each with the position of its shard."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._ends = array("q", accumulate(len(shard.units) for shard in shards))

    def numbers(self, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """One of the numbers of each unit, int64 [units]."""
        found, get = array("q"), attrgetter(name)
        for shard in self._shards:
            if len(shard.units) == 1:  # nearly all of very many
                found.append(get(shard.units[0]))
            else:
                found.extend(numbers_of(shard.units, name))
        return np.array(found, np.int64)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[tuple[int, Unit]]:
        return ((i, unit) for i, shard in enumerate(self._shards) for unit in shard.units)

    @overload
    def __getitem__(self, place: int) -> tuple[int, Unit]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[int, Unit]]: ...
    def __getitem__(self, place: int | slice) -> tuple[int, Unit] | list[tuple[int, Unit]]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        at = place + len(self) if place < 0 else place
        if not 0 <= at < len(self):
            raise IndexError(place)
        shard = bisect_right(self._ends, at)
        units = self._shards[shard].units
        return shard, units[at - self._ends[shard] + len(units)]
