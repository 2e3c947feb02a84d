"""What a format is to the rest: how a file is looked at, and how one of its units is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from runner.data.files.fetch import Promise
from runner.data.files.fetch.source import Source
from runner.data.files.fetch.stages import Piece
from runner.data.files.listing import SourceFile
from runner.data.files.opening import open_input
from runner.data.shards import Shard, Unit
from runner.spec.reading import USUAL, Reading

#: Gives a footer as it is stored; None where it is not known.
Stored = Callable[[], "bytes | None"]
#: Units, and the schema; None of a file that shows none.
Inspected = tuple[Sequence[Unit], pa.Schema | None]


@dataclass(frozen=True)
class Look:
    """What is asked about a file.

    Args:
        options: of fsspec.
        whole: whether all of it is to be read.
        reading: what was declared about it.
        columns: the only ones that somebody wants; None: all.
        keep: is given the footer of a Parquet file, as it is stored.
        data: all bytes of the file, where they were read already.
    """

    file: SourceFile
    options: Mapping[str, Any] | None = None
    whole: bool = False
    reading: Reading = USUAL
    columns: tuple[str, ...] | None = None
    keep: Callable[[bytes], None] | None = None
    data: bytes | None = None

    def opened(self, mapped: bool = False) -> pa.NativeFile:
        """The file, opened as by `open_input`, or its bytes."""
        if self.data is not None:
            return pa.BufferReader(self.data)
        file = self.file
        return open_input(file.url, file.size, self.options, path=file.path, mapped=mapped, etag=file.etag)

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """The only columns that can be asked for later; None: all."""
        return tuple(self.reading.schema) if self.reading.unknown == "ignore" else self.columns


@dataclass(frozen=True)
class Request:
    """What is asked of one unit.

    Args:
        url: of the file.
        wanted: the columns, with their types; partition columns, which the file need not hold, among them.
        options: of fsspec.
        rows: rows of a batch where the format lets one choose; None: some 8 MiB.
        strict: whether a field of JSON that is not wanted is an error.
        reading: what was declared about the file.
        footer: gives that of a Parquet file, where it is known from when the data was planned, or None.
    """

    url: str
    shard: Shard
    unit: Unit
    wanted: pa.Schema
    options: Mapping[str, Any] | None
    rows: int | None = None
    strict: bool = False
    reading: Reading = USUAL
    footer: Stored | None = None


class Wanted(NamedTuple):
    """What `read` will ask for.

    Args:
        source: a remote file.
        ranges: (start, length) of it.
        pieces: where they are read as they come: these, in the order in which they are needed. They are not asked for
            where just the ranges were promised.
    """

    source: Source
    ranges: list[tuple[int, int]]
    pieces: Sequence[Piece] = ()

    def promise(self) -> Promise:
        """Begin to fetch them: pieces as the promise is told to send for them."""
        return self.source.promise_stages(self.pieces) if self.pieces else self.source.promise(self.ranges)


class Alike(Protocol):
    """How to look at many small files of which all bytes are in memory, most of them like the first. By threads."""

    def look(self, files: Sequence[SourceFile], data: Sequence[bytes]) -> list[Inspected | None]:
        """What `Format.inspect` would give of each; None of a file that is to be looked at by it, whatever it is."""

    def learn(self, data: bytes, found: Inspected) -> None:
        """Is told of each file that was looked at by itself, the first one first."""


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        inspect: of a file, what it says of itself, or shows.
        read: record batches of one unit; columns beyond those wanted, and types of the file's own, are seen to later.
        wants: what `read` will ask of a remote file: it, and ranges (start, length); None where the file is of this
            machine, or that is not known beforehand.
        alike: given a file and what was found of it, how to look at others like it; None where there is no other way.
        streams: whether a unit of a remote file can be read as it comes while at most so many bytes of it are held.
    """

    inspect: Callable[[Look], Inspected]
    read: Callable[[Request], Iterator[pa.RecordBatch]]
    wants: Callable[[Request], Wanted | None] = lambda request: None
    alike: Callable[[Look, Inspected], Alike | None] = lambda look, found: None
    streams: Callable[[Request, int], bool] = lambda request, held: False
