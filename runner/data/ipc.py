"""Arrow IPC: a unit is a record batch of a file; a stream, which has no index, is one unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from runner.data.shards import Shard, Unit
from runner.data.source import SourceFile, open_input
from runner.data.types import has_union, size_of
from runner.errors import DataError

_FILE_MAGIC = b"ARROW1"
_FEATHER_1 = b"FEA1"


def inspect(file: SourceFile, options: Mapping[str, Any] | None) -> tuple[tuple[Unit, ...], pa.Schema]:
    """Units and schema. A local file is mapped, of a remote one the bodies are read too: the footer has no
    row counts."""
    with open_input(file.url, file.size, options, mapped=True) as source:
        if not _is_file_format(source):
            return _inspect_stream(source, file.size)
        reader = pa.ipc.open_file(source)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        units = [Unit(i, batch.num_rows, size_of(batch), 0, size_of(batch)) for i, batch in enumerate(batches)]
        return tuple(unit for unit in units if unit.rows), reader.schema


def read(
    url: str, shard: Shard, unit: Unit, columns: Sequence[str], options: Mapping[str, Any] | None
) -> Iterator[pa.RecordBatch]:
    """The record batches of one unit; only the columns wanted are decoded (a mapped file reads only what is used)."""
    with open_input(url, shard.size, options, mapped=True) as source:
        file_format = _is_file_format(source)
        opened = pa.ipc.open_file if file_format else pa.ipc.open_stream
        fields = _fields(opened(source).schema, columns)
        source.seek(0)
        reader = opened(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
        for batch in [reader.get_batch(unit.index)] if file_format else reader:
            _validate(batch)
            yield batch


def _validate(batch: pa.RecordBatch) -> None:
    """pyarrow trusts a file's offsets and indices, and may crash of wrong ones."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if has_union(field.type):
            continue  # see `size_of`
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(f"column '{field.name}', {field.type}: {error}") from error


def _fields(schema: pa.Schema, columns: Sequence[str]) -> list[int]:
    """The positions of the columns; none would mean all, so that at least one is read."""
    return sorted(i for name in columns for i in schema.get_all_field_indices(name)) or [0]


def _is_file_format(source: pa.NativeFile) -> bool:
    start = bytes(source.read(len(_FILE_MAGIC)))
    source.seek(0)
    if start.startswith(_FEATHER_1):
        raise DataError("Feather version 1", allowed="Arrow IPC, which is Feather version 2", todo="write it anew")
    return start == _FILE_MAGIC


def _inspect_stream(source: pa.NativeFile, size: int) -> tuple[tuple[Unit, ...], pa.Schema]:
    reader = pa.ipc.open_stream(source)
    rows = decoded = 0
    for batch in reader:
        rows, decoded = rows + batch.num_rows, decoded + size_of(batch)
    return ((Unit(0, rows, decoded, 0, size),) if rows else ()), reader.schema
