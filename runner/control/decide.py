"""What the supervisor does next: a pure function of the run's history and of what is seen of its machines."""

from __future__ import annotations

from dataclasses import dataclass

from runner.backends.base import DriverState
from runner.errors import StageTimeout, WorkerLost
from runner.record import RunState, StageView, View
from runner.record.failures import Failure, failed, is_a
from runner.record.history import EVICTED, LOST

#: Seconds that a driver may take to exit after it recorded its leg's end.
EXIT_GRACE_S = 10.0
#: Attempts at a leg whose machines are lost again and again without a checkpoint in between. Evictions do not count.
MOST_TRIES = 4


@dataclass(frozen=True)
class Observation:
    """What the supervisor sees besides the log.

    Args:
        driver: of the current attempt.
        exit: how it ended, in words ("exit code 1", "signal 9 (SIGKILL)").
        now: seconds since 1970.
        overdue_s: seconds since the leg's end was recorded while the driver still runs.
        loss: LOST or EVICTED if machines of the attempt went away through no fault of the job, or "".
    """

    driver: DriverState
    now: float
    exit: str = ""
    overdue_s: float = 0.0
    loss: str = ""


@dataclass(frozen=True)
class Wait:
    """Nothing to do until something changes."""


@dataclass(frozen=True)
class StartAttempt:
    """Begin attempt `attempt` at leg `leg`; `because` of the loss of the one before."""

    leg: int
    attempt: int
    because: str = ""


@dataclass(frozen=True)
class Prepare:
    """Ask for the machines of the next leg while the current one works."""

    leg: int


@dataclass(frozen=True)
class StopDriver:
    """End the driver and everything below it."""

    reason: str


@dataclass(frozen=True)
class End:
    """Clean up, write the receipt and leave."""

    state: RunState
    error: Failure | None = None


@dataclass(frozen=True)
class Leave:
    """The run has ended already (another supervisor saw to it)."""


Action = Wait | StartAttempt | Prepare | StopDriver | End | Leave


def decide(view: View, seen: Observation, timeouts: dict[str, float] | None = None) -> Action:
    """The next action for a run.

    Args:
        view: the fold of its log.
        seen: the driver's state.
        timeouts: stage name -> seconds it may take.
    """
    if view.state.ended:
        return Leave()
    if view.failing is not None:
        return End(RunState.FAILED, view.failing)
    running = seen.driver is DriverState.RUNNING
    if view.cancel is not None:
        return StopDriver("cancelled") if running else End(RunState.CANCELLED)
    late = _late_stage(view, seen.now, timeouts or {})
    if late is not None:
        return StopDriver("timeout") if running else End(RunState.FAILED, _timeout_error(view, late, timeouts or {}))
    if running:
        over = not view.attempt_open and view.attempt > 0 and seen.overdue_s > EXIT_GRACE_S
        if view.nearly_done and view.attempt_open and view.prepared <= view.leg:
            leg = view.next_leg
            if leg is not None and leg not in view.attempts:
                return Prepare(leg)
        return StopDriver("did not exit") if over else Wait()
    again = seen.loss == EVICTED or (seen.loss == LOST and view.tries < MOST_TRIES)
    if view.error is not None:
        of_machine = is_a(view.error, WorkerLost) or view.error.stage is None  # or of the driver itself
        if again and of_machine:
            return StartAttempt(view.leg, view.attempt + 1, seen.loss)
        return End(RunState.FAILED, view.error)
    if view.leg_done:
        leg = view.next_leg
        return End(RunState.SUCCEEDED) if leg is None else StartAttempt(leg, view.attempts.get(leg, 0) + 1)
    if view.attempt_open and seen.driver is DriverState.EXITED:
        if again:
            return StartAttempt(view.leg, view.attempt + 1, seen.loss)
        return End(RunState.FAILED, lost_error(view, seen.exit))
    return StartAttempt(view.leg, view.attempt + 1)


def lost_error(view: View, how: str) -> Failure:
    """The error of a run whose driver ended without a word."""
    stage = next((s.name for s in view.stages.values() if s.state == "running"), None)
    return failed(WorkerLost, f"the driver ended without a result: {how}", stage=stage)


def _late_stage(view: View, now: float, timeouts: dict[str, float]) -> StageView | None:
    for stage in view.stages.values():
        limit = timeouts.get(stage.name)
        if limit is not None and stage.state == "running" and now - (stage.started or now) > limit:
            return stage
    return None


def _timeout_error(view: View, stage: StageView, timeouts: dict[str, float]) -> Failure:
    limit = timeouts[stage.name]
    return failed(StageTimeout, f"stage '{stage.name}' took longer than its timeout_s={limit:g}", stage=stage.name)
