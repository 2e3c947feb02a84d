"""What the footers of Parquet files say of their columns, and their pages' headers of what can be verified."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from runner.data.files.changed import HASHES
from runner.data.files.opening import open_input
from runner.data.formats.explain import explained
from runner.data.formats.parquet import chunk_bytes
from runner.data.formats.parquet_footer import Footer
from runner.data.formats.parquet_pages import pages_of
from runner.data.manifest import Manifest
from runner.data.shards import Shard
from runner.data.survey.sample import spread_out

#: Files whose footers are looked at, and whose pages' headers are.
_FOOTERS, _PAGES = 64, 3
#: Columns of a file whose pages are looked at.
_MOST_CHUNKS = 64


@dataclass(frozen=True)
class ColumnFacts:
    """A column, in the files that were looked at.

    Args:
        name, type: as read.
        stored, decoded: bytes in the files, and about how many in memory; None where the format does not tell.
        encodings, codecs: of its values, by Parquet's names.
        nulls: how many rows have none; None where no footer tells, or rows are lists or structs.
    """

    name: str
    type: str
    stored: int | None = None
    decoded: int | None = None
    encodings: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ()
    nulls: int | None = None


@dataclass(frozen=True)
class Checks:
    """What of the data can be verified.

    Args:
        files: whose pages were looked at.
        pages, checked: how many they have, and how many of these have a checksum.
        largest_page: bytes of the largest, decompressed.
        hashes: files of which the listing tells a hash of the content; `tags`: of which it tells another tag.
    """

    files: int = 0
    pages: int = 0
    checked: int = 0
    largest_page: int = 0
    hashes: int = 0
    tags: int = 0


@dataclass
class _Sum:
    stored: int = 0
    decoded: int = 0
    encodings: set[str] = field(default_factory=set)
    codecs: set[str] = field(default_factory=set)
    nulls: int | None = 0


def column_facts(manifest: Manifest) -> tuple[tuple[ColumnFacts, ...], int]:
    """The columns, and from how many files' footers that is (0: of a format without).

    Raises:
        DataError: a footer cannot be read.
    """
    shards = _parquet(manifest, _FOOTERS)
    sums: dict[str, _Sum] = defaultdict(_Sum)
    for shard in shards:
        with explained(manifest.url(shard)):
            _add(manifest.footer(shard), sums)
    return tuple(_facts(column.name, str(column.type), sums) for column in manifest.schema), len(shards)


def _facts(name: str, kind: str, sums: dict[str, _Sum]) -> ColumnFacts:
    if name not in sums:
        return ColumnFacts(name, kind)
    found = sums[name]
    encodings, codecs = tuple(sorted(found.encodings)), tuple(sorted(found.codecs))
    return ColumnFacts(name, kind, found.stored, found.decoded, encodings, codecs, found.nulls)


def _parquet(manifest: Manifest, most: int) -> Sequence[Shard]:
    shards = [shard for shard in manifest.shards if shard.format == "parquet" and shard.units]
    return spread_out(shards, most)


def _add(found: Footer, sums: dict[str, _Sum]) -> None:
    columns = set(found.schema.names)
    owners = [_owner(leaf.path, columns) for leaf in found.leaves]
    for group in range(found.metadata.num_row_groups):
        metadata, sizes = found.metadata.row_group(group), chunk_bytes(found, group)
        for i, (owner, (stored, decoded)) in enumerate(zip(owners, sizes, strict=True)):
            one, chunk = sums[owner], metadata.column(i)
            one.stored += stored
            one.decoded += decoded
            one.encodings |= set(chunk.encodings) - {"RLE", "BIT_PACKED"}  # of levels
            one.codecs.add(chunk.compression)
            flat = found.leaves[i].path == owner
            one.nulls = _nulls(one.nulls, chunk) if flat else None


def _owner(path: str, columns: set[str]) -> str:
    """The column that a leaf is in: dots part fields, and may be in a name."""
    parts = path.split(".")
    names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return next((name for name in names if name in columns), path)


def _nulls(before: int | None, chunk: pq.ColumnChunkMetaData) -> int | None:
    known = chunk.statistics
    if before is None or known is None or not known.has_null_count:
        return None
    return before + int(known.null_count)


def checks(manifest: Manifest) -> Checks:
    """What can be verified: by the headers of pages in some files, and by what is known of all of them.

    Raises:
        DataError: a file cannot be read.
    """
    pages = checked = largest = 0
    shards = _parquet(manifest, _PAGES)
    for shard in shards:
        url = manifest.url(shard)
        with explained(url), open_input(url, shard.size, manifest.options, path=shard.path, etag=shard.etag) as source:
            group = manifest.footer(shard).metadata.row_group(shard.units[0].index)
            for i in range(min(group.num_columns, _MOST_CHUNKS)):
                found = pages_of(source, shard.size, group.column(i))
                pages, checked = pages + found.count, checked + found.checked
                largest = max(largest, found.largest)
    hashes = sum(shard.etag.partition(":")[0] in HASHES for shard in manifest.shards)
    tags = sum(shard.etag.startswith("etag:") for shard in manifest.shards)
    return Checks(len(shards), pages, checked, largest, hashes, tags)
