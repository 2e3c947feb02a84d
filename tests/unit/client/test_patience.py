"""A client goes on looking while the store, or the API of the machines, does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.client import patience
from runner.client.patience import Patience
from runner.client.run import Run
from runner.errors import ApiError, RunnerError, StoreAway, StoreError
from runner.record import RunState, View
from runner.record.entries import Ended
from runner.store.retry import Retry
from tests.unit.cli.kit import unstarted, write_lines, write_project
from tests.unit.store.clock import Clock, fake_clock

AWAY = StoreAway("EndpointConnectionError: no route", where="store s3://lake")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return fake_clock(monkeypatch)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose supervisor is believed to live elsewhere."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    monkeypatch.setattr(patience, "POLICY", Retry(600.0, longest_s=0.001))
    monkeypatch.setattr("runner.client.run.LOOK_S", 0.001)
    return unstarted()


def stumble(run: Run, monkeypatch: pytest.MonkeyPatch, error: RunnerError, times: int) -> None:
    """The next looks at the run meet an error, then it has ended."""
    seen, left = run.view, [error] * times

    def look() -> View:
        if left:
            raise left.pop()
        if not seen().state.ended:
            run.bundle.log.append(Ended(state="succeeded", error=None))
        return seen()

    monkeypatch.setattr(run, "view", look)


@pytest.mark.parametrize(
    ("error", "again"),
    [(AWAY, True), (ApiError(0, "no answer"), True), (ApiError(403, "no"), False), (StoreError("no bucket"), False)],
)
def test_what_another_try_may_help(clock: Clock, error: RunnerError, again: bool) -> None:
    """Silence passes; a right that is missing, or a store that is wrong, does not, and nothing is said of that."""
    said: list[str] = []
    if again:
        Patience("r1", said.append).wait(error)
    else:
        with pytest.raises(type(error)):
            Patience("r1", said.append).wait(error)
    assert bool(said) == bool(clock.pauses) == again


def test_trouble_is_told_once(clock: Clock) -> None:
    """Until there is an answer: the next trouble is another one."""
    said: list[str] = []
    patient = Patience("r1", said.append)
    for _ in range(7):
        patient.wait(AWAY)
    told = "the store does not answer: EndpointConnectionError: no route; the run goes on, trying again"
    assert said == [told]
    patient.over()
    patient.wait(ApiError(0, "no answer from\nthe API"))
    assert said[1:] == ["no answer from the API; the run goes on, trying again"]


def test_at_last_it_ends_as_no_fault_of_the_input(clock: Clock) -> None:
    """With exit code 1, and words that say how to look again."""

    def look() -> None:
        raise AWAY

    with pytest.raises(RunnerError, match="for 10 minutes now. The run goes on") as raised:
        Patience("r1", lambda _: None).through(look)
    assert (raised.value.exit_code, "`runner status r1`" in str(raised.value)) == (1, True)
    assert clock.waited == pytest.approx(600.0)


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
            run.bundle.log.append(Ended(state="succeeded", error=None))
        return lists(prefix)

    run.bundle.log.read()
    monkeypatch.setattr(run.bundle.store, "list", listed)
    assert list(run.logs(rank=0, follow=True)) == ["one", "two"]
    monkeypatch.setattr(run.bundle.store, "list", lambda prefix="": (_ for _ in ()).throw(AWAY))
    with pytest.raises(StoreAway):
        list(run.logs(rank=0))
