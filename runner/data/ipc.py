"""Arrow IPC: a unit is a record batch of a file; a stream, which has no index, is one unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from runner.data.shards import Shard, Unit
from runner.data.source import SourceFile, open_input

_FILE_MAGIC = b"ARROW1"


def inspect(file: SourceFile, options: Mapping[str, Any] | None) -> tuple[tuple[Unit, ...], pa.Schema]:
    """Units and schema. A local file is mapped, of a remote one the bodies are read too: the footer has no
    row counts."""
    with open_input(file.url, file.size, options, mapped=True) as source:
        if not _is_file_format(source):
            return _inspect_stream(source, file.size)
        reader = pa.ipc.open_file(source)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        units = [Unit(i, batch.num_rows, batch.nbytes, 0, batch.nbytes) for i, batch in enumerate(batches)]
        return tuple(unit for unit in units if unit.rows), reader.schema


def read(url: str, shard: Shard, unit: Unit, options: Mapping[str, Any] | None) -> Iterator[pa.RecordBatch]:
    """The record batches of one unit, all columns (a mapped file reads only what is used)."""
    with open_input(url, shard.size, options, mapped=True) as source:
        if _is_file_format(source):
            yield pa.ipc.open_file(source).get_batch(unit.index)
        else:
            yield from pa.ipc.open_stream(source)


def _is_file_format(source: pa.NativeFile) -> bool:
    start = source.read(len(_FILE_MAGIC))
    source.seek(0)
    return bytes(start) == _FILE_MAGIC


def _inspect_stream(source: pa.NativeFile, size: int) -> tuple[tuple[Unit, ...], pa.Schema]:
    reader = pa.ipc.open_stream(source)
    rows = decoded = 0
    for batch in reader:
        rows, decoded = rows + batch.num_rows, decoded + batch.nbytes
    return ((Unit(0, rows, decoded, 0, size),) if rows else ()), reader.schema
