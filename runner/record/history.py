"""The run's life as data: entries of the log fold into a View, by which `control.decide` says what happens next.

Both are pure, so every path of a run's life can be tested without starting anything. The style (state as an enum, the
decision apart from the loop that acts) follows the controller of Ray Train v2.

    submitted ── running ──┬── succeeded
        │           │      ├── failed      (user code, a lost process, a timeout)
        └─ cancelling ─────┴── cancelled
    Any of the last three can be resumed; `lost` is what a reader calls a run whose supervisor is gone (see `as_lost`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from runner.errors import Fenced, StoreBroken, WorkerLost
from runner.record.entries import (
    AttemptBegan,
    CancelAsked,
    CheckpointPublished,
    DriverFailed,
    DriverLeft,
    Ended,
    Failing,
    LegDone,
    NearlyDone,
    Prepared,
    Removed,
    Resumed,
    StageDone,
    StageFailed,
    StageResult,
    StageStarted,
    Submitted,
    SupervisorBegan,
)
from runner.record.failures import Failure, failed
from runner.record.states import RunState
from runner.store import Entry
from runner.store.events import Event
from runner.untrusted.shapes import broken


@dataclass
class StageView:
    """One stage as the log tells it."""

    name: str
    state: str = "waiting"  # waiting, running, done, skipped, failed
    attempt: int = 0
    started: float | None = None
    ended: float | None = None
    result: StageResult | None = None  # once it is done
    checkpoints: list[CheckpointPublished] = field(default_factory=list)
    furthest: int = 0  # step of a checkpoint


@dataclass
class View:
    """What the log says about a run."""

    state: RunState = RunState.SUBMITTED
    job: str = ""
    legs: tuple[tuple[str, ...], ...] = ()
    stages: dict[str, StageView] = field(default_factory=dict)
    leg: int = 0
    attempt: int = 0  # of the current leg; 0 before its first attempt
    attempts: dict[int, int] = field(default_factory=dict)  # leg -> its last attempt
    attempt_open: bool = False  # begun, and neither done nor failed
    tries: int = 0  # attempts at this leg since the submission, the last resume or checkpoint; not those a queue ended
    driver_left: bool = False  # the attempt's driver has written all that it will ever write
    leg_done: bool = False
    nearly_done: bool = False  # the current attempt foresees its end, and the next leg's machines may come
    prepared: int = 0  # the last leg whose machines were asked for early
    cancel: CancelAsked | None = None
    failing: Failure | None = None  # the error with which a supervisor has begun to end the run
    error: Failure | None = None
    supervisor: SupervisorBegan | None = None
    supervisor_number: int = 0  # of its entry; 0 before the first supervisor since the submission or the last resume
    entries: int = 0  # of the log, that this is the fold of
    heard: float = 0.0  # when the last of them was written
    receipt: Ended | None = None
    created: float = 0.0
    ended: float | None = None
    resumed: float | None = None
    removed: bool = False  # its removal has begun, and cannot be taken back

    @property
    def running(self) -> StageView | None:
        """The stage that is running."""
        return next((stage for stage in self.stages.values() if stage.state == "running"), None)

    @property
    def is_complete(self) -> bool:
        """Whether all its work is done, and only its end is not written."""
        return self.leg_done and self.next_leg is None and self.cancel is None and self.error is None

    @property
    def next_leg(self) -> int | None:
        """The first leg after the current one that has anything to do."""
        done = ("done", "skipped")
        rest = range(self.leg + 1, len(self.legs))
        return next((i for i in rest if any(self.stages[name].state not in done for name in self.legs[i])), None)

    def seconds(self, now: float) -> float:
        """From submission (or the last resume) to the end, or to `now`."""
        return (self.ended or now) - (self.resumed or self.created)


def fold(entries: Iterable[Entry]) -> View:
    """The state that a log describes.

    Raises:
        StoreBroken: an entry names a stage or a leg that the run does not have.
    """
    view = View()
    for entry in entries:
        view.entries, view.heard = entry.number, entry.at
        _take(entry.event, view, entry)
    return view


def as_lost(view: View, how: str, trace: str = "") -> View:
    """What a run is whose processes are gone although its log has no end: nothing is written, it is only seen so.

    It ended when it was last heard of; see `end_of_lost` for its error.

    Args:
        how: its supervisor ended, in words.
        trace: the last words of that.
    """
    words = f"the supervisor of the run is gone ({how})"
    _, error = end_of_lost(view, failed(WorkerLost, words, trace=trace))
    view.state, view.ended, view.error = RunState.LOST, view.heard, error
    for stage in view.stages.values():
        if stage.state == "running":
            stage.state, stage.ended = view.state.value, view.ended
    return view


def end_of_lost(view: View, error: Failure) -> tuple[RunState, Failure | None]:
    """How a run ends whose supervisor is gone, by what was known until then.

    Args:
        error: that loss, which counts where nothing had failed before.
    """
    if view.is_complete:
        return RunState.SUCCEEDED, None
    if view.cancel is not None and view.failing is None:
        return RunState.CANCELLED, None
    return RunState.FAILED, view.failing or view.error or error


def _broken(entry: Entry, found: str) -> StoreBroken:
    return broken(entry.where or f"entry {entry.number}", found)


def _stage(view: View, entry: Entry, name: str) -> StageView:
    if name not in view.stages:
        raise _broken(entry, f"'{entry.kind}' of stage '{name}', which the run does not have")
    return view.stages[name]


# -- what each kind of entry changes ---------------------------------------------------------------------------------


@functools.singledispatch
def _take(event: Event, view: View, entry: Entry) -> None:
    """Nothing, by default: of some entries other readers make something, and some only a newer runner knows."""


@_take.register
def _submitted(event: Submitted, view: View, entry: Entry) -> None:
    view.created, view.job, view.legs = entry.at, event.job, event.legs
    view.stages = {name: StageView(name) for leg in view.legs for name in leg}


@_take.register
def _supervisor(event: SupervisorBegan, view: View, entry: Entry) -> None:
    view.supervisor, view.supervisor_number = event, entry.number


@_take.register
def _attempt(event: AttemptBegan, view: View, entry: Entry) -> None:
    if event.leg >= max(len(view.legs), 1):
        raise _broken(entry, f"leg {event.leg}, of {len(view.legs)} that the run has")
    if event.leg != view.leg:
        view.tries = 0
    view.tries += 0 if event.because == EVICTED else 1
    view.driver_left = view.nearly_done = False
    view.prepared = min(view.prepared, event.leg)
    view.leg, view.attempt = event.leg, event.attempt
    view.attempts[view.leg] = view.attempt
    view.attempt_open, view.leg_done, view.error = True, False, None
    for stage in view.stages.values():
        if stage.state == "running":  # in the attempt before; the time until it begins again is none of its own
            stage.state, stage.started = "waiting", None
    if view.state is RunState.SUBMITTED:
        view.state = RunState.RUNNING


@_take.register
def _stage_started(event: StageStarted, view: View, entry: Entry) -> None:
    stage = _stage(view, entry, event.stage)
    stage.state, stage.attempt, stage.started, stage.ended = "running", event.attempt, entry.at, None


@_take.register
def _stage_done(event: StageDone, view: View, entry: Entry) -> None:
    stage = _stage(view, entry, event.stage)
    stage.result, stage.ended = event.result, entry.at
    stage.state = "skipped" if event.result.skipped else "done"


@_take.register
def _stage_failed(event: StageFailed, view: View, entry: Entry) -> None:
    stage = _stage(view, entry, event.stage)
    stage.state, stage.ended = "failed", entry.at
    view.error, view.attempt_open = replace(event.error, stage=stage.name), False


@_take.register
def _driver_failed(event: DriverFailed, view: View, entry: Entry) -> None:
    """Outside of its stages. What it has done by then is done, and what failed first is what the run fails with."""
    if view.attempt_open:
        view.error, view.attempt_open = replace(event.error, stage=None), False


@_take.register
def _checkpoint(event: CheckpointPublished, view: View, entry: Entry) -> None:
    stage = _stage(view, entry, event.stage)
    if event.step > stage.furthest:
        stage.furthest = event.step
        view.tries = min(view.tries, 1)  # it gets on: machines may be lost as often as they like
    stage.checkpoints.append(event)


@_take.register
def _leg_done(event: LegDone, view: View, entry: Entry) -> None:
    view.leg_done, view.attempt_open = True, False


@_take.register
def _cancel(event: CancelAsked, view: View, entry: Entry) -> None:
    if not view.state.ended:
        view.cancel, view.state = event, RunState.CANCELLING


@_take.register
def _resumed(event: Resumed, view: View, entry: Entry) -> None:
    view.state, view.resumed, view.ended = RunState.SUBMITTED, entry.at, None
    view.cancel = view.failing = view.error = view.receipt = view.supervisor = None
    view.attempt_open, view.tries, view.supervisor_number = False, 0, 0
    again = event.again or ()
    for name in again:  # it was done, and is to go on
        stage = _stage(view, entry, name)
        view.stages[name] = StageView(
            name, attempt=stage.attempt, checkpoints=stage.checkpoints, furthest=stage.furthest
        )
    if again:
        view.leg = min(i for i, leg in enumerate(view.legs) if set(leg) & set(again))
        view.attempt, view.leg_done = view.attempts.get(view.leg, 0), False


@_take.register
def _driver_left(event: DriverLeft, view: View, entry: Entry) -> None:
    if (event.leg, event.attempt) == (view.leg, view.attempt):
        view.driver_left = True


@_take.register
def _nearly_done(event: NearlyDone, view: View, entry: Entry) -> None:
    view.nearly_done = True


@_take.register
def _prepared(event: Prepared, view: View, entry: Entry) -> None:
    view.prepared = event.leg


@_take.register
def _failing(event: Failing, view: View, entry: Entry) -> None:
    view.failing = event.error


@_take.register
def _ended(event: Ended, view: View, entry: Entry) -> None:
    view.state, view.ended, view.receipt = RunState(event.state), entry.at, event
    view.error = event.error or view.error
    for stage in view.stages.values():
        if stage.state == "running":
            stage.state, stage.ended = view.state.value, entry.at


@_take.register
def _removed(event: Removed, view: View, entry: Entry) -> None:
    view.removed = True


# -- who may write ---------------------------------------------------------------------------------------------------


def fence(leg: int, attempt: int) -> Callable[[list[Entry]], None]:
    """A check for `Log.append`: raises Fenced unless (leg, attempt) is still the one that may write."""

    def check(entries: list[Entry]) -> None:
        for entry in reversed(entries):
            event = entry.event
            if isinstance(event, Ended | Resumed):
                raise Fenced(f"the run was {event.kind} while attempt {attempt} was still writing")
            if isinstance(event, AttemptBegan):
                if (event.leg, event.attempt) != (leg, attempt):
                    raise Fenced(f"attempt {event.attempt} has begun; attempt {attempt} writes no more")
                return
        raise Fenced("no attempt has begun")

    return check


def unchanged(view: View) -> Callable[[list[Entry]], None]:
    """A check for `Log.append`: raises Fenced if anything has come after what `view` is the fold of."""

    def check(entries: list[Entry]) -> None:
        if len(entries) != view.entries:
            raise Fenced(f"the run's log has grown: {entries[-1].kind}")

    return check


# -- deciding --------------------------------------------------------------------------------------------------------


#: Machines that were lost (a node, a deleted pod), or that a queue has taken away to give them back later.
LOST, EVICTED = "lost", "evicted"
