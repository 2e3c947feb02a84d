from __future__ import annotations

import itertools
from typing import Any

import pytest

from runner.backends.base import DriverState
from runner.control.decide import (
    EXIT_GRACE_S,
    MOST_TRIES,
    End,
    Leave,
    Observation,
    StartAttempt,
    StopDriver,
    Wait,
    decide,
)
from runner.errors import Fenced, InternalError, RunFailed, WorkerLost
from runner.record import RunState, fold
from runner.record.failures import Failure, failed
from runner.record.history import EVICTED, LOST, as_lost, end_of_lost, fence
from runner.store import Entry
from tests.unit.record.entry_kit import log_of

NONE = Observation(DriverState.NONE, now=100.0)
RUNNING = Observation(DriverState.RUNNING, now=100.0)
GONE = Observation(DriverState.EXITED, now=100.0, exit="signal 9 (SIGKILL)")


def log(*steps: tuple[str, dict[str, Any]], legs: list[list[str]] | None = None) -> list[Entry]:
    """A log that begins with `submitted`; entry n was written at n seconds."""
    return log_of([("submitted", {"job": "j", "legs": legs or [["prep", "train"]]}), *steps])


ATTEMPT = ("attempt", {"leg": 0, "attempt": 1})
STARTED = ("stage-started", {"stage": "prep", "attempt": 1})
DONE = ("stage-done", {"stage": "prep", "attempt": 1, "result": {"rows_in": 3}})
TRAINED = ("stage-done", {"stage": "train", "attempt": 1, "result": {}})
LEG_DONE = ("leg-done", {"leg": 0, "attempt": 1})
DRIVER_FAILED = ("driver-failed", {"leg": 0, "attempt": 1, "error": failed(InternalError, "KeyError: 'x'").to_json()})
FAILED = ("stage-failed", {"stage": "prep", "attempt": 1, "error": {"class": "UserCodeError", "message": "x"}})
CANCEL = ("cancel", {"by": "user"})
ENTRY = failed(WorkerLost, "the supervisor is gone")
ENDED = ("ended", {"state": "failed", "error": None, "seconds": 1.0})

CASES = {
    "a new run starts its first attempt": ([], NONE, StartAttempt(0, 1)),
    "a working driver is left alone": ([ATTEMPT, STARTED], RUNNING, Wait()),
    "a done leg whose driver still exits is waited for": ([ATTEMPT, STARTED, DONE, LEG_DONE], RUNNING, Wait()),
    "the last leg's end is success": ([ATTEMPT, STARTED, DONE, LEG_DONE], GONE, End(RunState.SUCCEEDED)),
    "a recorded failure fails the run": (
        [ATTEMPT, STARTED, FAILED], GONE,
        End(RunState.FAILED, Failure("UserCodeError", "x", stage="prep")),
    ),
    "a driver that fails before its stages fails the run": (
        [ATTEMPT, DRIVER_FAILED], GONE, End(RunState.FAILED, failed(InternalError, "KeyError: 'x'")),
    ),
    "a driver that fails after its work was done does not": (
        [ATTEMPT, STARTED, DONE, LEG_DONE, DRIVER_FAILED], GONE, End(RunState.SUCCEEDED),
    ),
    "a driver that fails after a stage did leaves the stage's error": (
        [ATTEMPT, STARTED, FAILED, DRIVER_FAILED], GONE,
        End(RunState.FAILED, Failure("UserCodeError", "x", stage="prep")),
    ),
    "a cancelled run's driver is stopped": ([ATTEMPT, STARTED, CANCEL], RUNNING, StopDriver("cancelled")),
    "a cancelled run whose driver is gone ends": ([ATTEMPT, STARTED, CANCEL], GONE, End(RunState.CANCELLED)),
    "a run cancelled before it began ends": ([CANCEL], NONE, End(RunState.CANCELLED)),
    "an ended run is left": ([ATTEMPT, ENDED], NONE, Leave()),
    "a run trained further starts the next attempt at the leg of its training": (
        [*[("attempt", {"leg": 0, "attempt": n}) for n in (1, 2)], DONE, TRAINED, LEG_DONE, ENDED,
         ("resumed", {"again": ["train"]})], NONE, StartAttempt(0, 3),
    ),
    "a resumed run starts the next attempt": ([ATTEMPT, STARTED, ENDED, ("resumed", {})], NONE, StartAttempt(0, 2)),
    "a resume after a cancel is not cancelled": ([ATTEMPT, CANCEL, ENDED, ("resumed", {})], NONE, StartAttempt(0, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_decide(name: str) -> None:
    """The case's name says what holds."""
    steps, seen, expected = CASES[name]
    assert decide(fold(log(*steps)), seen) == expected


def test_a_driver_that_dies_without_a_word_fails_the_run() -> None:
    """The error names how it died and the stage that was running."""
    action = decide(fold(log(ATTEMPT, STARTED)), GONE)
    assert isinstance(action, End)
    assert action.state is RunState.FAILED
    assert action.error is not None
    assert "signal 9" in action.error.message
    assert action.error.stage == "prep"


def test_the_next_leg_follows_a_done_one() -> None:
    """With a second leg, the first one's end starts it at attempt 1."""
    steps = log(ATTEMPT, STARTED, DONE, LEG_DONE, legs=[["prep"], ["train"]])
    assert decide(fold(steps), GONE) == StartAttempt(1, 1)


PEER_LOST = (
    "stage-failed",
    {"stage": "prep", "attempt": 1, "error": {"class": "WorkerLost", "message": "a rank is gone"}},
)


@pytest.mark.parametrize("loss", [LOST, EVICTED])
@pytest.mark.parametrize("steps", [[ATTEMPT, STARTED], [ATTEMPT, STARTED, PEER_LOST], [ATTEMPT, DRIVER_FAILED]])
def test_lost_machines_cost_an_attempt_and_not_the_run(loss: str, steps: list[Any]) -> None:
    """Whether the driver went with them or has told of them, the next attempt begins and says why."""
    seen = Observation(DriverState.EXITED, now=100.0, loss=loss)
    assert decide(fold(log(*steps)), seen) == StartAttempt(0, 2, loss)


def test_the_users_own_failure_is_not_tried_again() -> None:
    """Also where a machine was lost at the same time."""
    seen = Observation(DriverState.EXITED, now=100.0, loss=LOST)
    assert isinstance(decide(fold(log(ATTEMPT, STARTED, FAILED)), seen), End)


def test_machines_that_are_lost_again_and_again_fail_the_run() -> None:
    """After MOST_TRIES attempts; what a queue takes away does not count, and a resume begins to count anew."""
    seen = Observation(DriverState.EXITED, now=100.0, loss=LOST)
    tried = [("attempt", {"leg": 0, "attempt": n, "because": LOST}) for n in range(2, MOST_TRIES + 1)]
    evicted = [("attempt", {"leg": 0, "attempt": n, "because": EVICTED}) for n in range(2, 20)]
    assert isinstance(decide(fold(log(ATTEMPT, *tried)), seen), End)
    assert decide(fold(log(ATTEMPT, *evicted)), seen) == StartAttempt(0, 20, LOST)
    again = ("attempt", {"leg": 0, "attempt": MOST_TRIES + 1})
    resumed = log(ATTEMPT, *tried, ENDED, ("resumed", {}), again)
    assert decide(fold(resumed), seen) == StartAttempt(0, MOST_TRIES + 2, LOST)


def test_a_training_that_gets_on_may_lose_machines_as_often_as_it_likes() -> None:
    """A checkpoint of a new step begins the count anew; one of a step that was reached before does not."""
    seen = Observation(DriverState.EXITED, now=100.0, loss=LOST)
    tried = [("attempt", {"leg": 0, "attempt": n, "because": LOST}) for n in range(2, MOST_TRIES + 1)]
    key = "checkpoints/prep/000000004-1"
    facts = {"stage": "prep", "step": 4, "key": key, "metrics": {}, "best": False, "sha256": ""}
    made = ("checkpoint", facts)
    assert decide(fold(log(ATTEMPT, *tried, made)), seen) == StartAttempt(0, MOST_TRIES + 1, LOST)
    assert isinstance(decide(fold(log(ATTEMPT, made, *tried, made)), seen), End)


def test_a_driver_says_when_it_has_left() -> None:
    """Only the current attempt's counts."""
    left = ("driver-left", {"leg": 0, "attempt": 1})
    assert fold(log(ATTEMPT, left)).driver_left
    assert not fold(log(ATTEMPT, left, ("attempt", {"leg": 0, "attempt": 2}))).driver_left
    assert not fold(log(ATTEMPT, ("attempt", {"leg": 0, "attempt": 2}), left)).driver_left


def test_a_driver_that_does_not_exit_is_stopped() -> None:
    """After its leg's end a driver has EXIT_GRACE_S seconds to leave."""
    view = fold(log(ATTEMPT, STARTED, DONE, LEG_DONE))
    late = Observation(DriverState.RUNNING, now=100.0, overdue_s=EXIT_GRACE_S + 1)
    assert decide(view, late) == StopDriver("did not exit")


def test_a_stage_past_its_timeout_is_stopped_and_fails_the_run() -> None:
    """First the driver is stopped, then the run ends with an error that names stage and limit."""
    view = fold(log(ATTEMPT, STARTED))
    assert decide(view, RUNNING, {"prep": 50.0}) == StopDriver("timeout")
    end = decide(view, GONE, {"prep": 50.0})
    assert isinstance(end, End)
    assert end.error is not None
    assert "timeout_s=50" in end.error.message
    assert decide(view, RUNNING, {"prep": 5000.0}) == Wait()


def test_time_between_two_attempts_is_no_time_of_a_stage() -> None:
    """A stage that an attempt was at when its machines went has not begun in the next one, however long that waits."""
    view = fold(log(ATTEMPT, STARTED, ("attempt", {"leg": 0, "attempt": 2, "because": EVICTED})))
    assert (view.stages["prep"].state, view.stages["prep"].started) == ("waiting", None)
    assert decide(view, RUNNING, {"prep": 50.0}) == Wait()
    again = fold(log(ATTEMPT, STARTED, ("attempt", {"leg": 0, "attempt": 2}), STARTED))
    assert again.stages["prep"].started == 5.0


def test_fold_tells_each_stage_apart() -> None:
    """Stages are waiting, running, done or skipped as the log says."""
    view = fold(log(ATTEMPT, STARTED))
    assert (view.stages["prep"].state, view.stages["train"].state) == ("running", "waiting")
    view = fold(log(ATTEMPT, STARTED, DONE))
    assert view.stages["prep"].state == "done"
    skipped = ("stage-done", {"stage": "prep", "attempt": 1, "result": {"skipped": True}})
    assert fold(log(ATTEMPT, STARTED, skipped)).stages["prep"].state == "skipped"


def test_the_fence_lets_only_the_last_attempt_write() -> None:
    """An attempt may write until a newer one begins or the run ends."""
    fence(0, 1)(log(ATTEMPT, STARTED))
    second = ("attempt", {"leg": 0, "attempt": 2})
    for entries in (log(ATTEMPT, second), log(ATTEMPT, ENDED), log(ATTEMPT, ENDED, ("resumed", {})), log()):
        with pytest.raises(Fenced):
            fence(0, 1)(entries)


def test_every_path_ends() -> None:
    """Whatever happens to drivers in whatever order, the loop reaches an end within a few actions."""
    fates = [("done", GONE), ("failed", GONE), ("died", GONE), ("cancel", RUNNING)]
    for path in itertools.product(fates, repeat=3):
        entries = log(legs=[["prep"], ["train"]])
        seen, ended = NONE, False
        for fate, after in path:
            action = decide(fold(entries), seen)
            if isinstance(action, End):
                ended = True
                break
            if isinstance(action, StopDriver):
                seen = GONE
                continue
            assert isinstance(action, StartAttempt)
            _play(entries, action, fate)
            seen = after
        for _ in range(3):
            action = decide(fold(entries), seen)
            ended = ended or isinstance(action, End)
            if isinstance(action, StopDriver):
                seen = GONE
            elif isinstance(action, StartAttempt):
                _play(entries, action, "done")
                seen = GONE
        assert ended, path


def _play(so_far: list[Entry], action: StartAttempt, fate: str) -> None:
    stage = ["prep", "train"][action.leg]
    steps: list[tuple[str, dict[str, Any]]] = [
        ("attempt", {"leg": action.leg, "attempt": action.attempt}),
        ("stage-started", {"stage": stage, "attempt": action.attempt}),
    ]
    if fate == "done":
        steps.append(("stage-done", {"stage": stage, "attempt": action.attempt, "result": {}}))
        steps.append(("leg-done", {"leg": action.leg, "attempt": action.attempt}))
    elif fate == "failed":
        steps.append(
            ("stage-failed", {"stage": stage, "attempt": action.attempt, "error": failed(RunFailed, "x").to_json()})
        )
    elif fate == "cancel":
        steps.append(("cancel", {"by": "user"}))
    so_far += log_of(steps, len(so_far) + 1)


def test_a_leg_between_is_trained_further_and_later_ones_stay_done() -> None:
    """Of three legs the second is done again, with its next attempt; the third, which is done, is not begun again."""
    legs = [["prep"], ["train"], ["after"]]
    done: list[tuple[str, dict[str, Any]]] = []
    for leg, (name,) in enumerate(legs):
        done += [
            ("attempt", {"leg": leg, "attempt": 1}),
            ("stage-started", {"stage": name, "attempt": 1}),
            ("stage-done", {"stage": name, "attempt": 1, "result": {}}),
            ("leg-done", {"leg": leg, "attempt": 1}),
        ]
    further = [*done, ("ended", {"state": "succeeded"}), ("resumed", {"again": ["train"]})]
    view = fold(log(*further, legs=legs))
    assert [view.stages[name].state for (name,) in legs] == ["done", "waiting", "done"]
    assert decide(view, NONE) == StartAttempt(1, 2)
    again = [("attempt", {"leg": 1, "attempt": 2}), ("stage-done", {"stage": "train", "attempt": 2, "result": {}})]
    over = fold(log(*further, *again, ("leg-done", {"leg": 1, "attempt": 2}), legs=legs))
    assert decide(over, GONE) == End(RunState.SUCCEEDED)
    assert over.is_complete


@pytest.mark.parametrize(
    ("steps", "state", "error"),
    [
        ([ATTEMPT, STARTED], RunState.FAILED, ENTRY),
        ([ATTEMPT, STARTED, FAILED], RunState.FAILED, Failure("UserCodeError", "x", stage="prep")),
        ([ATTEMPT, STARTED, CANCEL], RunState.CANCELLED, None),
        ([ATTEMPT, STARTED, DONE, TRAINED, LEG_DONE], RunState.SUCCEEDED, None),
        ([ATTEMPT, ("failing", {"error": ENTRY.to_json()}), FAILED, CANCEL], RunState.FAILED, ENTRY),
    ],
)
def test_a_run_without_supervisor_ends_as_its_log_says(
    steps: list[Any], state: RunState, error: Failure | None
) -> None:
    """What failed first, what was asked for and what was done count; the loss itself only where nothing did."""
    assert end_of_lost(fold(log(*steps)), ENTRY) == (state, error)


def test_a_lost_run_is_seen_as_it_was_when_it_was_last_heard_of() -> None:
    """Its running stage has ended by then, with the last entry of the log."""
    view = as_lost(fold(log(ATTEMPT, STARTED)), "killed", "last words")
    assert (view.state, view.ended, view.seconds(now=1e9)) == (RunState.LOST, 3.0, 2.0)
    assert (view.stages["prep"].state, view.stages["prep"].ended, view.stages["train"].state) == (
        "lost",
        3.0,
        "waiting",
    )
    assert view.error is not None
    assert (view.error.message, view.error.trace) == ("the supervisor of the run is gone (killed)", "last words")
