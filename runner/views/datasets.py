"""What has been published in a store: the newest version of every dataset, or the versions of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.data.catalog import Catalog
from runner.data.versions import Version
from runner.errors import DataError, listed, suggest
from runner.store import Store


@dataclass(frozen=True)
class VersionLine:
    """One version of a dataset.

    Args:
        id: of the version.
        run, stage: that published it.
        made: seconds since 1970.
        number: from 1; of the newest it says how many there are.
        url: that leads to this version alone.
    """

    dataset: str
    id: str
    rows: int
    bytes: int
    files: int
    run: str | None
    stage: str | None
    made: float
    number: int
    url: str


def newest_versions(store: Store) -> list[VersionLine]:
    """The newest version of every published dataset."""
    catalog = Catalog(store)
    return [_lines(catalog, name, entries)[0] for name, entries in catalog.all_versions().items()]


def versions_of(store: Store, name: str) -> list[VersionLine]:
    """Every version of a dataset, newest first.

    Raises:
        DataError: there is no dataset `name`.
    """
    catalog = Catalog(store)
    entries = catalog.versions(name)
    if not entries:
        names = catalog.names()
        raise DataError(
            f"no dataset '{name}' in the store",
            allowed=listed(names),
            todo=suggest(name, names) or "see `runner data ls`",
            where=f"store {store.url}",
        )
    return _lines(catalog, name, entries)


def _lines(catalog: Catalog, name: str, entries: Sequence[Version]) -> list[VersionLine]:
    return [
        VersionLine(
            name,
            entry.data.id,
            entry.data.rows,
            entry.data.bytes,
            entry.data.files,
            entry.data.run,
            entry.data.stage,
            entry.at,
            number,
            catalog.data_url(name, entry.data.folder),
        )
        for number, entry in reversed(list(enumerate(entries, start=1)))
    ]
