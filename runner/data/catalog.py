"""Published datasets: what exists, in which versions.

    <store>/datasets/<name>/_log/00000001.json     the versions, oldest first; what was removed is said there too
    <store>/datasets/<name>/_summary.json          what that log said when it was last added to: few need all of it
    <store>/datasets/<name>/_manifests/<id>.parquet
    <store>/datasets/<name>/_versions/<run>-<attempt>/*.parquet    the shards of one version, and nothing else
    <store>/datasets/<name>/data                   on a disk: a link to the newest version

A version's folder is named by the attempt that made it. Shards that were made before come in by a hard link, or by a
copy within the object store, so that any tool can read the folder as it stands. Names with '_' are not data to any.

Nothing heavy is imported until a manifest is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from runner.data.versions import VERSIONS, History, Version, VersionMade, VersionsRemoved, VersionsRestored
from runner.errors import UNREADABLE, DataError, listed, suggest
from runner.store import LOCAL, Log, Store
from runner.store.events import Event
from runner.untrusted.names import DATASET, FOLDER, VERSION
from runner.untrusted.skipped import readable

if TYPE_CHECKING:
    from runner.data.manifest import Manifest

_THREADS = 16


# -- keys ------------------------------------------------------------------------------------------------------------


# -- the catalog -----------------------------------------------------------------------------------------------------


class Catalog:
    """The datasets of a store.

    Args:
        store: the root store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def names(self) -> list[str]:
        """The datasets that have been published, sorted."""
        return list(self.all_versions())

    def folders(self) -> list[str]:
        """The folders that may be datasets', sorted. Definitions may lie beside, where the store is a project."""
        return [name for name in self.store.list("datasets") if DATASET.fits(name)]

    def all_versions(self) -> dict[str, list[Version]]:
        """The datasets that have been published, sorted by name, with their versions as `versions` gives them."""
        return {name: found for name, found in self.readable_versions().items() if found}

    def readable_versions(self) -> dict[str, list[Version] | None]:
        """The folders that may be datasets' with their versions; None where they cannot be read, which is said."""
        names = self.folders()
        with ThreadPoolExecutor(_THREADS) as threads:
            found = threads.map(lambda name: readable(lambda: self.versions(name), None), names)
            return dict(zip(names, found, strict=True))

    def versions(self, name: str) -> list[Version]:
        """Oldest first, without those that were removed.

        Takes as many requests for a thousand versions as for one: the summary has all but the last few.
        """
        return self._history(name).versions

    def _history(self, name: str) -> History:
        try:
            summary = self.store.get(_summary_key(name))
        except (FileNotFoundError, *UNREADABLE):
            summary = b"{}"
        history = History.of(summary, self._log(name))
        for entry in history.log.read():
            history.add(entry)
        return history

    def latest(self, name: str) -> Manifest | None:
        """The newest version, or None if the dataset has never been published."""
        versions = self.versions(name)
        return self.manifest(name, versions[-1].data.id) if versions else None

    def manifest(self, name: str, id: str) -> Manifest:
        """A version by its id, with `base` at where this store's data lies.

        Raises:
            DataError: there is no such version.
        """
        try:
            stored = self._stored(manifest_key(name, id))
        except FileNotFoundError:
            known = [version.data.id for version in self.versions(name)]
            raise DataError(
                f"the dataset '{name}' has no version {id}",
                allowed=listed(known[-5:]),
                todo=suggest(name, self.names()) or "make it again",
                where=f"store {self.store.url}",
            ) from None
        return dataclasses.replace(stored, base=self.data_url(name, stored.base), options=self.store.options)

    def data_url(self, name: str, folder: str) -> str:
        """The folder of a version's shards, where this store lies."""
        return f"{self.store.url}/{data_key(name, folder)}"

    def write_manifest(self, name: str, manifest: Manifest, folder: str) -> str:
        """Keep a manifest; no reader finds it until it is published. It is stored without place and options.

        Returns:
            The folder of its shards: that of an equal version, where all of that one is still there.
        """
        key = manifest_key(name, manifest.id)
        data = dataclasses.replace(manifest, base=folder, options={}).to_bytes()
        if self.store.create(key, data):
            return folder
        with contextlib.suppress(DataError):  # one that is damaged is written anew
            known = self._stored(key)
            if {shard.path for shard in known.shards} <= set(self.store.list(data_key(name, known.base))):
                return known.base
        self.store.put(key, data)
        return folder

    def _stored(self, key: str) -> Manifest:
        from runner.data.manifest import Manifest

        try:
            return Manifest.from_bytes(self.store.get(key))
        except DataError as error:
            raise DataError(
                error.found,
                allowed="what runner has written there",
                todo="make the dataset again (`runner submit --force STAGE`), or restore it from a copy",
                where=f"{self.store.url}/{key}",
            ) from error

    def publish(self, name: str, manifest: Manifest, record: Mapping[str, Any], folder: str) -> None:
        """Make `manifest` the newest version; nothing is added if it is that already.

        Args:
            record: further facts for the log: the result's key, its stage and run, bytes_in.
            folder: of its shards, below the dataset's.
        """
        folder = self.write_manifest(name, manifest, folder)
        made = VersionMade(manifest.id, folder, manifest.rows, manifest.bytes, len(manifest.shards), **record)
        self.publish_version(name, made)

    def publish_version(self, name: str, made: VersionMade) -> None:
        """As `publish`, for a manifest that is there already."""
        history = self._history(name)
        newest = history.versions[-1].data if history.versions else None
        # Equal data is in another folder where files of the first were lost.
        if newest is None or (newest.id, newest.folder) != (made.id, made.folder):
            self._append(name, history, made)
        self.show_newest(name)

    def retract(self, name: str, ids: Sequence[str]) -> list[Version]:
        """Say that versions are gone, before they go: from then on nobody finds them. Returns what was said of them."""
        history = self._history(name)
        gone = [version for version in history.versions if version.data.id in ids]
        self._append(name, history, VersionsRemoved(tuple(ids)))
        self.show_newest(name)
        return gone

    def restore(self, name: str, versions: Iterable[Version]) -> None:
        """Take back that they are gone: each has its old place again."""
        self._append(name, self._history(name), VersionsRestored(tuple(versions)))
        self.show_newest(name)

    def _append(self, name: str, history: History, event: Event) -> None:
        history.log.append(event)
        for entry in history.log.read():
            history.add(entry)
        self.store.put(_summary_key(name), json.dumps(history.summary().to_json(), sort_keys=True).encode())

    def show_newest(self, name: str) -> None:
        """Lead ``data`` to the newest version, where the store is a disk: whoever lists it sees that one alone.

        Of two publishers the slower may lead it back; so each looks again after it has done so.
        """
        if self.store.kind != LOCAL:
            return
        shown = None
        while shown != (shown := self._newest_folder(name)):
            self.store.point(f"datasets/{DATASET(name)}/data", shown)

    def _newest_folder(self, name: str) -> str:
        versions = self.versions(name)
        return versions[-1].data.folder if versions else ""

    def _log(self, name: str) -> Log:
        return Log(self.store, f"datasets/{DATASET(name)}/_log", VERSIONS)

    def publish_versions(self, record: Mapping[str, Any]) -> None:
        """Make every sink of a result the newest version of its dataset: publishes, and repairs what a crash left."""
        by = [record.get(name) for name in ("key", "stage", "run", "bytes_in")]
        for sink in record["sinks"].values():
            shown = [sink[name] for name in ("id", "folder", "rows", "bytes", "files")]
            self.publish_version(sink["dataset"], VersionMade(*shown, *by))


def _summary_key(name: str) -> str:
    return f"datasets/{DATASET(name)}/_summary.json"


def data_key(name: str, folder: str) -> str:
    """The key of the folder that holds the shards of one version of a dataset."""
    return f"datasets/{DATASET(name)}/{FOLDER(folder)}"


def manifest_key(name: str, id: str) -> str:
    """The key of a version's manifest."""
    return f"datasets/{DATASET(name)}/_manifests/{VERSION(id)}.parquet"
