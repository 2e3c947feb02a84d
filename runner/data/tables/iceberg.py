"""Apache Iceberg: the files of a snapshot, as `pyiceberg` reads them from the table's metadata."""

from __future__ import annotations

import datetime
import decimal
import posixpath
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from runner.code import extras
from runner.data.files.opening import filesystem
from runner.data.limits import beyond, limits, shown_bytes
from runner.data.tables.base import Part, Table, address, explained, made, refused
from runner.data.tables.iceberg_files import checked_lengths, opener
from runner.errors import DataError, listed
from runner.untrusted.paths import is_inner

_METADATA = re.compile(r"v?(\d+)(?:-[0-9a-fA-F-]+)?(?:\.gz)?\.metadata\.json(?:\.gz)?")
_NAMES = "schema.name-mapping.default"
_REWRITE = "rewrite the table's files (rewrite_data_files), or read it with its own library in a Dataset(make=...)"


def opened(url: str, options: Mapping[str, Any] | None, snapshot: int | None) -> Table:
    """The files of a snapshot.

    Args:
        url: the table's folder, or one of its metadata files, such as its catalog names.
        snapshot: its id; None takes the current one.

    Raises:
        MissingPackage: pyiceberg is not installed.
        DataError: there is no such table or snapshot, it has deletes, renamed columns or what else is not in its files,
            or a file is gone.
    """
    extras.need("iceberg", "an Iceberg table")
    with explained(url, "Iceberg"):
        place = _Place(url, options)
        table = _table(place)
        chosen = _snapshot(place.folder, table, snapshot)
        what = f"snapshot {chosen.snapshot_id} of the Iceberg table"
        scan = table.scan(snapshot_id=snapshot)  # of the current one with the columns of today
        schema = scan.projection()
        _check_names(place.folder, what, table.metadata.schemas, schema)
        with checked_lengths():
            parts = [_part(place, what, table, task, schema) for task in _tasks(place.folder, what, scan)]
        columns = _columns(schema)
    return made(place.folder, options, parts, columns, what)


class _Place:
    """Where a table lies.

    Attributes:
        folder: its URL.
        metadata: the path of its metadata file, below the folder.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None) -> None:
        url = address(url)
        self.fs, path = filesystem(url, options)
        if _METADATA.fullmatch(posixpath.basename(url)):
            self.folder, self.root = url.rpartition("/metadata/")[0], path.rpartition("/metadata/")[0]
            self.metadata = f"metadata/{posixpath.basename(url)}"
        else:
            self.folder, self.root = url, path.rstrip("/")
            self.metadata = f"metadata/{self._newest()}"

    def _newest(self) -> str:
        """The current metadata file: a table of files alone names it, a catalog's writes them in order."""
        self.fs.invalidate_cache()
        names = {posixpath.basename(path.rstrip("/")) for path in self.fs.ls(f"{self.root}/metadata", detail=False)}
        if "version-hint.text" in names:
            hint = self.fs.cat_file(f"{self.root}/metadata/version-hint.text").decode().strip()
            wanted = (hint, f"v{hint}.metadata.json", f"v{hint}.gz.metadata.json", f"{hint}.metadata.json")
            found = [name for name in wanted if name in names]
        else:
            numbers = {name: int(match[1]) for name in names if (match := _METADATA.fullmatch(name))}
            found = [name for name in sorted(numbers) if numbers[name] == max(numbers.values())]
        if len(found) != 1:
            raise DataError(
                f"{len(found)} metadata files that may be the current one ({listed(found) or 'none'})",
                allowed="a table whose newest metadata file can be told",
                todo="give the URL of the metadata file that the catalog names",
                where=self.folder,
            )
        return found[0]

    def path(self, location: str) -> str:
        """The part of a location below the table's folder. Raises DataError for one that is elsewhere."""
        here = _plain(self.folder)
        relative = _plain(location).removeprefix(f"{here}/")
        if not _plain(location).startswith(f"{here}/") or not is_inner(relative):
            raise DataError(
                f"a file of the table elsewhere ({location[:200]})",
                allowed="files below the table's folder, where it was written",
                todo="read the table where it was written, or rewrite its files into its folder",
                where=self.folder,
            )
        return relative


def _plain(location: str) -> str:
    """A location in the one spelling of its scheme."""
    location = re.sub(r"^s3[an]://", "s3://", location)
    return re.sub(r"^file:/+", "/", location)


def _table(place: _Place) -> Any:
    """The table of a metadata file. What it says of a library that is to open files is not believed."""
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.serializers import FromInputFile
    from pyiceberg.table import StaticTable

    files = opener(place.fs, place.root, place.path)
    location = f"{place.folder}/{place.metadata}"
    size = int(place.fs.info(f"{place.root}/{place.metadata}")["size"])
    if size > limits().footer_bytes:
        raise beyond("footer_bytes", f"a metadata file of {shown_bytes(size)}", location)
    metadata = FromInputFile.table_metadata(files.new_input(location))
    return StaticTable(("table", location), metadata, location, files, NoopCatalog("none"))


def _snapshot(url: str, table: Any, wanted: int | None) -> Any:
    found = table.current_snapshot() if wanted is None else table.snapshot_by_id(wanted)
    if found is None:
        known = [f"{one.snapshot_id}" for one in table.metadata.snapshots]
        raise DataError(
            "a table without a snapshot" if wanted is None else f"no snapshot {wanted}",
            allowed=", ".join(known[-5:]) if known else "a table into which something was written",
            todo="choose one of them" if known else "write rows into it",
            where=url,
        )
    return found


def _check_names(url: str, what: str, schemas: Any, schema: Any) -> None:
    """Raise DataError if a column had another name once, or a name another column: files are read by names."""
    ids: dict[str, int] = {}
    names: dict[int, str] = {}
    for one in schemas:
        for field_id, name in one._lazy_id_to_name.items():
            if ids.setdefault(name, field_id) != field_id or names.setdefault(field_id, name) != name:
                raise refused(url, what, f"the column '{name}', which was renamed or replaced", _REWRITE)
    for field in schema.fields:
        if getattr(field, "initial_default", None) is not None:
            raise refused(url, what, f"the column '{field.name}', which has a default in older files", _REWRITE)


def _tasks(url: str, what: str, scan: Any) -> list[Any]:
    try:
        tasks = list(scan.plan_files())
    except ValueError as error:
        if "equality delete" not in str(error):
            raise
        raise refused(url, what, "equality deletes", _REWRITE) from error
    for task in tasks:
        if task.delete_files:
            raise refused(url, what, "deletes beside its files (merge on read)", _REWRITE)
        if task.file.file_format.name != "PARQUET":
            raise refused(url, what, f"files of {task.file.file_format.name}", _REWRITE)
    return tasks


def _part(place: _Place, what: str, table: Any, task: Any, schema: Any) -> Part:
    """A file. One that was added to the table as it was may not hold its partition's column."""
    values: dict[str, str | None] = {}
    if _NAMES in table.metadata.properties:
        spec = table.specs()[task.file.spec_id]
        for i, field in enumerate(spec.fields):
            name = schema.find_column_name(field.source_id)
            if str(field.transform) == "identity" and name is not None:
                values[name] = _text(place.folder, what, name, task.file.partition[i], schema.find_type(name))
    return Part(place.path(task.file.file_path), int(task.file.file_size_in_bytes), values)


def _text(url: str, what: str, name: str, value: Any, kind: Any) -> str | None:
    """A partition value as it is cast back to its type; Iceberg has days since 1970 for a date."""
    if value is None or isinstance(value, str):
        return value
    if str(kind) == "date" and isinstance(value, int):
        return str(datetime.date(1970, 1, 1) + datetime.timedelta(days=value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | decimal.Decimal) and not str(kind).startswith("time"):
        return str(value)
    raise refused(url, what, f"partitions by '{name}', {kind}", _REWRITE)


def _columns(schema: Any) -> pa.Schema:
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    found: pa.Schema = schema_to_pyarrow(schema, include_field_ids=False)
    return found
