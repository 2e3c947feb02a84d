"""What one task reads, and where in the data each of its rows came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from runner.data.formats.formats import read
from runner.data.limits import limits
from runner.data.manifest import UNCOUNTED
from runner.prep.tasks import Part, Task


class TaskInput:
    """The rows of a task, numbered from 0.

    Args:
        base, options, schema: of the input's manifest.
    """

    def __init__(self, task: Task, base: str, options: Mapping[str, Any], schema: pa.Schema) -> None:
        self._task, self._base, self._options, self._schema = task, base, options, schema
        self._begun: list[tuple[int, Part]] = []  # (its first row, part), as they are read

    @property
    def urls(self) -> list[str]:
        """Of the files that are read."""
        return [self._url(part) for part in self._task.parts]

    @property
    def most_bytes(self) -> int:
        """That a batch may take."""
        in_files = sum(part.shard.units[i].within(part.shard.size) for part in self._task.parts for i in part.units)
        return limits().at_once(in_files)

    def rows(self) -> Iterator[pa.RecordBatch]:
        """All of them, in order."""
        row = 0
        for part in self._task.parts:
            self._begun.append((row, part))
            for batch in self._read(part, part.units):
                row += batch.num_rows
                yield batch

    def locate(self, row: int) -> tuple[str, int]:
        """(URL of the shard, row in the shard) of a row of the task."""
        first, part = next(begun for begun in reversed(self._begun) if begun[0] <= row)
        return self._url(part), row - first + self._rows_before(part)

    def place(self, row: int) -> str:
        """Where a row is, in words."""
        url, number = self.locate(row)
        return f"row {number} of {url}"

    def span(self, row: int, rows: int) -> str:
        """Where so many rows from one on are, in words."""
        url, number = self.locate(row)
        return f"the {rows} rows from row {number} of {url} on"

    def _rows_before(self, part: Part) -> int:
        """Rows of the shard's units before the part; lines that nobody counted are counted now."""
        before = tuple(range(part.units[0]))
        counts = [part.shard.units[i].rows for i in before]
        if UNCOUNTED not in counts:
            return sum(counts)
        return sum(batch.num_rows for batch in self._read(part, before))

    def _read(self, part: Part, units: tuple[int, ...]) -> Iterator[pa.RecordBatch]:
        return read(self._url(part), part.shard, units, None, self._options, self._schema)

    def _url(self, part: Part) -> str:
        return f"{self._base}/{part.shard.path}"
