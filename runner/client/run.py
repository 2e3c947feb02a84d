"""The handle of a run: everything that can be known of it or done to it, from its bundle alone."""

from __future__ import annotations

import functools
import importlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.backends.absent import AbsentClient
from runner.backends.base import ClientSide
from runner.backends.registry import client_side
from runner.client.patience import Patience
from runner.errors import ApiError, Cause, Fenced, InputError, RunFailed, StoreError, listed, suggest
from runner.record import Bundle, RunState, View, fold, kept
from runner.record import why as log_why
from runner.record.entries import CancelAsked, Reaping
from runner.record.failures import failed
from runner.record.history import as_lost, end_of_lost, unchanged
from runner.record.kept import Checkpoint
from runner.record.reading import Line, Tail
from runner.record.reasons import Reason
from runner.record.receipt import end_run
from runner.store import LOCAL, Entry, Store

if TYPE_CHECKING:
    import pyarrow as pa

#: Seconds between looks at a log: in a folder, and in a store where each look is a request.
LOOK_S, REMOTE_LOOK_S = 0.2, 0.5
#: Seconds that another client may take to end a lost run before this one does it.
REAP_S = 15.0


class Run:
    """A run in a store.

    Args:
        store: the root store.
        run_id: of the run.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.id = run_id
        self.bundle = Bundle(store, run_id)

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.status}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and (other.id, other.bundle.root.url) == (self.id, self.bundle.root.url)

    def __hash__(self) -> int:
        return hash((self.id, self.bundle.root.url))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.bundle.root, self.id)

    # -- knowing -------------------------------------------------------------------------------------------------

    def view(self) -> View:
        """The state that the log describes now; `lost` where the run's processes are gone without having ended it.

        A lost run has the error WorkerLost, unless all of its work is done. Nothing is written: see `reap`.
        """
        view = fold(self.bundle.log.read())
        if not view.state.ended and self._machines.is_lost(view):
            view = fold(self.bundle.log.read())  # it may have ended the run just before it left
            if not view.state.ended:
                return as_lost(view, self._machines.how_lost(), self._machines.last_words())
        return view

    @property
    def status(self) -> str:
        """One word: submitted, running, cancelling, succeeded, failed, cancelled or lost (see `view`)."""
        return str(self.view().state)

    @property
    def error(self) -> dict[str, Any] | None:
        """What failed: "class" and "cause" (as `runner.errors` has them), "message", "stage", "rank", "trace"."""
        failure = self.view().error
        return None if failure is None else failure.told()

    def results(self) -> dict[str, dict[str, Any]]:
        """Stage -> what it recorded at its end: counts, outputs, final metrics."""
        found = ((stage.name, stage.result) for stage in self.view().stages.values())
        return {name: dict(result.raw) for name, result in found if result is not None and result.raw}

    def spec(self) -> dict[str, Any]:
        """The resolved job as JSON."""
        return self.bundle.known_spec().to_json()

    def logs(
        self,
        stage: str | None = None,
        rank: int | None = None,
        follow: bool = False,
        *,
        tail: int | None = None,
        since: float | None = None,
    ) -> Iterator[str]:
        """The lines that the run's processes printed, in the order of time; of a progress bar what stood there last.

        Args:
            stage: only this stage.
            rank: only this rank of training stages.
            follow: go on until the run has ended.
            tail: at most so many of the last lines (and with `follow` what comes after them).
            since: only what was printed from then on, in seconds since 1970.

        Raises:
            InputError: no such stage, or no such rank.
        """
        for line in self.log_lines(stage, rank, follow, tail=tail, since=since):
            yield line.text if rank is not None else f"{line.label} | {line.text}"

    def log_lines(
        self,
        stage: str | None = None,
        rank: int | None = None,
        follow: bool = False,
        *,
        tail: int | None = None,
        since: float | None = None,
    ) -> Iterator[Line]:
        """As `logs`, with when and by whom each line was printed."""
        self._check_stage(stage)
        self._check_rank(stage, rank)
        lines = Tail(self.bundle, "logs", stage, f"rank{rank}" if rank is not None else None, timed=True)
        patience = Patience(self.id)
        over = False
        while not over:
            try:
                over = not follow or self.view().state.ended
                found = lines.records(over) if tail is None else lines.last(tail, over)
                yield from (line for line in found if since is None or line.at >= since)
                tail = None
                if not over:
                    self.await_change()
            except (StoreError, ApiError) as error:
                if not follow:
                    raise
                over = False  # what is left is read when there is an answer
                patience.wait(error)
            else:
                patience.over()

    def rows(self, stage: str | None = None, writer: str | None = None) -> Iterator[dict[str, Any]]:
        """The rows of metrics as they were written, of the latest attempt that has any for each step."""
        from runner.record.reading import metric_rows

        self._check_stage(stage)
        return metric_rows(self.bundle, stage, writer)

    def metrics(self, stage: str | None = None) -> pa.Table:
        """The training metrics: one row a step, a column a name (step, loss, samples_per_s, wait_share, ...)."""
        import pyarrow as pa

        rows = list(self.rows(stage, "rank0"))
        names = list(dict.fromkeys(name for row in rows for name in row))
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})

    def checkpoints(self, stage: str | None = None) -> list[Checkpoint]:
        """What the run has published of checkpoints, oldest first, those that are gone included.

        Raises:
            InputError: no such stage.
        """
        self._check_stage(stage)
        return kept.checkpoints(self.bundle, self.view(), stage)

    def checkpoint(self, which: str | int = "last", stage: str | None = None) -> Path:
        """A folder of this machine with the files of a checkpoint, every one verified.

        They are `<name>.safetensors` of a module, `<name>.pt` of an optimizer and the like
        (`torch.load(path, weights_only=True)`), `<name>.json` of a value.

        Args:
            which: "best", "last" or a step.
            stage: whose, where several stages train.

        Of a store on a disk it is the folder there, not to be changed; of another a copy in the user's cache.

        Raises:
            InputError: there is none such, or it is gone.
            StoreError: a file is not what was published.
        """
        return kept.fetch(self.bundle, kept.choose(self.checkpoints(stage), which, self.id))

    def artefact(self, stage: str, name: str) -> bytes:
        """What `ctx.save(name, ...)` kept. Raises FileNotFoundError."""
        return self.bundle.store.get(self.bundle.artefact(stage, name))

    def why(self, view: View | None = None) -> list[Reason]:
        """What the run waits for, the most telling first, each since when, until when and what would help."""
        view = view or self.view()
        if view.state.ended:
            return []
        entries = self.bundle.log.read()
        failed = log_why.of_supervisor(entries, self.id)
        found = [*([failed] if failed is not None else []), *self._of_machines(entries, view)]
        if not found:
            told = log_why.of_stage(self.bundle, view) or log_why.of_driver(entries, view)
            found = [told] if told is not None else []
        until = log_why.until(entries, view, self.bundle.known_spec()) if found else None
        return [reason.ended_by(until) for reason in found]

    def _of_machines(self, entries: list[Entry], view: View) -> list[Reason]:
        """What the backend says. That a driver was not heard of is for the log to say, where it has one."""
        begun = log_why.has_begun(entries, view)
        return [each for each in self._machines.why() if not (begun and each.cause is Cause.DRIVER)]

    # -- doing ---------------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None, check: bool = True) -> RunState:
        """Wait for the run's end.

        Args:
            timeout_s: seconds; None waits for good.
            check: raise the run's error if it did not succeed.

        Returns:
            Its state (which has not ended if the time ran out).

        Raises:
            RunnerError: with `check`, what made it fail, by its class: UserCodeError, WorkerLost, StageTimeout,
                DataError, StoreError, InternalError; RunFailed for a run that was cancelled.
            RunnerError: the store, or the API of the machines, has not answered for 10 minutes; the run goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        view = self._until_ended(deadline)
        if view.state.ended and check:
            self.raise_error(view)
        return view.state

    def _until_ended(self, deadline: float | None) -> View:
        """The run's end, or what was seen last when the time ran out."""
        patience, view = Patience(self.id, pause=functools.partial(_pause, deadline)), None
        while True:
            try:
                view = self.view()
                if view.state.ended or _is_past(deadline):
                    return view
                self.await_change(deadline)
            except (StoreError, ApiError) as error:
                if not _is_past(deadline):
                    patience.wait(error)
                elif view is None:
                    raise
                else:
                    return view
            else:
                patience.over()

    def raise_error(self, view: View | None = None) -> None:
        """Raise what made the run fail, if it did."""
        view = view or self.view()
        if view.state is not RunState.SUCCEEDED and not view.is_complete:
            cause = Cause.CANCELLED if view.state is RunState.CANCELLED else None
            raise (view.error or failed(RunFailed, f"the run {self.id} ended as {view.state}", cause)).to_error()

    def resume(self, **options: Any) -> Run:
        """Go on with the run; see `runner.resume` for what may be changed. Returns this run."""
        above = importlib.import_module(f"{__package__}.resume")  # it starts runs, and knows this module
        resumed: Run = above.resume(self, **options)
        return resumed

    def is_here(self) -> bool:
        """Whether what the run is on can be asked from here."""
        return self._machines.is_here()

    def launch(self) -> None:
        """Start the supervisor of a run that has none. Raises ApiError where its machines refuse that."""
        self._machines.launch()

    def cancel(self, by: str = "user") -> bool:
        """Ask the run to end; one that was lost is ended here. Returns False if it has ended already."""
        view = self.view()
        if view.state is RunState.LOST:
            self.reap()
            return True
        if view.state.ended:
            return False
        if view.cancel is None:
            self.bundle.log.append(CancelAsked(by))
        self._machines.nudge(view)
        return True

    def end_unstarted(self) -> View:
        """End a run that was asked to end while no supervisor of it has ever come up, by this client's own hand."""
        view = self.view()
        if view.state.ended or view.supervisor is not None or view.cancel is None:
            return view
        end_run(self.bundle, RunState.CANCELLED, None, self._machines.remove())
        return fold(self.bundle.log.read())

    def write_off(self, by: str) -> View:
        """End a run whose cluster does not exist any more, in its log alone.

        Raises:
            InputError: it is not on a cluster, or its cluster is the one that answers here.
        """
        view = self.view()
        if view.state.ended:
            return view
        unknown = isinstance(self._machines, AbsentClient)
        address = self.bundle.cluster().address or (self.bundle.known_spec().cluster_name if unknown else "")
        if not address or self._machines.is_here():
            raise InputError(
                f"the run {self.id} is {view.state}, and what it runs on can be asked",
                allowed="a run on a Kubernetes that is gone, or on a backend that is not installed here",
                todo="cancel it without --gone",
                where=self.id,
            )
        words = f"{by} says that its cluster {address} is gone"
        end_run(self.bundle, RunState.CANCELLED, failed(RunFailed, words, Cause.CANCELLED), {"unknown": words})
        return fold(self.bundle.log.read())

    def reap(self) -> View:
        """If the run is lost: remove what its processes left on their machines and write its end into the log.

        It has succeeded if all of its work is done, is cancelled if that was asked for, and has failed otherwise.
        """
        while True:
            view = self.view()
            if view.state is not RunState.LOST:
                return view
            try:
                claim = self.bundle.log.append(Reaping(), unchanged(view)).number
                remains = self._machines.remove()
                state, error = end_of_lost(view, view.error or failed(RunFailed, "the run was lost"))
                end_run(self.bundle, state, error, remains, check=functools.partial(_check_last_claim, claim))
            except Fenced:  # another client is at it, too: what it removes must not be of a run that goes on already
                self._await_end(REAP_S)

    def _await_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not fold(self.bundle.log.read()).state.ended and time.monotonic() < deadline:
            time.sleep(LOOK_S)

    def await_change(self, deadline: float | None = None) -> None:
        """Return when the supervisor ends, an event where it is on this machine, or after a moment.

        Args:
            deadline: of `time.monotonic()`.
        """
        look_s = LOOK_S if self.bundle.root.kind == LOCAL else REMOTE_LOOK_S
        pause = look_s if deadline is None else max(0.0, min(look_s, deadline - time.monotonic()))
        self._machines.await_change(fold(self.bundle.log.read()), pause)

    # -- inside --------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _machines(self) -> ClientSide:
        return client_side(self.bundle)

    def _check_rank(self, stage: str | None, rank: int | None) -> None:
        """A rank that there has never been has printed nothing, and a typing error should not look like that."""
        if rank is None:
            return
        chosen = [each for each in self.bundle.known_spec().job.stages if stage in (None, each.name)]
        ranks = max((each.most_workers for each in chosen if each.kind == "Train"), default=0)
        if rank < ranks or any(
            f"rank{rank}" in self.bundle.stage_files.writers(each.name, attempt, "logs")  # before a resume with fewer
            for each in chosen
            for attempt in self.bundle.stage_files.attempts(each.name)
        ):
            return
        what = f"stage '{stage}'" if stage is not None else "the run"
        raise InputError(
            f"no rank {rank} in {what}",
            allowed=f"0 to {ranks - 1}" if ranks else "no rank: only trainings have them",
            todo="give one of them" if ranks else "leave out --rank",
            where=self.id,
        )

    def _check_stage(self, stage: str | None) -> None:
        known = list(self.view().stages)
        if stage is not None and stage not in known:
            raise InputError(f"no stage '{stage}'", allowed=listed(known), todo=suggest(stage, known), where=self.id)


def _check_last_claim(claim: int, entries: list[Entry]) -> None:
    """Of several clients that end a lost run the last one that began does it, when it has removed what is left."""
    if any(isinstance(entry.event, Reaping) and entry.number > claim for entry in entries):
        raise Fenced("another client has begun to end the run")


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _pause(deadline: float | None, seconds: float) -> None:
    """For so long, but not beyond a deadline."""
    left = seconds if deadline is None else min(seconds, deadline - time.monotonic())
    threading.Event().wait(max(0.0, left))
