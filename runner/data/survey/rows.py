"""The rows of data in file order: all of them as they come, or the first ones without a look at files far behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import pyarrow as pa

from runner.data.manifest import Manifest
from runner.data.source_manifest import COUNTED_BYTES, Source
from runner.errors import DataError

#: What is looked at: files at URLs, or a version of a published dataset.
Looked: TypeAlias = Source | Manifest
#: Files that are looked at for the first rows; where they have too few, all are.
_FEW = 8
#: Rows of a batch: of first rows that are few, so that no more is decoded than is shown.
_ROWS = 4096


def manifest_of(looked: Looked, counted_bytes: int | None = COUNTED_BYTES, first: int | None = None) -> Manifest:
    """The manifest, all of a dataset's, and of files as `Source.manifest` has it. Raises DataError as that does."""
    return looked if isinstance(looked, Manifest) else looked.manifest(counted_bytes, first=first)


def all_rows(looked: Looked, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Every row. Lines are looked at beforehand as a job does it, so that their types are certain.

    Raises:
        DataError: the data cannot be read, or a column is unknown.
    """
    yield from _batches(_chosen(manifest_of(looked), columns))


def first_rows(looked: Looked, count: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The first rows, at most `count`; the types of lines are those that the starts of the first files show.

    Raises:
        DataError: the data cannot be read, or a column is unknown.
    """
    found = None
    if not isinstance(looked, Manifest):
        found = _first_of_few(looked, count, columns)
    return _taken(_chosen(manifest_of(looked, 0), columns), count) if found is None else found


def _first_of_few(source: Source, count: int, columns: Sequence[str] | None) -> pa.Table | None:
    """The first rows, if the first files have them all."""
    try:
        manifest = manifest_of(source, 0, _FEW)
    except DataError:  # they may be empty; what is wrong with all of them is told when all are looked at
        return None
    names = manifest.schema.names
    if columns is not None and not set(columns) <= set(names):
        return None  # it may be in a later file
    table = _taken(_chosen(manifest, columns), count)
    return table if table.num_rows >= count or len(manifest.shards) < _FEW else None


def _chosen(manifest: Manifest, columns: Sequence[str] | None) -> Manifest:
    return manifest if columns is None else manifest.select(columns)


def _taken(manifest: Manifest, count: int) -> pa.Table:
    taken: list[pa.RecordBatch] = []
    rows = 0
    for batch in _batches(manifest, min(max(count, 1), _ROWS)):
        if rows >= count:
            break
        taken.append(batch.slice(0, count - rows))
        rows += taken[-1].num_rows
    return pa.Table.from_batches(taken, manifest.schema.remove_metadata())


def _batches(manifest: Manifest, rows: int = _ROWS) -> Iterator[pa.RecordBatch]:
    for shard in range(len(manifest.shards)):
        yield from manifest.read(shard, columns=manifest.schema.names, rows=rows)
