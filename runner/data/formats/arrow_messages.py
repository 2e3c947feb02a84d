"""The messages of Arrow's formats: where they lie, and how many bytes their values have once they are decompressed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from runner.data.formats.flatbuffers import Table

_CONTINUES = b"\xff\xff\xff\xff"
SCHEMA, DICTIONARY, BATCH = 1, 2, 3  # kinds of messages
_PREFIX = 8  # bytes before a compressed buffer that say how many it was
_MAGIC = b"ARROW1"
_TAIL = 4 + len(_MAGIC)


class Source(Protocol):
    """What bytes are read from."""

    def read_at(self, count: int, start: int, /) -> bytes: ...

    def size(self) -> int: ...


@dataclass(frozen=True)
class Message:
    """A message, without its body.

    Args:
        kind: SCHEMA, DICTIONARY, BATCH or another.
        metadata: bytes that say what it holds.
        start: where these begin.
        body: where its values begin.
        end: where the next message begins.
        rows: or entries of a dictionary.
        buffers: (position in the body, bytes) of each buffer.
        is_compressed: whether buffers are, each by itself.
    """

    kind: int
    metadata: bytes
    start: int
    body: int
    end: int
    rows: int
    buffers: list[list[int]]
    is_compressed: bool

    @property
    def prefix(self) -> bytes:
        """What stands before the metadata of a message at the beginning of a file."""
        return (_CONTINUES if self.start == 8 else b"") + len(self.metadata).to_bytes(4, "little")

    def decoded(self, source: Source, wanted: Sequence[int] | None = None) -> int:
        """Bytes of its values once they are decompressed: what each buffer says at its start.

        Args:
            wanted: the only buffers that are read; None: all.
        """
        buffers = self.buffers if wanted is None else [self.buffers[i] for i in wanted if i < len(self.buffers)]
        if not self.is_compressed:
            return sum(length for _, length in buffers)
        total = 0
        for start, length in buffers:
            if length >= _PREFIX:
                told = int.from_bytes(source.read_at(_PREFIX, self.body + start), "little", signed=True)
                total += length - _PREFIX if told < 0 else told
        return total


def message(source: Source, at: int, most: int) -> Message | None:
    """The message at a position of a file; None at the end.

    Args:
        most: bytes that its metadata may have.

    Raises:
        pyarrow.ArrowInvalid: there is none, or it is damaged.
    """
    size = source.size()
    head = bytes(source.read_at(8, at))
    start = at + (8 if head[:4] == _CONTINUES else 4)
    length = int.from_bytes(head[start - at - 4 : start - at], "little", signed=True)
    if not head or (length == 0 and len(head) >= start - at):
        return None
    if not 0 < length <= min(most, size - start):
        raise pa.ArrowInvalid(f"a message of {length} bytes at {at}, in {size} bytes")
    metadata = bytes(source.read_at(length, start))
    try:
        root = Table.root(metadata)
        kind, body, header = root.number(1, "B"), root.number(3, "q"), root.table(2)
        values = header.table(1) if header is not None and kind == DICTIONARY else header if kind == BATCH else None
        rows = values.number(0, "q") if values is not None else 0
        buffers = values.rows(2, 2).tolist() if values is not None else []
        compressed = values is not None and values.table(3) is not None
    except (struct.error, ValueError) as error:
        raise pa.ArrowInvalid(f"a message at {at} that cannot be read ({error})") from error
    if not 0 <= body <= size - start - length:
        raise pa.ArrowInvalid(f"a message at {at} with a body of {body} bytes, in {size} bytes")
    return Message(kind, metadata, start, start + length, start + length + body, rows, buffers, compressed)


def behind_end(source: Source, at: int) -> int:
    """How many bytes follow the end mark of a stream, or its last message where it has none.

    Of streams that were written one behind the other pyarrow reads the first, and zeros that lie in the place of
    messages look like an end mark. Fewer than eight zeros fill up.

    Args:
        at: where the end mark is, if there is one.
    """
    head = bytes(source.read_at(8, at))
    marked = at + min(len(head), 8 if head[:4] == _CONTINUES else 4)
    rest = bytes(source.read_at(8, marked))
    return source.size() - marked if len(rest) == 8 or rest.strip(b"\0") else 0


@dataclass(frozen=True)
class Blocks:
    """What the footer of an Arrow file says.

    Args:
        footer: its bytes, with what follows it.
        start: where they begin.
        dictionaries, batches: (position, bytes without its body) of each of these messages.
        bodies: bytes of the bodies of the batches.
    """

    footer: bytes
    start: int
    dictionaries: list[tuple[int, int]]
    batches: list[tuple[int, int]]
    bodies: list[int]

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return len(self.footer) + 96 * len(self.batches)


def blocks(source: Source, most: int) -> Blocks:
    """The footer of an Arrow file, which may have `most` bytes.

    Raises:
        pyarrow.ArrowInvalid: it is damaged, or too long.
    """
    size = source.size()
    tail = bytes(source.read_at(_TAIL, max(0, size - _TAIL)))
    length = int.from_bytes(tail[:4], "little", signed=True)
    if tail[4:] != _MAGIC or not 0 < length <= min(most, size - _TAIL - len(_MAGIC)):
        raise pa.ArrowInvalid(f"a footer of {length} bytes, in {size} bytes" if tail[4:] == _MAGIC else "no footer")
    start = size - _TAIL - length
    footer = bytes(source.read_at(length, start))
    try:
        root = Table.root(footer)
        told = [root.rows(field, 3).tolist() for field in (2, 3)]
    except (struct.error, ValueError) as error:
        raise pa.ArrowInvalid(f"a footer that cannot be read ({error})") from error
    dictionaries, batches = ([(at, about & 0x7FFFFFFF) for at, about, _ in rows] for rows in told)
    return Blocks(footer + tail, start, dictionaries, batches, [body for _, _, body in told[1]])
