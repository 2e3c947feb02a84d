"""Parquet: a unit is a row group."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner.data.files.fetch.stages import Piece
from runner.data.files.opening import open_input, remote
from runner.data.files.overlay import Overlay
from runner.data.files.ranges import RangeFile
from runner.data.files.readable import lent
from runner.data.files.staged import Staged
from runner.data.formats.base import Inspected, Look, Request, Wanted
from runner.data.formats.columns import fill
from runner.data.formats.extension import plain_batch
from runner.data.formats.parquet_footer import Footer, footer, leaf_widths
from runner.data.formats.parquet_footer import read as read_footer
from runner.data.formats.parquet_pages import Plan, plan, ranges
from runner.data.formats.parquet_staged import Unlike, Watch, buffer_of, fits, pieces_of
from runner.data.limits import beyond, limits, shown_bytes
from runner.data.shards import Unit
from runner.data.values.types import size_of, types
from runner.errors import listed

#: Decoded bytes of a record batch that `read` gives when the caller does not say how many rows it wants.
BATCH_BYTES = 8 << 20
#: Of a column chunk that are read at a time, at most.
BUFFER_BYTES = 1 << 20
_LEAST_BUFFER = 4 << 10
#: Of a batch that is as large as a page, because the page is larger than was asked for.
_PAGE_BYTES = 24 << 20


def inspect(look: Look) -> Inspected:
    """Units and schema from the footer; two small reads."""
    file = look.file
    found = footer(file.url, file, look.options)
    if look.keep is not None:
        look.keep(found.stored)
    return units_of(found, file.size), found.schema


def units_of(found: Footer, size: int) -> tuple[Unit, ...]:
    """The row groups of a footer, those without rows left out.

    Args:
        size: bytes of the file.

    Raises:
        DataError: a row group claims more rows than its bytes can be.
        pyarrow.ArrowInvalid: what it claims contradicts itself.
    """
    widths, most = leaf_widths(found.schema), limits()
    units = []
    for i in range(found.metadata.num_row_groups):
        group = found.metadata.row_group(i)
        unit = _unit(group, i, widths, size)
        claimed = max(unit.bytes, unit.rows)
        if claimed > most.in_all(min(unit.length, size)):
            raise beyond("ratio", f"row group {unit.index}: {shown_bytes(claimed)} out of {shown_bytes(unit.length)}")
        units.append(unit)
    return tuple(unit for unit in units if unit.rows)


def read(request: Request) -> Iterator[pa.RecordBatch]:
    """Record batches of one row group, decoded as they are asked for, in this thread; strings may be dictionaries.

    The compressed chunks of the columns are in memory while the row group is read (a remote file's ranges are
    coalesced and fetched at once); decoded is one batch at a time. Page checksums are verified where they are
    there.
    """
    try:
        yield from _read(request)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        bad = [name for name in request.wanted.names if _fails(request, name)]
        if not bad:
            raise
        words = " ".join(str(error).split())
        raise ValueError(f"column{'s' if len(bad) > 1 else ''} {listed(bad)}: {words}") from error


def _read(request: Request) -> Iterator[pa.RecordBatch]:
    """Of the columns wanted those that the file has: others are partitions, or filled later."""
    shard, options = request.shard, request.options
    found = footer(request.url, shard, options, request.footer)
    own = set(found.schema.names)
    with open_input(request.url, shard.size, options, path=shard.path, etag=shard.etag) as source:
        columns = [name for name in request.wanted.names if name in own]
        yield from _decoded(source, found, request.unit, columns, request.rows)


def wants(request: Request) -> Wanted | None:
    """The chunks of the columns that are wanted; None of a file of this machine. Raises what `footer` does."""
    shard = request.shard
    source = remote(request.url, shard.size, request.options, shard.etag)
    if source is None:
        return None
    found, group, leaves = _chunks(request)
    return Wanted(source, list(ranges(group, leaves)), pieces_of(found, group, leaves, source))


def streams(request: Request, held: int) -> bool:
    """Whether the row group of a remote file can be read as it comes while at most so many bytes of it are held."""
    shard = request.shard
    source = remote(request.url, shard.size, request.options, shard.etag)
    return source is not None and fits(*_chunks(request), source, held)


def _chunks(request: Request) -> tuple[Footer, pq.RowGroupMetaData, list[int]]:
    """The footer, the row group, and the positions of the chunks that are wanted."""
    found = footer(request.url, request.shard, request.options, request.footer)
    leaves = found.leaves_of([name for name in request.wanted.names if name in set(found.schema.names)])
    return found, found.metadata.row_group(request.unit.index), leaves


def table(source: pa.NativeFile, most_bytes: int | None = None) -> pa.Table:
    """All of an open file, in the types of the file but without extension types.

    Args:
        most_bytes: of its values.

    Raises:
        DataError: it passes a limit.
        pyarrow.ArrowException, OSError: it is no Parquet file, or damaged.
    """
    found, size = read_footer(source), source.size()
    batches, decoded = [], 0
    for unit in units_of(found, size):
        if decoded + unit.bytes > (most_bytes or limits().in_all(size)):
            raise beyond("ratio", f"{shown_bytes(decoded + unit.bytes)} out of {shown_bytes(size)}")
        for batch in _decoded(source, found, unit, None, None):
            for piece in fill(batch, found.schema, {}):
                decoded += size_of(piece)
                batches.append(piece)
                if decoded > (most_bytes or limits().in_all(size)):
                    raise beyond("ratio", f"{shown_bytes(decoded)} or more out of {shown_bytes(size)}")
    return pa.Table.from_batches(batches, schema=found.schema)


def _decoded(
    source: pa.NativeFile,
    found: Footer,
    unit: Unit,
    wanted: list[str] | None,
    rows: int | None,
) -> Iterator[pa.RecordBatch]:
    leaves, given = found.leaves_of(wanted), 0
    away = lent(source)
    if isinstance(away, RangeFile):
        group = found.metadata.row_group(unit.index)
        pieces = pieces_of(found, group, leaves, away.source)
        promised = away.source.claimed(ranges(group, leaves)) if pieces else None
        if pieces and promised is None:
            try:
                for batch in _as_it_comes(away, pieces, found, unit, leaves, wanted, rows):
                    given += batch.num_rows
                    yield batch
                return
            except Unlike:
                pass  # it is read once more, at once
        overlay = Overlay(source)
        if promised is None:
            overlay.fetch(ranges(group, leaves))
        else:
            overlay.keep_all(away.source.take(promised))
        source = overlay.native()
    key = unit.index, tuple(leaves)
    if key not in found.plans:
        found.plans[key] = _planned(source, found, unit, leaves)
    buffer = _buffer(found.metadata.row_group(unit.index), leaves)
    for batch in _by_plan(source, found, found.plans[key], unit, buffer, wanted, rows):
        known = min(given, batch.num_rows)
        given -= known
        if known < batch.num_rows:
            yield batch.slice(known)


def _as_it_comes(
    away: RangeFile,
    pieces: Sequence[Piece],
    found: Footer,
    unit: Unit,
    leaves: list[int],
    wanted: list[str] | None,
    rows: int | None,
) -> Iterator[pa.RecordBatch]:
    """A row group while its chunks are on their way. Raises Unlike where all of it must be known beforehand."""
    key, group = (unit.index, tuple(leaves)), found.metadata.row_group(unit.index)
    with contextlib.closing(Staged(away, pieces)) as file:
        how, watch = found.plans.get(key), None
        if how is None:
            watch = Watch(file, found, group, leaves, unit.length)
            how = watch.plan
            source = file.native()
            for path in how.named:
                how.bounded(_largest_entry(source, found, unit, path), limits().at_once_bytes)
        buffer = buffer_of(pieces, _buffer(group, leaves))
        yield from _by_plan(file.native(), found, how, unit, buffer, wanted, rows)
        if watch is not None and watch.is_over:
            found.plans[key] = how


def _by_plan(
    source: pa.NativeFile,
    found: Footer,
    how: Plan,
    unit: Unit,
    buffer_bytes: int,
    wanted: list[str] | None,
    rows: int | None,
) -> Iterator[pa.RecordBatch]:
    file = _opened(source, found, how.dictionaries, buffer_bytes)
    if rows is not None and how.page_rows > rows:
        rows = max(rows, min(how.page_rows, unit.rows * _PAGE_BYTES // max(unit.bytes, 1)))
    for batch in _batches(file, unit, wanted, rows, how.rows):
        yield plain_batch(batch) if found.is_marked else batch


def _planned(source: pa.NativeFile, found: Footer, unit: Unit, leaves: Sequence[int]) -> Plan:
    group = found.metadata.row_group(unit.index)
    how = plan(source, source.size(), group, found.leaves, leaves, unit.length)
    for path in how.named:
        how.bounded(_largest_entry(source, found, unit, path), limits().at_once_bytes)
    return how


def _batches(
    file: pq.ParquetFile, unit: Unit, wanted: list[str] | None, rows: int | None, most: int | None
) -> Iterator[pa.RecordBatch]:
    """The row group in batches of `rows`, or of some BATCH_BYTES; never of more than `most` rows."""
    if rows is None and unit.bytes <= BATCH_BYTES and (most is None or unit.rows <= most):
        yield from file.read_row_group(unit.index, columns=wanted, use_threads=False).to_batches()
        return
    rows = rows or max(1, unit.rows * BATCH_BYTES // max(unit.bytes, 1))
    rows = rows if most is None else min(rows, most)
    yield from file.iter_batches(rows, row_groups=[unit.index], columns=wanted, use_threads=False)


def _buffer(group: pq.RowGroupMetaData, leaves: Sequence[int]) -> int:
    """Bytes of a column chunk that are read at a time: a chunk is else in memory for as long as its rows are read."""
    largest = max((group.column(i).total_compressed_size for i in leaves), default=0)
    return max(_LEAST_BUFFER, min(largest, BUFFER_BYTES))


def _opened(source: pa.NativeFile, found: Footer, dictionaries: Sequence[str], buffer_bytes: int = 0) -> pq.ParquetFile:
    return pq.ParquetFile(
        source,
        metadata=found.metadata,
        read_dictionary=list(dictionaries) or None,
        pre_buffer=False,  # of a remote file all that is wanted is there already
        buffer_size=buffer_bytes,
        page_checksum_verification=True,
        arrow_extensions_enabled=False,
    )


def _largest_entry(source: pa.NativeFile, found: Footer, unit: Unit, path: str) -> int:
    """Bytes of the largest string in the dictionary of a column chunk."""
    first = _opened(source, found, [path]).iter_batches(1, row_groups=[unit.index], columns=[path], use_threads=False)
    largest = 0
    for array in _dictionaries(next(first).column(0)):
        largest = max(largest, pc.max(pc.binary_length(array.dictionary)).as_py() or 0)
    return largest


def _dictionaries(array: pa.Array) -> Iterator[pa.DictionaryArray]:
    """The dictionary inside lists, structs and maps that lead to one column."""
    if types.is_dictionary(array.type):
        yield array
    elif types.is_nested(array.type):
        inner = array.flatten() if types.is_struct(array.type) else [array.values]
        for one in inner:
            yield from _dictionaries(one)


def _fails(request: Request, name: str) -> bool:
    """Whether a column cannot be decoded by itself either."""
    alone = replace(request, wanted=pa.schema([request.wanted.field(name)]), rows=None)
    try:
        for _ in _read(alone):
            pass
    except (pa.ArrowException, OSError):
        return True
    return False


def _unit(group: pq.RowGroupMetaData, index: int, widths: list[float | None], size: int) -> Unit:
    """A row group of a file of `size` bytes. Raises ArrowInvalid where its claims contradict each other."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    rows, length, decoded, starts, least = group.num_rows, 0, 0.0, [], 0
    for chunk, width in zip(chunks, widths if len(widths) == len(chunks) else [None] * len(chunks), strict=True):
        stored, unpacked, values = chunk.total_compressed_size, chunk.total_uncompressed_size, chunk.num_values
        if values < rows:
            raise pa.ArrowInvalid(f"row group {index} claims {rows} rows, and fewer values in a column")
        length, least = length + stored, min(least, stored, unpacked)
        decoded += unpacked + 4 * values if width is None else values * width
        starts.append(_first_byte(chunk))
    start = min(starts, default=0)
    if min(rows, start, least) < 0 or length > size:
        raise pa.ArrowInvalid(f"row group {index} claims {rows} rows in {length} bytes, of {size}")
    return Unit(index, rows, int(decoded), start, length)


def chunk_bytes(found: Footer, group: int) -> list[tuple[int, int]]:
    """Of each column chunk of a row group: bytes in the file, and about how many once decoded."""
    metadata = found.metadata.row_group(group)
    chunks = [metadata.column(i) for i in range(metadata.num_columns)]
    widths = leaf_widths(found.schema)
    if len(widths) != len(chunks):
        widths = [None] * len(chunks)
    sizes = [_decoded_bytes(chunk, width) for chunk, width in zip(chunks, widths, strict=True)]
    return [(chunk.total_compressed_size, int(size)) for chunk, size in zip(chunks, sizes, strict=True)]


def _first_byte(chunk: pq.ColumnChunkMetaData) -> int:
    offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
    return int(min(offset for offset in offsets if offset is not None))


def _decoded_bytes(chunk: pq.ColumnChunkMetaData, width: float | None) -> float:
    """Exact for fixed-width values; for others what the pages hold, which is too low for repeated strings."""
    if width is None:
        return float(chunk.total_uncompressed_size + 4 * chunk.num_values)
    return chunk.num_values * width
