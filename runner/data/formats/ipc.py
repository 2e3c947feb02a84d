"""Arrow IPC: a unit is a record batch of a file, or some of a stream, which is one unit where it has dictionaries."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from runner.data.files.opening import open_input
from runner.data.files.overlay import Overlay
from runner.data.formats.arrow_messages import BATCH, SCHEMA, Message, blocks, message
from runner.data.formats.base import Inspected, Look, Request
from runner.data.formats.extension import KEY, plain_batch, plain_schema, without_types
from runner.data.limits import beyond, limits, shown_bytes
from runner.data.shards import Unit
from runner.data.values.types import fields_of, has_union, size_of
from runner.errors import DataError

_FILE_MAGIC = b"ARROW1"
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
        opened = _File(source)
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
    is cut off meanwhile would end the process."""
    shard, columns = request.shard, request.wanted.names
    with open_input(request.url, shard.size, request.options, path=shard.path, etag=shard.etag) as source:
        batches = _unit(source, request.unit, columns) if _is_file_format(source) else _stream(source, request)
        for batch in batches:
            _validate(batch)
            yield plain_batch(batch)


def _unit(source: pa.NativeFile, unit: Unit, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    opened = _File(source)
    opened.check_dictionaries()
    opened.check(unit.index)
    fields = _fields(pa.ipc.open_file(opened.source).schema, columns)
    reader = pa.ipc.open_file(opened.source, options=pa.ipc.IpcReadOptions(included_fields=fields))
    yield reader.get_batch(unit.index)


def _stream(source: pa.NativeFile, request: Request) -> Iterator[pa.RecordBatch]:
    """The batches of a stream, or of a stretch of one."""
    opened, unit = _Stream(source), request.unit
    fields = _fields(opened.schema, request.wanted.names)
    if unit.length < request.shard.size:
        yield from (batch.select(fields) for batch in opened.stretch(unit.start, unit.start + unit.length))
    else:
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
    opened = _Stream(source)
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


# -- before pyarrow decodes anything ---------------------------------------------------------------------------------


class _Checked:
    """An open file whose messages are looked at before pyarrow decodes them.

    Attributes:
        source: what pyarrow reads.
    """

    def __init__(self, source: pa.NativeFile) -> None:
        self.source, self._raw = source, source
        self._overlay: Overlay | None = None
        self._limits = limits()
        if isinstance(source, pa.PythonFile):
            self._replace()

    def _replace(self) -> Overlay:
        """Has pyarrow read through an overlay from now on."""
        if self._overlay is None:
            self._overlay = Overlay(self._raw)
            self.source = self._overlay.native()
        return self._overlay

    @property
    def _bytes(self) -> Any:
        return self._overlay or self._raw

    def _message(self, at: int) -> Message | None:
        return message(self._bytes, at, self._limits.footer_bytes)

    def _check(self, told: Message, what: str) -> int:
        """Bytes that the values of a message take. Raises DataError if they are too many."""
        length = told.end - told.start
        if told.is_compressed and self._overlay is not None:
            self._overlay.fetch([(told.body, told.end - told.body)])
        decoded = told.decoded(self._bytes) if told.is_compressed else 0
        if decoded > self._limits.at_once(length):
            raise beyond("at_once_bytes", f"{what}: {shown_bytes(decoded)} out of {shown_bytes(length)}")
        if told.rows > self._limits.in_all(length):
            raise beyond("ratio", f"{what}: {told.rows:,} rows out of {shown_bytes(length)}")
        return decoded


class _File(_Checked):
    """One with a footer."""

    def __init__(self, source: pa.NativeFile) -> None:
        super().__init__(source)
        if source.size() > self._limits.footer_bytes and _footer_length(source) > self._limits.footer_bytes:
            raise beyond("footer_bytes", f"a footer of {shown_bytes(_footer_length(source))}")
        self._blocks = blocks(source, self._limits.footer_bytes)
        if self._overlay is not None or KEY in self._blocks.footer:
            self._replace().keep(self._blocks.start, without_types(self._blocks.footer))

    def check(self, index: int) -> Message:
        """Look at a record batch. Raises DataError if its values are too many bytes."""
        told = self._at(*self._blocks.batches[index])
        self._check(told, f"record batch {index}")
        return told

    def check_dictionaries(self) -> None:
        """Look at all dictionaries, which pyarrow reads before any batch."""
        decoded = sum(self._check(self._at(*place), "a dictionary") for place in self._blocks.dictionaries)
        if decoded > self._limits.at_once(self._raw.size()):
            raise beyond(
                "at_once_bytes", f"dictionaries: {shown_bytes(decoded)} out of {shown_bytes(self._raw.size())}"
            )

    def _at(self, start: int, length: int) -> Message:
        if self._overlay is not None:
            self._overlay.fetch([(start, length)])
        told = self._message(start)
        if told is None:
            raise pa.ArrowInvalid(f"no message at {start}")
        return told


class _Stream(_Checked):
    """One without a footer: its messages follow each other.

    Attributes:
        schema: its columns.
        end: of the last batch that was given.
    """

    def __init__(self, source: pa.NativeFile) -> None:
        super().__init__(source)
        self.end = 0
        first = self._message(0)
        if first is None or first.kind != SCHEMA:
            raise pa.ArrowInvalid("a stream that does not begin with a schema")
        self._first = first
        if self._overlay is not None or KEY in first.metadata:
            self._keep_schema()
        self.source.seek(0)  # a file that was read at some place must be told where to go on
        self.schema = pa.ipc.open_stream(self.source).schema
        self.source.seek(0)

    def _keep_schema(self) -> None:
        self._replace().keep(self._first.start, without_types(self._first.metadata))

    def batches(self, options: pa.ipc.IpcReadOptions | None) -> Iterator[pa.RecordBatch]:
        """Its record batches, each looked at before it is decoded."""
        reader = pa.ipc.open_stream(self.source, options=options)
        at, dictionaries, before = self._first.end, 0, self._first.end
        while (told := self._message(at)) is not None:
            if self._overlay is not None:
                self._overlay.fetch([(at, told.body - at)])
            decoded = self._check(told, f"the message at byte {at}")
            at = told.end
            if told.kind != BATCH:
                dictionaries += decoded
                if dictionaries > self._limits.at_once(at):
                    raise beyond("at_once_bytes", f"dictionaries: {shown_bytes(dictionaries)} out of {shown_bytes(at)}")
                continue
            self.end = at
            self.source.seek(before)
            batch, before = reader.read_next_batch(), at
            yield batch
            if self._overlay is not None:
                self._overlay.forget()
                self._keep_schema()

    def stretch(self, start: int, end: int) -> Iterator[pa.RecordBatch]:
        """The record batches of a stretch between messages, all columns of each, of a stream without dictionaries.

        Args:
            start: of the stretch; 0 is that of the stream.
        """
        start = start or self._first.end
        if self._overlay is not None:
            self._overlay.fetch([(start, end - start)])
        while start < end:
            told = self._message(start)
            if told is None or told.kind != BATCH or told.end > end:
                raise pa.ArrowInvalid(f"no record batch at {start}")
            self._check(told, f"the message at byte {start}")
            self.source.seek(start)
            yield pa.ipc.read_record_batch(pa.ipc.read_message(self.source), self.schema)
            start = told.end


def _footer_length(source: pa.NativeFile) -> int:
    return int.from_bytes(source.read_at(4, max(0, source.size() - 10)), "little", signed=True)
