"""Rows that raised and were set aside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from runner.code.references import user_line, user_trace
from runner.data.schemas import Unwritable, plain
from runner.data.writer import write_file
from runner.errors import UserCodeError
from runner.prep.files import temporary
from runner.prep.task_input import TaskInput
from runner.spec import Prep
from runner.store import Store


@dataclass(frozen=True)
class BadRow:
    """A row that raised.

    Args:
        row: of the task.
        line: what it raised; trace: with the user's frames.
        input: the row as it came in.
    """

    row: int
    line: str
    trace: str
    input: pa.RecordBatch


class Quarantine:
    """The rows of one task that were set aside."""

    def __init__(self, source: TaskInput) -> None:
        self._source = source
        self._rows: list[BadRow] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: int, error: BaseException, given: pa.RecordBatch) -> None:
        """Set a row of the task aside, given as it came in."""
        self._rows.append(BadRow(row, user_line(error), user_trace(error), given))

    @property
    def first(self) -> tuple[str | None, str | None]:
        """What the first one raised and where, and its traceback."""
        if not self._rows:
            return None, None
        bad = self._rows[0]
        return f"{bad.line} at {self._source.place(bad.row)}", bad.trace

    def write(self, store: Store, key: str, scratch: Path) -> None:
        """Keep the rows, as they came in, with what they raised."""
        places = [self._source.locate(bad.row) for bad in self._rows]
        table = pa.table(
            {
                "shard": [url for url, _ in places],
                "row": pa.array([row for _, row in places], pa.int64()),
                "error": [bad.line for bad in self._rows],
                "trace": [bad.trace for bad in self._rows],
                **_input_column(pa.concat_batches([bad.input for bad in self._rows])),
            }
        )
        with temporary(scratch) as local:
            write_file(local, table, md5=False)
            store.put_file(key, local)


def _input_column(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    """The column `input` of rows set aside, without what Parquet cannot hold."""
    kept = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        try:
            kept[name] = plain(pa.table({name: column})).column(0).combine_chunks()
        except Unwritable:
            continue
    return {"input": pa.StructArray.from_arrays(list(kept.values()), list(kept))} if kept else {}


def too_many(stage: Prep, bad: int, rows: int, first: str | None, trace: str | None) -> UserCodeError:
    """The error for more rows set aside than the stage allows."""
    share = f" of {rows} ({bad / rows:.2%})" if rows > 0 else ""
    return UserCodeError(
        f"Prep '{stage.name}': at least {bad} rows{share} raised, more than max_quarantine="
        f"{stage.max_quarantine:g} allows; the first: {first}",
        trace=trace or "",
    )
