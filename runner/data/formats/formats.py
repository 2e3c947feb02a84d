"""One way into every format: `inspect` says what a file holds, `read` gives its rows as record batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from runner.data.declared import is_selected, reading_of
from runner.data.files.fetch import Promise
from runner.data.files.fetch.cache import Cache, entry_name, file_name
from runner.data.files.listing import SourceFile
from runner.data.files.verified import check_content
from runner.data.formats import ipc, ipc_away, lines, lines_likeness, parquet, parquet_footer, tar
from runner.data.formats import whole as whole_files
from runner.data.formats.base import Format, Inspected, Look, Request, Stored
from runner.data.formats.columns import SPARSE, add_partitions, check_columns, fill, unify
from runner.data.formats.explain import explained
from runner.data.formats.parquet_likeness import Likeness
from runner.data.limits import Limits, beyond, limits, shown_bytes
from runner.data.shards import UNCOUNTED, Shard
from runner.data.values.schema_shape import check_shape
from runner.data.values.types import size_of
from runner.errors import DataDamaged, listed
from runner.spec.reading import USUAL, Reading

#: Format -> how it is read. Their names and endings: `runner.spec.formats`.
READERS = {
    "parquet": Format(parquet.inspect, parquet.read, parquet.wants, lambda look, found: Likeness(), parquet.streams),
    "ipc": Format(ipc.inspect, ipc.read, ipc.wants),
    **{
        kind: Format(partial(lines.inspect, kind), lines.read, lines.wants, partial(lines_likeness.alike, kind))
        for kind in ("jsonl", "csv", "text")
    },
    "tar": Format(tar.inspect, tar.read, tar.wants),
    "files": Format(whole_files.inspect, whole_files.read, whole_files.wants),
}


def inspect(
    file: SourceFile,
    format: str,
    options: Mapping[str, Any] | None = None,
    whole: bool = False,
    reading: Reading = USUAL,
    columns: Sequence[str] | None = None,
    keep: Callable[[bytes], None] | None = None,
) -> Inspected:
    """The units of a file and its schema, without hive partition columns.

    Args:
        whole: read all of a file of lines, so that rows are counted and types are known for certain.
        reading: what was declared about it.
        columns: the only ones that somebody wants; None: all.
        keep: is given the footer of a Parquet file.

    Returns:
        (units, schema); the schema is None for a file of lines that is empty. Without `whole`, row counts of lines
        are not known, and their types are those that the start of each unit shows.

    Raises:
        DataError: the file is corrupt, of another format, or cannot be read; the URL is named.
    """
    return looked(Look(file, options, whole, reading, None if columns is None else tuple(columns), keep), format)


def looked(asked: Look, format: str) -> Inspected:
    """As `inspect`, given what is asked."""
    with explained(asked.file.url):
        units, schema = READERS[format].inspect(asked)
        if schema is not None:
            _check_shape(schema)
        return units, schema


#: The limits, and a schema that is within them: the files of a dataset have mostly the same one.
_fitting: tuple[Limits, pa.Schema] = Limits(), pa.schema([])


def _check_shape(schema: pa.Schema) -> None:
    global _fitting
    most, known = _fitting
    if not (schema.equals(known) and most == limits()):
        check_shape(schema)
        _fitting = limits(), schema


def ahead(
    url: str,
    shard: Shard,
    unit: int,
    columns: Sequence[str],
    options: Mapping[str, Any] | None,
    schema: pa.Schema,
    cache: Cache | None = None,
    footer: Stored | None = None,
    until: float = 1.0,
) -> Promise | None:
    """Begin to fetch what `read` will ask for; None where nothing is to be fetched, or that is not known beforehand.

    Args:
        unit: its position in `shard.units`.
        columns, options, schema, footer: as for `read`.
        cache: where it is taken from, and kept; it is then here when this returns.
        until: the share of the rows, from 0 to 1, up to which it is fetched for now, where it is read as it comes.

    Raises:
        DataError: what the file says of itself cannot be read, or the cache cannot be filled; the URL is named.
    """
    with explained(url, shard.units[unit].index):
        wanted = pa.schema([schema.field(name) for name in columns])
        asked = Request(url, shard, shard.units[unit], wanted, options, footer=footer)
        found = READERS[shard.format].wants(asked)
        if found is None:
            return None
        if cache is None:
            promise = found.promise()
            promise.send(until)
            return promise
        name = entry_name(file_name(url, shard.size, shard.etag), shard.units[unit].index, columns)
        return cache.fetch(name, found.source, found.ranges)


def streams(
    url: str,
    shard: Shard,
    unit: int,
    columns: Sequence[str],
    options: Mapping[str, Any] | None,
    schema: pa.Schema,
    footer: Stored | None,
    held: int,
) -> bool:
    """Whether a unit of a remote file can be read while no more than so many bytes of it are held: it need not be
    decoded at once then, however large it is. Arguments and errors are those of `ahead`.
    """
    with explained(url, shard.units[unit].index):
        wanted = pa.schema([schema.field(name) for name in columns])
        asked = Request(url, shard, shard.units[unit], wanted, options, footer=footer)
        return READERS[shard.format].streams(asked, held)


def verify(url: str, shard: Shard, options: Mapping[str, Any] | None = None) -> None:
    """Compare the whole content of a file with what was listed. Raises DataDamaged, and what `read` does."""
    with explained(url, of_content=DataDamaged):
        check_content(url, shard.size, shard.etag, options, shard.path)


def forget(url: str, shard: Shard, unit: int, columns: Sequence[str], cache: Cache | None = None) -> None:
    """Let go of what is kept of a unit, so that it is fetched anew: the file's footer, and its entry in a cache.

    Args:
        unit, columns, cache: as for `ahead`.
    """
    parquet_footer.forget(url, shard.etag)
    ipc_away.forget(url, shard.etag)
    if cache is not None:
        cache.forget(entry_name(file_name(url, shard.size, shard.etag), shard.units[unit].index, columns))


def read(
    url: str,
    shard: Shard,
    units: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    schema: pa.Schema | None = None,
    rows: int | None = None,
    footer: Stored | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of a shard, in file order.

    Args:
        url: of the file (`Manifest.url(shard)`).
        units: positions in `shard.units`; None reads all.
        columns: the columns wanted, in this order; None means all of `schema`.
        schema: of the manifest, partition columns included; None takes the file's own. Where all of it is read and it
            is no choice of columns (`is_selected`), a field of JSON lines that it has not is an error.
        rows: rows of a batch where the format lets one choose (Parquet); None: some 8 MiB.
        footer: gives that of a Parquet file, where it is known, so that the file need not be asked for it.

    Returns:
        Record batches whose schema is `schema` (or its `columns`); none is empty, none crosses a unit.

    Raises:
        DataError: a column is unknown, or a file is gone, or another one than was listed.
        DataDamaged: what a unit holds is corrupt, or of another schema; URL and unit are named.
    """
    reading = USUAL if schema is None else reading_of(schema)
    chosen = [shard.units[i] for i in (range(len(shard.units)) if units is None else units)]
    if schema is None:
        source = SourceFile(url, shard.path, shard.size, shard.etag, shard.partitions)
        found = inspect(source, shard.format, options)[1] or pa.schema([])
        schema = add_partitions(unify([(url, found)], shard.format), [shard.partitions])
    if columns is not None:
        check_columns(columns, schema.names, where=url)
        wanted = pa.schema([schema.field(name) for name in columns])
    else:
        wanted = schema.remove_metadata()
    strict = len(wanted) == len(schema) and not is_selected(schema)
    always = set() if shard.format in SPARSE else {*wanted.names} - {*reading.schema, *shard.partitions}
    most = limits()
    for unit in chosen:
        with explained(url, unit.index, DataDamaged):
            seen = decoded = 0
            asked = Request(url, shard, unit, wanted, options, rows, strict, reading, footer)
            for batch in READERS[shard.format].read(asked):
                if not batch.num_rows:  # pyarrow dies of some questions about empty ones
                    continue
                seen += batch.num_rows
                if not always.issubset(batch.schema.names):  # without a look it would be null throughout
                    raise ValueError(f"no column {listed(sorted(always.difference(batch.schema.names)))} any more")
                if unit.rows != UNCOUNTED and seen > unit.rows:
                    raise ValueError(f"{seen} rows, {unit.rows} were counted")
                for piece in fill(batch, wanted, shard.partitions):
                    decoded += max(size_of(piece), piece.num_rows)
                    if decoded > most.in_all(unit.within(shard.size)):
                        raise beyond("ratio", f"{shown_bytes(decoded)} of values out of {shown_bytes(shard.size)}")
                    yield piece
            if unit.rows not in (UNCOUNTED, seen):
                raise ValueError(f"{seen} rows, {unit.rows} were counted")
