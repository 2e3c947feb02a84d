"""What is left of a stage's tasks from before: records of those that are done, and whose files are still there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runner.data.catalog import Catalog, data_key
from runner.data.results import Results
from runner.prep.reuse import Reuse
from runner.prep.tasks import Task
from runner.spec import Prep
from runner.store import Store

_THREADS = 16


class TaskRecords:
    """The records of a stage's tasks in the store.

    Args:
        code: the stage's code key.
        reuse: says which records may be used.

    Attributes:
        known: keys of the tasks that have a record, whether it may be used or not.
    """

    def __init__(self, stage: Prep, store: Store, code: str, reuse: Reuse) -> None:
        self._stage, self._store, self._code, self._reuse = stage, store, code, reuse
        self._catalog, self._results = Catalog(store), Results(store)
        self.known: set[str] = self._results.tasks(code)

    def of(self, tasks: Iterable[Task]) -> dict[str, dict[str, Any]]:
        """Task key -> record, of those tasks that are done and whose files are there."""
        wanted = [task.key for task in tasks if task.key in self.known]
        if not wanted:
            return {}
        with ThreadPoolExecutor(_THREADS) as threads:
            found = list(threads.map(lambda key: self._results.task(self._code, key), wanted))
            records = [record for record in found if record is not None and self._may_use(record)]
            places = self._places(threads, records)
        placed = [_placed(record, places) for record in records]
        return {record["key"]: record for record in placed if record is not None}

    def _may_use(self, record: Mapping[str, Any]) -> bool:
        if record["sinks"].keys() != self._stage.sinks.keys():
            return False
        if record["quarantined"] and not self._stage.max_quarantine:
            return False  # it is run again, to raise as it should
        return self._reuse.may_use(record)

    def _places(self, threads: ThreadPoolExecutor, records: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
        """Sink key -> name of a file -> a folder of the dataset that has it: the name tells its content.

        That in which a task has written it may have gone with its version; versions that share it have it too.
        """
        found: dict[str, dict[str, str]] = {}
        for key, name in self._stage.sinks.items():
            wanted = {f["path"]: f["folder"] for record in records for f in record["sinks"][key]["files"]}
            folders = list(dict.fromkeys(wanted.values()))
            found[key] = self._listed(threads, name, folders)
            if not wanted.keys() <= found[key].keys():
                versions = {version.data.folder for version in self._catalog.versions(name)}
                found[key] |= self._listed(threads, name, sorted(versions - set(folders)))
        return found

    def _listed(self, threads: ThreadPoolExecutor, name: str, folders: list[str]) -> dict[str, str]:
        """Name of a file -> the folder that has it."""
        lists = threads.map(lambda folder: self._store.list(data_key(name, folder)), folders)
        return {file: folder for folder, files in zip(folders, lists, strict=True) for file in files}


def _placed(record: dict[str, Any], places: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | None:
    """The record of a task with its files where they lie now; None if one is lost."""
    sinks = {}
    for key, sink in record["sinks"].items():
        if any(file["path"] not in places[key] for file in sink["files"]):
            return None
        sinks[key] = {**sink, "files": [{**file, "folder": places[key][file["path"]]} for file in sink["files"]]}
    return {**record, "sinks": sinks}
