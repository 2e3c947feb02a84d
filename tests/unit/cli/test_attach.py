from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runner.cli.actions import exit_code
from runner.cli.attach import Attached, Detached
from runner.client import patience, prepare, submit
from runner.client.run import Run
from runner.errors import (
    ApiError,
    DataError,
    InputError,
    InternalError,
    RunnerError,
    SpecError,
    StoreAway,
    StoreRefused,
    UserCodeError,
)
from runner.record import RunState, View
from runner.record.entries import AttemptBegan, CancelAsked, Ended, StageStarted
from runner.record.failures import failed
from runner.record.reasons import Reason
from runner.store.retry import Retry
from runner.views.documents import run_document
from runner.views.following import WORKING_WHY_S
from runner.views.progress import Progress
from runner.views.run import see
from tests.unit.cli.kit import unstarted, write_lines, write_project


class Recorder:
    """A screen that keeps what it is told and calls back at every update."""

    def __init__(self, on_update: Callable[[], None] = lambda: None) -> None:
        self.lines: list[str] = []
        self.bars: list[str] = []
        self.seen: list[str] = []
        self.waited: list[str] = []
        self.on_update = on_update

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None: ...

    def update(self, view: View, progress: Mapping[str, Progress], now: float) -> None:
        self.seen.append(str(view.state))
        self.words = {name: stage.parts(now) for name, stage in progress.items()}
        self.on_update()

    def waits(self, words: str) -> None:
        self.waited.append(words)

    def line(self, text: str) -> None:
        self.lines.append(text)

    def unfinished(self, text: str) -> None:
        self.bars.append(text)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose log the test writes; its supervisor is believed to live elsewhere."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    made = unstarted()
    made.bundle.log.append(AttemptBegan(leg=0, attempt=1))
    made.bundle.log.append(StageStarted(stage="train", attempt=1))
    return made


def end(run: Run, state: str = "succeeded") -> None:
    run.bundle.log.append(Ended(state=state, error=None))


def test_each_look_shows_only_what_is_new(run: Run) -> None:
    """Lines of rank 0 as they come, once each; those of other ranks are for `logs`."""
    screen = Recorder()
    attached = Attached(run, screen)
    write_lines(run.bundle, "train", "logs", "rank0", "one")
    write_lines(run.bundle, "train", "logs", "rank1", "not shown")
    attached.look(1.0)
    write_lines(run.bundle, "train", "logs", "rank0", "two")
    attached.look(2.0)
    attached.look(3.0)
    assert screen.lines == ["one", "two"]


def test_a_line_that_has_no_end_is_shown_as_it_stands(run: Run) -> None:
    """A progress bar while it moves, apart from whole lines; as a line when the run has ended."""
    screen = Recorder()
    attached = Attached(run, screen)
    folder, offset = run.bundle.stage_files.segments("train", 1, "logs", "rank0"), 0
    for number, data in enumerate((b"begins\n\r 10%", b"\r 20%\x07", b"\r 30%"), 1):
        run.bundle.store.create(f"{folder}/{offset:015d}", data)
        offset += len(data)
        attached.look(float(number))
    end(run)
    attached.look(4.0)
    assert screen.bars == [" 10%", " 20%", " 30%", ""]
    assert screen.lines == ["begins", " 30%"]


def test_progress_follows_the_metrics_of_driver_and_rank_0(run: Run) -> None:
    """Rows of both kinds of stage arrive at their stage."""
    screen = Recorder()
    attached = Attached(run, screen)
    write_lines(
        run.bundle, "tokens", "metrics", "driver", json.dumps({"at": 1.0, "done": 2, "total": 4, "rows_in": 10})
    )
    row = {"at": 1.0, "step": 7, "loss": 0.5, "steps_total": 70}
    write_lines(run.bundle, "train", "metrics", "rank0", json.dumps(row))
    attached.look(2.0)
    assert screen.words == {"tokens": ["2/4 tasks", "10 rows"], "train": ["7/70 steps", "loss 0.5"]}


def test_a_resumed_run_shows_nothing_of_before(run: Run) -> None:
    """What the attempt before printed has been seen."""
    write_lines(run.bundle, "train", "logs", "rank0", "old", "older")
    screen = Recorder()
    attached = Attached(run, screen, from_now=True)
    write_lines(run.bundle, "train", "logs", "rank0", "new")
    attached.look(1.0)
    assert screen.lines == ["new"]


def test_following_ends_with_the_run_and_misses_no_line(run: Run) -> None:
    """A line that comes with the end is still shown."""

    def finish() -> None:
        if not run.view().state.ended:
            write_lines(run.bundle, "train", "logs", "rank0", "last words")
            end(run)

    screen = Recorder(finish)
    view = Attached(run, screen).follow()
    assert view.state is RunState.SUCCEEDED
    assert screen.lines == ["last words"]
    assert screen.seen == ["running", "succeeded"]


def test_ctrl_c_once_cancels_and_waits_for_the_end(run: Run) -> None:
    """The run is asked to end, and the exit code says interrupted once it has."""
    looks = 0

    def press_then_end() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            signal.raise_signal(signal.SIGINT)
        elif looks == 3:
            end(run, "cancelled")

    screen = Recorder(press_then_end)
    attached = Attached(run, screen)
    before = signal.getsignal(signal.SIGINT)
    view = attached.follow()
    assert [each.event for each in run.bundle.log.read() if each.kind == "cancel"] == [CancelAsked("Ctrl-C")]
    assert screen.lines == ["cancelling; Ctrl-C again leaves at once"]
    assert (view.state, exit_code(view, attached.interrupted)) == (RunState.CANCELLED, 130)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_twice_leaves_at_once(run: Run) -> None:
    """The run goes on to its end without us."""
    started = time.monotonic()
    with pytest.raises(Detached):
        Attached(run, Recorder(lambda: signal.raise_signal(signal.SIGINT))).follow()
    assert time.monotonic() - started < 5
    assert run.view().state is RunState.CANCELLING


@pytest.mark.parametrize(
    ("state", "interrupted", "error", "code"),
    [
        ("succeeded", False, None, 0),
        ("succeeded", True, None, 0),
        ("cancelled", True, None, 130),
        ("cancelled", False, None, 1),
        ("failed", False, failed(UserCodeError, "x"), 1),
        ("failed", True, failed(UserCodeError, "x"), 1),
        ("failed", False, failed(InternalError, "x"), 1),
        ("failed", False, failed(StoreRefused, "x"), 1),
        ("failed", False, failed(DataError, "x"), 2),
        ("failed", False, failed(SpecError, "x"), 2),
    ],
)
def test_exit_codes(state: str, interrupted: bool, error: dict[str, object] | None, code: int) -> None:
    """0 success, 1 failure, 2 where a stage found the input wrong, 130 only where Ctrl-C ended the run."""
    assert exit_code(View(state=RunState(state), error=error), interrupted) == code


def test_a_stage_that_says_nothing_is_what_the_run_waits_for(run: Run) -> None:
    """Its last row of metrics tells since when; one that has just reported is not mentioned."""
    write_lines(run.bundle, "train", "metrics", "rank0", json.dumps({"at": time.time() - 100, "step": 1}))
    (reason,) = run.why()
    assert "stage 'train', which has reported nothing" in reason.waits_for
    assert 99 < time.time() - reason.since < 110
    write_lines(run.bundle, "train", "metrics", "rank1", json.dumps({"at": time.time(), "step": 2}))
    assert run.why() == []


def test_a_run_that_nobody_took_up_is_ended_by_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only once it was asked to end: its machines are removed, and the log says cancelled."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    made = submit.create(prepare.prepare("tiny"))
    assert not made.end_unstarted().state.ended
    made.bundle.log.append(CancelAsked(by="test"))
    assert made.end_unstarted().state is RunState.CANCELLED
    assert made.view().receipt is not None


AWAY = StoreAway("no route", where="store s3://lake")


@pytest.mark.parametrize("error", [AWAY, ApiError(0, "no answer")], ids=["store", "API"])
def test_a_moment_without_an_answer_ends_nobody(run: Run, monkeypatch: pytest.MonkeyPatch, error: RunnerError) -> None:
    """It is told once, Ctrl-C is remembered, and the run's end is shown when there is an answer."""
    monkeypatch.setattr(patience, "POLICY", Retry(600.0, longest_s=0.001))
    screen = Recorder()
    attached = Attached(run, screen)
    seen, left = run.view, [error] * 3

    def look() -> View:
        if left:
            signal.raise_signal(signal.SIGINT) if len(left) == 2 else None
            raise left.pop()
        return seen()

    monkeypatch.setattr(run, "view", look)
    screen.on_update = lambda: end(run, "cancelled")
    view = attached.follow()
    assert view.state is RunState.CANCELLED
    assert [entry.kind for entry in run.bundle.log.read()].count("cancel") == 1
    assert len([line for line in screen.lines if "the run goes on, trying again" in line]) == 1
    assert screen.lines.count("cancelling; Ctrl-C again leaves at once") == 1


def test_what_a_run_waits_for_is_shown_while_a_stage_works(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one line, asked for now and then; where nobody can say, there is none."""
    asked: list[float] = []
    answers: list[object] = [
        [Reason(f"a node for pod {run.id}-0-1-x:\nnone fits")],
        [],
        ApiError(0, "x"),
        InputError("no kubeconfig"),
    ]

    def why(view: View) -> object:
        asked.append(0)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(run, "why", why)
    screen = Recorder()
    attached = Attached(run, screen)
    for second in range(4):
        attached.look(100 + second * (WORKING_WHY_S + 1))
        attached.look(101 + second * (WORKING_WHY_S + 1))
    assert screen.waited[::2] == screen.waited[1::2] == ["a node for pod 0-1-x: none fits", "", "", ""]
    assert len(asked) == 4


def test_a_document_tells_what_the_run_waits_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With times as the other ones of a document are; none where the machines cannot be asked."""
    monkeypatch.setattr(run, "why", lambda view: [Reason("a node", since=0.0)])
    document = run_document(see(run, run.view(), 0.0))
    told = {"waits_for": "a node", "since": "1970-01-01T00:00:00.000Z", "helps": "", "until": None, "cause": "starting"}
    assert document["reasons"] == [told]

    def refused(view: View) -> object:
        raise InputError("no Kubernetes to speak to")

    monkeypatch.setattr(run, "why", refused)
    assert run_document(see(run, run.view(), 0.0))["reasons"] == []
