"""What ``-o json`` prints: one document a command, of plain values. Times are UTC in ISO 8601, spans are seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from runner.client.run import Run
from runner.data.catalog import Catalog
from runner.errors import ApiError, InputError, StoreError
from runner.record import kept
from runner.record.history import StageView, View
from runner.record.reasons import Reason
from runner.store.log import Entry
from runner.store.store import Store
from runner.views import units
from runner.views.now import progress_now


def run_document(run: Run, view: View) -> dict[str, Any]:
    """A run: what `status`, `submit`, `cancel` and `resume` print."""
    spec = run.spec()
    return {
        "run": run.id,
        "job": view.job,
        "state": str(view.state),
        "cluster": spec["cluster_name"],
        "submitted": units.iso(view.created),
        "resumed": units.iso(view.resumed),
        "ended": units.iso(view.ended),
        "seconds": round(view.seconds(time.time()), 3),
        "stages": [_stage(run, view, stage) for stage in view.stages.values()],
        "reasons": [timed_reason(each) for each in reasons(run, view)],
        "error": view.error,
        "bundle": run.bundle.store.url,
        "store": run.bundle.root.url,
    }


def reasons(run: Run, view: View) -> list[Reason]:
    """As `Run.why`; none where the machines cannot be asked from here: it is no fault of who asks for the bundle."""
    try:
        return run.why(view)
    except StoreError:
        raise
    except (ApiError, InputError):  # InputError: no kubeconfig that leads to the cluster
        return []


def timed(row: dict[str, Any]) -> dict[str, Any]:
    """A row of metrics with its time as all documents have them."""
    return {**row, "at": units.iso(row["at"])} if "at" in row else row


def timed_reason(reason: Reason) -> dict[str, Any]:
    """What a run waits for, with its times as all documents have them."""
    return {**asdict(reason), "since": units.iso(reason.since), "until": units.iso(reason.until)}


def _stage(run: Run, view: View, stage: StageView) -> dict[str, Any]:
    took = (stage.ended or time.time()) - stage.started if stage.started else None
    return {
        "name": stage.name,
        "state": stage.state,
        "attempt": stage.attempt,
        "started": units.iso(stage.started),
        "seconds": None if took is None else round(took, 3),
        "progress": timed(progress_now(run, stage).last) if stage.state == "running" else None,
        "result": stage.result,
        "checkpoints": [asdict(each) for each in kept.checkpoints(run.bundle, view, stage.name) if each.exists],
    }


def dataset_rows(store: Store, name: str | None = None) -> list[dict[str, Any]]:
    """The newest version of every published dataset, or every version of one, newest first.

    Raises:
        DataError: there is no dataset `name`.
    """
    catalog = Catalog(store)
    if name is None:
        return [_rows(catalog, known, entries)[0] for known, entries in catalog.all_versions().items()]
    entries = catalog.versions(name)
    if not entries:
        from runner.errors import DataError, listed, suggest

        names = catalog.names()
        raise DataError(
            f"no dataset '{name}' in the store", allowed=listed(names),
            todo=suggest(name, names) or "see `runner data ls`", where=f"store {store.url}",
        )  # fmt: skip
    return _rows(catalog, name, entries)


def _rows(catalog: Catalog, name: str, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "dataset": name,
            **{field: entry.data.get(field) for field in ("id", "rows", "bytes", "files", "run", "stage")},
            "at": entry.at,
            "made": units.iso(entry.at),
            "versions": number,
            "url": catalog.data_url(name, entry.data["folder"]),
        }
        for number, entry in reversed(list(enumerate(entries, start=1)))
    ]
