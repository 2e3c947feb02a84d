"""Remote files of Arrow's formats: what they say of themselves, kept, and which ranges a unit of them needs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from runner.data.files.opening import open_input
from runner.data.files.overlay import Overlay
from runner.data.formats.arrow_messages import Blocks, Message
from runner.data.formats.base import Request
from runner.data.formats.ipc_open import FILE_MAGIC, File, Stream, footer_of
from runner.data.formats.kept import Kept
from runner.data.shards import Shard
from runner.data.values.types import fields_of, types

#: Read at first, from the beginning and from the end: the schema of a stream, the footer of a file.
_HEAD_BYTES, _TAIL_BYTES = 4 << 10, 64 << 10
#: Bytes of a stream that is one unit up to which it is fetched at once.
WHOLE_BYTES = 64 << 20
#: Bytes of a record batch from which on to ask what lies where in it saves more than it takes.
_LARGE_BYTES = 1 << 20


@dataclass
class Known:
    """What a file says of itself.

    Args:
        schema: its columns, without extension types.
        blocks: its footer; None of a stream.
        first: the first message of a stream.
        messages: what is said of record batches, as far as it was asked for.
    """

    schema: pa.Schema
    blocks: Blocks | None = None
    first: Message | None = None
    messages: dict[int, Message] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return (self.blocks.size if self.blocks is not None else 0) + (len(self.first.metadata) if self.first else 0)

    def buffers_of(self, index: int, request: Request) -> list[int] | None:
        """Which buffers of a record batch are needed; None: all, or it is not told."""
        told = self.messages.get(index)
        return None if told is None else _buffers(self.schema, request.wanted.names, told)


def known_of(request: Request) -> Known:
    """What the file of a request says of itself, from memory if it was asked before. Raises what `File` does."""
    key = request.url, request.shard.etag
    return _kept.get(key, lambda: _look(request.url, request.shard, request.options))


def forget(url: str, etag: str) -> None:
    """Ask a file anew when that is needed next."""
    _kept.drop((url, etag))


def _look(url: str, shard: Shard, options: Mapping[str, Any] | None) -> Known:
    size = shard.size
    with open_input(url, size, options, path=shard.path, etag=shard.etag) as source:
        near = Overlay(source)
        near.fetch([(0, min(size, _HEAD_BYTES)), (max(0, size - _TAIL_BYTES), min(size, _TAIL_BYTES))])
        if near.read_at(len(FILE_MAGIC), 0) == FILE_MAGIC:
            found = footer_of(near)
            return Known(File(near.native(), found).schema, found)
        opened = Stream(near.native())
        return Known(opened.schema, first=opened.first)


def ranges_of(known: Known, request: Request) -> list[tuple[int, int]]:
    """(start, bytes) of what a unit needs, where it is known beforehand: the same whenever it is asked."""
    unit, size = request.unit, request.shard.size
    if known.blocks is None:
        if unit.length < size:
            start = unit.start or (known.first.end if known.first is not None else 0)
            return [(start, unit.start + unit.length - start)]
        return [(0, size)] if size <= WHOLE_BYTES else []
    at, about = known.blocks.batches[unit.index]
    body = known.blocks.bodies[unit.index]
    dictionaries = list(known.blocks.dictionaries)
    some = len(fields_of_columns(known.schema, request.wanted.names)) < len(known.schema)
    if not some or body <= _LARGE_BYTES:
        return [*dictionaries, (at, about + body)]
    told = known.messages.get(unit.index)
    if told is None:
        told = known.messages[unit.index] = _message(request, known)
    wanted = _buffers(known.schema, request.wanted.names, told)
    if wanted is None:
        return [*dictionaries, (at, about + body)]
    chosen = [told.buffers[i] for i in wanted]
    return [*dictionaries, (at, about), *((told.body + start, length) for start, length in chosen if length)]


def _message(request: Request, known: Known) -> Message:
    """What is said of a record batch, asked of the file."""
    shard = request.shard
    with open_input(request.url, shard.size, request.options, path=shard.path, etag=shard.etag) as source:
        return File(source, known.blocks).message(request.unit.index)


def fields_of_columns(schema: pa.Schema, columns: Sequence[str]) -> list[int]:
    """The positions of the columns; none would mean all, so that at least one is read."""
    return sorted(i for name in columns for i in schema.get_all_field_indices(name)) or [0]


def _buffers(schema: pa.Schema, columns: Sequence[str], told: Message) -> list[int] | None:
    """Which buffers of a record batch are those of some columns; None where that cannot be told."""
    counts = [_count(one.type) for one in schema]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts) or sum(known) != len(told.buffers):
        return None
    ends = list(itertools.accumulate(known, initial=0))
    return [number for i in fields_of_columns(schema, columns) for number in range(ends[i], ends[i + 1])]


def _count(kind: pa.DataType) -> int | None:
    """Buffers of a column of a type; None where it does not follow from the type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _count(kind.storage_type)
    if types.is_null(kind):
        return 0
    if types.is_dictionary(kind):
        return 2  # the names; the values are elsewhere
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind)
    if is_list or types.is_struct(kind) or types.is_fixed_size_list(kind):
        inner = [_count(one.type) for one in fields_of(kind)]
        return None if None in inner else sum(one for one in inner if one is not None) + (2 if is_list else 1)
    if types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind):
        return 3
    return 2 if types.is_primitive(kind) or types.is_fixed_size_binary(kind) or types.is_decimal(kind) else None


_kept: Kept[Known] = Kept(lambda known: known.size)


def _anew() -> None:
    """In a forked process: the locks may be held by threads of the parent's."""
    global _kept
    _kept = Kept(lambda known: known.size)


os.register_at_fork(after_in_child=_anew)
