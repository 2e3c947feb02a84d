"""Which runs are meant: by job, state, who submitted them and when."""

from __future__ import annotations

import datetime
import itertools
import re
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from runner.errors import InputError, RunNotFound, listed, suggest
from runner.record import trust
from runner.record.index import LIVE, Index, IndexLine, begun_at, lines_of, merged
from runner.record.states import RunState
from runner.store import Store
from runner.untrusted.names import ATTEMPT, RUN_ID
from runner.untrusted.skipped import readable

_THREADS = 16
#: Runs of which is asked who has submitted them, before so many are found as are wanted.
_FEW = 64
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_LAST = re.compile(r"@last(?:~[0-9]{1,6})?")
#: Of a run id, from the time on that it tells: where one begins otherwise there is none.
_BEGIN = re.compile("r[0-9]")
STATES = tuple(str(state) for state in RunState)
#: Those of them that a line of the index can tell.
_ENDS = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)

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
            f"since {since!r}",
            allowed="a span (90m, 12h, 2d, 1w) or a date (2026-11-20, 2026-11-20T18:00)",
            todo="give one of these",
        ) from None


def select(store: Store, wanted: Wanted, most: int | None = None) -> list[IndexLine]:
    """A line for each run that fits, oldest first, without a look at states: those of runs that live are in their logs.

    Args:
        most: how many of the runs that have ended, the newest, at most; of those that live it is every one. None: all.

    Raises:
        InputError: no run is of that job, and another job has nearly that name.
    """
    index = Index(store)
    live = _chosen(store, index.live(), wanted)
    ended = list(itertools.islice(_ended(store, index, wanted), most))
    known = {line.run_id for line in live}
    live += _chosen(store, [line for line in index.live() if line.run_id not in known], wanted)  # resumed meanwhile
    if not live and not ended and wanted.job is not None:
        _check_job(wanted.job, {line.job for line in index.lines()})
    return merged([*live, *ended])


def _ended(store: Store, index: Index, wanted: Wanted) -> Iterator[IndexLine]:
    """Those that have ended and fit, newest first."""
    if wanted.state not in (None, *_ENDS):
        return
    first = "" if wanted.since is None else time.strftime("%y%m%d", time.gmtime(wanted.since))
    for day in index.ended(lambda day: day >= first):
        for start in range(0, len(day), _FEW):
            yield from _chosen(store, day[start : start + _FEW], wanted)


def _chosen(store: Store, lines: Sequence[IndexLine], wanted: Wanted) -> list[IndexLine]:
    found = [
        line
        for line in lines
        if wanted.job in (None, line.job)
        and (wanted.state is None or line.state in (LIVE, wanted.state))
        and (wanted.since is None or (begun_at(line.run_id) or 0.0) >= wanted.since)
    ]
    if wanted.user is None or not found:
        return found
    with ThreadPoolExecutor(_THREADS) as threads:
        users = list(threads.map(lambda line: submitted_by(store, line.run_id), found))
    return [line for line, user in zip(found, users, strict=True) if user == wanted.user]


def _check_job(job: str, jobs: Collection[str]) -> None:
    near = suggest(job, jobs) if job not in jobs else ""
    if near:
        raise InputError(f"no run of job '{job}'", allowed=listed(sorted(jobs)), todo=near)


def submitted_by(store: Store, run_id: str) -> str | None:
    """Who submitted a run; None if it never came to exist, or cannot be read."""
    from runner.record.bundle import Bundle
    from runner.record.entries import Submitted

    first = readable(Bundle(store, run_id).log.head, None)
    return first.event.by if first is not None and isinstance(first.event, Submitted) else None


def unfinished(store: Store, before: float) -> list[str]:
    """Ids of runs whose client died before it had submitted them: a folder, perhaps with an index line, without a log.

    Args:
        before: only runs that were begun before that moment, in seconds since 1970; younger ones may come to be yet.
    """
    from runner.record.bundle import Bundle

    ended = {line.run_id for day in Index(store).ended() for line in day}
    old = [name for name in store.list() if name not in ended and (begun := begun_at(name)) and begun < before]
    return [name for name in old if readable(Bundle(store, name).is_given_up, False)]


def find_run(store: Store, name: str) -> str:
    """The id of the run that `name` means: an id, a unique prefix or part of one, or ``@last``: the
    newest of this user's (``@last~1`` before it).

    Raises:
        RunNotFound: none or several fit.
    """
    if _LAST.fullmatch(name):
        return _last(store, name)
    if RUN_ID.fits(name) and lines_of(store, name):
        return name
    ids: list[str] = []
    fits = list(dict.fromkeys(line.run_id for line in Index(store).lines(name))) if _BEGIN.match(name) else []
    if not fits:
        ids = sorted(Index(store).newest_ids())
        fits = [run_id for run_id in ids if name in run_id] if name else []
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise RunNotFound(
            f"'{name}' fits {len(fits)} runs: {', '.join(fits[-5:])}",
            todo="give more of the id",
            where=f"store {store.url}",
        )
    if not ids:
        raise _no_runs(store, name)
    raise RunNotFound(
        f"no run '{name}'",
        allowed="a run id, a unique part of one, or @last",
        todo=suggest(name, ids) or "see `runner ps`",
        where=f"store {store.url}",
    )


def _last(store: Store, name: str) -> str:
    """The newest run of this user's, or the one so many before it."""
    back = name.removeprefix("@last").removeprefix("~")
    number, mine, all_of_them = int(back) if ATTEMPT.fits(back) else 0, 0, 0
    for run_id in Index(store).newest_ids():
        all_of_them += 1
        if submitted_by(store, run_id) != trust.user():
            continue
        if mine == number:
            return run_id
        mine += 1
    if not all_of_them:
        raise _no_runs(store, name)
    raise RunNotFound(
        f"'{name}': the store has {mine} of its {all_of_them} runs from you ({trust.user()})",
        allowed=f"@last to @last~{mine - 1}" if mine else "a run id, or a unique part of one",
        todo="see `runner ps`; a run of somebody else's is named by its id",
        where=f"store {store.url}",
    )


def _no_runs(store: Store, name: str) -> RunNotFound:
    return RunNotFound(
        f"no run '{name}': the store has no runs", todo="submit one, or give --store", where=f"store {store.url}"
    )
