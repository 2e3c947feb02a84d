"""Footers of a dataset's Parquet files, kept from when the data was planned, so that ranks ask no file for its own.

They are kept compressed, some together (footers of one dataset are much alike), and decompressed as they are needed. In
a store they are a Parquet file with a row for each such block, beside the manifest that they belong to.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runner.data.files.listing import SourceFile
from runner.data.formats import parquet
from runner.data.formats.explain import explained
from runner.data.shards import Shard
from runner.errors import RunnerError

#: Bytes of footers that are compressed together: they are decompressed for each of them.
BLOCK_BYTES = 128 << 10
#: Of a footer that is kept: a larger one is that of a wide and large file, beside which a request is little.
LARGEST_BYTES = 1 << 20
#: Of all that is kept, compressed: every rank has it in memory. What is beyond is read from the files.
MOST_BYTES = 32 << 20
_TABLE = pa.schema([("files", pa.list_(pa.int64())), ("lengths", pa.list_(pa.int64())), ("block", pa.binary())])
_CODEC = "zstd"

_log = logging.getLogger(__name__)
_loading = threading.Lock()


def _anew() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _loading
    _loading = threading.Lock()


os.register_at_fork(after_in_child=_anew)

#: Block, first byte in it, and bytes.
_Place = tuple[int, int, int]


class Footers:
    """Footers by file: of a path, size and tag. Filled by one thread, then asked by any.

    Args:
        load: gives what `to_bytes` of others gave, when the first is asked for; None: there is nothing to load. What
            cannot be had, or read, is as if it had not been kept.
    """

    def __init__(self, load: Callable[[], bytes] | None = None) -> None:
        self._load = load
        self._places: dict[int, _Place] = {}
        self._blocks: list[bytes] = []
        self._sizes: list[int] = []
        self._open: dict[int, bytes] = {}
        self._doubted: set[int] = set()
        self._bytes = self._open_bytes = 0
        self._last: tuple[int, bytes] = (-1, b"")

    def __getstate__(self) -> dict[str, Any]:
        self._seal()
        return {**self.__dict__, "_last": (-1, b"")}

    def __len__(self) -> int:
        self._loaded()
        return len(self._places) + len(self._open)

    def has(self, shard: Shard | SourceFile) -> bool:
        """Whether that of a file is kept."""
        self._loaded()
        return _key(shard) in self._places or _key(shard) in self._open

    def add(self, shard: Shard | SourceFile, footer: bytes) -> None:
        """Keep one, if it is no larger than LARGEST_BYTES and there is room among MOST_BYTES."""
        if len(footer) > LARGEST_BYTES or self._bytes >= MOST_BYTES:
            return
        self._open[_key(shard)] = footer
        self._open_bytes += len(footer)
        if self._open_bytes >= BLOCK_BYTES:
            self._seal()

    def get(self, shard: Shard) -> bytes | None:
        """That of a file as it is stored there; None where it is not kept, or doubted."""
        self._loaded()
        key = _key(shard)
        if key in self._doubted:
            return None
        place = self._places.get(key)
        if place is None:
            return self._open.get(key)
        number, start, length = place
        known, block = self._last
        if known != number:
            try:
                block = pa.decompress(self._blocks[number], self._sizes[number], _CODEC, asbytes=True)
            except (pa.ArrowException, OSError):
                return None
            self._last = number, block
        return block[start : start + length]

    def doubt(self, shard: Shard) -> None:
        """Have the file itself asked from now on, in this process: it cannot be read by what is kept."""
        self._doubted.add(_key(shard))

    def to_bytes(self) -> bytes:
        """All of them as a Parquet file."""
        self._loaded()
        self._seal()
        files: list[list[int]] = [[] for _ in self._blocks]
        lengths: list[list[int]] = [[] for _ in self._blocks]
        for key, (number, _, length) in self._places.items():
            files[number].append(key)
            lengths[number].append(length)
        columns = [pa.array(files, _TABLE.types[0]), pa.array(lengths, _TABLE.types[1]), pa.array(self._blocks)]
        sink = pa.BufferOutputStream()
        table = pa.Table.from_arrays(columns, schema=_TABLE)
        pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
        data: bytes = sink.getvalue().to_pybytes()
        return data

    # -- inside --------------------------------------------------------------------------------------------------

    def _seal(self) -> None:
        if not self._open:
            return
        self._take(list(self._open), list(map(len, self._open.values())), _compressed(b"".join(self._open.values())))
        self._open.clear()
        self._open_bytes = 0

    def _take(self, keys: list[int], lengths: list[int], block: bytes) -> None:
        number, start = len(self._blocks), 0
        self._blocks.append(block)
        self._bytes += len(block)
        for key, length in zip(keys, lengths, strict=True):
            self._places[key] = number, start, length
            start += length
        self._sizes.append(start)

    def _loaded(self) -> None:
        if self._load is None:
            return
        with _loading:
            if self._load is None:
                return
            try:
                for keys, lengths, block in _read(self._load()):
                    self._take(keys, lengths, block)
            except FileNotFoundError:
                pass
            except RunnerError as error:
                _log.warning("the footers that were kept cannot be read, so each file's is read from it: %s", error)
            self._load = None


def _compressed(data: bytes) -> bytes:
    block: bytes = pa.compress(data, _CODEC, asbytes=True)
    return block


def _key(shard: Shard | SourceFile) -> int:
    """What a file is known by: 64 bit, of which two of a dataset's files are equal by no accident."""
    what = f"{shard.size} {shard.etag} {shard.path}".encode()
    return int.from_bytes(hashlib.blake2b(what, digest_size=8).digest(), "little", signed=True)


def _read(data: bytes) -> Iterator[tuple[list[int], list[int], bytes]]:
    """The blocks in a file, as somebody else may have written it. Raises DataError."""
    with explained("footers"):
        table = parquet.table(pa.BufferReader(data))
        if not table.schema.equals(_TABLE):
            raise ValueError("other columns")
        for keys, lengths, block in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if None in (keys, lengths, block) or None in (*keys, *lengths) or len(keys) != len(lengths):
                raise ValueError("a block that does not say what is in it")
            if min(lengths, default=0) < 0 or sum(lengths) > BLOCK_BYTES + LARGEST_BYTES:
                raise ValueError(f"a block of {sum(lengths)} bytes")
            yield keys, lengths, block
