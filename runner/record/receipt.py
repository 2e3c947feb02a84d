"""The receipt, a run's last entry: how it ended, what it took, and what is left of its machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from runner.record.bundle import Bundle
from runner.record.entries import (
    AttemptBegan,
    CancelAsked,
    Ended,
    LegDone,
    Resumed,
    StageDone,
    StageFailed,
    StageStarted,
)
from runner.record.failures import Failure
from runner.record.history import fold
from runner.record.run_spec import RunSpec
from runner.record.states import RunState
from runner.store import Entry

#: After these a run needs its machines no more, if it ends then.
_OVER = LegDone | StageFailed | CancelAsked
#: At these a stage begins to work, or works no more.
_TURNS = StageStarted | StageDone | StageFailed | AttemptBegan | CancelAsked | Ended


def end_run(
    bundle: Bundle,
    state: RunState,
    error: Failure | None,
    remains: Mapping[str, Any],
    cleaned: tuple[float, float] | None = None,
    check: Callable[[list[Entry]], None] | None = None,
) -> None:
    """Write the receipt, unless another writer has ended the run, and move its line in the index.

    Args:
        cleaned: when its machines were asked to go, and when they were gone; seconds since 1970.
        check: of the log so far; it raises where this writer may not end the run.
    """

    def only_once(entries: list[Entry]) -> None:
        if fold(entries).state.ended:
            raise _AlreadyEnded
        if check is not None:
            check(entries)

    entries = bundle.log.read()
    view = fold(entries)
    seconds = view.seconds(time.time())
    stages = {s.name: round((s.ended or time.time()) - s.started, 3) for s in view.stages.values() if s.started}
    receipt = Ended(state.value, error, round(seconds, 3), stages, remains)
    if cleaned is not None:
        receipt = replace(receipt, teardown_s=teardown(entries, *cleaned))
    if "gpu_seconds" in remains:
        used = gpu_seconds_used(entries, _gpus(bundle.spec()), time.time())
        receipt = replace(receipt, gpu_seconds_used=used)
    try:
        bundle.log.append(receipt, only_once)
    except _AlreadyEnded:
        return
    bundle.index(view.job, state.value, seconds)


def teardown(entries: Iterable[Entry], asked: float, gone: float) -> dict[str, float]:
    """Seconds from the moment when a run needed its machines no more until they were asked to go, and were gone."""
    over = max((entry.at for entry in entries if isinstance(entry.event, _OVER)), default=asked)
    return {"asked": round(max(0.0, asked - over), 1), "gone": round(max(0.0, gone - over), 1)}


def gpu_seconds_used(entries: Iterable[Entry], gpus: Mapping[str, int], now: float) -> float:
    """GPU seconds in which a stage was at work on them, since the last resume. Those that a run held besides went into
    coming, loading and going.

    Args:
        gpus: stage -> the GPUs of its workers.
    """
    used, stage, since = 0.0, "", now
    for entry in entries:
        event = entry.event
        if isinstance(event, Resumed):
            used, stage = 0.0, ""
        if not isinstance(event, _TURNS):
            continue
        used += gpus.get(stage, 0) * (entry.at - since) if stage else 0.0
        stage, since = event.stage if isinstance(event, StageStarted) else "", entry.at
    return round(used + (gpus.get(stage, 0) * (now - since) if stage else 0.0), 1)


def _gpus(spec: RunSpec) -> dict[str, int]:
    """A worker has one, where its group has any."""
    planned = spec.plan.planned()
    return {name: stage["workers"] for name, stage in planned.items() if stage["shape"]["gpu"]}


class _AlreadyEnded(Exception):
    """Another writer has ended the run."""
