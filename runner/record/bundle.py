"""Everything a run is, under one folder of the store; every path of it is named here.

<store>/<run id>/
    spec.json            the job, resolved: what was asked for; spec-2.json ... as later resumes have changed it
    code.zip             the project's files and runner's own source
    packages.lock        exact versions of what the job brings besides, if it does
    log/00000001.json    the truth: what happened, one entry at a time
    stages/<stage>/<attempt>/{logs,metrics,times}/<writer>/<byte offset>
    stages/<stage>/<attempt>/{hosts,causes}/<writer>   where it ran, and what ended it
    manifests/<hash>     the foreign data that the run reads, as it was when first seen; <stage>-<name>.parquet: the
                         data that a training has fixed
    footers/<name>       those of the Parquet files of a manifest, where they lie on another machine
    events.json          what Kubernetes said about the run's objects
    ledger/<resumes>.json   since when, and until when, its pods held GPUs
    cluster.json         which Kubernetes it was submitted to
    checkpoints/<stage>/<step>-<attempt>/
    artefacts/<stage>/<name>
<store>/index/       one empty object a run, so that a list of runs is a few listings; see `index`
"""

from __future__ import annotations

import json
from pathlib import Path

from runner.errors import StoreError
from runner.record import entries, index, trust
from runner.record.entries import GivenUp, Resumed, Submitted
from runner.record.index import Doing, IndexLine
from runner.record.run_spec import ClusterMark, RunSpec
from runner.record.stage_files import WORDS_BYTES, StageFiles
from runner.store import LOCAL, Entry, Log, Store
from runner.untrusted import shapes
from runner.untrusted.names import ARTEFACT, ATTEMPT, RUN_ID, SPEC_FILE, STAGE, STEP
from runner.untrusted.typed import read

SPEC, CODE, LOCK = "spec.json", "code.zip", "packages.lock"
CLUSTER = "cluster.json"
#: In a folder: what the supervisor has locked while it lives.
HELD = "supervisor.lock"


def encoded(spec: RunSpec) -> bytes:
    """A spec as it is kept."""
    return json.dumps(spec.to_json(), indent=1, allow_nan=False).encode()


class Bundle:
    """The bundle of one run.

    Args:
        store: the root store.
        run_id: the run's name.
        sealed: what its spec, code and lock must be, for a process that acts on them; see `trust`.

    Raises:
        InputError: it is no run id.
    """

    def __init__(self, store: Store, run_id: str, sealed: trust.Seal | None = None) -> None:
        self.root = store
        self.sealed: trust.Seal = dict(sealed or {})
        self.run_id = RUN_ID(run_id)
        self.store = store.sub(self.run_id)
        self.log = Log(self.store, "log", entries.KINDS)
        self.stage_files = StageFiles(self.store)

    def __repr__(self) -> str:
        return f"Bundle({self.store.url!r})"

    # -- what was asked for --------------------------------------------------------------------------------------

    def write_spec(self, spec: RunSpec) -> bool:
        """Publish the resolved job, once. Returns False if there is a run of that name already."""
        return self.store.create(SPEC, encoded(spec))

    def read_sealed(self, key: str) -> bytes:
        """Spec, code or lock. Raises StoreRefused if it is not what was sealed."""
        return trust.check(self.sealed, key, self.store.get(key), self.store.url)

    def spec(self, key: str | None = None) -> RunSpec:
        """What was asked for.

        Args:
            key: of which resume; None: the newest.

        Raises:
            FileNotFoundError: it is not there.
            StoreBroken: it is no spec.
        """
        key = SPEC_FILE(key or self.newest_spec())
        return read(RunSpec, self.read_sealed(key), self.store.path(key))

    def known_spec(self) -> RunSpec:
        """As `spec`, of a run that exists: without its spec it is broken. Raises StoreBroken."""
        try:
            return self.spec()
        except FileNotFoundError:
            raise shapes.broken(self.store.path(self.newest_spec()), "it is not there") from None

    # -- paths ---------------------------------------------------------------------------------------------------

    def lock(self) -> str | None:
        """The packages that the job brings, as they were locked at submission."""
        try:
            return self.read_sealed(LOCK).decode()
        except FileNotFoundError:
            return None

    def held(self) -> Path | None:
        """The file that the run's supervisor locks; None in an object store, which has no locks."""
        return Path(self.store.path(HELD)) if self.store.kind == LOCAL else None

    def mark_cluster(self, mark: str, address: str) -> None:
        """Record on which Kubernetes the run is, once: what only that one has, and how people know it."""
        self.store.create(CLUSTER, json.dumps(ClusterMark(mark, address).to_json()).encode())

    def cluster(self) -> ClusterMark:
        """What was recorded; empty for runs elsewhere."""
        try:
            found = self.store.get(CLUSTER, WORDS_BYTES)
        except FileNotFoundError:
            return ClusterMark()
        return read(ClusterMark, found, self.store.path(CLUSTER))

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
        events = [entry.event for entry in self.log.read() if isinstance(entry.event, Resumed)]
        brought = [event.code if what == "code" else event.spec for event in events]
        return next(filter(None, reversed(brought)), "")

    def checkpoint(self, stage: str, step: int, attempt: int) -> str:
        """The folder of one checkpoint."""
        return f"{self.checkpoints(stage)}/{int(STEP(step)):09d}-{ATTEMPT(attempt)}"

    def checkpoints(self, stage: str) -> str:
        """The folder of a stage's checkpoints."""
        return f"checkpoints/{STAGE(stage)}"

    def artefact(self, stage: str, name: str) -> str:
        """The key of something that the user saved."""
        return f"{self.artefacts(stage)}/{ARTEFACT(name)}"

    def artefacts(self, stage: str) -> str:
        """The folder of what the user saved in a stage."""
        return f"artefacts/{STAGE(stage)}"

    # -- the index -----------------------------------------------------------------------------------------------

    def index(self, job: str, state: str, seconds: float = 0.0, doing: Doing | None = None) -> None:
        """Show the run as `state`; the line that was there before goes."""
        index.show(self.root, IndexLine(self.run_id, job, state, seconds, doing))

    def submit(self, submitted: Submitted) -> None:
        """Write the log's first entry, from which on the run exists. Raises StoreError if it has been given up."""
        self.log.append(submitted, self._check_empty)

    def give_up(self) -> bool:
        """Remove a run that does not exist yet, for good: whoever would still submit it finds the log's first entry
        taken. Returns False if it exists after all.
        """
        try:
            self.log.append(GivenUp(), self._check_empty)
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
        return not entries or isinstance(entries[0].event, GivenUp)

    def _check_empty(self, entries: list[Entry]) -> None:
        if entries:
            raise StoreError(
                f"the run {self.run_id} was given up, since its submission took too long",
                allowed="one minute",
                todo="submit again",
                where=f"store {self.root.url}",
            )

    def leave_index(self) -> None:
        """Remove the run's line, if it has one."""
        index.leave(self.root, self.run_id)
