"""Everything a run is, under one folder of the store; every path of it is named here.

<store>/<run id>/
    spec.json            the job, resolved: what was asked for; spec-2.json ... as later resumes have changed it
    code.zip             the project's files and runner's own source
    packages.lock        exact versions of what the job brings besides, if it does
    log/00000001.json    the truth: what happened, one entry at a time
    stages/<stage>/<attempt>/{logs,metrics}/<writer>/<byte offset>
    manifests/<hash>     the foreign data that the run reads, as it was when first seen
    events.json          what Kubernetes said about the run's objects
    ledger/<resumes>.json   since when, and until when, its pods held GPUs
    cluster.json         which Kubernetes it was submitted to
    checkpoints/<stage>/<step>-<attempt>/
    artefacts/<stage>/<name>
<store>/index/<run id>~<job>~<state>~<seconds>   one empty object a run, so that `ps` is one listing; on Kubernetes
                     a run that lives has besides ~<what it does>~<stage>~<where>, so that its log need not be read
"""

from __future__ import annotations

import calendar
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from runner import trust
from runner.checks import object_name
from runner.errors import RunNotFound, StoreError
from runner.store import Entry, Log, Store

INDEX = "index"
ID_LONGEST = 28
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
LIVE = "live"
#: The first and only entry of a run that was given up before it existed.
GIVEN_UP = "given-up"
#: What `new_run_id` gives, and what a line of the index is: paths are made of the first, and people are shown the rest.
_RUN = re.compile(r"r\d{6}-\d{6}[0-9a-z]{0,2}-[0-9a-z-]{1,20}", re.ASCII)
_LINE = re.compile(
    rf"(?P<run>{_RUN.pattern})~(?P<job>[\w-]{{1,60}})~(?P<state>[a-z]{{1,20}})~(?P<seconds>\d{{1,15}})"
    r"(~(?P<doing>[a-z]{1,20})~(?P<stage>[\w-]{0,60})~(?P<where>[!-~]*))?", re.ASCII,
)  # fmt: skip
SPEC, CODE, LOCK = "spec.json", "code.zip", "packages.lock"
CLUSTER = "cluster.json"


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
    room = ID_LONGEST - len(stamp) - len(tail) - 2
    return f"{stamp}-{object_name(job)[:room].strip('-')}-{tail}"


@dataclass(frozen=True)
class Doing:
    """What a run that lives does, as its index line tells.

    Args:
        state: as the log had it.
        stage: that is running; "" where none is.
        where: the place whose API can say whether its supervisor lives (see `backends.base.place`).
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
        """Its object below the index."""
        key = f"{self.run_id}~{self.job}~{self.state}~{self.seconds:.0f}"
        if self.doing is None:
            return key
        return f"{key}~{self.doing.state}~{self.doing.stage}~{quote(self.doing.where, safe='')}"

    @classmethod
    def of(cls, key: str) -> IndexLine | None:
        """The line that `key` is; None if it is none, whoever wrote it."""
        found = _LINE.fullmatch(key)
        if found is None or begun_at(found["run"]) is None:
            return None
        doing = Doing(found["doing"], found["stage"], unquote(found["where"])) if found["doing"] is not None else None
        return cls(found["run"], found["job"], found["state"], float(found["seconds"]), doing)


def encoded(spec: dict[str, Any]) -> bytes:
    """A spec as it is kept."""
    return json.dumps(spec, indent=1, allow_nan=False).encode()


class Bundle:
    """The bundle of one run.

    Args:
        store: the root store.
        run_id: the run's name.
        sealed: what its spec, code and lock must be, for a process that acts on them; see `trust`.
    """

    def __init__(self, store: Store, run_id: str, sealed: trust.Seal | None = None) -> None:
        self.root = store
        self.sealed: trust.Seal = dict(sealed or {})
        self.run_id = run_id
        self.store = store.sub(run_id)
        self.log = Log(self.store, "log")

    def __repr__(self) -> str:
        return f"Bundle({self.store.url!r})"

    # -- what was asked for --------------------------------------------------------------------------------------

    def write_spec(self, spec: dict[str, Any]) -> bool:
        """Publish the resolved job, once. Returns False if there is a run of that name already."""
        return self.store.create(SPEC, encoded(spec))

    def read_sealed(self, key: str) -> bytes:
        """Spec, code or lock. Raises StoreRefused if it is not what was sealed."""
        return trust.check(self.sealed, key, self.store.get(key), self.store.url)

    def spec(self, key: str | None = None) -> dict[str, Any]:
        """The resolved job as JSON.

        Args:
            key: of which resume; None: the newest.
        """
        return dict(json.loads(self.read_sealed(key or self.newest_spec())))

    # -- paths ---------------------------------------------------------------------------------------------------

    def lock(self) -> str | None:
        """The packages that the job brings, as they were locked at submission."""
        try:
            return self.read_sealed(LOCK).decode()
        except FileNotFoundError:
            return None

    def mark_cluster(self, mark: str, address: str) -> None:
        """Record on which Kubernetes the run is, once: what only that one has, and how people know it."""
        self.store.create(CLUSTER, json.dumps({"mark": mark, "address": address}).encode())

    def cluster(self) -> dict[str, str]:
        """What was recorded: "mark" and "address"; nothing for runs elsewhere."""
        try:
            return dict(json.loads(self.store.get(CLUSTER)))
        except FileNotFoundError:
            return {}

    def newest_code(self) -> str:
        """The key of the run's code: that of its submission, or of the last resume that brought newer."""
        return self._brought("code") or CODE

    def newest_spec(self) -> str:
        """The key of the run's spec: that of its submission, or of the last resume that changed it."""
        return self._brought("spec") or SPEC

    def _brought(self, what: str) -> str:
        sealed = [key for key in self.sealed if key.startswith(what)]
        if sealed:
            return sealed[0]
        brought = [e.data[what] for e in self.log.read() if e.kind == "resumed" and e.data.get(what)]
        return str(brought[-1]) if brought else ""

    def host(self, stage: str, attempt: int, writer: str, host: str) -> None:
        """Record where a process of a stage runs."""
        self.store.put(f"stages/{stage}/{attempt}/hosts/{writer}", host.encode())

    def hosts(self, stage: str, attempt: int) -> dict[str, str]:
        """Process of a stage -> the machine (on Kubernetes the pod) where it runs."""
        folder = f"stages/{stage}/{attempt}/hosts"
        return {writer: self.store.get(f"{folder}/{writer}").decode() for writer in self.store.list(folder)}

    def cause(self, stage: str, attempt: int, writer: str, words: str) -> None:
        """Record what ended a process of a stage, where somebody beside it knows."""
        self.store.put(f"stages/{stage}/{attempt}/causes/{writer}", words.encode())

    def causes(self, stage: str, attempt: int) -> list[str]:
        """What was recorded."""
        folder = f"stages/{stage}/{attempt}/causes"
        return [self.store.get(f"{folder}/{writer}").decode() for writer in self.store.list(folder)]

    def segments(self, stage: str, attempt: int, kind: str, writer: str) -> str:
        """The folder of a writer's segments; `kind` is 'logs' or 'metrics'."""
        return f"stages/{stage}/{attempt}/{kind}/{writer}"

    def writers(self, stage: str, attempt: int, kind: str) -> list[str]:
        """Who wrote logs or metrics of an attempt at a stage."""
        return self.store.list(f"stages/{stage}/{attempt}/{kind}")

    def attempts(self, stage: str) -> list[int]:
        """The attempts at a stage that have written anything, in order."""
        return sorted(int(name) for name in self.store.list(f"stages/{stage}") if name.isdigit())

    def checkpoint(self, stage: str, step: int, attempt: int) -> str:
        """The folder of one checkpoint."""
        return f"checkpoints/{stage}/{step:09d}-{attempt}"

    def artefact(self, stage: str, name: str) -> str:
        """The key of something that the user saved."""
        return f"artefacts/{stage}/{name}"

    # -- the index -----------------------------------------------------------------------------------------------

    def index(self, job: str, state: str, seconds: float = 0.0, doing: Doing | None = None) -> None:
        """Show the run as `state`; the line that was there before goes."""
        new = IndexLine(self.run_id, job, state, seconds, doing)
        self.root.put(f"{INDEX}/{new.key}", b"")
        for old in read_index(self.root):
            if old.run_id == self.run_id and old.key != new.key:
                self.root.delete(f"{INDEX}/{old.key}")

    def submit(self, data: dict[str, Any]) -> None:
        """Write the log's first entry, from which on the run exists. Raises StoreError if it has been given up."""
        self.log.append("submitted", data, self._check_empty)

    def give_up(self) -> bool:
        """Remove a run that does not exist yet, for good: whoever would still submit it finds the log's first entry
        taken. Returns False if it exists after all.
        """
        try:
            self.log.append(GIVEN_UP, {}, self._check_empty)
        except StoreError:
            if not self.is_given_up():
                return False
        self.leave_index()
        for name in self.store.list():
            if name != "log":
                self.store.delete_tree(name)
        return True

    def is_given_up(self) -> bool:
        """Whether the run never came to exist."""
        entries = self.log.read()
        return not entries or entries[0].kind == GIVEN_UP

    def _check_empty(self, entries: list[Entry]) -> None:
        if entries:
            raise StoreError(
                f"the run {self.run_id} was given up, since its submission took too long", allowed="one minute",
                todo="submit again", where=f"store {self.root.url}",
            )  # fmt: skip

    def leave_index(self) -> None:
        """Remove the run's line, if it has one."""
        for line in read_index(self.root):
            if line.run_id == self.run_id:
                self.root.delete(f"{INDEX}/{line.key}")


def read_index(store: Store) -> list[IndexLine]:
    """All runs of a store, oldest first: one listing."""
    return [line for line in map(IndexLine.of, store.list(INDEX)) if line is not None]


def unfinished(store: Store, before: float) -> list[str]:
    """Ids of runs whose client died before it had submitted them: a folder, perhaps with an index line, without a log.

    Args:
        before: only runs that were begun before that moment, in seconds since 1970; younger ones may come to be yet.
    """
    listed = {line.run_id for line in read_index(store) if line.state != LIVE}
    old = [name for name in store.list() if name not in listed and (begun := begun_at(name)) and begun < before]
    return [name for name in old if Bundle(store, name).is_given_up()]


def begun_at(run_id: str) -> float | None:
    """When a run was begun, as its id tells: seconds since 1970; None if it is no run's id."""
    if _RUN.fullmatch(run_id) is None:
        return None
    try:
        return float(calendar.timegm(time.strptime(run_id[:14], "r%y%m%d-%H%M%S")))
    except ValueError:
        return None


def _last(store: Store, ids: list[str], name: str) -> str:
    """The newest run of this user's, or the one so many before it."""
    back = name.removeprefix("@last").removeprefix("~")
    number, mine = int(back) if back.isdigit() else 0, 0
    for run_id in reversed(ids):
        head = Bundle(store, run_id).log.head()
        if head is None or head.data.get("by") != trust.user():
            continue
        if mine == number:
            return run_id
        mine += 1
    raise RunNotFound(
        f"'{name}': the store has {mine} of its {len(ids)} runs from you ({trust.user()})",
        allowed=f"@last to @last~{mine - 1}" if mine else "a run id, or a unique part of one",
        todo="see `runner ps`; a run of somebody else's is named by its id", where=f"store {store.url}",
    )  # fmt: skip


def find_run(store: Store, name: str) -> str:
    """The id of the run that `name` means: an id, a unique prefix or part of one, or ``@last``: the
    newest of this user's (``@last~1`` before it).

    Raises:
        RunNotFound: none or several fit.
    """
    ids = list(dict.fromkeys(line.run_id for line in read_index(store)))
    where = f"store {store.url}"
    if not ids:
        raise RunNotFound(f"no run '{name}': the store has no runs", todo="submit one, or give --store", where=where)
    if name.startswith("@last"):
        return _last(store, ids, name)
    for fits in (
        [i for i in ids if i == name],
        [i for i in ids if i.startswith(name)],
        [i for i in ids if name in i],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise RunNotFound(
                f"'{name}' fits {len(fits)} runs: {', '.join(fits[-5:])}",
                todo="give more of the id",
                where=where,
            )
    from runner.errors import suggest

    raise RunNotFound(
        f"no run '{name}'", allowed="a run id, a unique part of one, or @last",
        todo=suggest(name, ids) or "see `runner ps`", where=where,
    )  # fmt: skip
