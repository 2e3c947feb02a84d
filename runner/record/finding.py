"""Which runs are meant: by job, state, who submitted them and when."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from runner.errors import InputError, listed, suggest
from runner.record.bundle import Bundle, IndexLine, begun_at
from runner.record.history import RunState
from runner.store.store import Store
from runner.untrusted.skipped import readable

_THREADS = 16
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
STATES = tuple(str(state) for state in RunState)

Since = str | float | datetime.datetime | datetime.timedelta


@dataclass(frozen=True)
class Wanted:
    """What a run must be.

    Args:
        job: its job's name.
        state: one of `STATES`.
        user: who submitted it.
        since: seconds since 1970, at or after which it was submitted.
    """

    job: str | None = None
    state: str | None = None
    user: str | None = None
    since: float | None = None

    @classmethod
    def of(
        cls, job: str | None = None, state: str | None = None, user: str | None = None, since: Since | None = None
    ) -> Wanted:
        """Checked. Raises InputError for a state or a time that is none."""
        if state is not None and state not in STATES:
            raise InputError(
                f"state {state!r}", allowed=listed(STATES), todo=suggest(str(state), STATES) or "choose one of them"
            )
        return cls(job, state, user, None if since is None else moment(since))

    def __bool__(self) -> bool:
        return self != Wanted()


def moment(since: Since, now: float | None = None) -> float:
    """A moment in seconds since 1970: of a span such as '2d' or '90m' before now, or of a date such as '2026-11-20'.

    Raises:
        InputError: it is neither.
    """
    now = time.time() if now is None else now
    if isinstance(since, datetime.timedelta):
        return now - since.total_seconds()
    if isinstance(since, datetime.datetime):
        return since.timestamp()
    if isinstance(since, int | float):
        return float(since)
    span = _SPAN.fullmatch(since.strip())
    if span is not None:
        return now - float(span[1]) * _SECONDS[span[2]]
    try:
        return datetime.datetime.fromisoformat(since).timestamp()
    except ValueError:
        raise InputError(
            f"since {since!r}", allowed="a span (90m, 12h, 2d, 1w) or a date (2026-11-20, 2026-11-20T18:00)",
            todo="give one of these",
        ) from None  # fmt: skip


def select(store: Store, lines: Sequence[IndexLine], wanted: Wanted) -> list[IndexLine]:
    """The lines that fit, in their order, without a look at states: those of runs that live are in their logs.

    Raises:
        InputError: no run is of that job, and another job has nearly that name.
    """
    if wanted.job is not None and wanted.job not in (jobs := {line.job for line in lines}):
        near = suggest(wanted.job, jobs)
        if near:
            raise InputError(f"no run of job '{wanted.job}'", allowed=listed(sorted(jobs)), todo=near)
    found = [
        line
        for line in lines
        if wanted.job in (None, line.job) and (wanted.since is None or (begun_at(line.run_id) or 0.0) >= wanted.since)
    ]
    if wanted.user is None:
        return found
    with ThreadPoolExecutor(_THREADS) as threads:
        users = list(threads.map(lambda line: submitted_by(store, line.run_id), found))
    return [line for line, user in zip(found, users, strict=True) if user == wanted.user]


def submitted_by(store: Store, run_id: str) -> str | None:
    """Who submitted a run; None if it never came to exist, or cannot be read."""
    entries = readable(Bundle(store, run_id).log.head, None)
    return None if entries is None else entries.data.get("by")
