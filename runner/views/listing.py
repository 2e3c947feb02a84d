"""Many runs at a glance: a few listings of the index; only runs that live are looked at, many of one place at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.backends.registry import living
from runner.record.finding import Wanted, select
from runner.record.index import LIVE, Doing, IndexLine, begun_at
from runner.store import LOCAL, Store
from runner.untrusted.skipped import readable
from runner.views import units

if TYPE_CHECKING:
    from runner.client.run import Run


#: Runs whose logs are read at once.
_THREADS = 16


@dataclass(frozen=True)
class RunLine:
    """A run in a list.

    Args:
        started: when it was submitted, seconds since 1970.
        seconds: that it took, or has taken so far.
        stage: that is running.
    """

    run: str
    job: str
    state: str
    started: float
    seconds: float
    stage: str | None = None

    def document(self) -> dict[str, Any]:
        """The line as JSON."""
        return {**vars(self), "started": units.iso(self.started), "seconds": round(self.seconds, 3)}


def run_lines(store: Store, most: int | None, wanted: Wanted | None = None) -> list[RunLine]:
    """The runs of a store, newest first.

    Args:
        most: how many of those that have ended, at most; every run that lives is listed. None: all.
        wanted: what they must be.

    A run whose processes are gone is listed as lost, and stays as it is (see `Run.view`).
    """
    wanted = wanted or Wanted()
    lines = select(store, wanted, most)
    live = [line for line in lines if line.state == LIVE]
    working = _working(live)
    found = [_from_index(line) for line in lines if line.state != LIVE]
    found += [_doing(line, line.doing) for line in live if line.run_id in working and line.doing]
    unknown = [line for line in live if line.run_id not in working or not line.doing]
    found += _looks(store, unknown)
    chosen = [line for line in found if wanted.state in (None, line.state)]
    return sorted(chosen, key=lambda line: line.run, reverse=True)


def _working(live: list[IndexLine]) -> set[str]:
    """Runs whose index line can be believed: its supervisor lives, or the place where it is cannot be asked."""
    found: set[str] = set()
    for where in {line.doing.where for line in live if line.doing is not None}:
        there = {line.run_id for line in live if line.doing is not None and line.doing.where == where}
        alive = living(where)
        found |= there if alive is None else there & alive
    return found


def _from_index(line: IndexLine) -> RunLine:
    return RunLine(line.run_id, line.job, line.state, submitted_at(line.run_id), line.seconds)


def _doing(line: IndexLine, doing: Doing) -> RunLine:
    seconds = time.time() - (line.seconds or submitted_at(line.run_id))
    return RunLine(line.run_id, line.job, doing.state, submitted_at(line.run_id), seconds, doing.stage or None)


def _looks(store: Store, lines: list[IndexLine]) -> list[RunLine]:
    """By their logs: in an object store at many at once, when the first has loaded what a look takes."""
    alone = lines if store.kind == LOCAL else lines[:1]
    found = [_look(store, line) for line in alone]
    with ThreadPoolExecutor(_THREADS) as threads:
        return [*found, *threads.map(lambda line: _look(store, line), lines[len(alone) :])]


def _look(store: Store, line: IndexLine) -> RunLine:
    from runner.client.run import Run

    bad = RunLine(line.run_id, line.job, "unreadable", submitted_at(line.run_id), 0.0)
    return readable(lambda: _seen(Run(store, line.run_id), line), bad)


def _seen(run: Run, line: IndexLine) -> RunLine:
    if run.bundle.is_given_up():  # its client died in the midst of submitting it, or is about to
        return RunLine(line.run_id, line.job, "unfinished", submitted_at(line.run_id), 0.0)
    view = run.view()
    stage = view.running.name if view.running else None
    return RunLine(run.id, line.job, str(view.state), submitted_at(run.id), view.seconds(time.time()), stage)


def submitted_at(run_id: str) -> float:
    """When a run was submitted, as its id tells."""
    return begun_at(run_id) or 0.0
