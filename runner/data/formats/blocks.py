"""Lines in blocks: pieces of a stream that end at line ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from runner.data.limits import beyond, limits, shown_bytes

#: Bytes that are read at a time; a longer line is a block by itself.
BLOCK_BYTES = 16 << 20
Places = np.ndarray[Any, np.dtype[np.intp]]
_CACHED_BYTES = 64 << 10
_BOM = b"\xef\xbb\xbf"


def blocks(stream: Any, size: int | None = None, *, bom: bool = True) -> Iterator[bytes]:
    """Pieces of about `size` bytes that end at line ends; a line that is longer is one piece.

    Args:
        bom: whether to take a byte order mark off.

    Raises:
        DataError: a line is longer than it may be.
    """
    size, most = size or BLOCK_BYTES, limits().line_bytes
    rest, first = b"", bom
    while data := stream.read(size):
        if first:
            data, first = data.removeprefix(_BOM), False
        end = data.rfind(b"\n") + 1
        block = b"".join([rest, memoryview(data)[:end]]) if end else b""
        rest = data[end:] if end else rest + data
        if max(len(block), len(rest)) > most:
            _check_lines(block if end else rest, most)
        if end:
            yield block
    if rest:
        yield rest


def cut(block: bytes, ends: Places, most: int) -> Iterator[bytes]:
    """A block in pieces of at most so many lines.

    Args:
        ends: where its line ends are.
    """
    if len(ends) <= most:
        yield block
        return
    start = 0
    for end in [*ends[most - 1 :: most].tolist(), len(block) - 1]:
        if end >= start:
            yield block[start : end + 1]
            start = end + 1


def line_ends(block: bytes) -> Places:
    """Where the line ends of a block are."""
    return places(block, ord("\n"))


def places(block: bytes, byte: int, bits: int = 0xFF) -> Places:
    """Where a byte is, of whose bits only some count. Looks at a piece at a time, which stays in the cache."""
    data = np.frombuffer(block, np.uint8)
    found = []
    for start in range(0, len(data), _CACHED_BYTES):
        part = data[start : start + _CACHED_BYTES]
        found.append(np.flatnonzero((part if bits == 0xFF else part & bits) == byte) + start)
    return np.concatenate(found) if found else np.empty(0, np.intp)


def _check_lines(block: bytes, most: int) -> None:
    ends = line_ends(block)
    lengths = np.diff(ends, prepend=-1, append=len(block))
    if lengths.max() > most + 1:
        raise beyond("line_bytes", f"a line of {shown_bytes(int(lengths.max()))} or more")
