"""What a run waits for, as far as its bundle tells: a supervisor that fails, a driver to come, a silent stage."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterable
from typing import Any

from runner.errors import Cause
from runner.record.bundle import Bundle
from runner.record.entries import (
    AttemptBegan,
    DriverBegan,
    Ended,
    Prepared,
    Resumed,
    StageStarted,
    SupervisorBegan,
    SupervisorFailed,
)
from runner.record.history import StageView, View
from runner.record.reading import last_word
from runner.record.reasons import Reason
from runner.record.rows import rows_of
from runner.record.run_spec import RunSpec
from runner.store import Entry

#: Seconds without a row of metrics after which a stage is called quiet, and how many of its usual steps that must be.
QUIET_S, QUIET_STEPS = 30.0, 5
#: Segments of metrics that are read, the last ones, and steps in them that tell how long one takes.
_SEGMENTS, _STEPS = 3, 20


def of_supervisor(entries: list[Entry], run_id: str) -> Reason | None:
    """A supervisor that failed, and whose successor has not come yet."""
    errors = 0
    newest: tuple[SupervisorFailed, float] | None = None
    for entry in reversed(entries):
        if isinstance(entry.event, SupervisorFailed):
            newest, errors = newest or (entry.event, entry.at), errors + 1
        elif newest is None and isinstance(entry.event, SupervisorBegan | AttemptBegan | Resumed | Ended):
            return None
        elif newest is not None and not isinstance(entry.event, SupervisorBegan):
            break
    if newest is None:
        return None
    failure, since = newest
    often = f" {errors} times in a row" if errors > 1 else ""
    words = f"its supervisor, which failed{often}: {' '.join(failure.message.split())}"
    helps = f"its Job starts another, a few times; `kubectl logs job/{run_id}` shows its trace"
    return Reason(words, since, helps, cause=failure.cause)


def of_driver(entries: list[Entry], view: View) -> Reason | None:
    """An attempt whose machines, as far as they can be asked, lack nothing, and whose driver has not said a word."""
    if not view.attempt_open or view.attempt == 0 or has_begun(entries, view):
        return None
    since = next((e.at for e in reversed(entries) if isinstance(e.event, AttemptBegan)), None)
    return Reason(
        "the driver to begin: it fetches the run's code, and the packages that it brings", since, cause=Cause.DRIVER
    )


def has_begun(entries: list[Entry], view: View) -> bool:
    """Whether the driver of the current attempt has written anything."""
    for entry in reversed(entries):
        event = entry.event
        if isinstance(event, DriverBegan) and (event.leg, event.attempt) == (view.leg, view.attempt):
            return True
        if isinstance(event, StageStarted):
            return True
        if isinstance(event, AttemptBegan | Resumed):
            return False
    return False


def of_stage(bundle: Bundle, view: View) -> Reason | None:
    """A stage that is at work and has said nothing for long, compared with what its steps take."""
    stage = view.running
    if stage is None:
        return None
    last = last_word(bundle, stage.name, stage.attempt) or stage.started or view.created
    silent = time.time() - last
    if silent < QUIET_S or silent < QUIET_STEPS * step_seconds(_recent(bundle, stage)):
        return None
    helps = f"`runner logs {bundle.run_id}` shows its last lines"
    return Reason(f"stage '{stage.name}', which has reported nothing", last, helps, cause=Cause.QUIET)


def step_seconds(rows: Iterable[dict[str, Any]]) -> float:
    """What a step (of a prep: a task) took of late, from the moments of the rows that count them; 0 if none tells."""
    moments: dict[Any, float] = {}
    for row in rows:
        position = row.get("step", row.get("done"))
        if position is not None and "at" in row:
            moments.setdefault(position, row["at"])
    times = list(moments.values())[-_STEPS - 1 :]
    return statistics.median([b - a for a, b in itertools.pairwise(times)]) if len(times) > 1 else 0.0


def _recent(bundle: Bundle, stage: StageView) -> list[dict[str, Any]]:
    """The last rows of rank 0, or of the prep's driver."""
    for writer in ("rank0", "driver"):
        folder = bundle.stage_files.segments(stage.name, stage.attempt, "metrics", writer)
        names = bundle.stage_files.offsets(folder)[-_SEGMENTS:]
        if names:
            return [row for name in names for row in rows_of(bundle, folder, name)]
    return []


def until(entries: list[Entry], view: View, spec: RunSpec) -> float | None:
    """The nearest moment at which the attempt, or the stage that runs, is given up, as the job and the cluster say."""
    found = []
    stage = view.running
    if stage is not None and stage.started is not None:
        limits = [each.timeout_s for each in spec.job.stages if each.name == stage.name]
        found += [stage.started + limit for limit in limits if limit is not None]
    where = spec.cluster.kubernetes
    if view.attempt_open and where is not None and where.deadline_s is not None and where.queue is None:
        found += [at + where.deadline_s for at in _machines_asked(entries, view)]  # time in a queue is free
    return min(found, default=None)


def _machines_asked(entries: list[Entry], view: View) -> list[float]:
    """When those of the current attempt were, if the log tells: with it, or early."""
    for entry in reversed(entries):
        event = entry.event
        if isinstance(event, AttemptBegan) and (view.attempt > 1 or view.prepared < view.leg or view.leg == 0):
            return [entry.at]
        if isinstance(event, Prepared) and (event.leg, event.attempt) == (view.leg, view.attempt):
            return [entry.at]
    return []
