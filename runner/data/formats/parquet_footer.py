"""What a Parquet file says about itself: read within limits, kept, and without extension types."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runner.data.files.listing import SourceFile
from runner.data.files.opening import open_input
from runner.data.formats.arrow_words import Trouble, of_error
from runner.data.formats.extension import KEY, plain_schema, without_types
from runner.data.formats.kept import Kept
from runner.data.formats.parquet_pages import Plan
from runner.data.limits import Limits, beyond, limits, shown_bytes
from runner.data.shards import Shard
from runner.data.values.types import fields_of, types
from runner.errors import DataError

_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"
#: Where Arrow's writers keep the schema that they were given, and what the key is called while nobody may read it.
SCHEMA, _HIDDEN = b"ARROW:schema", b"arrow:schema"
#: Bytes that a value can lie behind its key in the footer, whatever the way in which it says their lengths.
_BETWEEN = 16
#: Without a buffer pyarrow would read as soon as it looks at a chunk.
_EMPTY_BUFFER = 4 << 10
#: Read at first, from the end: most footers are in it, so that a remote one takes one request.
_TAIL_BYTES = 64 << 10


@dataclass
class Footer:
    """A footer, decoded.

    Args:
        metadata: whose schema has no extension types.
        stored: it, as it is in the file.
        plans: how row groups of which columns are read, once that is known: (row group, columns) -> plan.
    """

    metadata: pq.FileMetaData
    stored: bytes = b""
    plans: dict[tuple[int, tuple[int, ...]], Plan] = field(default_factory=dict)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        return plain_schema(self._stored)

    @cached_property
    def is_marked(self) -> bool:
        """Whether columns are tensors, which have another form than in the file."""
        return self.schema is not self._stored

    @cached_property
    def _stored(self) -> pa.Schema:
        return self.metadata.schema.to_arrow_schema()

    @cached_property
    def leaves(self) -> tuple[pq.ColumnSchema, ...]:
        """The columns as they are stored, fields inside columns apart; in the order of a row group's chunks."""
        return tuple(self.metadata.schema.column(i) for i in range(self.metadata.num_columns))

    def leaves_of(self, columns: Sequence[str] | None) -> list[int]:
        """The positions in `leaves` of what columns are made of; None means all."""
        if columns is None:
            return list(range(len(self.leaves)))
        wanted = set(columns)
        return [i for i, names in enumerate(self._names) if not wanted.isdisjoint(names)]

    @cached_property
    def _names(self) -> list[list[str]]:
        """For each of `leaves` the names that its column may have: dots part fields, and may be in a name."""
        paths = [leaf.path.split(".") for leaf in self.leaves]
        return [[".".join(parts[:end]) for end in range(1, len(parts) + 1)] for parts in paths]


class _Kept(Kept[Footer]):
    """Footers that were read, the last ones."""

    def __init__(self) -> None:
        super().__init__(lambda footer: len(footer.stored))


_kept = _Kept()


def _anew() -> None:
    """In a forked process: the locks may be held by threads of the parent's."""
    global _kept
    _kept = _Kept()


os.register_at_fork(after_in_child=_anew)


def footer(
    url: str,
    file: SourceFile | Shard,
    options: Mapping[str, Any] | None,
    known: Callable[[], bytes | None] | None = None,
) -> Footer:
    """The footer of a file, from memory if it was read before.

    Args:
        known: gives it as it was stored when the data was planned, or None: then the file is asked.

    Raises:
        DataError: the file is encrypted, or its footer passes a limit.
        pyarrow.ArrowException, OSError: it is no Parquet file, or damaged.
    """
    return _kept.get((url, file.etag), lambda: _of_plan(known, file.size) or _of_file(url, file, options))


def _of_plan(known: Callable[[], bytes | None] | None, size: int) -> Footer | None:
    """What was kept is taken for what anybody may have written: where it is damaged, the file has the word."""
    stored = known() if known is not None else None
    with contextlib.suppress(pa.ArrowException, OSError, ValueError, DataError):
        return _decoded(stored, size, limits()) if stored else None
    return None


def forget(url: str, etag: str) -> None:
    """Read the footer of a file anew when it is asked for next."""
    _kept.drop((url, etag))


def _of_file(url: str, file: SourceFile | Shard, options: Mapping[str, Any] | None) -> Footer:
    with open_input(url, file.size, options, path=file.path, etag=file.etag) as source:
        return read(source)


def read(source: pa.NativeFile) -> Footer:
    """The footer of an open file; errors as for `footer`."""
    size = source.size()
    tail = bytes(source.read_at(min(_TAIL_BYTES, size), max(0, size - _TAIL_BYTES)))
    end = tail[-8:]
    if end[4:] == _ENCRYPTED:
        raise encrypted("an encrypted footer")
    length = int.from_bytes(end[:4], "little")
    if end[4:] != _MAGIC or length > size - 12:
        raise pa.ArrowInvalid("no Parquet file: its last bytes are not those of one")
    most = limits()
    if length > most.footer_bytes:
        raise beyond("footer_bytes", f"a footer of {shown_bytes(length)}")
    stored = tail[-8 - length : -8] if length + 8 <= len(tail) else bytes(source.read_at(length, size - 8 - length))
    return _decoded(stored, size, most)


def _decoded(stored: bytes, size: int, most: Limits) -> Footer:
    """What a footer says, of a file of so many bytes."""
    length = len(stored)
    hidden = stored.replace(SCHEMA, _HIDDEN)
    metadata = _parsed(hidden, most)
    if length != metadata.serialized_size:  # a signature follows it
        raise encrypted("encrypted columns")  # to ask for any facts of such a column ends the process
    if metadata.num_columns > most.fields:
        raise beyond("fields", f"{metadata.num_columns:,} columns")
    _check_chunks(metadata, size)
    schema = (metadata.metadata or {}).get(_HIDDEN)
    shown = _shown(hidden, schema) if schema else None
    return Footer(metadata if shown is None else _parsed(shown, most), stored)


class _Empty(io.RawIOBase):
    """A file that claims `size` bytes and gives none.

    It raises nothing: pyarrow keeps an exception of a file's with all frames below, in a ring that is never freed.
    """

    def __init__(self, size: int) -> None:
        self._size, self._at, self.was_read = size, 0, False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        self.was_read = True
        return b""


def _check_chunks(metadata: pq.FileMetaData, size: int) -> None:
    """Raise if what is said of a column chunk contradicts itself: Python that asked for such a chunk would end.

    pyarrow looks at every chunk of a row group before it reads the first byte, where it can still raise. Of several
    groups it does so only if it is to fetch them all, in threads of its own, which takes longer. Where it is not, it
    refuses what it cannot decode as well, which is none of this function's business.
    """
    if not metadata.num_row_groups or not metadata.num_columns:
        return
    if metadata.num_row_groups > 1 or _refusal(metadata, size, all_at_once=False) is not None:
        error = _refusal(metadata, size, all_at_once=True)
        if error is not None:
            raise error


def _refusal(metadata: pq.FileMetaData, size: int, all_at_once: bool) -> Exception | None:
    """What pyarrow says of the chunks before it reads anything."""
    empty = _Empty(size)
    file = pq.ParquetFile(
        pa.PythonFile(empty, "r"),
        metadata=metadata,
        pre_buffer=all_at_once,
        buffer_size=_EMPTY_BUFFER,
        arrow_extensions_enabled=False,
    )
    try:
        next(file.iter_batches(1, use_threads=False), None)
    except (pa.ArrowException, OSError) as error:
        return None if empty.was_read else error
    return None


def leaf_widths(schema: pa.Schema) -> list[float | None]:
    """Bytes of one value per leaf column, in Parquet's order; None where it varies."""
    widths: list[float | None] = []
    for column in schema:
        _add_leaves(column.type, widths)
    return widths


def _add_leaves(kind: pa.DataType, widths: list[float | None]) -> None:
    if types.is_dictionary(kind):
        _add_leaves(kind.value_type, widths)
    elif types.is_nested(kind):
        for inner in fields_of(kind):
            _add_leaves(inner.type, widths)
    else:
        try:
            widths.append(kind.bit_width / 8)
        except ValueError:  # strings and binary
            widths.append(None)


def encrypted(found: str) -> DataError:
    """The error for encrypted data."""
    return DataError(
        found, allowed="Parquet files without encryption", todo="write the data decrypted, where only you can read it"
    )


def _parsed(data: bytes, most: Limits) -> pq.FileMetaData:
    file = _MAGIC + data + len(data).to_bytes(4, "little") + _MAGIC
    try:
        return pq.ParquetFile(
            pa.BufferReader(file),
            thrift_string_size_limit=max(len(data), 1),
            thrift_container_size_limit=max(1000, len(data) // 4),  # each takes more bytes than that
            schema_depth_limit=most.nesting,
            arrow_extensions_enabled=False,
        ).metadata
    except OSError as error:
        if of_error(error) is Trouble.TOO_NESTED:
            raise beyond("nesting", "a schema that is nested deeper") from error
        raise


def _shown(hidden: bytes, stored: bytes) -> bytes | None:
    """The footer with the schema of the writer to be found again, extension types taken out of it.

    Nothing but the text of strings changes, and none becomes longer, so it means the same otherwise. None where the
    schema is not to be found; the columns then have the types that Parquet has.

    Raises:
        pyarrow.ArrowInvalid: the schema is damaged. Without it values could be others: durations would be numbers.
    """
    try:
        schema = base64.b64decode(stored, validate=True)
    except binascii.Error as error:
        raise pa.ArrowInvalid(f"the schema that its writer kept cannot be read: {error}") from error
    if base64.b64encode(schema) != stored:
        raise pa.ArrowInvalid("the schema that its writer kept is not encoded as base64 is")
    at = hidden.find(stored)
    key = hidden.rfind(_HIDDEN, max(0, at - len(_HIDDEN) - _BETWEEN), max(at, 0))
    if at < 0 or key < 0:
        return None
    value = base64.b64encode(without_types(schema)) if KEY in schema else stored
    after = key + len(_HIDDEN)
    return hidden[:key] + SCHEMA + hidden[after:at] + value + hidden[at + len(stored) :]
