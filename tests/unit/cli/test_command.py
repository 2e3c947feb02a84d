"""How a command ends that is interrupted, and what it leaves; its process is tested in tests/local/test_command.py."""

from __future__ import annotations

import pickle
import signal
from pathlib import Path

import pytest

from runner.backends.fake import FakeBackend
from runner.cli import actions
from runner.client import lookup, prepare, submit
from runner.client.run import Run
from runner.errors import UserCodeError
from runner.plan.project import find_project
from runner.process import interrupts
from runner.record import Bundle
from runner.record.entries import CancelAsked
from tests.unit.cli.kit import call, write_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the current folder, whose runs start nothing."""
    monkeypatch.chdir(write_project(tmp_path / "project").resolve())
    return tmp_path / "project"


def test_ctrl_c_while_the_bundle_is_written_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there of a run that does not exist yet is removed."""

    def press(self: Bundle, data: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bundle, "submit", press)
    assert "interrupted: nothing was started" in call("submit", "tiny", code=130).stderr
    assert [path for path in (project / ".runner").rglob("*") if path.is_file()] == []


def test_ctrl_c_once_the_run_is_there_cancels_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a supervisor is up, and before anybody follows the run: it is ended, and it is said."""

    def press(run: Run, inline: object = None) -> None:
        raise KeyboardInterrupt

    for module in (submit, actions):
        monkeypatch.setattr(module, "launch", press)
    monkeypatch.setattr(Run, "wait", lambda self, timeout_s, check: self.view().state)
    result = call("submit", "tiny", code=130)
    (run,) = lookup.runs()
    assert run.status == "cancelled"
    assert f"{run.id} cancelled" in result.stdout
    with pytest.raises(KeyboardInterrupt):
        submit.submit("tiny")
    assert lookup.runs()[-1].view().cancel == CancelAsked("Ctrl-C")


def test_what_belongs_together_is_done_whole() -> None:
    """A press in the midst of it counts at its end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
    done = []

    def together() -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            together()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == [True]


def test_a_press_that_comes_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal, or a program that ends another, may send the signal to a process and to its group."""
    now = iter([10.0, 10.01, 11.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    presses = interrupts.Presses()
    assert [presses.count() for _ in range(3)] == [True, False, True]
    assert presses.number == 2


def test_two_handles_of_a_run_are_equal_and_one_can_be_sent() -> None:
    """By the run's name and its store; another process finds the same run."""
    run = submit.create(prepare.prepare("tiny"))
    other = submit.create(prepare.prepare("tiny"))
    sent = pickle.loads(pickle.dumps(run))
    assert {run, lookup.get_run(run.id), sent} == {run}
    assert sent.status == "submitted"
    assert run != other


def test_a_run_raises_the_class_that_its_log_names() -> None:
    """`wait` and the exit code go by it."""
    FakeBackend.outcomes["tiny"] = {"train": "ValueError: no"}
    run = submit.submit("tiny")
    with pytest.raises(UserCodeError, match="ValueError: no"):
        run.wait()
    assert find_project().store().url == run.bundle.root.url
    assert set(run.error or {}) == {"class", "cause", "message", "stage", "rank", "trace"}
