"""`runner.dataset`: what jobs have published, opened from any script, notebook or training of one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner.errors import DataError, listed, suggest
from runner.plan.project import find_project
from runner.spec.checks import Fields
from runner.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from runner.data.manifest import Manifest
    from runner.data.stream import Stream
    from runner.data.versions import Version


def dataset(name: str, version: str | None = None, *, store: str | Store | None = None) -> Published:
    """A published dataset, as it is now or as it was in one version.

    Args:
        name: as a job's sink has it; see `runner data ls`.
        version: its id or the beginning of one, or the run that made it; None takes the newest.
        store: the URL of the store, instead of the project's.

    Raises:
        DataError: there is no such dataset, or no such version of it.
    """
    from runner.data.catalog import Catalog

    opened = store if isinstance(store, Store) else find_project().store(store)
    catalog = Catalog(opened)
    versions = catalog.versions(name)
    if not versions:
        known = catalog.names()
        raise DataError(
            f"no dataset '{name}' in the store",
            allowed=listed(known) if known else "what a job has published",
            todo=suggest(name, known) or "run the job that makes it, or give store=",
            where=f"store {opened.url}",
        )
    return Published(opened, name, versions[-1] if version is None else _chosen(name, version, versions, opened))


def _chosen(name: str, version: str, versions: Sequence[Version], store: Store) -> Version:
    fits = {e.data.id: e for e in versions if e.data.id.startswith(version) or e.data.run == version}
    if len(fits) == 1 and version:
        return next(iter(fits.values()))
    shown = [entry.data.id[:12] for entry in versions]
    found = (
        f"version {version!r} fits {len(fits)} of dataset '{name}'" if fits else f"no version {version!r} of '{name}'"
    )
    raise DataError(
        found,
        allowed=listed(dict.fromkeys(shown[-5:])),
        todo="give more of the id" if fits else suggest(version, shown) or f"see `runner data ls {name}`",
        where=f"store {store.url}",
    )


@dataclasses.dataclass(frozen=True, repr=False)
class Published:
    """One version of a published dataset. It never changes; a newer one is another version.

    Args:
        store: where it lies.
        name: of the dataset.
        entry: what the dataset's log says of the version.
    """

    store: Store
    name: str
    entry: Version

    def __repr__(self) -> str:
        return f"<dataset {self.name} {self.version[:12]}: {self.rows:,} rows in {len(self.files)} files, {self.url}>"

    @property
    def version(self) -> str:
        """Its id: the same data has the same, wherever it was made."""
        return str(self.entry.data.id)

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return int(self.entry.data.rows)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return int(self.entry.data.bytes)

    @property
    def made(self) -> float:
        """When it was published, in seconds since 1970."""
        return self.entry.at

    @property
    def run(self) -> str | None:
        """The id of the run that made it."""
        return self.entry.data.run

    @cached_property
    def manifest(self) -> Manifest:
        """Its shards, as `Stream` takes them."""
        from runner.data.catalog import Catalog

        return Catalog(self.store).manifest(self.name, self.version)

    @property
    def url(self) -> str:
        """Its folder: Parquet files, and nothing else. For pandas, DuckDB, Spark and the like; see `options`."""
        return self.manifest.base

    @property
    def options(self) -> Mapping[str, Any]:
        """The fsspec storage options of `url`; empty on a disk."""
        return dict(self.store.options)

    @property
    def files(self) -> list[str]:
        """The URLs of its Parquet files, in the order of the rows."""
        return [self.manifest.url(shard) for shard in self.manifest.shards]

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        return self.manifest.schema

    def to_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, in their order, in memory.

        Args:
            columns: the columns wanted; None takes all.

        Raises:
            SpecError: `columns` is no list of names.
            DataError: no such column, or a file that cannot be read.
        """
        import pyarrow as pa

        chosen = self.manifest
        if columns is not None:
            chosen = chosen.select(Fields("to_table").names("columns", columns))
        shards = range(len(chosen.shards))
        batches = (batch for i in shards for batch in chosen.read(i, columns=chosen.schema.names))
        return pa.Table.from_batches(batches, schema=chosen.schema)

    def stream(self, batch_size: int | None = None, **options: Any) -> Stream:
        """Its batches for a training: a `runner.Stream`, whose arguments these are."""
        from runner.data.stream import Stream

        return Stream(self.manifest, batch_size, **options)

    def lineage(self) -> dict[str, Any]:
        """What it was made from and how: stage, run, inputs with their versions, hash of the code, config, counts.

        Raises:
            DataError: the record of its making has been removed.
        """
        from runner.data.results import Results

        key = self.entry.data.key
        records = Results(self.store).of_key(key) if key else []
        made = [each for each in records if any(s["id"] == self.version for s in each["sinks"].values())]
        record = next((each for each in made if each["run"] == self.entry.data.run), made[0] if made else None)
        if record is None:
            raise DataError(
                f"no record of how version {self.version[:12]} of '{self.name}' was made",
                allowed="a version whose result is in the store",
                todo="submit the job that makes it again",
                where=f"store {self.store.url}",
            )
        return {name: part for name, part in record.items() if name != "sinks"}
