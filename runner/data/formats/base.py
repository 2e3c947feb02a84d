"""What a format is to the rest: how a file is looked at, and how one of its units is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from runner.data.files.fetch.source import Source
from runner.data.files.listing import SourceFile
from runner.data.shards import Shard, Unit
from runner.spec.reading import USUAL, Reading

#: A remote file, and ranges (start, length) of it.
Wanted = tuple[Source, list[tuple[int, int]]]
#: Gives a footer as it is stored; None where it is not known.
Stored = Callable[[], "bytes | None"]
#: Units, and the schema; None of a file that shows none.
Inspected = tuple[tuple[Unit, ...], pa.Schema | None]


@dataclass(frozen=True)
class Look:
    """What is asked about a file.

    Args:
        options: of fsspec.
        whole: whether all of it is to be read.
        reading: what was declared about it.
        columns: the only ones that somebody wants; None: all.
        keep: is given the footer of a Parquet file, as it is stored.
    """

    file: SourceFile
    options: Mapping[str, Any] | None = None
    whole: bool = False
    reading: Reading = USUAL
    columns: tuple[str, ...] | None = None
    keep: Callable[[bytes], None] | None = None

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


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        inspect: of a file, what it says of itself, or shows.
        read: record batches of one unit; columns beyond those wanted, and types of the file's own, are seen to later.
        wants: what `read` will ask of a remote file: it, and ranges (start, length); None where the file is of this
            machine, or that is not known beforehand.
    """

    inspect: Callable[[Look], Inspected]
    read: Callable[[Request], Iterator[pa.RecordBatch]]
    wants: Callable[[Request], Wanted | None] = lambda request: None


def of_itself(
    inspect: Callable[[SourceFile, Mapping[str, Any] | None, bool], Inspected],
) -> Callable[[Look], Inspected]:
    """The look of a format whose files say all of themselves, so that nothing need be declared."""
    return lambda look: inspect(look.file, look.options, look.whole)
