"""Finding the runs of a store."""

from __future__ import annotations

from runner.client.run import Run
from runner.plan.project import find_project
from runner.record.finding import Since, Wanted, find_run, select
from runner.record.index import LIVE, IndexLine
from runner.untrusted.skipped import readable


def runs(
    store: str | None = None,
    *,
    job: str | None = None,
    state: str | None = None,
    user: str | None = None,
    since: Since | None = None,
) -> list[Run]:
    """The runs of a store, oldest first.

    Args:
        store: its URL, instead of the project's.
        job: only of this job.
        state: only those that are submitted, running, cancelling, succeeded, failed, cancelled or lost.
        user: only what this user has submitted.
        since: only what was submitted since: '2d', '12h', '2026-11-20', a datetime, or a timedelta back from now.

    Raises:
        InputError: a state or a time that is none.
    """
    opened, wanted = find_project().store(store), Wanted.of(job, state, user, since)
    found = [(Run(opened, line.run_id), line) for line in select(opened, wanted)]
    return [run for run, line in found if state is None or _state_of(run, line) == state]


def _state_of(run: Run, line: IndexLine) -> str:
    return line.state if line.state != LIVE else readable(lambda: run.status, "")


def get_run(name: str, store: str | None = None) -> Run:
    """The run that `name` means: an id, a unique part of one, or ``@last``.

    Raises:
        RunNotFound: none or several fit.
    """
    opened = find_project().store(store)
    return Run(opened, find_run(opened, name))
