"""What one task of a stage does in its worker: read, transform, write, record."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from runner.code.references import user_line, user_trace
from runner.data.manifest import UNCOUNTED
from runner.data.results import Results, task_folder
from runner.data.values.python import Uncarried
from runner.errors import DataError, UserCodeError
from runner.prep import trace as prep_trace
from runner.prep.batches import cut
from runner.prep.outputs import Outputs
from runner.prep.quarantine import Quarantine, too_many
from runner.prep.reuse import code_root, versions_of
from runner.prep.task_input import TaskInput
from runner.prep.tasks import Task
from runner.prep.transform import Applied, Raised, Transform
from runner.spec import Prep
from runner.untrusted.names import TASK
from runner.worker.scope import Scope


@dataclasses.dataclass
class Work:
    """A stage at work: picklable, and what it makes for itself stays in the process that made it.

    Args:
        stage: which.
        code: its code key.
        base, options, schema: of the input's manifest.
        rows: of the input, or UNCOUNTED.
        modules: labels of those whose code counts by the stage's code key.
        named: dependencies that are known from the code.
        packages: top-level names of what the code imports from elsewhere.
        inside: names of those files of the input that lie in the project.
        scope: of the run; another process attaches to it by its payload.
    """

    stage: Prep
    code: str
    base: str
    options: Mapping[str, Any]
    schema: pa.Schema
    rows: int
    modules: frozenset[str]
    named: Mapping[str, str]
    packages: frozenset[str]
    inside: frozenset[str]
    scope: Scope

    def __getstate__(self) -> dict[str, Any]:
        kept = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**kept, "scope": (type(self.scope), self.scope.payload())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, payload = state["scope"]
        self.__dict__.update({**state, "scope": kind.attach(payload)})

    @functools.cached_property
    def transform(self) -> Transform:
        """The user's code, loaded once per process and stage."""
        return Transform(self.stage, self.scope.config, inline=self.scope.inline)

    @property
    def where(self) -> str:
        """How errors name the stage."""
        return f"Prep '{self.stage.name}'"

    @property
    def most_bad(self) -> float:
        """Rows that may be set aside before the stage is certain to fail."""
        return float("inf") if self.rows == UNCOUNTED else self.stage.max_quarantine * self.rows


def run_task(work: Work, task: Task) -> dict[str, Any]:
    """Read, transform, write and record one task.

    Returns:
        The record: key, shards, rows_in, processed, filtered, quarantined, bytes_in, seconds, first_error, quarantine
        (key of the rows set aside, or None), sinks: sink key -> {files, schema of an empty sink or None}, deps (what
        its process has read, see `code.dependencies`), loaded (top-level names), packages (their versions) and run.

    Raises:
        UserCodeError: the user's code raised (inline: what it raised).
        DataError: unreadable input, a wrong return, or schemas that do not fit together.
    """
    started = time.monotonic()
    run = _Run(work, task)
    watch = prep_trace.begin()
    at_work = watch.at_work(work.scope.store, run.input.urls, work.inside)
    with at_work, contextlib.closing(run.input.rows()) as rows:
        for batch in cut(rows, work.stage.batch_size, run.input.most_bytes, f"{work.where}, {task}"):
            run.take(batch)
        record = run.finish()
    record["deps"], record["loaded"] = {**work.named, **watch.deps(code_root(), work.modules)}, watch.packages()
    record["packages"] = versions_of(work.packages, record["loaded"])
    record["run"] = work.scope.run_id
    record["seconds"] = round(time.monotonic() - started, 3)
    Results(work.scope.store).publish_task(work.code, task.key, record, task.replace)
    return record


class _Run:
    """One task under way."""

    def __init__(self, work: Work, task: Task) -> None:
        self._work, self._task = work, task
        self.input = TaskInput(task, work.base, work.options, work.schema)
        self._outputs = Outputs(work.stage, work.scope, task)
        self._quarantine = Quarantine(self.input)
        self._counts = Applied()
        self._row = 0  # of the task: how many went through the transform

    def take(self, batch: pa.RecordBatch) -> None:
        """Transform a batch and write what is complete."""
        applied = self._apply(batch)
        for key, tables in applied.tables.items():
            for table in tables:
                self._outputs.add(key, table, self._row)
        self._counts.processed += applied.processed
        self._counts.filtered += applied.filtered
        for row, error in applied.bad:
            self._quarantine.add(self._row + row, error, batch.slice(row, 1))
        if len(self._quarantine) > self._work.most_bad:
            raise too_many(self._work.stage, len(self._quarantine), self._work.rows, *self._quarantine.first)
        self._row += batch.num_rows

    def _apply(self, batch: pa.RecordBatch) -> Applied:
        try:
            return self._called(batch)
        except Uncarried as wrong:
            form = self._work.stage.batch_format
            raise DataError(
                f"column '{wrong.column}' of type {wrong.kind}: batch_format='{form}' cannot hold {wrong.why}",
                allowed="values that the form has",
                todo="use batch_format='arrow', or cast the column in another Prep",
                where=f"{self._work.where}, {self._span(batch)}",
            ) from wrong.__cause__
        except DataError as wrong:
            where = f"{wrong.where}, {self._span(batch)}"
            raise DataError(wrong.found, allowed=wrong.allowed, todo=wrong.todo, where=where) from wrong.__cause__

    def _called(self, batch: pa.RecordBatch) -> Applied:
        transform = self._work.transform
        if self._work.stage.max_quarantine:
            return transform.apply_each(batch)
        try:
            return transform.apply(batch)
        except Raised as raised:
            cause = raised.cause
        found = transform.first_bad(batch)
        if self._work.scope.inline:
            place = self.input.place(self._row + found[0]) if found else self._span(batch)
            cause.add_note(f"in stage '{self._work.stage.name}', {place}")
            raise cause
        if found is None:
            message = f"{self._work.where}: {user_line(cause)} at {self._span(batch)}, which raise only together"
            raise UserCodeError(message, trace=user_trace(cause))
        row, error = found
        message = f"{self._work.where}: {user_line(error)} at {self.input.place(self._row + row)}"
        raise UserCodeError(message, trace=user_trace(error))

    def _span(self, batch: pa.RecordBatch) -> str:
        return self.input.span(self._row, batch.num_rows)

    def finish(self) -> dict[str, Any]:
        """Write what is left; the record of the task."""
        sinks, bad = self._outputs.finish(), self._quarantine
        key = f"{task_folder(self._work.code)}/{TASK(self._task.key)}.quarantine.parquet"
        if bad:
            bad.write(self._work.scope.store, key, self._work.scope.scratch)
        first_error, first_trace = bad.first
        return {
            "key": self._task.key,
            "shards": [part.shard.path for part in self._task.parts],
            "rows_in": self._row,
            "processed": self._counts.processed,
            "filtered": self._counts.filtered,
            "quarantined": len(bad),
            "bytes_in": self._task.bytes_in,
            "quarantine": key if bad else None,
            "first_error": first_error,
            "first_trace": first_trace,
            "sinks": sinks,
        }
