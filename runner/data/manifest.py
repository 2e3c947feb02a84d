"""The manifest: every file of a dataset with its units, and the one id that says which data this is."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from runner.data import stored_manifest
from runner.data.declared import (
    declared,
    declared_keys,
    is_selected,
    kinds,
    ordered,
    own_metadata,
    reading_of,
    selected,
    with_reading,
)
from runner.data.files.changed import content
from runner.data.files.fetch import Promise
from runner.data.files.fetch.cache import Cache
from runner.data.files.listing import SourceFile, infer_format, list_files
from runner.data.files.opening import filesystem, is_local, is_remote
from runner.data.files.tasks import in_tasks
from runner.data.footers import Footers
from runner.data.formats import formats, parquet_footer
from runner.data.formats.base import Look, Stored
from runner.data.formats.columns import add_partitions, check_columns, plain, unify
from runner.data.formats.explain import explained
from runner.data.formats.parquet_footer import Footer
from runner.data.inspection import inspected
from runner.data.lanes import layout
from runner.data.shards import UNCOUNTED as UNCOUNTED
from runner.data.shards import AllUnits, numbers_of
from runner.data.shards import Shard as Shard
from runner.data.shards import Unit as Unit
from runner.data.values import arrays
from runner.errors import DataError
from runner.spec.reading import USUAL, Reading
from runner.untrusted.paths import check_inner

Blob: TypeAlias = bytes  # inside Manifest, `bytes` is a property

#: A text as JSON.
_QUOTED = json.encoder.encode_basestring_ascii
#: Files that are hashed at a time.
_HASHED = 1 << 10
#: Files whose footers are read at the same time.
_THREADS = 16


@dataclass(frozen=True, repr=False)
class Manifest:
    """What a dataset is made of. Made by `build`, `Manifest.of` or `from_bytes`.

    Args:
        base: the URL below which the paths of the shards lie.
        shards: in the order of the data: of listed files by path, of a published dataset as its stage made them.
        schema: the columns, hive partition columns included.
        options: fsspec storage options of `base`.
        lanes: how many lanes the sample order has (see docs/streaming.md).
        block_bytes: size of a block of a lane.
        footers: of Parquet files of other machines, so that who reads them does not ask for these too; they have no
            part in what the data is.
    """

    base: str
    shards: tuple[Shard, ...]
    schema: pa.Schema
    options: Mapping[str, Any] = field(default_factory=dict)
    lanes: int = 1
    block_bytes: int = 1
    footers: Footers = field(default_factory=Footers, compare=False)

    @classmethod
    def of(
        cls, base: str, shards: Sequence[Shard], schema: pa.Schema, options: Mapping[str, Any] | None = None
    ) -> Manifest:
        """The manifest of shards that are known already, in this order; lanes and blocks follow from them."""
        lanes, block_bytes = layout(AllUnits(shards))
        kept = plain(schema).with_metadata(own_metadata(schema) or None)
        return cls(base.rstrip("/"), tuple(shards), kept, dict(options or {}), lanes, block_bytes)

    def __repr__(self) -> str:
        rows = "rows not counted" if self.rows == UNCOUNTED else f"{self.rows:,} rows"
        files = f"{len(self.shards):,} file{'' if len(self.shards) == 1 else 's'}"
        return f"<Manifest {self.id[:12]}: {rows} in {files}, {self.base}>"

    @cached_property
    def id(self) -> str:
        """32 hex digits: a hash of relative paths, content hashes, unit rows and columns.

        The same files have the same id on disk, in memory and on an object store that tells MD5s; any change of the
        data, and a choice of columns, makes another. What a Prep wrote is told by its SHA-256, which costs less: the
        same in all stores, and another id than those files have where they are listed by their URL.
        """
        digest = hashlib.sha256(b"runner manifest 1\n")
        for column in self.schema:
            digest.update(json.dumps(["column", column.name, str(column.type)]).encode() + b"\n")
        if self.reading.csv:
            digest.update(json.dumps(["csv", self.reading.to_json()["csv"]], sort_keys=True).encode() + b"\n")
        for start in range(0, len(self.shards), _HASHED):
            digest.update("".join(map(_line, self.shards[start : start + _HASHED])).encode())
        return digest.hexdigest()[:32]

    @cached_property
    def rows(self) -> int:
        """Rows of all shards, or UNCOUNTED where lines were not counted."""
        counts = self.units.numbers("rows")
        return UNCOUNTED if (counts == UNCOUNTED).any() else int(counts.sum())

    @cached_property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(shard.size for shard in self.shards)

    @cached_property
    def units(self) -> AllUnits:
        """All units in file order, each with the position of its shard."""
        return AllUnits(self.shards)

    @property
    def reading(self) -> Reading:
        """What was declared about the files."""
        return reading_of(self.schema)

    def url(self, shard: Shard) -> str:
        """The full URL of a shard."""
        return f"{self.base}/{shard.path}"

    def read(
        self,
        shard: int,
        units: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        rows: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Record batches of one shard (see `formats.read`), with the manifest's schema."""
        one = self.shards[shard]
        footer = self._known(one)
        return formats.read(self.url(one), one, units, columns, self.options, self.schema, rows, footer)

    def ahead(
        self,
        shard: int,
        unit: int,
        columns: Sequence[str],
        cache: Cache | None = None,
        until: float = 1.0,
    ) -> Promise | None:
        """Begin to fetch a unit that will be read soon, of a remote file (see `formats.ahead`)."""
        one = self.shards[shard]
        footer = self._known(one)
        return formats.ahead(self.url(one), one, unit, columns, self.options, self.schema, cache, footer, until)

    def streams(self, shard: int, unit: int, columns: Sequence[str], held: int) -> bool:
        """Whether a unit can be read while no more than so many bytes of it are held (see `formats.streams`)."""
        one = self.shards[shard]
        footer = self._known(one)
        return formats.streams(self.url(one), one, unit, columns, self.options, self.schema, footer, held)

    def footer(self, shard: Shard) -> Footer:
        """The footer of one of the Parquet files. Raises what `parquet_footer.footer` does."""
        return parquet_footer.footer(self.url(shard), shard, self.options, self._known(shard))

    def _known(self, shard: Shard) -> Stored:
        return partial(self.footers.get, shard)

    def with_footers(self) -> Manifest:
        """The manifest with the footers of all Parquet files, where these lie on another machine: those that are not
        known are read. Raises DataError where one cannot be.
        """
        files = [one for one in self.shards if one.format == "parquet"]
        if not files or not is_remote(self.base, self.options):
            return self
        footers = Footers()

        def stored(shard: Shard) -> bytes:
            with explained(self.url(shard)):
                return self.footers.get(shard) or self.footer(shard).stored

        for shard, footer in zip(files, in_tasks(stored, files, _THREADS), strict=True):
            footers.add(shard, footer)
        return replace(self, footers=footers)

    def verify(self, shard: int) -> None:
        """Read the whole file of a shard, and compare it with what was listed (see `formats.verify`)."""
        one = self.shards[shard]
        formats.verify(self.url(one), one, self.options)

    def forget(self, shard: int, unit: int, columns: Sequence[str], cache: Cache | None = None) -> None:
        """Let go of what is kept of a unit (see `formats.forget`), and of the footer of its file."""
        one = self.shards[shard]
        self.footers.doubt(one)
        formats.forget(self.url(one), one, unit, columns, cache)

    def select(self, columns: Sequence[str]) -> Manifest:
        """The same data with some of its columns. Raises DataError for an unknown one."""
        check_columns(columns, self.schema.names, where=self.base)
        return replace(self, schema=selected(self.schema, columns))

    def counted(self) -> Manifest:
        """The manifest with all rows counted: lines are read once, units without rows are left out, and types are
        those of all lines.

        Raises:
            DataError: a line contradicts another, or a file has changed.
        """
        if self.rows != UNCOUNTED:
            return self
        files = [SourceFile(self.url(one), one.path, one.size, one.etag, one.partitions) for one in self.shards]
        columns = self.schema.names if is_selected(self.schema) else None
        whole = from_files(files, self.shards[0].format, self.options, True, columns, self.reading)
        return replace(whole, base=self.base).select(columns) if columns is not None else whole

    def to_bytes(self) -> Blob:
        """The manifest as a Parquet file: one row a shard; the same manifest gives the same bytes.

        Raises:
            DataError: a file's name is one that no manifest may have, for it could lead out of the folder.
        """
        check_inner([shard.path for shard in self.shards], self.base)
        head = {
            "version": stored_manifest.VERSION,
            "base": self.base,
            "options": dict(self.options),
            "lanes": self.lanes,
            "block_bytes": self.block_bytes,
            "schema": base64.b64encode(self.schema.serialize().to_pybytes()).decode(),
        }
        schema = stored_manifest.TABLE.with_metadata({stored_manifest.KEY: json.dumps(head, sort_keys=True).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_arrays(_columns(self.shards), schema=schema), sink, compression="zstd")
        data: Blob = sink.getvalue().to_pybytes()
        return data

    def write(self, url: str | os.PathLike[str]) -> None:
        """Keep the manifest in a file beside its data or above it, where it is a source as any other
        (``format="manifest"``): files are then neither listed nor looked at again.

        Args:
            url: of the file, which is replaced; `options` open it.

        Raises:
            DataError: the data does not lie in the file's folder, or a name is one that no manifest may have.
            OSError: it cannot be written.
        """
        fs, path = filesystem(os.fspath(url), self.options)
        here, there = path.rpartition("/")[0], filesystem(self.base, self.options)[1].rstrip("/")
        if not f"{there}/".startswith(f"{here}/"):
            raise DataError(
                f"a manifest elsewhere than its data ({self.base})",
                allowed="a file in the data's own folder, or in one above it",
                todo="choose another place",
                where=os.fspath(url),
            )
        data = replace(self, base=f"{there}/".removeprefix(f"{here}/").rstrip("/"), options={}).to_bytes()
        if not is_local(fs):
            fs.pipe_file(path, data)
            return
        beside = f"{path}.{os.getpid()}"
        with open(beside, "wb") as file:
            file.write(data)
        os.replace(beside, path)

    @staticmethod
    def from_bytes(data: Blob, footers: Callable[[], Blob] | None = None) -> Manifest:
        """The manifest that `to_bytes` wrote. Raises DataError if `data` is something else (see `stored_manifest`).

        Args:
            footers: gives what `footers.to_bytes` wrote of it, once a file is to be read; FileNotFoundError where that
                was not kept.
        """
        stored = stored_manifest.read(data)
        return Manifest(**vars(stored), footers=Footers(footers))


def _line(shard: Shard) -> str:
    """A file as a line of JSON: as json.dumps writes a list, which takes longer for it than to hash it."""
    rows = numbers_of(shard.units, "rows")
    return f"[{_QUOTED(shard.path)}, {_QUOTED(shard.format)}, {_QUOTED(content(shard.etag))}, {rows}]\n"


def _columns(shards: Sequence[Shard]) -> list[pa.Array]:
    """Of the table: a row for each shard."""
    units = AllUnits(shards)
    fields = [arrays.indices(units.numbers(part.name)) for part in stored_manifest.UNIT]
    return [
        arrays.texts([shard.path for shard in shards]),
        arrays.numbers([shard.size for shard in shards]),
        arrays.texts([shard.etag for shard in shards]),
        arrays.texts([shard.format for shard in shards]),
        arrays.texts([json.dumps(dict(shard.partitions)) for shard in shards]),
        arrays.lists(
            pa.StructArray.from_arrays(fields, fields=list(stored_manifest.UNIT)), [shard.units for shard in shards]
        ),
    ]


def build(
    url: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    format: str | None = None,
    options: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    count: bool = False,
    reading: Reading = USUAL,
) -> Manifest:
    """The manifest of the data behind `url`.

    Args:
        url: a file, folder or glob on any fsspec URL, or several of them.
        format: parquet, ipc, jsonl, csv, text, tar or files; None follows from the endings.
        options: fsspec storage options.
        columns: the columns wanted; None takes all.
        count: read JSON lines, CSV and text once, so that `rows` is known (a sample order needs it).
        reading: what is declared about the files.

    Raises:
        DataError: nothing there, not readable, corrupt, schema drift, or an unknown column.
    """
    files = list_files(url, options, format, hashed=False)
    manifest = from_files(files, format or infer_format(files, str(url)), options, count, columns, reading)
    return manifest.select(columns) if columns is not None else manifest


def from_files(
    files: Sequence[SourceFile],
    format: str,
    options: Mapping[str, Any] | None = None,
    count: bool = False,
    columns: Sequence[str] | None = None,
    reading: Reading = USUAL,
) -> Manifest:
    """The manifest of listed files, inspected in parallel; `count` and errors as for `build`.

    Args:
        columns: what is wanted, if not all; it only says of which columns the files must agree (see `unify`).
    """
    if reading.csv and format != "csv":
        raise DataError(
            f"csv= of files of format '{format}'", allowed="for CSV", todo="leave it out", where=files[0].url
        )
    wanted = None if columns is None else tuple(columns)
    tags, found, footers = inspected(files, format, lambda file: Look(file, options, count, reading, wanted))
    seen = [(file.url, schema) for file, (_, schema) in zip(files, found, strict=True) if schema is not None]
    if not seen:
        raise DataError("only empty files", allowed="at least one row", todo="check the files", where=files[0].url)
    base = files[0].url.removesuffix("/" + files[0].path)
    if reading.unknown != "infer":
        files = [replace(file, partitions=declared_keys(file.partitions, reading, file.url)) for file in files]
    partitions = _same_keys(files)
    one = unify(declared(seen, format, reading, files[0].partitions), format, columns)
    with explained(base):
        schema = ordered(add_partitions(one, partitions, kinds(reading)), reading)
    shards = [
        Shard(file.path, file.size, tag, format, units, file.partitions)
        for file, tag, (units, _) in zip(files, tags, found, strict=True)
    ]
    made = Manifest.of(base, shards, with_reading(schema, reading, columns is not None), options)
    return replace(made, footers=footers)


def _same_keys(files: Sequence[SourceFile]) -> list[Mapping[str, str | None]]:
    first = files[0]
    for file in files:
        if file.partitions.keys() != first.partitions.keys():
            raise DataError(
                f"schema drift in the partitions: {sorted(file.partitions)} here, "
                f"{sorted(first.partitions)} in {first.url}",
                allowed="the same hive partition keys for all files",
                todo="give a glob that fits one depth of folders",
                where=file.url,
            )
    return [file.partitions for file in files]
