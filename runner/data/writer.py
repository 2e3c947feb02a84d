"""The deterministic Parquet writer: the same rows give the same bytes, in the encoding that decodes fastest.

What is written depends on the sequence of rows alone, never on how it arrived in batches: pieces and row groups are
cut by decoded bytes, codec and dictionary are chosen per column by a trial on the first rows. Seen with pyarrow 26 on
one core, MiB/s decoded: int32 plain 3328, with lz4 2050, with zstd 575, with snappy 516; lists of int32 860 where
neither lists nor values may be null, 640 where both may. So fields without nulls are written as such, lz4 is taken
where it saves enough, and zstd only where it saves a lot more.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runner.data.values.recast import fixed_values, recast
from runner.data.values.types import types

#: Decoded bytes of one file; below the 50 MiB from which s3fs splits an upload, so that an S3 etag is the md5.
PIECE_BYTES = 48 << 20
#: Decoded bytes of one row group, which is the unit that training reads.
GROUP_BYTES = 8 << 20
_TRIAL_BYTES = 1 << 20
_TRIAL_LEAST = 4 << 10  # less is not worth four trials

#: Bytes of a file that are handed to its hashes at a time, and how many such pieces may wait for them.
_HASHED_BYTES = 1 << 20
_HASHED_AHEAD = 16

#: Compression must bring a column below this share of its plain size to be worth the decoding ...
_LZ4_PAYS = 0.8
#: ... and zstd below this share of what lz4 makes of it.
_ZSTD_PAYS = 0.6
_DICTIONARY_PAYS = 0.4


@dataclass(frozen=True)
class Written:
    """A finished file.

    Args:
        rows: in the file.
        bytes: of the file.
        decoded: bytes of its values in memory.
        sha256: of the file, in hex.
        md5: the same; '' where it was not asked for.
        schema: of the file, with not-null fields.
        metadata: its footer.
    """

    rows: int
    bytes: int
    decoded: int
    md5: str
    sha256: str
    schema: pa.Schema
    metadata: pq.FileMetaData


def write_file(
    path: str | os.PathLike[str], table: pa.Table, group_bytes: int = GROUP_BYTES, *, md5: bool = True
) -> Written:
    """Write `table` as one Parquet file with page checksums.

    Args:
        path: a local file, which must not exist.
        table: its columns; schema metadata is written as it is, so strip it before.
        group_bytes: decoded bytes of a row group.
        md5: compute the MD5 too: it takes longer than SHA-256, and than writing many a column.

    Raises:
        pyarrow.ArrowNotImplementedError: a column's type has no place in Parquet.
    """
    with open(path, "xb") as file:
        return write(file, table, group_bytes, md5=md5)


def write(file: BinaryIO, table: pa.Table, group_bytes: int = GROUP_BYTES, *, md5: bool = True) -> Written:
    """As `write_file`, into a file that is open."""
    table = tighten(table)
    trial = table.slice(0, prefix_rows(table, _TRIAL_BYTES)).combine_chunks()
    options = _writer_options(trial)
    decoded = decoded_bytes(table)
    footers: list[pq.FileMetaData] = []
    options["metadata_collector"] = footers
    with _Hashing(file, md5) as sink, pq.ParquetWriter(sink, table.schema, **options) as writer:
        for group in _cut(table, _even(decoded, group_bytes)):
            writer.write_table(group.combine_chunks(), row_group_size=group.num_rows)
    return Written(
        rows=table.num_rows,
        bytes=sink.bytes,
        decoded=decoded,
        md5=sink.md5.hexdigest() if sink.md5 is not None else "",
        sha256=sink.sha256.hexdigest(),
        schema=table.schema,
        metadata=footers[0],
    )


class Pieces:
    """Gathers tables of one schema and gives them back cut into pieces of a fixed size.

    Args:
        piece_bytes: decoded bytes of a piece; a piece ends with the row that reaches it.
    """

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self._target = piece_bytes
        self._waiting: list[pa.Table] = []
        self._bytes = 0

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """Take a table; yield the pieces that are complete."""
        self._waiting.append(table)
        self._bytes += decoded_bytes(table)
        if self._bytes >= self._target:
            joined = pa.concat_tables(self._waiting)
            pieces = list(_cut(joined, self._target))
            complete = pieces if decoded_bytes(pieces[-1]) >= self._target else pieces[:-1]
            rest = pieces[len(complete) :]
            self._waiting, self._bytes = rest, sum(map(decoded_bytes, rest))
            yield from complete

    def rest(self) -> Iterator[pa.Table]:
        """Yield what is left, if anything is."""
        if self._waiting:
            yield pa.concat_tables(self._waiting)
        self._waiting, self._bytes = [], 0


def _cut(table: pa.Table, target: int) -> Iterator[pa.Table]:
    """Slices of `table` that each end with the row which brings them to `target` decoded bytes."""
    while table.num_rows:
        rows = prefix_rows(table, target)
        yield table.slice(0, rows)
        table = table.slice(rows)


def _even(total: int, target: int) -> int:
    """A size near `target` that divides `total` without a small rest."""
    return math.ceil(total / max(1, round(total / target)))


# -- sizes -----------------------------------------------------------------------------------------------------------


def prefix_rows(table: pa.Table, target: int) -> int:
    """The fewest first rows of `table` that hold `target` decoded bytes; all of them if none do. At least 1 if any."""
    width, others = _layout(table)
    low, high = min(1, table.num_rows), table.num_rows
    if not others:
        return max(low, min(high, math.ceil(target / width))) if width else high
    varying = table.select(others)
    while low < high:
        middle = (low + high) // 2
        if width * middle + decoded_bytes(varying.slice(0, middle)) >= target:
            high = middle
        else:
            low = middle + 1
    return low


def decoded_bytes(table: pa.Table | pa.RecordBatch) -> int:
    """Bytes of the values and offsets of `table` in memory.

    Validity bitmaps and slack in buffers do not count: they depend on how the table was made, and cuts must not.
    """
    width, others = _layout(table)
    total = width * int(table.num_rows)
    for column in map(table.column, others):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        total += sum(_array_bytes(chunk) for chunk in chunks)
    return total


def _layout(table: pa.Table | pa.RecordBatch) -> tuple[int, list[int]]:
    """(bytes of a row in the columns where all rows have as many, the positions of the other columns)."""
    widths = [_width(field.type) for field in table.schema]
    return sum(width or 0 for width in widths), [i for i, width in enumerate(widths) if width is None]


def _width(kind: pa.DataType) -> int | None:
    """Bytes of a value; None where that depends on the value."""
    if isinstance(kind, pa.BaseExtensionType):
        return _width(kind.storage_type)
    if types.is_fixed_size_list(kind):
        width = _width(kind.value_type)
        return None if width is None else width * int(kind.list_size)
    if types.is_nested(kind):
        return None
    try:
        return max(1, int(kind.bit_width) // 8)  # a byte for a bit, so that chunks add up
    except ValueError:  # strings, binary, null, views
        return None


def _array_bytes(array: pa.Array) -> int:
    kind = array.type
    width = _width(kind)
    if width is not None:
        return len(array) * width
    if isinstance(array, pa.ExtensionArray):
        return _array_bytes(array.storage)
    if types.is_string(kind) or types.is_binary(kind):
        return _spanned(array, np.int32) + 4 * len(array)
    if types.is_large_string(kind) or types.is_large_binary(kind):
        return _spanned(array, np.int64) + 8 * len(array)
    if types.is_fixed_size_list(kind):
        return _array_bytes(fixed_values(array))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
        return _list_bytes(array)
    if types.is_struct(kind):
        return sum(_array_bytes(array.field(i)) for i in range(kind.num_fields))
    return int(array.nbytes)  # null, views, run-ends


def _spanned(array: pa.Array, offset_type: type[np.signedinteger[Any]]) -> int:
    """Bytes between the first and the last offset of a string or binary array."""
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return 0
    offsets = np.frombuffer(buffer, offset_type)
    return int(offsets[array.offset + len(array)] - offsets[array.offset])


def _list_bytes(array: pa.Array) -> int:
    if not len(array):
        return 0
    offsets = array.offsets
    first, last = offsets[0].as_py() or 0, offsets[len(offsets) - 1].as_py() or 0
    inner = [array.keys, array.items] if types.is_map(array.type) else [array.values]
    return offsets.type.bit_width // 8 * len(array) + sum(
        _array_bytes(part.slice(first, last - first)) for part in inner
    )


# -- nulls -----------------------------------------------------------------------------------------------------------


def tighten(table: pa.Table) -> pa.Table:
    """`table` with every field that has no nulls declared not null, inside lists and structs as well."""
    fields = [_tight_field(field, table.column(i).chunks) for i, field in enumerate(table.schema)]
    schema = pa.schema(fields, metadata=table.schema.metadata)
    columns = [recast(column, field.type) for column, field in zip(table.columns, fields, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


def _tight_field(field: pa.Field, chunks: list[pa.Array]) -> pa.Field:
    nullable = types.is_null(field.type) or any(chunk.null_count for chunk in chunks)
    return pa.field(field.name, _tight_type(field.type, chunks), nullable=nullable, metadata=field.metadata)


def _tight_type(kind: pa.DataType, chunks: list[pa.Array]) -> pa.DataType:
    if types.is_fixed_size_list(kind):
        return pa.list_(_tight_field(kind.value_field, [fixed_values(chunk) for chunk in chunks]), kind.list_size)
    if types.is_list(kind):
        return pa.list_(_tight_field(kind.value_field, [chunk.flatten() for chunk in chunks]))
    if types.is_large_list(kind):
        return pa.large_list(_tight_field(kind.value_field, [chunk.flatten() for chunk in chunks]))
    if types.is_struct(kind) and not any(chunk.null_count for chunk in chunks):
        inner = [_tight_field(kind.field(i), [chunk.field(i) for chunk in chunks]) for i in range(kind.num_fields)]
        return pa.struct(inner)
    return kind


# -- encodings -------------------------------------------------------------------------------------------------------


def _writer_options(trial: pa.Table) -> dict[str, Any]:
    """Codec and dictionary per leaf column, from writing the first rows in each way."""
    common: dict[str, Any] = {"version": "2.6", "write_page_checksum": True, "write_statistics": True}
    if decoded_bytes(trial) < _TRIAL_LEAST:
        return {**common, "compression": "none", "use_dictionary": False}
    lz4 = _leaf_sizes(trial, {"compression": "lz4", "use_dictionary": False})
    zstd = _leaf_sizes(trial, {"compression": "zstd", "compression_level": 1, "use_dictionary": False})
    codecs = {path: _codec(leaf.plain, leaf.bytes, zstd[path].bytes) for path, leaf in lz4.items()}
    chosen = {
        "compression": {path: codec for path, codec in codecs.items() if codec != "none"} or "none",
        "compression_level": {path: 1 for path, codec in codecs.items() if codec == "zstd"} or None,
        "use_dictionary": _dictionaries(trial, lz4) or False,
    }
    return {**common, **chosen}


def _dictionaries(trial: pa.Table, leaves: Mapping[str, _Leaf]) -> list[str]:
    """The leaf columns of strings and binary that are far smaller as dictionaries."""
    texts = {path for path, leaf in leaves.items() if leaf.kind == "BYTE_ARRAY"}
    if not texts:
        return []
    some = trial.select([name for name in trial.column_names if any(f"{t}.".startswith(f"{name}.") for t in texts)])
    words = _leaf_sizes(some, {"compression": "none", "use_dictionary": True})
    return [path for path in leaves if path in texts and words[path].bytes < _DICTIONARY_PAYS * leaves[path].plain]


def _codec(plain: int, lz4: int, zstd: int) -> str:
    best = min(plain * _LZ4_PAYS, lz4)
    if zstd <= best * _ZSTD_PAYS:
        return "zstd"
    return "lz4" if lz4 <= plain * _LZ4_PAYS else "none"


@dataclass(frozen=True)
class _Leaf:
    """A leaf column of a trial: its physical type, and its bytes in the file, as they are and without compression."""

    kind: str
    bytes: int
    plain: int


def _leaf_sizes(table: pa.Table, options: dict[str, Any]) -> dict[str, _Leaf]:
    """Leaf column path -> what it takes in a file."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, write_statistics=False, store_schema=False, **options) as writer:
        writer.write_table(table)
    group = pq.read_metadata(pa.BufferReader(sink.getvalue())).row_group(0)
    leaves = [group.column(i) for i in range(group.num_columns)]
    return {
        leaf.path_in_schema: _Leaf(leaf.physical_type, leaf.total_compressed_size, leaf.total_uncompressed_size)
        for leaf in leaves
    }


class _Hashing(io.RawIOBase):
    """A binary file that hashes and counts what goes through it: in a thread beside whoever writes, if it is much.

    To be closed (as a context) before the hashes are asked for.
    """

    def __init__(self, file: BinaryIO, md5: bool = True) -> None:
        self._file = file
        self.md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self.sha256 = hashlib.sha256()
        self.bytes = 0
        self._few: list[bytes] = []
        self._few_bytes = 0
        self._to_do: queue.Queue[list[bytes] | None] = queue.Queue(_HASHED_AHEAD)
        self._thread: threading.Thread | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        kept = data if isinstance(data, bytes) else bytes(data)  # what is no bytes may be changed afterwards
        self.bytes += len(kept)
        self._few.append(kept)
        self._few_bytes += len(kept)
        if self._few_bytes >= _HASHED_BYTES:
            self._hand_over()
        return self._file.write(kept)

    def close(self) -> None:
        if not self.closed:
            if self._thread is not None:
                self._to_do.put(None)
                self._thread.join()
            self._hash(self._few)
            self._few = []
        super().close()

    def _hand_over(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="runner-hash", daemon=True)
            self._thread.start()
        self._to_do.put(self._few)
        self._few, self._few_bytes = [], 0

    def _run(self) -> None:
        while (some := self._to_do.get()) is not None:
            self._hash(some)

    def _hash(self, some: list[bytes]) -> None:
        for data in some:
            self.sha256.update(data)
            if self.md5 is not None:
                self.md5.update(data)
