"""What one task of a stage does in its worker: read, transform, write, record."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from runner.capture import user_line, user_trace
from runner.data.catalog import Catalog, task_folder
from runner.data.formats import read
from runner.data.limits import limits
from runner.data.manifest import UNCOUNTED
from runner.data.python_values import Uncarried
from runner.data.writer import write_file
from runner.errors import DataError, UserCodeError
from runner.names import TASK
from runner.spec import Prep
from runner.worker import prep_trace
from runner.worker.prep_batches import cut
from runner.worker.prep_files import Gather, OutputFile, slug, store_table, temporary
from runner.worker.prep_reuse import code_root, versions_of
from runner.worker.prep_schema import Drift, Unwritable, plain
from runner.worker.prep_tasks import Part, Task
from runner.worker.prep_user import Applied, Raised, Transform
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
        its process has read, see `code_deps`), loaded (top-level names), packages (their versions) and run.

    Raises:
        UserCodeError: the user's code raised (inline: what it raised).
        DataError: unreadable input, a wrong return, or schemas that do not fit together.
    """
    started = time.monotonic()
    run = _Run(work, task)
    watch = prep_trace.begin()
    with watch.at_work(work.scope.store, run.inputs, work.inside):
        for batch in cut(run.rows(), work.stage.batch_size, run.most_bytes, f"{work.where}, {task}"):
            run.take(batch)
        record = run.finish()
    record["deps"], record["loaded"] = {**work.named, **watch.deps(code_root(), work.modules)}, watch.packages()
    record["packages"] = versions_of(work.packages, record["loaded"])
    record["run"] = work.scope.run_id
    record["seconds"] = round(time.monotonic() - started, 3)
    Catalog(work.scope.store).publish_task(work.code, task.key, record, task.replace)
    return record


class _Run:
    """One task under way."""

    def __init__(self, work: Work, task: Task) -> None:
        self._work, self._task = work, task
        self._origins: list[tuple[int, Part]] = []  # (first row in the task, part), as they are read
        self._sinks = {key: Gather() for key in work.stage.sinks}
        self._files: dict[str, list[OutputFile]] = {key: [] for key in work.stage.sinks}
        self._bad: list[tuple[int, str, str]] = []  # row of the task, what was raised, traceback
        self._bad_rows: list[pa.RecordBatch] = []
        self._counts = Applied()
        self._row = 0  # of the task: how many went through the transform
        self._first_rows: dict[str, int] = {}

    @property
    def inputs(self) -> list[str]:
        """The URLs of the files that it reads."""
        return [self._url(part) for part in self._task.parts]

    @property
    def most_bytes(self) -> int:
        """That a batch may take."""
        in_files = sum(part.shard.units[i].within(part.shard.size) for part in self._task.parts for i in part.units)
        return limits().at_once(in_files)

    def rows(self) -> Iterator[pa.RecordBatch]:
        """The input, in order."""
        row = 0
        for part in self._task.parts:
            self._origins.append((row, part))
            for batch in read(self._url(part), part.shard, part.units, None, self._work.options, self._work.schema):
                row += batch.num_rows
                yield batch

    def take(self, batch: pa.RecordBatch) -> None:
        """Transform a batch and write what is complete."""
        applied = self._apply(batch)
        for key, tables in applied.tables.items():
            for table in tables:
                self._add(key, table)
        self._counts.processed += applied.processed
        self._counts.filtered += applied.filtered
        for row, error in applied.bad:
            self._bad.append((self._row + row, user_line(error), user_trace(error)))
            self._bad_rows.append(batch.slice(row, 1))
        if len(self._bad) > self._work.most_bad:
            row, line, trace = self._bad[0]
            raise too_many(self._work.stage, len(self._bad), self._work.rows, self._said(row, line), trace)
        self._row += batch.num_rows

    def _apply(self, batch: pa.RecordBatch) -> Applied:
        try:
            return self._called(batch)
        except Uncarried as wrong:
            form = self._work.stage.batch_format
            raise DataError(
                f"column '{wrong.column}' of type {wrong.kind}: batch_format='{form}' cannot hold {wrong.why}",
                allowed="values that the form has", todo="use batch_format='arrow', or cast the column in another Prep",
                where=f"{self._work.where}, {self._span(batch)}",
            ) from wrong.__cause__  # fmt: skip
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
            place = self._place(self._row + found[0]) if found else self._span(batch)
            cause.add_note(f"in stage '{self._work.stage.name}', {place}")
            raise cause
        if found is None:
            message = f"{self._work.where}: {user_line(cause)} at {self._span(batch)}, which raise only together"
            raise UserCodeError(message, trace=user_trace(cause))
        row, error = found
        raise UserCodeError(
            f"{self._work.where}: {self._said(self._row + row, user_line(error))}", trace=user_trace(error)
        )

    def _add(self, key: str, table: pa.Table) -> None:
        try:
            for piece in self._sinks[key].add(table):
                self._write(key, piece)
        except Drift as drift:
            sink = self._work.stage.sinks[key]
            raise DataError(
                f"schema drift in the column '{drift.field}' of '{sink}': {drift.left} up to row {self._row - 1}, "
                f"{drift.right} from there on (rows of {self._task})",
                allowed="one type for a column in every batch",
                todo=f"make '{drift.field}' the same type in every batch that fn returns",
                where=self._work.where,
            ) from None

    def _write(self, key: str, piece: pa.Table) -> None:
        first = self._task.parts[0]
        number = len(self._files[key])
        file = store_table(
            piece,
            self._work.scope.store,
            self._work.stage.sinks[key],
            f"{slug(first.shard.path)}-{first.units[0]:05d}-{self._task.key}-{number:03d}",
            folder=self._work.scope.data_folder,
            scratch=self._work.scope.scratch,
            source=str(self._task),
            where=self._work.where,
        )
        self._files[key].append(file)

    def finish(self) -> dict[str, Any]:
        """Write what is left; the record of the task."""
        for key, gather in self._sinks.items():
            for piece in gather.rest():
                self._write(key, piece)
        sinks = {
            key: {"files": [file.to_json() for file in files], "columns": self._empty_schema(key)}
            for key, files in self._files.items()
        }
        return {
            "key": self._task.key,
            "shards": [part.shard.path for part in self._task.parts],
            "rows_in": self._row,
            "processed": self._counts.processed,
            "filtered": self._counts.filtered,
            "quarantined": len(self._bad),
            "bytes_in": self._task.bytes_in,
            "quarantine": self._write_bad() if self._bad else None,
            "first_error": self._said(*self._bad[0][:2]) if self._bad else None,
            "first_trace": self._bad[0][2] if self._bad else None,
            "sinks": sinks,
        }

    def _empty_schema(self, key: str) -> dict[str, str] | None:
        schema = self._sinks[key].schema
        return None if schema is None else {field.name: str(field.type) for field in schema}

    def _write_bad(self) -> str:
        """The rows set aside, as they came in, with what they raised."""
        places = [self._locate(row) for row, _, _ in self._bad]
        table = pa.table(
            {
                "shard": [url for url, _ in places],
                "row": pa.array([row for _, row in places], pa.int64()),
                "error": [line for _, line, _ in self._bad],
                "trace": [trace for _, _, trace in self._bad],
                **_input_column(pa.concat_batches(self._bad_rows)),
            }
        )
        key = f"{task_folder(self._work.code)}/{TASK(self._task.key)}.quarantine.parquet"
        with temporary(self._work.scope.scratch) as local:
            write_file(local, table)
            self._work.scope.store.put_file(key, local)
        return key

    # -- places --------------------------------------------------------------------------------------------------

    def _url(self, part: Part) -> str:
        return f"{self._work.base}/{part.shard.path}"

    def _locate(self, row: int) -> tuple[str, int]:
        """(URL of the shard, row in the shard) of a row of the task."""
        first, part = next(origin for origin in reversed(self._origins) if origin[0] <= row)
        return self._url(part), row - first + self._rows_before(part)

    def _rows_before(self, part: Part) -> int:
        """Rows of the shard's units before the part; lines that nobody counted are counted now."""
        before = tuple(range(part.units[0]))
        counts = [part.shard.units[i].rows for i in before]
        if UNCOUNTED not in counts:
            return sum(counts)
        batches = read(self._url(part), part.shard, before, None, self._work.options, self._work.schema)
        return sum(batch.num_rows for batch in batches)

    def _place(self, row: int) -> str:
        url, number = self._locate(row)
        return f"row {number} of {url}"

    def _span(self, batch: pa.RecordBatch) -> str:
        url, number = self._locate(self._row)
        return f"the {batch.num_rows} rows from row {number} of {url} on"

    def _said(self, row: int, line: str) -> str:
        return f"{line} at {self._place(row)}"


def _input_column(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    """The column `input` of rows set aside, without what Parquet cannot hold."""
    kept = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        try:
            kept[name] = plain(pa.table({name: column})).column(0).combine_chunks()
        except Unwritable:
            continue
    return {"input": pa.StructArray.from_arrays(list(kept.values()), list(kept))} if kept else {}


def too_many(stage: Prep, bad: int, rows: int, first: str, trace: str) -> UserCodeError:
    """The error for more rows set aside than the stage allows."""
    share = f" of {rows} ({bad / rows:.2%})" if rows > 0 else ""
    return UserCodeError(
        f"Prep '{stage.name}': at least {bad} rows{share} raised, more than max_quarantine="
        f"{stage.max_quarantine:g} allows; the first: {first}",
        trace=trace,
    )
