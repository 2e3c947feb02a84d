"""The files that one task writes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from runner.data.schemas import Drift
from runner.errors import DataError
from runner.prep.files import Gather, OutputFile, slug, store_table
from runner.prep.tasks import Task
from runner.spec import Prep
from runner.worker.scope import Scope


class Outputs:
    """What a task has for each sink: files that are written, and tables that wait until there are enough for one."""

    def __init__(self, stage: Prep, scope: Scope, task: Task) -> None:
        self._stage, self._scope, self._task = stage, scope, task
        self._waiting = {key: Gather() for key in stage.sinks}
        self._files: dict[str, list[OutputFile]] = {key: [] for key in stage.sinks}

    def add(self, key: str, table: pa.Table, row: int) -> None:
        """Take a table for a sink, and write what is complete.

        Args:
            row: of the task, from which on the table's rows came.

        Raises:
            DataError: its schema does not fit to that of the rows before.
        """
        try:
            for piece in self._waiting[key].add(table):
                self._write(key, piece)
        except Drift as drift:
            raise DataError(
                f"schema drift in the column '{drift.field}' of '{self._stage.sinks[key]}': {drift.left} up to row "
                f"{row - 1}, {drift.right} from there on (rows of {self._task})",
                allowed="one type for a column in every batch",
                todo=f"make '{drift.field}' the same type in every batch that fn returns",
                where=f"Prep '{self._stage.name}'",
            ) from None

    def finish(self) -> dict[str, Any]:
        """Write what is left. Sink key -> its files, and its columns where it has a schema; as JSON."""
        for key, gather in self._waiting.items():
            for piece in gather.rest():
                self._write(key, piece)
        return {
            key: {"files": [file.to_json() for file in files], "columns": self._columns(key)}
            for key, files in self._files.items()
        }

    def _write(self, key: str, piece: pa.Table) -> None:
        first = self._task.parts[0]
        number = len(self._files[key])
        file = store_table(
            piece,
            self._scope.store,
            self._stage.sinks[key],
            f"{slug(first.shard.path)}-{first.units[0]:05d}-{self._task.key}-{number:03d}",
            folder=self._scope.data_folder,
            scratch=self._scope.scratch,
            source=str(self._task),
            where=f"Prep '{self._stage.name}'",
        )
        self._files[key].append(file)

    def _columns(self, key: str) -> dict[str, str] | None:
        schema = self._waiting[key].schema
        return None if schema is None else {field.name: str(field.type) for field in schema}
