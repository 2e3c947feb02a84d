"""A unit, decoded once, whose rows are then read at random: kept in a temporary file that never has a
name."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from runner.errors import DataError


class Spill:
    """Record batches in a mapped file; nothing is left of it when the process ends, however it ends.

    Raises:
        DataError: the temporary folder has no room.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        try:
            with tempfile.TemporaryFile(prefix="runner-") as file:
                _write(file, batches)
                file.flush()
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DataError(
                f"no room to spill a decoded unit ({error})",
                allowed="as much room in the temporary folder as the unit has bytes once decoded",
                todo="set TMPDIR to a larger disk, or write the data with smaller row groups",
                where=tempfile.gettempdir(),
            ) from error
        reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped)))
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def rows(self, start: int, stop: int) -> list[pa.RecordBatch]:
        """Rows [start, stop), without a copy."""
        found = []
        for i in range(int(np.searchsorted(self._ends, start, side="right")), len(self._batches)):
            begin = int(self._ends[i]) - self._batches[i].num_rows
            if begin >= stop:
                break
            low = max(start - begin, 0)
            found.append(self._batches[i].slice(low, stop - begin - low))
        return found


def _write(file: object, batches: Iterator[pa.RecordBatch]) -> None:
    first = next(batches)
    sink = pa.PythonFile(file, mode="w")  # not closed: that would close the file, and with it the data
    with pa.ipc.new_file(sink, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)
