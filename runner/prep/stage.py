"""The prep stage: data in, one published result out; nothing is done twice that was done before."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

from runner.data.catalog import data_key
from runner.data.manifest import Manifest
from runner.errors import DataError
from runner.plan.keys import code_key, result_key, settings_of, short_etags, stage_code, used_config
from runner.prep import trace as prep_trace
from runner.prep.files import OutputFile
from runner.prep.make import run_make
from runner.prep.progress import COUNTS, Progress
from runner.prep.publish import Sink, publish
from runner.prep.quarantine import too_many
from runner.prep.records import TaskRecords
from runner.prep.reuse import Reuse, traced_here
from runner.prep.tasks import plan_tasks
from runner.prep.work import Work, run_task
from runner.spec import Dataset, Prep
from runner.worker.pool.base import Pool
from runner.worker.pool.lazy import LazyPool
from runner.worker.scope import Scope

__all__ = ["run_make", "run_prep"]


def run_prep(stage: Prep, scope: Scope, pool: Pool) -> dict[str, Any]:
    """Run a prep stage, or find that its result exists.

    Args:
        stage: its functions may be references.
        scope: of the run.
        pool: maps tasks. With ``batch_format="dataset"`` Ray must be initialised, or a LazyPool must start it.

    Returns:
        JSON: skipped, key, outputs (dataset -> manifest id), places (dataset -> key of its folder), rows_in,
        processed, filtered, quarantined (rows in = the sum of the three), rows_out and files (per sink key),
        bytes_in, bytes_out, tasks, tasks_reused, notes, seconds.

    Raises:
        UserCodeError: the user's code raised; the message names exception, row and shard. Inline: what it raised.
        DataError: input that cannot be read, a wrong return, schemas that do not fit, no rows at all.
        WorkerLost, StageTimeout, Interrupted: from the pool.
    """
    started = time.monotonic()
    stage_run = _Stage(stage, scope, pool)
    result = stage_run.existing() or stage_run.run()
    return {**result, "seconds": round(time.monotonic() - started, 3)}


class _Stage:
    """One run of a stage."""

    def __init__(self, stage: Prep, scope: Scope, pool: Pool) -> None:
        self._stage, self._scope, self._pool = stage, scope, pool
        self._where = f"Prep '{stage.name}'"
        self._inputs: dict[str, Manifest] = {k: scope.manifest(source) for k, source in stage.sources.items()}
        identity = stage_code(stage, config=scope.spec.job.config)
        self._config = used_config(stage, scope.config_values)
        ids = {key: manifest.id for key, manifest in self._inputs.items()}
        key = result_key(stage, identity.hash, self._config, ids)
        fields = ("counts", "tasks", "quarantine")
        self._reuse = Reuse(stage.name, identity, key, scope, stage.sinks, fields, self._inputs.values())
        self._code = code_key(stage, identity.hash, self._config)

    def existing(self) -> dict[str, Any] | None:
        """The result, if it is in the store with all its data; also mends the datasets' logs after a crash."""
        record = self._reuse.taken()
        if record is None:
            return None
        tasks = record["tasks"]
        self._scope.report(self._stage.name, skipped=True, done=tasks, total=tasks, **_progress(record["counts"]))
        shown = _shown(record, skipped=True, reused=tasks)
        other = self._reuse.other_versions(record)
        if other:
            shown["notes"].append(f"made with other versions of packages: {'; '.join(other)}")
        return shown

    def run(self) -> dict[str, Any]:
        """Do what is not done yet, and publish."""
        if self._stage.batch_format == "dataset":
            return self._run_dataset()
        records, reused = self._run_tasks()
        counts = _sum(records)
        self._check_share(records, counts)
        sinks = {key: _sink(name, key, records) for key, name in self._stage.sinks.items()}
        quarantine = [record["quarantine"] for record in records if record["quarantine"]]
        loaded = {name for record in records for name in record["loaded"]}
        versions = [record["packages"] for record in records]
        traced = self._reuse.facts([record["deps"] for record in records], loaded, versions)
        return self._publish(sinks, counts, traced, tasks=len(records), reused=reused, quarantine=quarantine)

    def _run_dataset(self) -> dict[str, Any]:
        """Ray's workers are not watched: every data file of the project counts."""
        from runner.prep.ray_data import transform_datasets

        if isinstance(self._pool, LazyPool):
            self._pool.start_ray()
        with prep_trace.begin().at_work(self._scope.store, names=self._reuse.inside, elsewhere=True):
            rows_in, sinks = transform_datasets(self._stage, self._inputs, self._reuse.key, self._scope)
        counts = {"rows_in": rows_in, "processed": rows_in, "filtered": 0, "quarantined": 0}
        counts["bytes_in"] = sum(manifest.bytes for manifest in self._inputs.values())
        deps, loaded = traced_here(self._reuse.identity.modules)
        return self._publish(sinks, counts, self._reuse.facts([deps], loaded), tasks=1, reused=0, quarantine=[])

    # -- tasks ---------------------------------------------------------------------------------------------------

    def _run_tasks(self) -> tuple[list[dict[str, Any]], int]:
        """The records of all tasks, in the order of the data, and how many were there before."""
        manifest = next(iter(self._inputs.values()))
        tasks = plan_tasks(manifest, self._code)
        before = TaskRecords(self._stage, self._scope.store, self._code, self._reuse)
        records = before.of(tasks)
        reused = len(records)
        todo = [
            dataclasses.replace(task, replace=task.key in before.known) for task in tasks if task.key not in records
        ]
        work = Work(
            self._stage,
            self._code,
            manifest.base,
            manifest.options,
            manifest.schema,
            manifest.rows,
            self._reuse.identity.modules,
            self._reuse.named,
            self._reuse.identity.packages,
            self._reuse.inside,
            self._scope,
        )
        progress = Progress(self._scope, self._stage.name, len(tasks), list(records.values()))
        for _, record in self._pool.map(functools.partial(run_task, work), todo, self._stage.timeout_s):
            records[record["key"]] = record
            progress.add(record)
        progress.tell()
        return [records[task.key] for task in tasks], reused

    # -- the end -------------------------------------------------------------------------------------------------

    def _check_share(self, records: list[dict[str, Any]], counts: Mapping[str, int]) -> None:
        if counts["quarantined"] > self._stage.max_quarantine * counts["rows_in"]:
            first = next(record for record in records if record["first_error"])
            bad, rows = counts["quarantined"], counts["rows_in"]
            raise too_many(self._stage, bad, rows, first["first_error"], first["first_trace"])

    def _publish(
        self,
        sinks: Mapping[str, Sink],
        counts: Mapping[str, int],
        traced: Mapping[str, Any],
        *,
        tasks: int,
        reused: int,
        quarantine: list[str],
    ) -> dict[str, Any]:
        if not any(sink.files for sink in sinks.values()):
            raise DataError(
                f"no rows: {counts['rows_in']} came in, {counts['filtered']} were filtered, "
                f"{counts['quarantined']} set aside, and fn returned none for the rest",
                allowed="at least one row in one sink",
                todo="look at what keep and fn return",
                where=self._where,
            )
        facts = {
            "stage": self._stage.name,
            "inputs": {key: self._input(key) for key in self._inputs},
            **traced,
            "config": self._config,
            "settings": settings_of(self._stage),
            "counts": dict(counts),
            "bytes_in": counts["bytes_in"],
            "tasks": tasks,
            "tasks_of": self._code,
            "quarantine": quarantine,
        }
        record = publish(
            self._reuse.key, sinks, facts, self._scope, self._pool, self._where, replace=self._reuse.replace
        )
        return _shown(record, skipped=False, reused=reused)

    def _input(self, key: str) -> dict[str, Any]:
        source, manifest = self._stage.sources[key], self._inputs[key]
        name = ", ".join(source.urls) if isinstance(source, Dataset) else source
        facts = {"dataset": name, "id": manifest.id, "rows": manifest.rows, "bytes": manifest.bytes}
        return {**facts, "shards": short_etags((shard.path, shard.etag) for shard in manifest.shards)}


def _sum(records: list[dict[str, Any]]) -> dict[str, int]:
    return {name: sum(record[name] for record in records) for name in COUNTS}


def _progress(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in COUNTS}


def _sink(dataset: str, key: str, records: list[dict[str, Any]]) -> Sink:
    parts = [record["sinks"][key] for record in records]
    columns: Iterator[dict[str, str]] = (part["columns"] for part in parts if part["columns"])
    return Sink(dataset, [OutputFile.of(file) for part in parts for file in part["files"]], next(columns, {}))


def _shown(record: Mapping[str, Any], *, skipped: bool, reused: int) -> dict[str, Any]:
    """The StageResult of a record."""
    sinks = record["sinks"]
    notes = [f"the sink '{s['dataset']}' is empty: fn returned no row for it" for s in sinks.values() if not s["rows"]]
    if record["quarantine"]:
        count, files = record["counts"]["quarantined"], record["quarantine"]
        more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
        notes.append(f"{count} rows raised and were set aside, in {files[0]}{more} of the store")
    return {
        "skipped": skipped,
        "key": record["key"],
        "outputs": {sink["dataset"]: sink["id"] for sink in sinks.values()},
        "places": {sink["dataset"]: data_key(sink["dataset"], sink["folder"]) for sink in sinks.values()},
        **record["counts"],
        "rows_out": {key: sink["rows"] for key, sink in sinks.items()},
        "files": {key: sink["files"] for key, sink in sinks.items()},
        "bytes_out": sum(sink["bytes"] for sink in sinks.values()),
        "tasks": record["tasks"],
        "tasks_reused": reused,
        "notes": notes,
    }
