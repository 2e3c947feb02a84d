"""A unit, decoded once, whose rows are then read at random: kept in a temporary file that never has a
name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from runner.data.values.types import size_of
from runner.errors import DataError

#: Decoded at a time of a unit that is larger: what fits the caches, and is soon used again as memory.
PIECE_BYTES = 2 << 20


class Spill:
    """Record batches in a file; nothing is left of it when the process ends, however it ends.

    Raises:
        DataError: the temporary folder has no room.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        try:
            self._file = tempfile.TemporaryFile(prefix="runner-")  # noqa: SIM115 (it is kept)
            counts = _write(self._file, _cut(batches))
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"no room to spill a decoded unit ({error})",
                allowed="as much room in the temporary folder as the unit has bytes once decoded",
                todo="set TMPDIR to a larger disk, or write the data with smaller row groups",
                where=tempfile.gettempdir(),
            ) from error
        self._reader = pa.ipc.open_file(pa.PythonFile(self._file, mode="r"))
        self._ends = np.cumsum(counts)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of it, one at a time."""
        for i in range(len(self._ends)):
            yield self._reader.get_batch(i)

    def rows(self, start: int, stop: int) -> list[pa.RecordBatch]:
        """Rows [start, stop)."""
        found = []
        for i in range(int(np.searchsorted(self._ends, start, side="right")), len(self._ends)):
            begin = int(self._ends[i - 1]) if i else 0
            if begin >= stop:
                break
            low = max(start - begin, 0)
            found.append(self._reader.get_batch(i).slice(low, stop - begin - low))
        return found


def _cut(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """In pieces of some PIECE_BYTES: one is read as a whole for any row of it, and a page may have come out as one."""
    for batch in batches:
        rows = max(1, batch.num_rows * PIECE_BYTES // max(1, size_of(batch)))
        for start in range(0, max(1, batch.num_rows), rows):
            yield batch.slice(start, rows)


def _write(file: object, batches: Iterator[pa.RecordBatch]) -> list[int]:
    """Writes the batches. Returns the rows of each."""
    first = next(batches)
    counts = [first.num_rows]
    sink = pa.PythonFile(file, mode="w")  # not closed: that would close the file, and with it the data
    with pa.ipc.new_file(sink, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)
            counts.append(batch.num_rows)
    return counts
