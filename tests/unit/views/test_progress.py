from __future__ import annotations

import io

import pytest
from rich.console import Console

from runner.cli.rank_output import HELD_S, Prints
from runner.cli.screens import PLAIN_S, LiveScreen, PlainScreen, stage_line
from runner.record import RunState, StageView, View
from runner.record.entries import StageResult
from runner.views.progress import WINDOW_S, Progress, fit, outcome


def prep_row(at: float, done: int) -> dict[str, float]:
    return {"at": at, "done": done, "total": 100, "rows_in": done * 1000, "bytes_in": done * 1e6, "filtered": done}


def train_row(at: float, step: int, total: int | None = 1000) -> dict[str, object]:
    return {"at": at, "step": step, "steps_total": total, "loss": 1 / step, "samples_per_s": 640.0, "wait_share": 0.1}


# -- progress --------------------------------------------------------------------------------------------------------


def test_a_prep_tells_tasks_rows_speed_and_time_left() -> None:
    """Ten tasks in ten seconds of a hundred leave ninety."""
    progress = Progress("tokens", "prep")
    for second in range(11):
        progress.add(prep_row(1000 + second, second))
    assert progress.fraction == 0.1
    assert progress.parts(1010) == ["10/100 tasks", "10,000 rows", "1 m 30 s left", "1.00 MB/s", "10 filtered"]
    assert progress.seconds_left(1015) == pytest.approx(85)


def test_a_training_tells_steps_loss_and_what_it_waits_for() -> None:
    """Waiting for data is told when it is a twentieth of the time or more."""
    progress = Progress("train", "train")
    for second in range(1, 11):
        progress.add(train_row(second, second * 10))
    assert progress.parts(10) == [
        "100/1,000 steps",
        "loss 0.01",
        "1 m 30 s left",
        "640 samples/s",
        "10 % waiting for data",
    ]
    progress.add({**train_row(11, 110), "wait_share": 0.01})
    assert "waiting" not in " ".join(progress.parts(11))


def test_without_a_total_there_is_no_bar_and_no_time_left() -> None:
    """Endless epochs are possible."""
    progress = Progress("train", "train")
    for second in range(1, 4):
        progress.add(train_row(second, second, total=None))
    assert progress.fraction is None
    assert progress.parts(4)[0] == "3 steps"
    assert "left" not in " ".join(progress.parts(4))


def test_a_rate_is_that_of_the_last_seconds() -> None:
    """A slow start is forgotten after the window."""
    progress = Progress("tokens", "prep")
    progress.add(prep_row(0, 0))
    progress.add(prep_row(1000, 1))
    for second in range(1, 40):
        progress.add(prep_row(1000 + second, 1 + second))
    left = progress.seconds_left(1039)
    assert left == pytest.approx(60, abs=60 / WINDOW_S)


def test_a_new_attempt_counts_from_its_own_rows() -> None:
    """What the attempt before had reached says nothing about this one."""
    progress = Progress("train", "train")
    progress.begin(1)
    progress.add(train_row(1, 500))
    progress.begin(1)
    assert progress.done == 500
    progress.begin(2)
    assert (progress.done, progress.parts(2)) == (0, [])


def test_an_outcome_tells_rows_or_metrics() -> None:
    """A prep tells rows in and out and its speed, a training its steps and metrics; a fake stage nothing."""
    prep = {
        "rows_in": 2_000_000,
        "rows_out": {"a": 10, "b": 20},
        "bytes_in": 5e6,
        "seconds": 2,
        "quarantined": 3,
        "filtered": 0,
    }
    assert outcome(StageResult.from_json(prep)) == ["2.00 M rows -> 30", "2.50 MB/s", "3 quarantined"]
    train = {"steps": 1, "metrics": {"loss": 0.12345}}
    assert outcome(StageResult.from_json(train)) == ["1 step", "loss 0.1235"]
    assert outcome(StageResult.from_json({"fake": True})) == []


def test_a_line_takes_what_fits() -> None:
    """Parts that are too long are left out whole."""
    assert fit(["12345", "a long part", "678"], 12) == "12345 · 678"
    assert fit(["too long"], 3) == ""


# -- screens ---------------------------------------------------------------------------------------------------------


def view_of(**states: str) -> View:
    stages = {name: StageView(name, state, 1, started=100.0) for name, state in states.items()}
    return View(state=RunState.RUNNING, stages=stages)


def test_plain_lines_tell_starts_ends_and_now_and_then_progress() -> None:
    """However often it is updated, there is one line a stage and moment, and no repetition."""
    stream = io.StringIO()
    screen = PlainScreen(stream)
    progress = {"train": Progress("train", "train"), "eval": Progress("eval", "train")}
    view = view_of(train="running", eval="waiting")
    for tenth in range(int(PLAIN_S * 25)):
        now = 100 + tenth / 10
        progress["train"].add(train_row(now, tenth + 1))
        screen.update(view, progress, now)
    view.stages["train"].state, view.stages["train"].ended = "done", 112.5
    screen.update(view, progress, 113)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train: started"
    assert [line.split()[1] for line in lines[1:-1]] == ["51/1,000", "101/1,000"]
    assert lines[-1] == "train: done in 12 s"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_live_line_never_wraps(width: int) -> None:
    """The least important parts go first where there is little room."""
    progress = Progress("a-long-name-14", "train")
    for second in range(1, 11):
        progress.add(train_row(second, second * 10))
    for state in ("waiting", "running", "done", "skipped", "failed", "cancelled"):
        line = stage_line(view_of(**{"a-long-name-14": state}).stages["a-long-name-14"], progress, 14, width, 10)
        assert len(line.plain) < width
    running = stage_line(view_of(train="running").stages["train"], progress, 5, width, 10).plain
    assert running.startswith("▸ train  ━──")


def test_live_lines_are_redrawn_below_what_the_user_prints() -> None:
    """Words in brackets stay words, colours stay, and a carriage return leaves what a terminal would show."""
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=True, width=80, color_system="standard", markup=False, legacy_windows=False
    )
    with LiveScreen(console) as screen:
        screen.update(view_of(train="running"), {"train": Progress("train", "train")}, 101)
        screen.line("[red]50 %\r[red]100 % \x1b[31mdone\x1b[0m")
    assert "[red]100 % \x1b[31mdone\x1b[0m" in stream.getvalue()
    assert "50 %\r" not in stream.getvalue()
    assert "train" in stream.getvalue()


def test_what_a_run_waits_for_is_a_live_line_of_its_own() -> None:
    """Below the stages, on one line however long the reason is, and gone with it."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=40, markup=False, legacy_windows=False)
    with LiveScreen(console) as screen:
        screen.waits("a node for worker pod x: " + "0/1 nodes are available " * 9)
        screen.update(view_of(train="waiting"), {"train": Progress("train", "train")}, 101)
        assert "waits for a node for worker pod x:...\x1b" in stream.getvalue()
        stream.truncate(0)
        screen.waits("")
        screen.update(view_of(train="waiting"), {"train": Progress("train", "train")}, 102)
    assert "waits for" not in stream.getvalue()


def test_what_a_run_waits_for_is_a_plain_line_when_it_changes() -> None:
    """Once for each reason, again if it comes back."""
    stream = io.StringIO()
    screen = PlainScreen(stream)
    for words in ("a node", "a node", "", "a node", "quota"):
        screen.waits(words)
    assert stream.getvalue().splitlines() == ["waits for a node", "waits for a node", "waits for quota"]


# -- what rank 0 prints ----------------------------------------------------------------------------------------------

TRACE = ["Traceback (most recent call last):", '  File "x.py", line 1', "ValueError: x"]


def test_prints_pass_and_a_failing_runs_traceback_does_not() -> None:
    """The end of the run shows it without the frames of libraries."""
    prints = Prints()
    assert list(prints.pass_on(["epoch 1", *TRACE], 0, failed=False)) == ["epoch 1"]
    assert list(prints.pass_on(["and more"], 1, failed=True)) == []
    assert list(prints.pass_on([], HELD_S * 2, failed=False)) == []


def test_a_traceback_that_the_users_code_survived_is_shown_after_a_moment() -> None:
    """It was printed on purpose."""
    prints = Prints()
    assert list(prints.pass_on([*TRACE, "going on"], 0, failed=False)) == []
    assert list(prints.pass_on([], HELD_S + 1, failed=False)) == [*TRACE, "going on"]
    assert list(Prints().pass_on(TRACE, 0, failed=False, over=True)) == TRACE, "no later moment comes"


def test_noise_of_libraries_is_left_to_the_logs() -> None:
    """Warnings that C++ code prints with its file and line."""
    lines = ["[W1123 18:00:00.123 socket.cpp:1] x", "[rank0]: Traceback", "[rank] mine", "[W] mine"]
    assert list(Prints().pass_on(lines, 0, failed=False)) == ["[rank] mine", "[W] mine"]
