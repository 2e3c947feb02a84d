"""Data at URLs: listed, looked at and, for a run, kept in its bundle as it was when the job was submitted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from runner.data.files.listing import infer_format, list_files
from runner.data.files.opening import open_input
from runner.data.limits import beyond, limits, shown_bytes
from runner.data.manifest import Manifest, from_files
from runner.data.tables import delta, iceberg
from runner.data.tables.base import Table
from runner.errors import DataError
from runner.spec import Dataset
from runner.spec.checks import Fields
from runner.spec.formats import MANIFEST, TABLES
from runner.spec.reading import USUAL, Reading, check_place, checked
from runner.untrusted.paths import is_inner

#: Lines of data up to this size are read once at submission: the plan can tell rows, and every type is certain. Of
#: larger data the start of each unit is looked at.
COUNTED_BYTES = 1 << 30

URLs: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Published(Protocol):
    """A version of a published dataset (`runner.dataset`)."""

    @property
    def manifest(self) -> Manifest:
        """Its shards."""


@dataclass(frozen=True)
class Source:
    """Files at one or several URLs, and how they are read; see `Dataset` for the fields."""

    urls: tuple[str, ...]
    format: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    reading: Reading = USUAL
    version: int | None = None
    snapshot: int | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Source:
        """What a dataset with a URL says. Raises DataError for one that has none."""
        if dataset.url is None:
            raise DataError(
                "a Dataset without a URL",
                allowed="a URL, a Dataset with a URL, or a Manifest",
                todo="give the manifest of the dataset in the store; ctx.batches does so",
            )
        options = dict(dataset.options)
        declared = dataset.reading
        return cls(
            tuple(dataset.urls), dataset.format, options, dataset.columns, declared, dataset.version, dataset.snapshot
        )

    def manifest(
        self, counted_bytes: int | None = None, wanted: Sequence[str] | None = None, first: int | None = None
    ) -> Manifest:
        """The manifest of the files.

        Args:
            counted_bytes: read lines of data up to this size, so that rows are counted; None: of any size.
            wanted: the only columns that the files need agree on, where `columns` does not say it; None: all.
            first: look at so many files only, in their order; None: at all.

        Raises:
            DataError: nothing there, not readable, corrupt, schema drift, or an unknown column.
        """
        wanted = wanted if self.columns is None else self.columns
        if self.format == MANIFEST:
            manifest = self._written()
        elif self.format in TABLES:
            table = self._table()
            manifest = from_files(table.files[:first], "parquet", self.options, True, wanted, table.reading)
        else:
            files = list_files(self.urls, self.options, self.format, hashed=False)[:first]
            format = self.format or infer_format(files, self.urls[0])
            count = counted_bytes is None or sum(file.size for file in files) <= counted_bytes
            manifest = from_files(files, format, self.options, count, wanted, self.reading)
        return manifest if self.columns is None else manifest.select(self.columns)

    def _table(self) -> Table:
        if self.format == "delta":
            return delta.opened(self.urls[0], self.options, self.version)
        return iceberg.opened(self.urls[0], self.options, self.snapshot)

    def _written(self) -> Manifest:
        """A manifest in a file. Its shards lie below the file's own folder: whoever may write the file could else have
        others read what is not his."""
        (file,) = list_files(self.urls, self.options)
        if file.size > limits().at_once_bytes:
            raise beyond("at_once_bytes", f"a manifest of {shown_bytes(file.size)}", file.url)
        with open_input(file.url, file.size, self.options, path=file.path) as opened:
            found = Manifest.from_bytes(opened.read())
        folder = file.url.rpartition("/")[0]
        base = f"{found.base}/".removeprefix(f"{folder}/").rstrip("/")
        if base and not is_inner(base):
            raise DataError(
                f"a manifest of files in {found.base}",
                allowed="files in the manifest's own folder, or below it",
                todo="put it beside the files, or give the URLs themselves",
                where=file.url,
            )
        return replace(found, base=f"{folder}/{base}".rstrip("/"), options=dict(self.options))


def look(dataset: Dataset) -> Manifest:
    """The manifest of the files behind a dataset's URL, for a run.

    Raises:
        DataError: nothing there, not readable, corrupt, schema drift, or an unknown column.
    """
    return Source.of(dataset).manifest(COUNTED_BYTES)


def resolve(
    source: URLs | Dataset | Published | Manifest,
    format: str | None = None,
    options: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    **declared: Any,
) -> Manifest:
    """The manifest, rows counted, of anything that a Stream takes; files need only agree on the wanted columns.

    Args:
        declared: schema, unknown, csv, version, snapshot of URLs, see `Dataset`.

    Raises:
        SpecError: what is declared cannot be, or `source` says it itself.
        DataError: the data cannot be read.
    """
    fields = Fields("Stream")
    if not isinstance(source, str | os.PathLike | Sequence):
        for name, value in {"format": format, "options": options, **declared}.items():
            if value is not None:
                raise fields.fail(name, value, "of URLs", f"say it in Dataset({name}=...)")
        if isinstance(source, Dataset):
            return Source.of(source).manifest(wanted=columns)
        manifest = source if isinstance(source, Manifest) else getattr(source, "manifest", None)
        if not isinstance(manifest, Manifest):
            raise fields.fail("source", source, "URLs, a Dataset, a Manifest, or what runner.dataset gives")
        return manifest.counted()
    version, snapshot, unknown = (declared.get(name) for name in ("version", "snapshot", "unknown"))
    listed = [source] if isinstance(source, str | os.PathLike) else list(source)
    if isinstance(source, bytes) or not all(isinstance(one, str | os.PathLike) for one in listed):
        raise fields.fail("source", source, "URLs as text or paths")
    urls = [os.fspath(url) for url in listed]
    if not urls or not all(urls):
        raise fields.fail("source", source, "at least one URL, and none that is empty")
    reading = checked(fields, declared.get("schema"), declared.get("csv"), "infer" if unknown is None else unknown)
    check_place(fields, format, urls, version, snapshot, bool(reading.to_json()))
    return Source(tuple(urls), format, options or {}, None, reading, version, snapshot).manifest(wanted=columns)


def key(dataset: Dataset) -> str:
    """Where a run's bundle keeps the manifest."""
    said = [dataset.url, dataset.format, dataset.columns]
    more = {**dataset.reading.to_json(), "version": dataset.version, "snapshot": dataset.snapshot}
    more = {name: value for name, value in more.items() if value is not None}
    identity = json.dumps([*said, *([more] if more else [])], sort_keys=True)
    return f"manifests/{hashlib.sha256(identity.encode()).hexdigest()[:16]}.parquet"


def footers_key(manifest: str) -> str:
    """Where a run's bundle keeps the footers of the files of a manifest, given where it keeps that."""
    return f"footers/{manifest.removeprefix('manifests/')}"
