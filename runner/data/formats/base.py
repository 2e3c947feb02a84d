"""What a format is to the rest: how a file is looked at, and how one of its units is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from runner.data.files.listing import SourceFile
from runner.data.shards import Shard, Unit

#: Units, and the schema; None of a file that shows none.
Inspected = tuple[tuple[Unit, ...], pa.Schema | None]


@dataclass(frozen=True)
class Request:
    """What is asked of one unit.

    Args:
        url: of the file.
        wanted: the columns, with their types; partition columns, which the file need not hold, among them.
        options: of fsspec.
        rows: rows of a batch where the format lets one choose; None: some 8 MiB.
        strict: whether a field of JSON that is not wanted is an error.
    """

    url: str
    shard: Shard
    unit: Unit
    wanted: pa.Schema
    options: Mapping[str, Any] | None
    rows: int | None = None
    strict: bool = False


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        inspect: of a file, with storage options, and whether all of it is to be read.
        read: record batches of one unit; columns beyond those wanted, and types of the file's own, are seen to later.
    """

    inspect: Callable[[SourceFile, Mapping[str, Any] | None, bool], Inspected]
    read: Callable[[Request], Iterator[pa.RecordBatch]]
