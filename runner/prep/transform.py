"""Calls of the user's transform: batches in, tables per sink out, and the very row when it raises."""

from __future__ import annotations

import bdb
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from runner.code import extras
from runner.code.references import resolve, user_line, user_trace
from runner.errors import DataError, UserCodeError, listed, suggest
from runner.prep.batches import BATCHES, WrongReturn, to_format, to_mask, to_table
from runner.spec import Prep


class Raised(Exception):
    """The user's code raised `cause` for a batch; the caller finds the row and says where."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass
class Applied:
    """What became of a batch.

    Args:
        tables: sink key -> rows out; sinks without any are absent.
        processed, filtered: rows in; together with `bad` all rows of the batch.
        bad: (row in the batch, what was raised) of the rows set aside.
    """

    tables: dict[str, list[pa.Table]] = field(default_factory=dict)
    processed: int = 0
    filtered: int = 0
    bad: list[tuple[int, Exception]] = field(default_factory=list)

    def add(self, other: Applied, offset: int) -> None:
        """Take over what became of the rows from `offset` on."""
        for sink, tables in other.tables.items():
            self.tables.setdefault(sink, []).extend(tables)
        self.processed += other.processed
        self.filtered += other.filtered
        self.bad.extend((row + offset, error) for row, error in other.bad)


class Transform:
    """The stage's `fn` and `keep`, ready to be called. A class is made here, once.

    Args:
        stage: its functions may be references.
        config: the job's config, given to every call (to the constructor of a class).

    Raises:
        UserCodeError: the class cannot be made, or the code cannot be loaded.
        MissingPackage: batches of pandas are asked for, and it is not installed.
    """

    def __init__(self, stage: Prep, config: Any, inline: bool = False) -> None:
        self._stage, self._config = stage, config
        self._where = f"Prep '{stage.name}'"
        if stage.batch_format == "pandas":
            extras.need("pandas", f"{self._where} on {os.uname().nodename}")
        self._several = not isinstance(stage.sink, str)
        function = resolve(stage.fn)
        self._keep = resolve(stage.keep) if stage.keep is not None else None
        self._instance = inspect.isclass(function)
        self._fn = self._make(function, inline) if self._instance else function

    def _make(self, cls: Any, inline: bool) -> Any:
        try:
            return cls(self._config)
        except Exception as error:
            if inline:
                raise
            message = f"{self._where}: {user_line(error)} when {cls.__name__}(config) was made"
            raise UserCodeError(message, trace=user_trace(error)) from None

    # -- one batch -----------------------------------------------------------------------------------------------

    def apply(self, batch: pa.RecordBatch) -> Applied:
        """Call the user's code on a batch.

        Raises:
            Raised: it raised.
            DataError: it returned something that is no batch, or keys that are no sinks.
            Uncarried: a value has no place in the form that the stage asks for.
        """
        kept = batch
        given = to_format(batch, self._stage.batch_format)
        if self._keep is not None:
            kept = self._filtered(batch, given)
            if kept.num_rows == 0:
                return Applied(filtered=batch.num_rows)
            if kept.num_rows < batch.num_rows:
                given = to_format(kept, self._stage.batch_format)
        returned = self._call(self._fn, given, *(() if self._instance else (self._config,)))
        return Applied(self._tables(returned, batch.schema), kept.num_rows, batch.num_rows - kept.num_rows)

    def apply_each(self, batch: pa.RecordBatch) -> Applied:
        """As `apply`, but rows that raise are set aside: halves are tried until the rows are found."""
        try:
            return self.apply(batch)
        except Raised as raised:
            if batch.num_rows == 1:
                return Applied(bad=[(0, raised.cause)])
        half = batch.num_rows // 2
        result = self.apply_each(batch.slice(0, half))
        result.add(self.apply_each(batch.slice(half)), half)
        return result

    def first_bad(self, batch: pa.RecordBatch) -> tuple[int, Exception] | None:
        """The first row that raises by itself and what it raises, for a batch that raised; None if none does."""
        low, high = 0, batch.num_rows
        while high - low > 1:
            middle = (low + high) // 2
            if self._raises(batch.slice(low, middle - low)) is not None:
                high = middle
            elif self._raises(batch.slice(middle, high - middle)) is not None:
                low = middle
            else:
                return None
        error = self._raises(batch.slice(low, 1))
        return None if error is None else (low, error)

    def _raises(self, batch: pa.RecordBatch) -> Exception | None:
        try:
            self.apply(batch)
        except Raised as raised:
            return raised.cause
        return None

    def _call(self, function: Any, *args: Any) -> Any:
        try:
            returned = function(*args)
            return list(returned) if inspect.isgenerator(returned) else returned
        except bdb.BdbQuit:  # the user left the debugger
            raise
        except Exception as error:
            raise Raised(error) from error

    # -- what came back ------------------------------------------------------------------------------------------

    def _filtered(self, batch: pa.RecordBatch, given: Any) -> pa.RecordBatch:
        returned = self._call(self._keep, given, self._config)
        try:
            mask = to_mask(returned, batch.num_rows)
        except WrongReturn as wrong:
            raise DataError(
                f"keep returned {wrong.found}", allowed="one boolean per row", todo=wrong.todo, where=self._where
            ) from None
        return batch if mask.all() else batch.filter(pa.array(np.asarray(mask)))

    def _tables(self, returned: Any, given: pa.Schema) -> dict[str, list[pa.Table]]:
        if not self._several:
            table = self._table(returned, "", given)
            return {} if table is None else {"": [table]}
        keys = list(self._stage.sinks)
        if returned is None:
            return {}
        if not isinstance(returned, Mapping):
            raise DataError(
                f"fn returned a {type(returned).__name__}, but the stage has {len(keys)} sinks",
                allowed=f"a dict with keys out of {listed(keys)}",
                todo="return {sink key: batch}",
                where=self._where,
            )
        tables = {}
        for key, value in returned.items():
            if key not in keys:
                raise DataError(
                    f"fn returned the sink key {key!r}",
                    allowed=listed(keys),
                    todo=suggest(str(key), keys) or "return a batch per sink key",
                    where=self._where,
                )
            table = self._table(value, key, given)
            if table is not None:
                tables[key] = [table]
        return tables

    def _table(self, value: Any, sink: str, given: pa.Schema) -> pa.Table | None:
        try:
            return to_table(value, given)
        except WrongReturn as wrong:
            place = f" for sink '{sink}'" if sink else ""
            raise DataError(
                f"fn returned{place} {wrong.found}", allowed=BATCHES, todo=wrong.todo, where=self._where
            ) from None
