"""A client goes on looking while the store, or the API of the machines, does not answer."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from runner.client import patience
from runner.client.patience import Patience, passes
from runner.client.run import Run
from runner.errors import ApiError, RunnerError, StoreAway, StoreError
from runner.record.history import RunState, View
from tests.unit.cli.kit import unstarted, write_lines, write_project

AWAY = StoreAway("EndpointConnectionError: no route", where="store s3://lake")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose supervisor is believed to live elsewhere."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("runner.client.run.LOOK_S", 0.001)
    return unstarted()


def stumble(run: Run, monkeypatch: pytest.MonkeyPatch, error: RunnerError, times: int) -> None:
    """The next looks at the run meet an error, then it has ended."""
    seen, left = run.view, [error] * times

    def look() -> View:
        if left:
            raise left.pop()
        if not seen().state.ended:
            run.bundle.log.append("ended", {"state": "succeeded", "error": None})
        return seen()

    monkeypatch.setattr(run, "view", look)


def caused(number: int) -> StoreError:
    error = StoreError("OSError at x", where="store /mnt")
    error.__cause__ = OSError(number, "x")
    return error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (AWAY, True), (ApiError(0, "no answer"), True), (ApiError(503, "busy"), True), (ApiError(403, "no"), False),
        (caused(errno.ESTALE), True), (caused(errno.EACCES), False), (StoreError("no such bucket"), False),
    ],
)  # fmt: skip
def test_what_another_try_may_help(error: RunnerError, again: bool) -> None:
    """Silence passes; a right that is missing, or a store that is wrong, does not."""
    assert passes(error) == again
    said: list[str] = []
    if again:
        assert Patience("r1", said.append).pause(error) == patience.FIRST_PAUSE_S
    else:
        with pytest.raises(type(error)):
            Patience("r1", said.append).pause(error)
    assert bool(said) == again


def test_trouble_is_told_once_and_pauses_grow() -> None:
    """Until there is an answer: the next trouble is another one."""
    said: list[str] = []
    patient = Patience("r1", said.append)
    pauses = [patient.pause(AWAY) for _ in range(7)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    told = "the store does not answer: EndpointConnectionError: no route; the run goes on, trying again"
    assert said == [told]
    patient.answered()
    assert patient.pause(ApiError(0, "no answer from\nthe API")) == 0.5
    assert said[1:] == ["no answer from the API; the run goes on, trying again"]


def test_at_last_it_ends_as_no_fault_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """With exit code 1, and words that say how to look again."""
    patient = Patience("r1", lambda _: None)
    patient.pause(AWAY)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 601)
    with pytest.raises(RunnerError, match="for 10 minutes now. The run goes on") as raised:
        patient.pause(AWAY)
    assert (raised.value.exit_code, "`runner status r1`" in str(raised.value)) == (1, True)


@pytest.mark.parametrize("error", [AWAY, ApiError(0, "no answer")])
def test_a_wait_outlasts_trouble(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: RunnerError
) -> None:
    """`wait` returns the end that comes after it, with one notice on standard error."""
    stumble(run, monkeypatch, error, 3)
    assert run.wait() is RunState.SUCCEEDED
    assert capsys.readouterr().err.count("trying again") == 1


def test_a_wait_that_is_over_tells_what_was_seen_last(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit holds while the store is away; where nothing was seen at all, its error is told."""
    seen = run.view()
    answers = [seen]

    def look() -> View:
        if answers:
            return answers.pop()
        raise AWAY

    monkeypatch.setattr(run, "view", look)
    assert run.wait(timeout_s=0.05) is RunState.SUBMITTED
    with pytest.raises(StoreAway):
        run.wait(timeout_s=0.05)


def test_lines_that_are_followed_outlast_trouble(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told once; without following, trouble is told at once."""
    write_lines(run.bundle, "train", "logs", "rank0", "one")
    lists, calls = run.bundle.store.list, []

    def listed(prefix: str = "") -> list[str]:
        calls.append(prefix)
        if len(calls) in (2, 5):
            raise AWAY
        if len(calls) == 9:
            write_lines(run.bundle, "train", "logs", "rank0", "two")
            run.bundle.log.append("ended", {"state": "succeeded", "error": None})
        return lists(prefix)

    run.bundle.log.read()
    monkeypatch.setattr(run.bundle.store, "list", listed)
    assert list(run.logs(rank=0, follow=True)) == ["one", "two"]
    monkeypatch.setattr(run.bundle.store, "list", lambda prefix="": (_ for _ in ()).throw(AWAY))
    with pytest.raises(StoreAway):
        list(run.logs(rank=0))
