"""Many runs at a glance: one listing of the index; only runs that it calls live are looked at."""

from __future__ import annotations

import calendar
import time
from dataclasses import asdict, dataclass
from typing import Any

from runner.bundle import LIVE, IndexLine, read_index
from runner.show import units
from runner.store import Store


@dataclass(frozen=True)
class RunLine:
    """A run in a list.

    Args:
        started: when it was submitted, seconds since 1970.
        seconds: that it took, or has taken so far.
        stage: that is running.
        lost: it was found lost just now, and has been ended.
    """

    run: str
    job: str
    state: str
    started: float
    seconds: float
    stage: str | None = None
    lost: bool = False

    def document(self) -> dict[str, Any]:
        """The line as JSON."""
        return {**asdict(self), "started": units.iso(self.started), "seconds": round(self.seconds, 3)}


def run_lines(store: Store, most: int | None) -> list[RunLine]:
    """The runs of a store, newest first.

    Args:
        most: how many of those that have ended, at most; every run that lives is listed. None: all.

    A run whose processes are gone is ended here (see `Run.reap`), and listed as lost.
    """
    lines = index_lines(store)
    live = [line for line in lines if line.state == LIVE]
    ended = [line for line in lines if line.state != LIVE]
    chosen = [*live, *(ended if most is None else ended[len(ended) - min(most, len(ended)) :])]
    found = [_look(store, line) if line.state == LIVE else _from_index(line) for line in chosen]
    return sorted(found, key=lambda line: line.run, reverse=True)


def index_lines(store: Store) -> list[IndexLine]:
    """The index, oldest first. A run that is between two states may have both lines: the live one makes us look."""
    by_run: dict[str, IndexLine] = {}
    for line in read_index(store):
        if line.run_id not in by_run or line.state == LIVE:
            by_run[line.run_id] = line
    return list(by_run.values())


def _from_index(line: IndexLine) -> RunLine:
    return RunLine(line.run_id, line.job, line.state, submitted_at(line.run_id), line.seconds)


def _look(store: Store, line: IndexLine) -> RunLine:
    from runner.lifecycle import RunState
    from runner.run import Run

    run = Run(store, line.run_id)
    view = run.view()
    lost = view.state is RunState.LOST
    if lost:
        view = run.reap()
    stage = next((s.name for s in view.stages.values() if s.state == "running"), None)
    state = RunState.LOST if lost else view.state
    return RunLine(run.id, line.job, str(state), submitted_at(run.id), view.seconds(time.time()), stage, lost)


def submitted_at(run_id: str) -> float:
    """When a run was submitted, as its id tells."""
    try:
        return float(calendar.timegm(time.strptime(run_id[:14], "r%y%m%d-%H%M%S")))
    except ValueError:
        return 0.0
