"""Reads the rows of a mixture: a reader for each source, and their rows put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.files.fetch import Fetched
from runner.data.manifest import Manifest
from runner.data.stream import memory
from runner.data.stream.columns import picked
from runner.data.stream.mixing.order import MixedOrder
from runner.data.stream.order import Ints
from runner.data.stream.quarantine import Quarantine
from runner.data.stream.ragged import Ragged
from runner.data.stream.reader import Reader
from runner.data.stream.reading import Reading


class MixedReader:
    """Rows of a mixture by (lane, index), as `MixedEpoch.locate` gives them. Not for several threads at once.

    Args:
        readings: how each source is read.
        quarantines: what of each source is set aside; a source that is not named has none.

    Attributes:
        end: of no account: a mixture does not end where a source does.
        row_bytes, most_rows: as of `Reader`.
    """

    def __init__(
        self,
        manifests: Mapping[str, Manifest],
        order: MixedOrder,
        readings: Sequence[Reading],
        quarantines: Mapping[str, Quarantine],
    ) -> None:
        self._order = order
        parts = zip(order.schedule.names, order.orders, readings, strict=True)
        self._readers = [Reader(manifests[name], own, reading, quarantines.get(name)) for name, own, reading in parts]
        self._names = readings[0].columns
        self.row_bytes = max(reader.row_bytes for reader in self._readers)
        self.most_rows = min(reader.most_rows for reader in self._readers)
        self.end: int | None = None

    @property
    def rows_read(self) -> int:
        """Rows decoded so far."""
        return sum(reader.rows_read for reader in self._readers)

    @property
    def bytes_read(self) -> int:
        """Bytes decoded so far."""
        return sum(reader.bytes_read for reader in self._readers)

    @property
    def fetched(self) -> Fetched:
        """Of remote files so far."""
        return sum((reader.fetched for reader in self._readers), Fetched())

    def take(self, epoch: int, lanes: Ints, indexes: Ints) -> dict[str, Any]:
        """Rows by lane and index, in this order; column -> [n, ...]. See `Reader.take`.

        Args:
            epoch: of the mixture, which the indexes know already.
        """
        sources = self._order.source_of(lanes)
        found, where = [], []
        for source in np.unique(sources).tolist():
            mine = np.flatnonzero(sources == source)
            epochs, at = np.divmod(indexes[mine], self._order.orders[source].rows)
            own = lanes[mine] - self._order.first_lanes[source]
            for one in np.unique(epochs).tolist():
                here = epochs == one
                found.append(self._readers[source].take(one, own[here], at[here]))
                where.append(mine[here])
        return {name: joined([part[name] for part in found], where) for name in self._names}

    def forget(self, age: int) -> None:
        """Closes the blocks that have not been touched for long.

        Args:
            age: for a mixture's lanes together; a source that has few of its rows is asked more seldom.
        """
        for reader, own in zip(self._readers, self._order.orders, strict=True):
            reader.forget(2 + 2 * own.lanes)

    def stop(self) -> None:
        """Decodes no more; a `take` in another thread ends with CancelledError."""
        for reader in self._readers:
            reader.stop()

    def rest(self) -> None:
        """Lets go of open blocks and files. The next call of `take` may be for any place."""
        for reader in self._readers:
            reader.rest()

    @property
    def open_rows(self) -> int:
        """Rows of all open blocks."""
        return sum(reader.open_rows for reader in self._readers)


def joined(parts: Sequence[Any], where: Sequence[Ints]) -> Any:
    """The values of a column from several takes as one.

    Args:
        parts: of one kind: numpy [n, ...], Ragged, Arrow arrays, or lists of values.
        where: of each part, which of all rows its rows are.
    """
    if len(parts) == 1:
        return parts[0]
    rows = sum(map(len, where))
    if isinstance(parts[0], np.ndarray):
        made = np.empty((rows, *parts[0].shape[1:]), parts[0].dtype)
        for part, at in zip(parts, where, strict=True):
            made[at] = part
        return made
    if isinstance(parts[0], list):
        values: list[Any] = [None] * rows
        for part, at in zip(parts, where, strict=True):
            for place, value in zip(at.tolist(), part, strict=True):
                values[place] = value
        return values
    piece, row = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for number, at in enumerate(where):
        piece[at], row[at] = number, np.arange(len(at))
    if isinstance(parts[0], pa.Array):
        return picked(parts, piece, row, parts[0].type)
    return _ragged(parts, piece, row)


def _ragged(parts: Sequence[Ragged], piece: Ints, row: Ints) -> Ragged:
    first = parts[0].values
    width = first.dtype.itemsize * int(np.prod(first.shape[1:], dtype=np.int64))
    bounds = [part.offsets for part in parts]
    base = np.cumsum([0, *(len(one) for one in bounds)])[:-1]
    every = np.concatenate(bounds)
    starts, stops = every[base[piece] + row], every[base[piece] + row + 1]
    offsets = np.zeros(len(piece) + 1, np.int64)
    np.cumsum(stops - starts, out=offsets[1:])
    views = [np.ascontiguousarray(part.values).reshape(-1).view(np.uint8).data for part in parts]
    flat = memory.joined(views, piece.tolist(), (starts * width).tolist(), (stops * width).tolist())
    valid = None
    if any(part.valid is not None for part in parts):
        known = [np.ones(len(part), bool) if part.valid is None else part.valid for part in parts]
        valid = np.concatenate(known)[(np.cumsum([0, *map(len, known)])[:-1])[piece] + row]
    return Ragged(flat.view(first.dtype).reshape(-1, *first.shape[1:]), offsets, parts[0].kind, valid)
