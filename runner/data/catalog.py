"""Published datasets and the results of stages: what exists, in which versions, made from what.

    <store>/datasets/<name>/_log/00000001.json     the versions, oldest first; what was removed is said there too
    <store>/datasets/<name>/_summary.json          what that log said when it was last added to: few need all of it
    <store>/datasets/<name>/_manifests/<id>.parquet
    <store>/datasets/<name>/_versions/<run>-<attempt>/*.parquet    the shards of one version, and nothing else
    <store>/datasets/<name>/data                   on a disk: a link to the newest version
    <store>/results/<result key>/<variant>.json    the one record of a result; what it names is complete. Of one key
                                                   there are as many as there are states of the files that it read
    <store>/tasks/<code key>/<task key>.json       what one task wrote: reuse per shard, and recovery

A version's folder is named by the attempt that made it. Shards that were made before come in by a hard link, or by a
copy within the object store, so that any tool can read the folder as it stands. Names with '_' are not data to any.

A result is published in this order: shards, manifests, the result's record, the datasets' logs. Until the record is
there nothing of it can be seen; a crash after it is repaired by whoever finds the record and publishes again.

Nothing heavy is imported until a manifest is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.code.dependencies import Present, variant
from runner.code.hashing import Identity, identify
from runner.data.record_shapes import RESULT_RECORD, SUMMARY, TASK_RECORD, VERSIONS
from runner.errors import UNREADABLE, DataError, listed, suggest
from runner.spec.job import Prep
from runner.store.log import Entry, Log
from runner.store.store import LOCAL, Store
from runner.untrusted import shapes
from runner.untrusted.names import DATASET, FOLDER, RECORD, RESULT, TASK, VERSION
from runner.untrusted.skipped import readable

if TYPE_CHECKING:
    from runner.data.manifest import Manifest

#: Part of every key: a change of what runner itself makes of the same code must not reuse older results.
_VERSION = 2
#: A record names no more shards of an input than these.
_MOST_SHARDS = 512
#: The kind of an entry in a dataset's log that takes versions away.
REMOVED = "removed"
#: The kind of one that gives them back: a run has begun to use them.
RESTORED = "restored"
_THREADS = 16


# -- keys ------------------------------------------------------------------------------------------------------------


def stage_code(stage: Prep, root: Path | None = None, config: Any = None) -> Identity:
    """All user code that the stage runs: `fn` and `keep` with what they reach, and the methods of the config.

    Args:
        root: the project's folder; the process's code root by default.
        config: the JSON of the job's config.
    """
    return identify([stage.fn] if stage.keep is None else [stage.fn, stage.keep], root, config)


def used_config(stage: Prep, values: Mapping[str, Any]) -> dict[str, Any]:
    """The config fields that the stage's result depends on, as JSON values.

    A config whose class says itself what is in it (`__getstate__`) counts whole for each field that is not told apart.
    """
    if stage.uses is None:
        return dict(values)
    return {name: values[name] if name in values else dict(values) for name in stage.uses}


def settings_of(stage: Prep) -> dict[str, Any]:
    """The settings of a stage that shape rows."""
    names = ("batch_format", "batch_size", "sort_by", "max_quarantine")
    return {name: getattr(stage, name) for name in names}


def code_key(stage: Prep, code_hash: str, config_used: Mapping[str, Any]) -> str:
    """20 hex digits for what the stage does to any input: its code, its config and its settings, but not its data."""
    settings = {name: value for name, value in settings_of(stage).items() if name != "max_quarantine"}
    return _digest([_VERSION, code_hash, dict(config_used), settings, sorted(stage.sinks.items())])[:20]


def result_key(stage: Prep, code_hash: str, config_used: Mapping[str, Any], input_ids: Mapping[str, str | None]) -> str:
    """20 hex digits for the result of the stage on these inputs (source key -> manifest id)."""
    return _digest([code_key(stage, code_hash, config_used), dict(input_ids), stage.max_quarantine])[:20]


def short_etags(shards: Iterable[tuple[str, str]]) -> dict[str, str] | None:
    """Path -> a short mark of the content of each shard, so that a later run can say which differ; None if many."""
    found = dict(shards)
    return {path: _digest(etag)[:8] for path, etag in found.items()} if len(found) <= _MOST_SHARDS else None


def make_key(name: str, code_hash: str) -> str:
    """20 hex digits for what a dataset's `make` gives."""
    return _digest([_VERSION, "make", name, code_hash])[:20]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# -- the catalog -----------------------------------------------------------------------------------------------------


class Catalog:
    """The datasets and results of a store.

    Args:
        store: the root store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def names(self) -> list[str]:
        """The datasets that have been published, sorted."""
        return list(self.all_versions())

    def folders(self) -> list[str]:
        """The folders that may be datasets', sorted. Definitions may lie beside, where the store is a project."""
        return [name for name in self._store.list("datasets") if DATASET.fits(name)]

    def all_versions(self) -> dict[str, list[Entry]]:
        """The datasets that have been published, sorted by name, with their versions as `versions` gives them."""
        return {name: found for name, found in self.readable_versions().items() if found}

    def readable_versions(self) -> dict[str, list[Entry] | None]:
        """The folders that may be datasets' with their versions; None where they cannot be read, which is said."""
        names = self.folders()
        with ThreadPoolExecutor(_THREADS) as threads:
            found = threads.map(lambda name: readable(lambda: self.versions(name), None), names)
            return dict(zip(names, found, strict=True))

    def versions(self, name: str) -> list[Entry]:
        """Oldest first, without those that were removed; `data` has id, folder, rows, bytes, files, key (of the
        result), bytes_in, stage and run.

        Takes as many requests for a thousand versions as for one: the summary has all but the last few.
        """
        return self._history(name).versions

    def _history(self, name: str) -> _History:
        try:
            summary = self._store.get(_summary_key(name))
        except (FileNotFoundError, *UNREADABLE):
            summary = b"{}"
        history = _History.of(summary, self._log(name))
        for entry in history.log.read():
            history.add(entry)
        return history

    def latest(self, name: str) -> Manifest | None:
        """The newest version, or None if the dataset has never been published."""
        versions = self.versions(name)
        return self.manifest(name, versions[-1].data["id"]) if versions else None

    def manifest(self, name: str, id: str) -> Manifest:
        """A version by its id, with `base` at where this store's data lies.

        Raises:
            DataError: there is no such version.
        """
        try:
            stored = self._stored(manifest_key(name, id))
        except FileNotFoundError:
            known = [version.data["id"] for version in self.versions(name)]
            raise DataError(
                f"the dataset '{name}' has no version {id}", allowed=listed(known[-5:]),
                todo=suggest(name, self.names()) or "make it again", where=f"store {self._store.url}",
            ) from None  # fmt: skip
        return dataclasses.replace(stored, base=self.data_url(name, stored.base), options=self._store.options)

    def data_url(self, name: str, folder: str) -> str:
        """The folder of a version's shards, where this store lies."""
        return f"{self._store.url}/{data_key(name, folder)}"

    def write_manifest(self, name: str, manifest: Manifest, folder: str) -> str:
        """Keep a manifest; no reader finds it until it is published. It is stored without place and options.

        Returns:
            The folder of its shards: that of an equal version, where all of that one is still there.
        """
        key = manifest_key(name, manifest.id)
        data = dataclasses.replace(manifest, base=folder, options={}).to_bytes()
        if self._store.create(key, data):
            return folder
        with contextlib.suppress(DataError):  # one that is damaged is written anew
            known = self._stored(key)
            if {shard.path for shard in known.shards} <= set(self._store.list(data_key(name, known.base))):
                return known.base
        self._store.put(key, data)
        return folder

    def _stored(self, key: str) -> Manifest:
        from runner.data.manifest import Manifest

        try:
            return Manifest.from_bytes(self._store.get(key))
        except DataError as error:
            raise DataError(
                error.found,
                allowed="what runner has written there",
                todo="make the dataset again (`runner submit --force STAGE`), or restore it from a copy",
                where=f"{self._store.url}/{key}",
            ) from error

    def publish(self, name: str, manifest: Manifest, record: Mapping[str, Any], folder: str) -> None:
        """Make `manifest` the newest version; nothing is added if it is that already.

        Args:
            record: further facts for the log: the result's key, its stage and run, bytes_in.
            folder: of its shards, below the dataset's.
        """
        folder = self.write_manifest(name, manifest, folder)
        facts = {"folder": folder, "rows": manifest.rows, "bytes": manifest.bytes, "files": len(manifest.shards)}
        self.publish_version(name, {**record, "id": manifest.id, **facts})

    def publish_version(self, name: str, facts: Mapping[str, Any]) -> None:
        """As `publish`, for a manifest that is there already; `facts` has id, folder, rows, bytes and files."""
        history = self._history(name)
        versions = history.versions
        shown = ("id", "folder")  # equal data is in another folder where files of the first were lost
        if not versions or any(versions[-1].data[each] != facts[each] for each in shown):
            self._append(name, history, "version", dict(facts))
        self.show_newest(name)

    def retract(self, name: str, ids: Sequence[str]) -> list[Entry]:
        """Say that versions are gone, before they go: from then on nobody finds them. Returns what was said of them."""
        history = self._history(name)
        gone = [version for version in history.versions if version.data["id"] in ids]
        self._append(name, history, REMOVED, {"ids": list(ids)})
        self.show_newest(name)
        return gone

    def restore(self, name: str, versions: Iterable[Entry]) -> None:
        """Take back that they are gone: each has its old place again."""
        told = [{"number": each.number, "at": each.at, "data": each.data} for each in versions]
        self._append(name, self._history(name), RESTORED, {"versions": told})
        self.show_newest(name)

    def _append(self, name: str, history: _History, kind: str, data: dict[str, Any]) -> None:
        history.log.append(kind, data)
        for entry in history.log.read():
            history.add(entry)
        self._store.put(_summary_key(name), json.dumps(history.summary(), sort_keys=True).encode())

    def show_newest(self, name: str) -> None:
        """Lead ``data`` to the newest version, where the store is a disk: whoever lists it sees that one alone.

        Of two publishers the slower may lead it back; so each looks again after it has done so.
        """
        if self._store.kind != LOCAL:
            return
        shown = None
        while shown != (shown := self._newest_folder(name)):
            self._store.point(f"datasets/{DATASET(name)}/data", shown)

    def _newest_folder(self, name: str) -> str:
        versions = self.versions(name)
        return str(versions[-1].data["folder"]) if versions else ""

    def _log(self, name: str) -> Log:
        return Log(self._store, f"datasets/{DATASET(name)}/_log", VERSIONS)

    # -- results -------------------------------------------------------------------------------------------------

    def results(self, key: str) -> list[dict[str, Any]]:
        """The records of a key, the newest first; they differ in what else they depended on.

        Each has: key, at (seconds since 1970), stage, inputs, code (part -> hash), config, settings, deps (see
        `code.dependencies`), packages, pinned (whether they count), counts, bytes_in, run, versions, and sinks: sink
        key -> {dataset, id, folder, rows, bytes, files (how many), schema, data: [{path, rows, bytes, md5, sha256}]}.
        """
        folder = result_folder(key)
        records = [name for name in self._store.list(folder) if RECORD.fits(name)]
        found = [self._read(f"{folder}/{name}", RESULT_RECORD) for name in records]
        return sorted((each for each in found if each is not None), key=lambda each: -each["at"])

    def result(
        self, key: str, present: Present | None = None, sinks: Mapping[str, str] | None = None
    ) -> dict[str, Any] | None:
        """The newest record of a key, or None.

        Args:
            present: only one that agrees with what is there now, and whose data is in the store.
            sinks: only one of these (sink key -> dataset).
        """
        found = [each for each in self.results(key) if sinks is None or has_sinks(each, sinks)]
        fits = (each for each in found if present is None or present.agrees(each))
        return next((each for each in fits if present is None or not self.missing(each)), None)

    def publish_result(self, key: str, record: Mapping[str, Any], replace: bool = False) -> None:
        """Keep the record of a complete result; of two equal ones the first stays.

        Args:
            replace: overwrite a record whose data has been deleted, or that was to be made again.
        """
        pinned = record.get("packages", {}) if record.get("pinned") else {}
        name = f"{variant({**record.get('deps', {}), **pinned})}.json"
        self._write(f"{result_folder(key)}/{name}", record, RESULT_RECORD, replace)

    def publish_versions(self, record: Mapping[str, Any]) -> None:
        """Make every sink of a result the newest version of its dataset: publishes, and repairs what a crash left."""
        facts = {name: record.get(name) for name in ("key", "stage", "run", "bytes_in")}
        for sink in record["sinks"].values():
            shown = {name: sink[name] for name in ("id", "folder", "rows", "bytes", "files")}
            self.publish_version(sink["dataset"], {**facts, **shown})

    def missing(self, record: Mapping[str, Any]) -> list[str]:
        """The files that a result names and that are no longer in the store."""
        lost = []
        for sink in record["sinks"].values():
            folder, manifest = data_key(sink["dataset"], sink["folder"]), manifest_key(sink["dataset"], sink["id"])
            there = set(self._store.list(folder))
            lost += [f"{folder}/{data['path']}" for data in sink["data"] if data["path"] not in there]
            if not self._store.exists(manifest):
                lost.append(manifest)
        return lost

    # -- tasks ---------------------------------------------------------------------------------------------------

    def tasks(self, code: str) -> set[str]:
        """The keys of the tasks that have been done with this code key."""
        names = self._store.list(task_folder(code))
        return {name.removesuffix(".json") for name in names if RECORD.fits(name)}

    def task(self, code: str, key: str) -> dict[str, Any] | None:
        """The record of a task, or None."""
        return self._read(f"{task_folder(code)}/{TASK(key)}.json", TASK_RECORD)

    def publish_task(self, code: str, key: str, record: Mapping[str, Any], replace: bool = False) -> None:
        """Keep the record of a finished task; of two equal ones the first stays, unless its data has been deleted."""
        self._write(f"{task_folder(code)}/{TASK(key)}.json", record, TASK_RECORD, replace)

    def _read(self, key: str, shape: shapes.Shape) -> dict[str, Any] | None:
        """A record; None if it is not there, or cannot be read, which is said: what it tells is made again then."""
        try:
            return readable(lambda: dict(shapes.read(self._store.get(key), shape, self._store.path(key))), None)
        except FileNotFoundError:
            return None

    def _write(self, key: str, record: Mapping[str, Any], shape: shapes.Shape, replace: bool) -> None:
        data = json.dumps(record, sort_keys=True, indent=1).encode()
        shapes.read(data, shape, self._store.path(key))  # what no reader would take is not written
        if replace or not (self._store.create(key, data) or self._read(key, shape) is not None):
            self._store.put(key, data)


class _History:
    """What a dataset's log says.

    Args:
        log: from the entry behind the summary on.
        number, mark: of the last entry that is in `versions`.
        versions: oldest first, without those that were removed.
    """

    def __init__(self, log: Log, number: int = 0, mark: str = "", versions: Iterable[Entry] = ()) -> None:
        self.log, self.number, self.mark, self.versions = log, number, mark, list(versions)

    @classmethod
    def of(cls, data: bytes, log: Log) -> _History:
        """From a summary, if it is one of this log: the last entry that it counts is there, and is that one. A slower
        writer may have put an older one in the place of a newer.
        """
        try:
            summary = shapes.loads(data)
            SUMMARY(summary, "")
        except shapes.Misshapen:  # the log has all of it
            return cls(log)
        number, mark = summary["number"], summary["mark"]
        versions = [_version(told) for told in summary["versions"]]
        return cls(log.after(number), number, mark, versions) if log.mark(number) == mark else cls(log)

    def add(self, entry: Entry) -> None:
        """Take in the next entry of the log."""
        if entry.number <= self.number:
            return
        self.number, self.mark = entry.number, entry.mark
        if entry.kind == REMOVED:
            self.versions = [version for version in self.versions if version.data["id"] not in entry.data["ids"]]
        elif entry.kind == RESTORED:
            known = {version.number for version in self.versions}
            fresh = [_version(told) for told in entry.data["versions"] if told["number"] not in known]
            self.versions = sorted([*self.versions, *fresh], key=lambda version: version.number)
        elif entry.kind == "version":
            self.versions.append(entry)

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        versions = [{"number": each.number, "at": each.at, "data": each.data} for each in self.versions]
        return {"number": self.number, "mark": self.mark, "versions": versions}


def _version(told: Mapping[str, Any]) -> Entry:
    """A version as a summary has it."""
    return Entry(told["number"], "version", told["at"], told["data"])


def has_sinks(record: Mapping[str, Any], sinks: Mapping[str, str]) -> bool:
    """Whether a record of a result is of these sinks (sink key -> dataset), as its key says if nobody else made it."""
    return {key: sink["dataset"] for key, sink in record["sinks"].items()} == dict(sinks)


def _summary_key(name: str) -> str:
    return f"datasets/{DATASET(name)}/_summary.json"


def data_key(name: str, folder: str) -> str:
    """The key of the folder that holds the shards of one version of a dataset."""
    return f"datasets/{DATASET(name)}/{FOLDER(folder)}"


def manifest_key(name: str, id: str) -> str:
    """The key of a version's manifest."""
    return f"datasets/{DATASET(name)}/_manifests/{VERSION(id)}.parquet"


def result_folder(key: str) -> str:
    """The key of the folder with the records of a result."""
    return f"results/{RESULT(key)}"


def task_folder(code: str) -> str:
    """The key of the folder with the records of the tasks of a piece of code."""
    return f"tasks/{RESULT(code)}"
