"""Whole files: a file is one row, its path and its bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from runner.data.files.opening import open_input, remote
from runner.data.formats.base import Inspected, Look, Request, Wanted
from runner.data.shards import Unit
from runner.data.values.arrays import binaries, texts

SCHEMA = pa.schema([("path", pa.string()), ("bytes", pa.binary())])


def inspect(look: Look) -> Inspected:
    """One unit of one row, told by the listing."""
    return (Unit(0, 1, look.file.size, 0, look.file.size),), SCHEMA


def wants(request: Request) -> Wanted | None:
    """The file; None where it is of this machine, or its bytes are not wanted."""
    shard = request.shard
    if "bytes" not in request.wanted.names:
        return None
    source = remote(request.url, shard.size, request.options, shard.etag)
    return None if source is None else Wanted(source, [(0, shard.size)])


def read(request: Request) -> Iterator[pa.RecordBatch]:
    """The one row; the file is opened only where its bytes are wanted."""
    shard, content = request.shard, b""
    if "bytes" in request.wanted.names:
        with open_input(request.url, shard.size, request.options, path=shard.path, etag=shard.etag) as source:
            content = source.read()
    yield pa.RecordBatch.from_arrays([texts([shard.path]), binaries([content])], schema=SCHEMA)
