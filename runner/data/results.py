"""The results of stages, and of their tasks: what has been made from what, so that nothing is made twice.

    <store>/results/<result key>/<variant>.json    the one record of a result; what it names is complete. Of one key
                                                   there are as many as there are states of the files that it read
    <store>/tasks/<code key>/<task key>.json       what one task wrote: reuse per shard, and recovery

A result is published in this order: shards, manifests, the result's record, the datasets' logs (see `catalog`). Until
the record is there nothing of it can be seen; a crash after it is repaired by whoever finds the record and publishes
again. The keys are those of `runner.plan.keys`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runner.code.dependencies import Present, variant
from runner.data.catalog import data_key, manifest_key
from runner.data.record_shapes import RESULT_RECORD, TASK_RECORD
from runner.store import Store
from runner.untrusted import shapes
from runner.untrusted.names import RECORD, RESULT, TASK
from runner.untrusted.skipped import readable


class Results:
    """The records of results and tasks of a store.

    Args:
        store: the root store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def of_key(self, key: str) -> list[dict[str, Any]]:
        """The records of a key, the newest first; they differ in what else they depended on.

        Each has: key, at (seconds since 1970), stage, inputs, code (part -> hash), config, settings, deps (see
        `code.dependencies`), packages, pinned (whether they count), counts, bytes_in, run, versions, and sinks: sink
        key -> {dataset, id, folder, rows, bytes, files (how many), schema, data: [{path, rows, bytes, md5, sha256}]}.
        """
        folder = result_folder(key)
        records = [name for name in self._store.list(folder) if RECORD.fits(name)]
        found = [self._read(f"{folder}/{name}", RESULT_RECORD) for name in records]
        return sorted((each for each in found if each is not None), key=lambda each: -each["at"])

    def newest(
        self, key: str, present: Present | None = None, sinks: Mapping[str, str] | None = None
    ) -> dict[str, Any] | None:
        """The newest record of a key, or None.

        Args:
            present: only one that agrees with what is there now, and whose data is in the store.
            sinks: only one of these (sink key -> dataset).
        """
        found = [each for each in self.of_key(key) if sinks is None or has_sinks(each, sinks)]
        fits = (each for each in found if present is None or present.agrees(each))
        return next((each for each in fits if present is None or not self.missing(each)), None)

    def publish(self, key: str, record: Mapping[str, Any], replace: bool = False) -> None:
        """Keep the record of a complete result; of two equal ones the first stays.

        Args:
            replace: overwrite a record whose data has been deleted, or that was to be made again.
        """
        pinned = record.get("packages", {}) if record.get("pinned") else {}
        name = f"{variant({**record.get('deps', {}), **pinned})}.json"
        self._write(f"{result_folder(key)}/{name}", record, RESULT_RECORD, replace)

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
        data = json.dumps(record, sort_keys=True).encode()  # indented it would take twenty times as long
        shapes.read(data, shape, self._store.path(key))  # what no reader would take is not written
        if replace or not (self._store.create(key, data) or self._read(key, shape) is not None):
            self._store.put(key, data)


def has_sinks(record: Mapping[str, Any], sinks: Mapping[str, str]) -> bool:
    """Whether a record of a result is of these sinks (sink key -> dataset), as its key says if nobody else made it."""
    return {key: sink["dataset"] for key, sink in record["sinks"].items()} == dict(sinks)


def result_folder(key: str) -> str:
    """The key of the folder with the records of a result."""
    return f"results/{RESULT(key)}"


def task_folder(code: str) -> str:
    """The key of the folder with the records of the tasks of a piece of code."""
    return f"tasks/{RESULT(code)}"
