"""What one task reads, and where in the data each of its rows came from."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pyarrow as pa

from runner.data.files.fetch import Promise
from runner.data.files.opening import is_remote
from runner.data.formats.formats import ahead, read
from runner.data.limits import limits
from runner.data.manifest import UNCOUNTED
from runner.data.stream.reading import FETCH_BYTES, LONGEST_WAIT_S
from runner.data.stream.requests import Requests
from runner.prep.tasks import Part, Task

#: Seconds that what is being asked for gets to end when a task does.
_PATIENCE_S = 10.0


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

    def rows(self) -> Generator[pa.RecordBatch]:
        """All of them, in order. Of remote files what comes next is on its way meanwhile."""
        remote = bool(self._task.parts) and is_remote(self._base, self._options)
        row = 0
        for part, batches in self._ahead() if remote else self._parts():
            self._begun.append((row, part))
            for batch in batches:
                row += batch.num_rows
                yield batch

    def _parts(self) -> Iterator[tuple[Part, Iterator[pa.RecordBatch]]]:
        for part in self._task.parts:
            yield part, self._read(part, part.units)

    def _ahead(self) -> Iterator[tuple[Part, Iterator[pa.RecordBatch]]]:
        units = [(part, unit) for part in self._task.parts for unit in part.units]
        requests = Requests(lambda number: self._ask(*units[number]), FETCH_BYTES, LONGEST_WAIT_S, _PATIENCE_S)

        first = asked = 0

        def read(part: Part, first: int) -> Iterator[pa.RecordBatch]:
            nonlocal asked
            for number, unit in enumerate(part.units, first):
                while asked < len(units) and (asked <= number or requests.has_room):
                    requests.ask(asked, _in_file(*units[asked]))
                    asked += 1
                requests.begin(number)
                requests.went_to(number, 1.0)
                yield from self._read(part, (unit,))

        try:
            for part in self._task.parts:
                yield part, read(part, first)
                first += len(part.units)
        finally:
            requests.forget()

    def _ask(self, part: Part, unit: int) -> Promise | None:
        return ahead(self._url(part), part.shard, unit, self._schema.names, self._options, self._schema)

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


def _in_file(part: Part, unit: int) -> int:
    """Bytes of a unit in its file."""
    return part.shard.units[unit].within(part.shard.size)
