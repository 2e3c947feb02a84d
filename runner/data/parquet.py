"""Parquet: a unit is a row group. Footers are read once a process and kept."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runner.data.shards import Shard, Unit
from runner.data.source import SourceFile, open_input
from runner.errors import DataError, listed

#: Decoded bytes of a record batch that `read` gives when the caller does not say how many rows it wants.
BATCH_BYTES = 8 << 20
_FOOTERS_KEPT = 256

_footers: OrderedDict[tuple[str, str], pq.FileMetaData] = OrderedDict()
_lock = threading.Lock()


def _unlock() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


def inspect(file: SourceFile, options: Mapping[str, Any] | None) -> tuple[tuple[Unit, ...], pa.Schema]:
    """Units and schema from the footer; two small reads."""
    metadata = footer(file.url, file, options)
    return units_of(metadata), metadata.schema.to_arrow_schema()


def units_of(metadata: pq.FileMetaData) -> tuple[Unit, ...]:
    """The row groups of a footer, those without rows left out."""
    widths = _leaf_widths(metadata.schema.to_arrow_schema())
    groups = [_unit(metadata.row_group(i), i, widths) for i in range(metadata.num_row_groups)]
    return tuple(unit for unit in groups if unit.rows)


def footer(url: str, file: SourceFile | Shard, options: Mapping[str, Any] | None) -> pq.FileMetaData:
    """The footer of a file, from memory if it was read before."""
    key = url, file.etag
    with _lock:
        if key in _footers:
            _footers.move_to_end(key)
            return _footers[key]
    with open_input(url, file.size, options) as source:
        end = source.read_at(min(8, file.size), max(0, file.size - 8))
        if end[4:] == b"PARE":
            raise _encrypted("an encrypted footer")
        metadata = pq.ParquetFile(source).metadata
    if int.from_bytes(end[:4], "little") != metadata.serialized_size:  # a signature follows it
        raise _encrypted("encrypted columns")  # to ask for any facts of such a column ends the process
    with _lock:
        _footers[key] = metadata
        while len(_footers) > _FOOTERS_KEPT:
            _footers.popitem(last=False)
    return metadata


def read(
    url: str,
    shard: Shard,
    unit: Unit,
    columns: Sequence[str] | None,
    options: Mapping[str, Any] | None,
    rows: int | None,
) -> Iterator[pa.RecordBatch]:
    """Record batches of one row group, decoded as they are asked for, in this thread.

    The compressed chunks of the columns are in memory while the row group is read (a remote file's ranges are
    coalesced and fetched at once); decoded is one batch at a time. Page checksums are verified where they are
    there.
    """
    wanted = None if columns is None else list(columns)
    try:
        yield from _read(url, shard, unit, wanted, options, rows)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        bad = [name for name in wanted or [] if _fails(url, shard, unit, name, options)]
        if not bad:
            raise
        words = " ".join(str(error).split())
        raise ValueError(f"column{'s' if len(bad) > 1 else ''} {listed(bad)}: {words}") from error


def _read(
    url: str,
    shard: Shard,
    unit: Unit,
    wanted: list[str] | None,
    options: Mapping[str, Any] | None,
    rows: int | None,
) -> Iterator[pa.RecordBatch]:
    metadata = footer(url, shard, options)
    with open_input(url, shard.size, options) as source:
        file = pq.ParquetFile(
            source,
            metadata=metadata,
            pre_buffer=isinstance(source, pa.PythonFile),
            page_checksum_verification=True,
        )
        if rows is None and unit.bytes <= BATCH_BYTES:
            yield from file.read_row_group(unit.index, columns=wanted, use_threads=False).to_batches()
            return
        rows = rows or max(1, unit.rows * BATCH_BYTES // unit.bytes)
        yield from file.iter_batches(rows, row_groups=[unit.index], columns=wanted, use_threads=False)


def _fails(url: str, shard: Shard, unit: Unit, name: str, options: Mapping[str, Any] | None) -> bool:
    """Whether a column cannot be decoded by itself either."""
    try:
        for _ in _read(url, shard, unit, [name], options, None):
            pass
    except (pa.ArrowException, OSError):
        return True
    return False


def _encrypted(found: str) -> DataError:
    return DataError(
        found, allowed="Parquet files without encryption", todo="write the data decrypted, where only you can read it"
    )


def _unit(group: pq.RowGroupMetaData, index: int, widths: list[float | None]) -> Unit:
    chunks = [group.column(i) for i in range(group.num_columns)]
    if len(widths) != len(chunks):
        widths = [None] * len(chunks)
    size = sum(_decoded_bytes(chunk, width) for chunk, width in zip(chunks, widths, strict=True))
    starts = [_first_byte(chunk) for chunk in chunks]
    length = sum(chunk.total_compressed_size for chunk in chunks)
    return Unit(index, group.num_rows, int(size), min(starts, default=0), length)


def _first_byte(chunk: pq.ColumnChunkMetaData) -> int:
    offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
    return int(min(offset for offset in offsets if offset is not None))


def _decoded_bytes(chunk: pq.ColumnChunkMetaData, width: float | None) -> float:
    """Exact for fixed-width values; for others what the pages hold, which is too low for repeated strings."""
    if width is None:
        return float(chunk.total_uncompressed_size + 4 * chunk.num_values)
    return chunk.num_values * width


def _leaf_widths(schema: pa.Schema) -> list[float | None]:
    """Bytes of one value per leaf column, in Parquet's order; None where it varies."""
    widths: list[float | None] = []
    for field in schema:
        _add_leaves(field.type, widths)
    return widths


def _add_leaves(kind: pa.DataType, widths: list[float | None]) -> None:
    if isinstance(kind, pa.BaseExtensionType):
        _add_leaves(kind.storage_type, widths)
    elif pa.types.is_dictionary(kind):
        _add_leaves(kind.value_type, widths)
    elif pa.types.is_nested(kind):
        for i in range(kind.num_fields):
            _add_leaves(kind.field(i).type, widths)
    else:
        try:
            widths.append(kind.bit_width / 8)
        except ValueError:  # strings and binary
            widths.append(None)
