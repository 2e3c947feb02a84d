"""The index of a store's runs: an empty object for each, whose name is its line in a list of runs.

<store>/index/live/<run id>~<job>~live~<since when>                  a run that lives; on Kubernetes it has besides
                                                                     ~<what it does>~<stage>~<where>, so that its log
                                                                     need not be read
<store>/index/<yymmdd>/<run id>~<job>~<state>~<seconds>              one that has ended, by the day of its id (UTC)
<store>/index/<line>                                                 any, as runners before this one wrote them

So the runs that live and the newest of the others are a few listings, however many there are, and a run's line is found
by its id. Whoever moves a line writes the new one before the old one goes: a run may have two for a moment, or for ever
where its writer died, but never none. Then its log tells what it is.
"""

from __future__ import annotations

import datetime
import functools
import heapq
import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote, unquote

from runner.store import Store
from runner.untrusted.names import JOB, RUN_ID, STAGE, object_name
from runner.untrusted.skipped import skipped

INDEX, LIVE = "index", "live"
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
_DAY = re.compile("[0-9]{6}")
#: Listings that are asked for at once.
_AT_ONCE = 16
#: A line of the index: paths are made of its run id, and people are shown the rest.
_LINE = re.compile(
    rf"(?P<run>{RUN_ID.pattern})~(?P<job>{JOB.pattern})~(?P<state>[a-z]{{1,20}})~(?P<seconds>[0-9]{{1,15}})"
    rf"(?:~(?P<doing>[a-z]{{1,20}})~(?P<stage>(?:{STAGE.pattern})?)~(?P<where>[!-~]*))?"
)


def new_run_id(job: str, now: float | None = None) -> str:
    """A name such as ``r261123-181119k4-digits-x7``: sorts by time (UTC), legible, valid for every Kubernetes object.

    The two letters behind the second tell its fraction, to 1/900; the last two are random.
    """
    now = time.time() if now is None else now
    fraction = int(now % 1 * len(_ALPHABET) ** 2)
    stamp = time.strftime("r%y%m%d-%H%M%S", time.gmtime(now)) + "".join(
        _ALPHABET[i] for i in divmod(fraction, len(_ALPHABET))
    )
    tail = "".join(secrets.choice(_ALPHABET) for _ in range(2))
    room = RUN_ID.longest - len(stamp) - len(tail) - 2
    return f"{stamp}-{object_name(job)[:room].strip('-')}-{tail}"


def begun_at(run_id: str) -> float | None:
    """When a run was begun, as its id tells: seconds since 1970; None if it is no run's id."""
    if not RUN_ID.fits(run_id):
        return None
    year, month, day, hour, minute, second = (int(run_id[at : at + 2]) for at in (1, 3, 5, 8, 10, 12))
    year += 2000 if year < 69 else 1900  # as %y is read
    try:
        return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC).timestamp()
    except ValueError:  # of a day that its month does not have
        return None


@dataclass(frozen=True)
class Doing:
    """What a run that lives does, as its index line tells.

    Args:
        state: as the log had it.
        stage: that is running; "" where none is.
        where: the place whose API can say whether its supervisor lives (see `backends.registry.place`).
    """

    state: str
    stage: str
    where: str


@dataclass(frozen=True)
class IndexLine:
    """One run as the index shows it.

    Args:
        state: LIVE, or how it ended.
        seconds: that it took; of a run that lives, since when (seconds since 1970), or 0.
        doing: of a run that lives; None where only its log can tell.
    """

    run_id: str
    job: str
    state: str
    seconds: float
    doing: Doing | None = None

    @property
    def key(self) -> str:
        """The name of its object."""
        key = f"{self.run_id}~{self.job}~{self.state}~{self.seconds:.0f}"
        if self.doing is None:
            return key
        return f"{key}~{self.doing.state}~{self.doing.stage}~{quote(self.doing.where, safe='')}"

    @property
    def folder(self) -> str:
        """Where it lies."""
        return f"{INDEX}/{LIVE if self.state == LIVE else _day(self.run_id)}"

    @classmethod
    def of(cls, key: str) -> IndexLine | None:
        """The line that `key` is; None if it is none, whoever wrote it."""
        found = _LINE.fullmatch(key)
        if found is None or not (RUN_ID.fits(found["run"]) and JOB.fits(found["job"])):
            return None
        if found["stage"] and not STAGE.fits(found["stage"]):
            return None
        doing = Doing(found["doing"], found["stage"], unquote(found["where"])) if found["doing"] is not None else None
        line = cls(found["run"], found["job"], found["state"], float(found["seconds"]), doing)
        return line if line.key == key else None  # one that is written another way could not be removed by its name


def show(store: Store, line: IndexLine) -> None:
    """Show a run so, and no longer otherwise: as many requests in a store of many runs as in one of few."""
    store.put(f"{line.folder}/{line.key}", b"")
    _remove(store, line.run_id, f"{line.folder}/{line.key}")


def leave(store: Store, run_id: str) -> None:
    """Remove the lines of a run, if it has any."""
    _remove(store, run_id)


def _remove(store: Store, run_id: str, but: str = "") -> None:
    for folder in (f"{INDEX}/{LIVE}", f"{INDEX}/{_day(run_id)}", INDEX):
        for name in store.list(folder, f"{run_id}~"):
            if f"{folder}/{name}" != but and IndexLine.of(name) is not None:
                store.delete(f"{folder}/{name}")


def lines_of(store: Store, run_id: str) -> list[IndexLine]:
    """The lines of one run: none, one, or two where it is between two states."""
    folders = (f"{INDEX}/{LIVE}", f"{INDEX}/{_day(run_id)}", INDEX)
    names = [name for folder in folders for name in store.list(folder, f"{run_id}~")]
    return [line for name in names if (line := IndexLine.of(name)) is not None]


class Index:
    """One look at the index of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def live(self) -> list[IndexLine]:
        """The lines of runs that live, oldest first."""
        folder = f"{INDEX}/{LIVE}"
        found = _lines(self._store, folder, self._store.list(folder))
        old = _lines(self._store, INDEX, (name for name in self._top if f"~{LIVE}~" in name))
        return sorted(found + [line for line in old if line.state == LIVE], key=_id_of)

    def ended(self, fits: Callable[[str], bool] = lambda day: True) -> Iterator[list[IndexLine]]:
        """The lines of runs that have ended, a day at a time, newest first; no day is listed long before it is needed.

        Args:
            fits: whether a day counts, which is given as "261123".
        """
        days = {name for name in self._top if _DAY.fullmatch(name)}
        old: dict[str, list[str]] = {}
        for name in self._top:
            if name not in days and name != LIVE and f"~{LIVE}~" not in name:
                old.setdefault(_day(name), []).append(name)

        def lines(day: str) -> list[IndexLine]:
            found = _lines(self._store, INDEX, old.get(day, ()))
            if day in days:
                found += _lines(self._store, f"{INDEX}/{day}", self._store.list(f"{INDEX}/{day}"))
            return sorted((line for line in found if line.state != LIVE), key=_id_of, reverse=True)

        wanted = sorted((day for day in days.union(old) if fits(day)), reverse=True)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for few in _windows(wanted):
                yield from threads.map(lines, few)

    def lines(self, begins: str = "") -> list[IndexLine]:
        """Every line, oldest first: a listing for each day.

        Args:
            begins: only of runs whose ids begin so; days that can have none are not listed.
        """
        found, stem = set(self.live()), _day(begins)
        for day in self.ended(lambda day: day.startswith(stem)):
            found.update(day)
        found.update(self.live())  # a run that was resumed meanwhile is there again
        return sorted((line for line in found if line.run_id.startswith(begins)), key=_id_of)

    def newest_ids(self) -> Iterator[str]:
        """The ids of all runs, newest first; days are listed as they are needed."""
        live = [line.run_id for line in reversed(self.live())]
        ended = (line.run_id for day in self.ended() for line in day)
        return (run_id for run_id, _ in itertools.groupby(heapq.merge(live, ended, reverse=True)))

    @functools.cached_property
    def _top(self) -> list[str]:
        """The names of days, and old lines."""
        return self._store.list(INDEX)


def merged(lines: Iterable[IndexLine]) -> list[IndexLine]:
    """One line for each run, oldest first: of a run that is between two states its log tells what it is."""
    by_run: dict[str, IndexLine] = {}
    for line in lines:
        other = by_run.setdefault(line.run_id, line)
        if other != line:
            state = LIVE if LIVE in (line.state, other.state) else line.state
            by_run[line.run_id] = IndexLine(line.run_id, line.job, state, line.seconds)
    return sorted(by_run.values(), key=_id_of)


def _lines(store: Store, folder: str, names: Iterable[str]) -> list[IndexLine]:
    """Those of a folder. What is none, or belongs elsewhere, is passed over, and said once."""
    found = []
    for name in names:
        line = IndexLine.of(name)
        if line is None or folder not in (INDEX, line.folder):
            skipped(f"{store.url}/{folder}/{name}", "no line of the index")
        else:
            found.append(line)
    return found


def _windows(days: Sequence[str]) -> Iterator[Sequence[str]]:
    """Few at first, then more: whoever wants few runs need not wait for many."""
    start, size = 0, 2
    while start < len(days):
        yield days[start : start + size]
        start, size = start + size, min(2 * size, 4 * _AT_ONCE)


def _id_of(line: IndexLine) -> str:
    return line.run_id


def _day(run_id: str) -> str:
    return run_id[1:7]
