"""What a run waits for, as its log and its rows of metrics tell it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from runner.client.run import Run
from runner.errors import Cause
from runner.record import fold
from runner.record import why as log_why
from runner.record.entries import AttemptBegan, DriverBegan, StageStarted
from runner.record.reasons import Reason
from runner.record.run_spec import RunSpec
from runner.store import Entry
from tests.unit.cli.kit import unstarted, write_lines, write_project
from tests.unit.record.entry_kit import event, log_of

BEGUN = ({"leg": 0, "attempt": 1}, {"leg": 1, "attempt": 1})
SPEC = RunSpec.from_json(
    {
        "job": {
            "stages": [
                {"name": "tokens", "kind": "Prep", "timeout_s": None},
                {"name": "train", "kind": "Train", "timeout_s": 100.0},
            ]
        },
        "cluster_name": "kube", "legs": [["tokens"], ["train"]],
        "cluster": {"backend": "kuberay", "kubernetes": {"deadline_s": 1000.0, "queue": None}},
    }
)  # fmt: skip


def log(*parts: tuple[str, dict[str, Any]]) -> list[Entry]:
    """Entries, one a second."""
    return log_of([("submitted", {"job": "tiny", "legs": [["tokens"], ["train"]]}), *parts])


def error(words: str = "no room") -> tuple[str, dict[str, Any]]:
    return "supervisor-error", {"message": words, "trace": "..."}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose log the test writes; its supervisor is believed to live elsewhere."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    return unstarted()


def test_a_supervisor_that_fails_says_with_what() -> None:
    """Its newest words, since when and how often, until another supervisor or attempt comes."""
    supervisor: tuple[str, dict[str, Any]] = ("supervisor", {"host": "h", "pid": 1, "started": 0.0})
    told = log_why.of_supervisor(log(supervisor, error("pods is\nforbidden")), "r1")
    assert told is not None
    assert (told.waits_for, told.since) == ("its supervisor, which failed: pods is forbidden", 3.0)
    told = log_why.of_supervisor(log(error(), supervisor, error(), ("cancel", {})), "r1")
    assert told is not None
    assert told.waits_for == "its supervisor, which failed 2 times in a row: no room"
    for after in (supervisor, ("attempt", BEGUN[0]), ("resumed", {})):
        assert log_why.of_supervisor(log(error(), after), "r1") is None
    told = log_why.of_supervisor(log(error(), ("attempt", BEGUN[0]), error()), "r1")
    assert told is not None
    assert "times in a row" not in told.waits_for


def test_a_failing_supervisor_is_the_first_reason(run: Run) -> None:
    """`why` tells it before what the machines lack."""
    run.bundle.log.append(event(*error()))
    assert run.why()[0].waits_for == "its supervisor, which failed: no room"


def test_a_driver_that_has_said_nothing() -> None:
    """An attempt waits for its driver until that, or a stage, has begun in it."""
    begun = log(("attempt", BEGUN[0]))
    told = log_why.of_driver(begun, fold(begun))
    assert told is not None
    assert (told.cause, told.since) == (Cause.DRIVER, 2.0)
    for more in (("driver", BEGUN[0]), ("stage-started", {"stage": "tokens", "attempt": 1})):
        begun = log(("attempt", BEGUN[0]), more)
        assert log_why.of_driver(begun, fold(begun)) is None
        assert log_why.has_begun(begun, fold(begun))
    again = log(("attempt", BEGUN[0]), ("driver", BEGUN[0]), ("attempt", {"leg": 0, "attempt": 2}))
    assert not log_why.has_begun(again, fold(again))
    assert log_why.of_driver(log(), fold(log())) is None


def test_a_driver_that_the_log_knows_is_not_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator may be behind: what it has not heard of is told only where the log has no driver either."""
    outside = [Reason("x", since=1.0, cause=Cause.DRIVER)]
    monkeypatch.setattr(run._machines, "why", lambda: outside)
    run.bundle.log.append(AttemptBegan(**BEGUN[0]))
    assert run.why() == outside
    run.bundle.log.append(DriverBegan(**BEGUN[0]))
    assert run.why() == []


def test_the_nearest_deadline_is_told() -> None:
    """Of the stage that runs and of the attempt; machines that came early count from then, a queue not at all."""
    begun = log(("attempt", BEGUN[0]), ("prepared", {"leg": 1}), ("attempt", BEGUN[1]))
    assert log_why.until(begun, fold(begun), SPEC) == 1003.0
    at_work = [*begun, Entry(5, 5.0, StageStarted("train", 1))]
    assert log_why.until(at_work, fold(at_work), SPEC) == 105.0
    assert log_why.until(begun[:2], fold(begun[:2]), SPEC) == 1002.0
    again = [*at_work, Entry(6, 6.0, AttemptBegan(1, 2))]
    assert log_why.until(again, fold(again), SPEC) == 1006.0
    queued = SPEC.but(cluster={"backend": "kuberay", "kubernetes": {"deadline_s": 1000.0, "queue": "team"}})
    assert log_why.until(begun, fold(begun), queued) is None
    assert log_why.until(begun, fold(begun), SPEC.but(cluster={"backend": "local", "kubernetes": None})) is None


def test_what_a_step_takes() -> None:
    """The median between steps, each counted once; nothing where no row counts."""
    rows = [{"step": n, "at": at} for n, at in enumerate((0.0, 10.0, 21.0, 31.0, 90.0))]
    assert log_why.step_seconds([*rows, {"step": 4, "at": 500.0}, {"at": 9.0}]) == 10.5
    assert log_why.step_seconds([{"done": 1, "at": 0.0}, {"done": 2, "at": 4.0}]) == 4.0
    assert log_why.step_seconds([{"step": 1, "at": 5.0}]) == 0.0


@pytest.mark.parametrize(("step_s", "quiet"), [(30.0, False), (10.0, True)])
def test_a_stage_of_slow_steps_is_not_called_quiet(run: Run, step_s: float, quiet: bool) -> None:
    """Silence is measured by what its steps took; half a row at the end of a segment is passed over."""
    run.bundle.log.append(AttemptBegan(**BEGUN[0]))
    run.bundle.log.append(StageStarted(stage="train", attempt=1))
    last = time.time() - 100
    rows = [f'{{"step": {n}, "at": {last - (4 - n) * step_s}}}' for n in range(5)]
    write_lines(run.bundle, "train", "metrics", "rank0", "half a row", *rows)
    found = run.why()
    assert bool(found) == quiet
    if quiet:
        assert "stage 'train', which has reported nothing" in found[0].waits_for
