"""Whole-dataset transforms: Ray Data carries joins, group-bys and shuffles; reading and writing are our own.

The input goes through our reader, so every format, hive partition and column choice means the same as elsewhere. The
output is sorted by a declared total key and cut by our writer, so the files do not depend on how Ray split the work.
Ray is imported here only, and must have been initialised by the caller.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner.code import isolation
from runner.code.modules import MAIN
from runner.code.references import code_root, resolve
from runner.data.formats.formats import read
from runner.data.manifest import UNCOUNTED, Manifest
from runner.data.schemas import Drift, Unwritable, joined, plain
from runner.errors import DataError, Interrupted, RunFailed, listed, suggest
from runner.prep.files import Gather, OutputFile, store_table
from runner.prep.publish import Sink
from runner.prep.ray_errors import explained
from runner.prep.tasks import Task, plan_tasks
from runner.spec import Prep
from runner.worker.scope import Scope

#: Results up to this size (as Ray counts it) are sorted in this process.
LOCAL_SORT_BYTES = 256 << 20


def transform_datasets(
    stage: Prep, inputs: Mapping[str, Manifest], key: str, scope: Scope
) -> tuple[int, dict[str, Sink]]:
    """Call the stage's function on Ray Data datasets and write what it returns.

    Args:
        stage: with ``batch_format="dataset"``.
        inputs: source key -> manifest.
        key: of the result; begins the names of the files.
        scope: of the run.

    Returns:
        (rows in, sink key -> files)

    Raises:
        UserCodeError: the function, or one that it gave to Ray Data, raised (inline: what it raised).
        DataError: it returned no dataset, or the sort key is missing, has nulls or is not total.
    """
    quiet()
    _carry_user_modules(resolve(stage.fn))
    counted = {name: manifest.counted() for name, manifest in inputs.items()}
    rows_in = sum(manifest.rows for manifest in counted.values())
    scope.report(stage.name, done=0, total=len(stage.sinks), rows_in=rows_in, rows_out=0)
    datasets = {name: _dataset(manifest) for name, manifest in counted.items()}
    given: Any = datasets if isinstance(stage.source, Mapping) else next(iter(datasets.values()))
    sinks, rows_out = {}, 0
    for done, (name, dataset) in enumerate(_returned(stage, given, scope).items(), start=1):
        writer = _Writer(stage, name, key, scope)
        sinks[name] = writer.write(dataset)
        rows_out += sum(file.rows for file in sinks[name].files)
        scope.report(stage.name, done=done, total=len(stage.sinks), rows_in=rows_in, rows_out=rows_out)
    return rows_in, {name: sinks.get(name) or Sink(dataset, []) for name, dataset in stage.sinks.items()}


def quiet() -> None:
    """Keep Ray Data's progress bars and notices off the terminal; they stay in the files of Ray's session."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True  # else what follows a sort may shuffle its blocks
    logger = logging.getLogger("ray.data")
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler):
            logger.removeHandler(handler)


def _carry_user_modules(function: Any) -> None:
    """Have Ray's workers get the user's functions by value: they could not import them by the names used here."""
    import ray.cloudpickle

    module = sys.modules.get(getattr(function, "__module__", ""))
    file = getattr(module, "__file__", None)
    root = code_root() or (Path(file).resolve().parent if file else None)
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) is None or root is None:
            continue
        if module.__name__ == MAIN or isolation.is_of(module, root):
            ray.cloudpickle.register_pickle_by_value(module)


# -- in --------------------------------------------------------------------------------------------------------------


def _dataset(manifest: Manifest) -> Any:
    """The data of a manifest as a Ray Data dataset; a block for some 8 MiB, read where Ray likes."""
    import ray.data
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    tasks = plan_tasks(manifest, "")

    class ManifestSource(Datasource):
        """One read task for each of ours."""

        def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[Any]:
            return [ReadTask(_Reading(manifest, task), _metadata(task), manifest.schema) for task in tasks]

        def estimate_inmemory_data_size(self) -> int:
            return sum(_decoded(task) for task in tasks)

        def get_name(self) -> str:
            return "Manifest"

    def _metadata(task: Task) -> Any:
        rows = [part.shard.units[i].rows for part in task.parts for i in part.units]
        count = None if UNCOUNTED in rows else sum(rows)
        return BlockMetadata(num_rows=count, size_bytes=_decoded(task), exec_stats=None, input_files=None)

    return ray.data.read_datasource(ManifestSource(), override_num_blocks=len(tasks))


def _decoded(task: Task) -> int:
    return sum(part.shard.units[i].bytes for part in task.parts for i in part.units)


class _Reading:
    """Reads one task's units; runs in a Ray worker."""

    def __init__(self, manifest: Manifest, task: Task) -> None:
        self._base, self._options, self._schema = manifest.base, dict(manifest.options), manifest.schema
        self._task = task

    def __call__(self) -> Iterator[pa.Table]:
        for part in self._task.parts:
            url = f"{self._base}/{part.shard.path}"
            for batch in read(url, part.shard, part.units, None, self._options, self._schema):
                yield pa.Table.from_batches([batch])


# -- the function ----------------------------------------------------------------------------------------------------


def _returned(stage: Prep, given: Any, scope: Scope) -> dict[str, Any]:
    """Sink key -> dataset that the function returned."""
    import ray.data

    with explained(stage, scope):
        returned = resolve(stage.fn)(given, scope.config)
    where = f"Prep '{stage.name}'"
    if isinstance(stage.sink, str):
        returned = {"": returned}
    elif not isinstance(returned, Mapping):
        raise DataError(
            f"fn returned a {type(returned).__name__}",
            allowed=f"a dict with keys out of {listed(stage.sinks)}",
            todo="return {sink key: dataset}",
            where=where,
        )
    for key, dataset in returned.items():
        if key not in stage.sinks:
            raise DataError(
                f"fn returned the sink key {key!r}",
                allowed=listed(stage.sinks),
                todo=suggest(str(key), stage.sinks) or "return a dataset per sink key",
                where=where,
            )
        if not isinstance(dataset, ray.data.Dataset):
            raise DataError(
                f"fn returned a {type(dataset).__name__}",
                allowed="a ray.data.Dataset",
                todo="return what map_batches, join, groupby(...).aggregate and the like give",
                where=where,
            )
    return dict(returned)


# -- out -------------------------------------------------------------------------------------------------------------


class _Writer:
    """Sorts one dataset and writes it in pieces of a fixed size."""

    def __init__(self, stage: Prep, sink: str, key: str, scope: Scope) -> None:
        self._stage, self._scope, self._key = stage, scope, key
        self._dataset = stage.sinks[sink]
        self._where = f"Prep '{stage.name}'"
        self._files: list[OutputFile] = []

    def write(self, dataset: Any) -> Sink:
        """All rows of `dataset`, in the order of ``sort_by``."""
        keys = list(self._stage.sort_by or ())
        with explained(self._stage, self._scope):
            done = dataset.materialize()
            schema = done.schema()
        if schema is None or not done.count():
            return Sink(self._dataset, [])
        self._check_names(keys, schema.names)
        gather, total = Gather(), _TotalOrder(keys, self._dataset, self._where)
        for table in self._in_order(done, keys):
            if self._scope.stop.is_set():
                raise Interrupted("stopped while the result was written")
            total.check(table)
            self._gather(gather, table)
        for piece in gather.rest():
            self._store(piece)
        return Sink(self._dataset, self._files)

    def _in_order(self, done: Any, keys: list[str]) -> Iterator[pa.Table]:
        """The rows sorted by `keys`: here if they are few, for a sort of Ray's takes seconds however few they are."""
        if done.size_bytes() > LOCAL_SORT_BYTES:
            yield from map(self._plain, done.sort(keys).iter_batches(batch_size=None, batch_format="pyarrow"))
            return
        blocks = [self._plain(block) for block in done.iter_batches(batch_size=None, batch_format="pyarrow")]
        try:
            table = joined([block for block in blocks if block.num_rows])
        except Drift as drift:
            raise self._drift(drift) from None
        yield table.sort_by([(key, "ascending") for key in keys])

    def _plain(self, block: pa.Table) -> pa.Table:
        """A block in the types that are written. Raises DataError for a column that Parquet cannot hold."""
        try:
            return plain(block)
        except Unwritable as wrong:
            raise DataError(
                f"'{self._dataset}' has the column '{wrong.field}' of type {wrong.kind}, which Parquet cannot hold "
                f"({wrong.why})",
                allowed="columns of types that Parquet has",
                todo="change the column's type, or leave it out",
                where=self._where,
            ) from None

    def _check_names(self, keys: Sequence[str], columns: Sequence[str]) -> None:
        for name in keys:
            if name not in columns:
                raise DataError(
                    f"sort_by names '{name}', which is no column of '{self._dataset}'",
                    allowed=listed(columns),
                    todo=suggest(name, columns) or "name columns that the function returns",
                    where=self._where,
                )

    def _gather(self, gather: Gather, table: pa.Table) -> None:
        try:
            for piece in gather.add(table):
                self._store(piece)
        except Drift as drift:
            raise self._drift(drift) from None

    def _drift(self, drift: Drift) -> DataError:
        return DataError(
            f"schema drift in the column '{drift.field}' of '{self._dataset}': {drift.left} in one block, "
            f"{drift.right} in another",
            allowed="one type for a column in every block",
            todo="cast it in the function",
            where=self._where,
        )

    def _store(self, piece: pa.Table) -> None:
        stem = f"{self._key[:16]}-{len(self._files):05d}"
        file = store_table(
            piece,
            self._scope.store,
            self._dataset,
            stem,
            folder=self._scope.data_folder,
            scratch=self._scope.scratch,
            source=f"piece {len(self._files)}",
            where=self._where,
        )
        self._files.append(file)


class _TotalOrder:
    """Checks that rows come in strictly rising order of their keys: no ties, so that only one order is possible."""

    def __init__(self, keys: Sequence[str], dataset: str, where: str) -> None:
        self._keys, self._dataset, self._where = list(keys), dataset, where
        self._last: pa.Table | None = None

    def check(self, table: pa.Table) -> None:
        """The next rows. Raises DataError for a tie or a missing value, RunFailed if they are out of order."""
        keys = table.select(self._keys)
        for name, column in zip(self._keys, keys.columns, strict=True):
            if column.null_count or (pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py()):
                raise DataError(
                    f"sort_by column '{name}' of '{self._dataset}' has missing values",
                    allowed="a total order: a value in every row",
                    todo="fill or drop them",
                    where=self._where,
                )
        joined = keys if self._last is None else pa.concat_tables([self._last, keys], promote_options="permissive")
        self._last = keys.slice(keys.num_rows - 1) if keys.num_rows else self._last
        if joined.num_rows > 1:
            self._compare(joined)

    def _compare(self, rows: pa.Table) -> None:
        count = rows.num_rows - 1
        tied, rising = pa.repeat(True, count), pa.repeat(False, count)
        for column in rows.columns:
            values = column.combine_chunks()
            values = values.cast(pa.int8()) if pa.types.is_boolean(values.type) else values
            before, after = values.slice(0, count), values.slice(1)
            rising = pc.or_(rising, pc.and_(tied, pc.less(before, after)))
            tied = pc.and_(tied, pc.equal(before, after))
        if pc.any(tied).as_py():
            row = rows.slice(pc.index(tied, True).as_py(), 1).to_pylist()[0]
            shown = ", ".join(f"{name}={value!r}" for name, value in row.items())
            raise DataError(
                f"two rows of '{self._dataset}' have the same sort_by key: {shown}",
                allowed="a total order: no two rows with the same key, so that the result is the same every time",
                todo="add a column to sort_by that tells them apart, or drop duplicates in the function",
                where=self._where,
            )
        if not pc.all(rising).as_py():
            raise RunFailed(f"{self._where}: Ray returned the rows of '{self._dataset}' out of order")
