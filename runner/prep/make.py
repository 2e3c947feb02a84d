"""``Dataset.make``: data that a function of the user's yields, brought into the store once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner.code.hashing import identify
from runner.code.references import resolve, user_line, user_trace
from runner.errors import DataError, UserCodeError
from runner.plan.keys import make_key
from runner.prep import trace as prep_trace
from runner.prep.batches import WrongReturn, to_table
from runner.prep.files import OutputFile, store_table
from runner.prep.publish import Sink, publish
from runner.prep.reuse import Reuse, traced_here
from runner.spec import Dataset
from runner.worker.pool.base import Pool
from runner.worker.scope import Scope


def run_make(name: str, dataset: Dataset, scope: Scope, pool: Pool) -> dict[str, Any]:
    """Make a dataset, or find that the same code has made it before. One worker of the pool does it.

    Args:
        name: of the dataset.
        dataset: with a `make`, which may be a reference.

    Returns:
        JSON: id (of the manifest), skipped, key, rows, bytes, files, seconds.

    Raises:
        UserCodeError: `make` raised (inline: what it raised).
        DataError: it yielded something that is no table, tables that do not fit together, or no rows.
    """
    started = time.monotonic()
    identity = identify([dataset.make])
    key = make_key(name, identity.hash)
    reuse = Reuse(name, identity, key, scope, {"": name})
    record = reuse.taken()
    skipped = record is not None
    if record is None:
        where = f"Dataset '{name}'"
        ((_, (files, deps, loaded)),) = pool.map(run_making, [Making(name, dataset, key, identity.modules, scope)])
        facts: dict[str, Any] = {"stage": None, "inputs": {}, "config": {}, "settings": {}, "bytes_in": 0}
        facts |= reuse.facts([deps], loaded)
        record = publish(key, {"": Sink(name, files)}, facts, scope, pool, where, replace=reuse.replace)
    made = {field: record["sinks"][""][field] for field in ("id", "rows", "bytes", "files")}
    return {**made, "skipped": skipped, "key": key, "seconds": round(time.monotonic() - started, 3)}


@dataclasses.dataclass
class Making:
    """One call of a `make`; picklable as `Work` is."""

    name: str
    dataset: Dataset
    key: str
    modules: frozenset[str]
    scope: Scope

    def __str__(self) -> str:
        return f"the make of dataset '{self.name}'"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "scope": (type(self.scope), self.scope.payload())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, payload = state["scope"]
        self.__dict__.update({**state, "scope": kind.attach(payload)})


def run_making(making: Making) -> tuple[list[OutputFile], dict[str, str], list[str]]:
    """Call `make` and write what it yields, in a worker: a file for each table.

    Returns:
        (files, what else it depended on, packages that it has loaded)
    """
    with prep_trace.begin().at_work(making.scope.store):
        files = _made(making)
    return files, *traced_here(making.modules)


def _made(making: Making) -> list[OutputFile]:
    where = f"Dataset '{making.name}'"
    files = []
    for number, table in enumerate(_tables(making, where)):
        if not table.num_rows:
            continue
        files.append(
            store_table(
                table,
                making.scope.store,
                making.name,
                f"{making.key[:16]}-{number:05d}",
                folder=making.scope.data_folder,
                scratch=Path(making.scope.scratch),
                source=f"table {number}",
                where=where,
            )
        )
    if not files:
        raise DataError("make yielded no rows", allowed="at least one row", todo="look at make", where=where)
    return files


def _tables(making: Making, where: str) -> Iterator[pa.Table]:
    try:
        yielded = resolve(making.dataset.make)()
        if not hasattr(yielded, "__iter__") or isinstance(yielded, pa.Table | pa.RecordBatch | dict | str):
            yielded = [yielded]
        iterator = iter(yielded)
        number = 0
        while True:
            try:
                value = next(iterator)
            except StopIteration:
                return
            yield _table(value, number, where)
            number += 1
    except DataError:
        raise
    except Exception as error:
        if making.scope.inline:
            raise
        raise UserCodeError(f"{where}: {user_line(error)} in make", trace=user_trace(error)) from None


def _table(value: Any, number: int, where: str) -> pa.Table:
    try:
        table = to_table(value)
    except WrongReturn as wrong:
        raise DataError(
            f"make yielded {wrong.found} as number {number}",
            allowed="pyarrow Tables or RecordBatches",
            todo=wrong.todo or "yield one table per shard",
            where=where,
        ) from None
    return pa.table({}) if table is None else table
