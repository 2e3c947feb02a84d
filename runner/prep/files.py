"""Files of a sink: writing one into the store, what is kept about it, and bringing one to another schema."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner.data.catalog import data_key
from runner.data.files.opening import open_input
from runner.data.formats import parquet
from runner.data.formats.extension import read_schema
from runner.data.formats.parquet_footer import Footer
from runner.data.manifest import Shard, Unit
from runner.data.schemas import conform, unify
from runner.data.writer import PIECE_BYTES, Pieces, write_file
from runner.errors import DataError, StoreError
from runner.store import Store
from runner.store.place import LOCAL
from runner.untrusted.paths import inner

_SLUG_LONGEST = 60
_ENDINGS = re.compile(r"(\.[a-z]{2,7}[0-9]?){1,2}$", re.IGNORECASE)  # .parquet, .csv.gz, .json.bz2
_ODD = re.compile(r"[^A-Za-z0-9_=.-]+")


@dataclasses.dataclass(frozen=True)
class OutputFile:
    """A file of a dataset; all fields are JSON.

    Args:
        path: its name in its folder.
        folder: where it was written, below the dataset's own.
        rows, bytes, sha256: of the file.
        md5: of it, in a store that tells MD5s as the tags of objects; else ''.
        units: its row groups, each as the fields of a `Unit`.
        schema: base64 of the serialised Arrow schema.
        source: the shard that it was made from, for errors.
    """

    path: str
    folder: str
    rows: int
    bytes: int
    md5: str
    sha256: str
    units: list[list[int]]
    schema: str
    source: str

    def __post_init__(self) -> None:
        inner(self.path, "the record of a task")

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> OutputFile:
        """As the record of a task has it (see `data.record_shapes`)."""
        return cls(**{field.name: facts[field.name] for field in dataclasses.fields(cls)})

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of the file, with not-null fields."""
        return read_schema(base64.b64decode(self.schema))

    @property
    def shard(self) -> Shard:
        """The file as an entry of a manifest."""
        units = tuple(Unit(*numbers) for numbers in self.units)
        etag = f"sha256:{self.sha256}" + (f" md5:{self.md5}" if self.md5 else "")
        return Shard(self.path, self.bytes, etag, "parquet", units)

    def to_json(self) -> dict[str, Any]:
        """For the record of a task."""
        return dict(self.__dict__)  # plain values all of them: what asdict copies would be as many again


def slug(path: str) -> str:
    """A shard's path as the legible beginning of a file name. The order of a dataset is that of its manifest."""
    folder, _, name = path.rpartition("/")
    stem = _ENDINGS.sub("", name) or name
    return _ODD.sub("_", f"{folder}_{stem}" if folder else stem)[:_SLUG_LONGEST].strip("_.") or "data"


@contextlib.contextmanager
def temporary(scratch: Path) -> Iterator[Path]:
    """A name for a file below `scratch`; the file goes afterwards.

    Raises:
        StoreError: the disk is full.
    """
    scratch.mkdir(parents=True, exist_ok=True)  # a machine of Ray on which nothing of the run has been yet
    path = scratch / f"out-{secrets.token_hex(8)}.parquet"
    try:
        yield path
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"no space left while writing {path}",
            allowed="room for the files that are being written",
            todo="free space, or set TMPDIR to a larger disk; then `runner resume`",
            where=f"scratch folder {scratch}",
        ) from error
    finally:
        path.unlink(missing_ok=True)


def store_table(
    table: pa.Table, store: Store, dataset: str, stem: str, *, folder: str, scratch: Path, source: str, where: str
) -> OutputFile:
    """Write `table` as ``<stem>-<hash>.parquet`` into a folder of `dataset`, in one move.

    The name ends with a hash of the content: a function that gives other rows when it is called again can then never
    change a file that a manifest names already.

    Raises:
        DataError: a column has a type that Parquet cannot hold.
        StoreError: the store, or the scratch folder, cannot be written.
    """
    with temporary(scratch) as local:
        try:
            written = write_file(local, table, md5=store.kind != LOCAL)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(
                f"the rows for '{dataset}' cannot be written as Parquet: {error}",
                allowed="columns of types that Parquet has",
                todo="change the column's type in fn",
                where=where,
            ) from error
        name = f"{stem}-{written.sha256[:8]}.parquet"
        units = parquet.units_of(Footer(written.metadata), written.bytes)
        store.put_file(f"{data_key(dataset, folder)}/{name}", local, take=True)
    return OutputFile(
        path=name,
        folder=folder,
        rows=written.rows,
        bytes=written.bytes,
        md5=written.md5,
        sha256=written.sha256,
        units=[[unit.index, unit.rows, unit.bytes, unit.start, unit.length] for unit in units],
        schema=base64.b64encode(written.schema.serialize().to_pybytes()).decode(),
        source=source,
    )


def recast(
    file: OutputFile, schema: pa.Schema, store: Store, dataset: str, *, folder: str, scratch: Path, where: str
) -> OutputFile:
    """A copy of `file`, in `folder`, with the types of `schema`, for tasks that saw only nulls or only small numbers.

    Raises:
        Drift: a value does not survive.
    """
    url = f"{store.url}/{data_key(dataset, file.folder)}/{file.path}"
    with open_input(url, file.bytes, store.options, path=file.path) as source:
        table = conform(parquet.table(source), schema)
    stem = file.path.rsplit("-", 1)[0]
    return store_table(table, store, dataset, stem, folder=folder, scratch=scratch, source=file.source, where=where)


class Gather:
    """The tables of one sink in one task, in order: brought to one schema and cut into pieces.

    Args:
        piece_bytes: decoded bytes of a piece.
    """

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self._pieces = Pieces(piece_bytes)
        self.schema: pa.Schema | None = None
        self.rows = 0

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """Take a table; yield the pieces that are complete. Raises Drift where it does not fit those before."""
        if self.schema is None or self.rows == 0:
            self.schema = table.schema
        if not table.num_rows:
            return
        self.rows += table.num_rows
        if not table.schema.equals(self.schema, check_metadata=True):
            wider = unify(self.schema, table.schema)
            table = conform(table, wider)
            if not wider.equals(self.schema, check_metadata=True):
                self.schema = wider
                for waiting in list(self._pieces.rest()):
                    yield from self._pieces.add(conform(waiting, wider))
        yield from self._pieces.add(table)

    def rest(self) -> Iterator[pa.Table]:
        """Yield what is left."""
        yield from self._pieces.rest()
