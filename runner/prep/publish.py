"""From the files of all tasks to one published result: one schema per sink, manifests, the record, the versions."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner.data.catalog import Catalog, data_key
from runner.data.manifest import Manifest
from runner.data.results import Results
from runner.data.schemas import Drift, fits, unify
from runner.errors import DataError
from runner.prep.files import OutputFile, recast
from runner.worker.pool.base import Pool
from runner.worker.scope import Scope

_THREADS = 16


@dataclasses.dataclass
class Sink:
    """What goes to one dataset.

    Args:
        dataset: its name.
        files: in order.
        columns: column -> type, where there are no rows to tell.
    """

    dataset: str
    files: list[OutputFile]
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


def publish(
    key: str,
    sinks: Mapping[str, Sink],
    facts: Mapping[str, Any],
    scope: Scope,
    pool: Pool,
    where: str,
    *,
    replace: bool = False,
) -> dict[str, Any]:
    """Publish a result once: manifests, then its record, then the versions of its datasets.

    Args:
        key: of the result.
        sinks: sink key -> what goes there.
        facts: what else the record holds (inputs, code, config, counts ...).
        pool: brings files to the sink's schema where they differ.
        where: how errors name the stage.
        replace: the record exists, but data that it names has been deleted.

    Returns:
        The record.

    Raises:
        DataError: the files of a sink have schemas that do not fit together.
    """
    catalog = Catalog(scope.store)
    shown = {}
    for name, sink in sinks.items():
        schema, files = _one_schema(sink, scope, pool, where)
        manifest = Manifest.of("", [file.shard for file in files], schema)
        folder = catalog.write_manifest(sink.dataset, manifest, _together(sink.dataset, files, scope))
        data = [{k: getattr(file, k) for k in ("path", "rows", "bytes", "md5", "sha256")} for file in files]
        shown[name] = {
            "dataset": sink.dataset,
            "id": manifest.id,
            "folder": folder,
            "rows": manifest.rows,
            "bytes": manifest.bytes,
            "files": len(files),
            "schema": {field.name: str(field.type) for field in schema} or dict(sink.columns),
            "data": data,
        }
    record = {**facts, "key": key, "at": time.time(), "run": scope.run_id, "versions": _versions(), "sinks": shown}
    Results(scope.store).publish(key, record, replace)
    catalog.publish_versions(record)
    return record


def _together(dataset: str, files: list[OutputFile], scope: Scope) -> str:
    """Bring all files of a version into one folder that holds nothing else; returns it, below the dataset's own.

    Where this attempt has written only what the version holds, that folder becomes the version's. Files that were
    written before, by others, are linked into it or copied within the store.
    """
    store, folder = scope.store, scope.data_folder
    there = set(store.list(data_key(dataset, folder)))
    if not there <= {file.path for file in files}:  # what a lost worker wrote, or what was brought to another schema
        there, folder = set(), f"{folder}.whole"
    absent = [file for file in files if file.path not in there]

    def bring(file: OutputFile) -> None:
        store.copy(f"{data_key(dataset, file.folder)}/{file.path}", f"{data_key(dataset, folder)}/{file.path}")

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(bring, absent))
    return folder


def _versions() -> dict[str, str]:
    """What else a byte of the files may depend on."""
    return {"python": platform.python_version(), "pyarrow": pa.__version__}


def _one_schema(sink: Sink, scope: Scope, pool: Pool, where: str) -> tuple[pa.Schema, list[OutputFile]]:
    if not sink.files:
        return pa.schema([]), []
    first = sink.files[0]
    schema = first.arrow_schema
    seen = {first.schema}
    for file in sink.files[1:]:
        if file.schema in seen:
            continue
        seen.add(file.schema)
        try:
            schema = unify(schema, file.arrow_schema)
        except Drift as drift:
            raise _drift(sink, drift, file, where) from None
    todo = [i for i, file in enumerate(sink.files) if not fits(file.arrow_schema, schema)]
    items = [
        Recast(scope.store, scope.scratch, sink.dataset, sink.files[i], schema, where, scope.data_folder) for i in todo
    ]
    files = list(sink.files)
    for index, file in pool.map(run_recast, items) if items else ():
        files[todo[index]] = file
    return schema, files


def _drift(sink: Sink, drift: Drift, file: OutputFile, where: str) -> DataError:
    """Names the first file that has the column as most before it had it, and the one that differs."""
    column = drift.field.split(".")[0].split("[")[0]
    other = next((f for f in sink.files if _type(f, column) != _type(file, column)), sink.files[0])
    return DataError(
        f"schema drift in the column '{drift.field}' of '{sink.dataset}': "
        f"{_type(other, column)} in what became of {other.source}, "
        f"{_type(file, column)} in what became of {file.source}",
        allowed="one schema for a sink, whatever the batch",
        todo=f"make '{column}' the same type in every batch that fn returns",
        where=where,
    )


def _type(file: OutputFile, column: str) -> str:
    schema = file.arrow_schema
    return str(schema.field(column).type) if column in schema.names else "absent"


@dataclasses.dataclass(frozen=True)
class Recast:
    """A file to be brought to another schema.

    Args:
        store: the root store.
        scratch: a local folder.
        where: how errors name the stage.
        folder: where the copy goes, below the dataset's own.
    """

    store: Any
    scratch: Path
    dataset: str
    file: OutputFile
    schema: pa.Schema
    where: str
    folder: str

    def __str__(self) -> str:
        return f"the file {self.file.path}"


def run_recast(item: Recast) -> OutputFile:
    """Do it, in a worker."""
    try:
        return recast(
            item.file, item.schema, item.store, item.dataset, folder=item.folder, scratch=item.scratch, where=item.where
        )
    except Drift as drift:
        raise DataError(
            f"schema drift in the column '{drift.field}' of '{item.dataset}': {drift.right} in what became of "
            f"{item.file.source}, {drift.left} elsewhere",
            allowed="one type for a column in every batch",
            todo="make it the same type in fn",
            where=item.where,
        ) from None
