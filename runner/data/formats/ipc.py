"""Arrow IPC: a unit is a record batch of a file, or some of a stream, which is one unit where it has dictionaries."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from runner.data.files.engines.base import Data
from runner.data.files.opening import open_input, remote
from runner.data.files.ranges import RangeFile
from runner.data.files.readable import lent
from runner.data.formats.arrow_messages import Message
from runner.data.formats.base import Inspected, Look, Request, Wanted
from runner.data.formats.extension import plain_batch, plain_schema
from runner.data.formats.ipc_away import WHOLE_BYTES, Known, fields_of_columns, known_of, ranges_of
from runner.data.formats.ipc_open import FILE_MAGIC, File, Stream
from runner.data.shards import Unit
from runner.data.values.types import fields_of, has_union, size_of
from runner.errors import DataError

_FEATHER_1 = b"FEA1"
#: Bytes of a stream after which a unit ends, with the batch that reaches them.
UNIT_BYTES = 16 << 20

#: One compressed batch is decoded at a time by those who only look at it: many files are looked at side by side.
_decoding = threading.Lock()


def _unlock() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _decoding
    _decoding = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


def inspect(look: Look) -> Inspected:
    """Units and schema. A local file is mapped, of a remote one the bodies are read too: the footer has no
    row counts."""
    with look.opened(mapped=True) as source:
        if not _is_file_format(source):
            return _inspect_stream(source, look.file.size)
        opened = File(source)
        reader = pa.ipc.open_file(opened.source)
        schema = plain_schema(reader.schema)
        opened.check_dictionaries()
        units = []
        for i in range(reader.num_record_batches):
            told = opened.check(i)
            rows, size = _measured(reader.get_batch, told, i)
            units.append(Unit(i, rows, size, 0, size))
        return tuple(unit for unit in units if unit.rows), schema


def read(request: Request) -> Iterator[pa.RecordBatch]:
    """The record batches of one unit; only the columns wanted are decoded. The file is not mapped: one that
    is cut off meanwhile would end the process. Of a remote one what is read is fetched at once."""
    shard = request.shard
    with open_input(request.url, shard.size, request.options, path=shard.path, etag=shard.etag) as source:
        away = lent(source)
        known = known_of(request) if isinstance(away, RangeFile) else None
        is_file = _is_file_format(source) if known is None else known.blocks is not None
        pieces = away.fetch(ranges_of(known, request)) if known is not None else ()
        for batch in (_unit if is_file else _stream)(source, request, known, pieces):
            _validate(batch)
            yield plain_batch(batch)
        if known is not None:
            known.messages.pop(request.unit.index, None)


def wants(request: Request) -> Wanted | None:
    """The messages of a unit, or of a record batch the buffers of some columns; None of a file of this machine."""
    shard = request.shard
    source = remote(request.url, shard.size, request.options, shard.etag)
    return None if source is None else Wanted(source, ranges_of(known_of(request), request))


def _unit(
    source: pa.NativeFile, request: Request, known: Known | None, pieces: Iterable[tuple[int, Data]]
) -> Iterator[pa.RecordBatch]:
    """The record batch of a file."""
    index, opened = request.unit.index, File(source, None if known is None else known.blocks)
    if known is not None:
        opened.keep(pieces)
    opened.check_dictionaries()
    opened.check(index, None if known is None else known.buffers_of(index, request))
    fields = fields_of_columns(opened.schema, request.wanted.names)
    reader = pa.ipc.open_file(opened.source, options=pa.ipc.IpcReadOptions(included_fields=fields))
    yield reader.get_batch(index)


def _stream(
    source: pa.NativeFile, request: Request, known: Known | None, pieces: Iterable[tuple[int, Data]]
) -> Iterator[pa.RecordBatch]:
    """The batches of a stream, or of a stretch of one."""
    opened, unit = Stream(source, None if known is None else known.first), request.unit
    fields = fields_of_columns(opened.schema, request.wanted.names)
    if known is not None:
        opened.keep(pieces)
    if unit.length < request.shard.size:
        yield from (batch.select(fields) for batch in opened.stretch(unit.start, unit.start + unit.length))
    else:
        opened.is_here = known is not None and request.shard.size <= WHOLE_BYTES
        yield from opened.batches(pa.ipc.IpcReadOptions(included_fields=fields))


def _validate(batch: pa.RecordBatch) -> None:
    """pyarrow trusts a file's offsets and indices, and may crash of wrong ones."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if has_union(field.type):
            continue  # see `size_of`
        _checked(field, column, full=True)


def _checked(field: pa.Field, column: pa.Array, *, full: bool) -> None:
    try:
        column.validate(full=full)
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"column '{field.name}', {field.type}: {error}") from error


def _is_file_format(source: pa.NativeFile) -> bool:
    start = bytes(source.read(len(FILE_MAGIC)))
    source.seek(0)
    if start.startswith(_FEATHER_1):
        raise DataError("Feather version 1", allowed="Arrow IPC, which is Feather version 2", todo="write it anew")
    return start == FILE_MAGIC


def _inspect_stream(source: pa.NativeFile, size: int) -> tuple[tuple[Unit, ...], pa.Schema]:
    opened = Stream(source)
    schema = plain_schema(opened.schema)
    whole = any(_has_dictionary(field.type) for field in opened.schema)
    units: list[Unit] = []
    rows = decoded = start = 0
    for batch in opened.batches(None):
        rows, decoded = rows + batch.num_rows, decoded + _bytes_of(batch)
        if rows and not whole and opened.end - start >= UNIT_BYTES:
            units.append(Unit(len(units), rows, decoded, start, opened.end - start))
            rows, decoded, start = 0, 0, opened.end
    if rows:
        units.append(Unit(len(units), rows, decoded, start, opened.end - start if start else size))
    return tuple(units), schema


def _has_dictionary(kind: pa.DataType) -> bool:
    """Whether batches of the type need dictionaries, at any depth."""
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return True
    if pa.types.is_run_end_encoded(kind):
        return _has_dictionary(kind.value_type)
    return pa.types.is_nested(kind) and any(_has_dictionary(field.type) for field in fields_of(kind))


def _measured(get_batch: Any, told: Message, index: int) -> tuple[int, int]:
    """Rows and bytes of a batch."""
    if not told.is_compressed:
        batch = get_batch(index)
        return batch.num_rows, _bytes_of(batch)
    with _decoding:
        batch = get_batch(index)
        return batch.num_rows, _bytes_of(batch)


def _bytes_of(batch: pa.RecordBatch) -> int:
    """Bytes of a batch's values. What pyarrow counts by offsets must be looked at before: it follows wrong ones."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not has_union(field.type):
            _checked(field, column, full=False)
    return size_of(batch)
