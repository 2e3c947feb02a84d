"""Trying again: which errors, for how long, how the pauses are drawn, and what ends them."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import ApiError, Cause, InputError, InternalError, RunnerError, StoreAway, StoreBroken, StoreRefused
from runner.kube.client import KubeError
from runner.store import Store
from runner.store.folder import Folder
from runner.store.retry import Retry
from tests.unit.store.clock import Clock, fake_clock

AWAY = StoreAway("EndpointConnectionError: no route", where="store s3://lake")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return fake_clock(monkeypatch)


def failing(times: int, error: RunnerError = AWAY) -> Callable[[], str]:
    """Raises so many times, and then has a result."""
    left = [error] * times

    def act() -> str:
        if left:
            raise left.pop()
        return "done"

    return act


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (AWAY, True),
        (StoreBroken("no JSON"), False),
        (StoreRefused("no room"), False),
        (InputError("no"), False),
        (InternalError("bug"), False),
        (ApiError(0, "no answer"), True),
        (ApiError(503, "busy"), True),
        (ApiError(429, "later"), True),
        (ApiError(404, "not yet"), True),
        (ApiError(409, "in the way"), True),
        (ApiError(401, "who?"), False),
        (ApiError(403, "no"), False),
        (ApiError(422, "invalid"), False),
        (KubeError(403, "Forbidden", 'pods "a" is forbidden: exceeded quota: gpus'), True),
        (KubeError(403, "Forbidden", 'User "x" cannot create resource "pods" in API group ""'), False),
    ],
)
def test_the_error_decides_whether_another_try_may_help(clock: Clock, error: RunnerError, again: bool) -> None:
    """What passes by itself is tried again, wherever it comes from; a right that is missing stays missing."""
    if again:
        assert Retry(60.0)(failing(3, error)) == "done"
        assert len(clock.pauses) == 3
    else:
        with pytest.raises(type(error)) as raised:
            Retry(60.0)(failing(1, error))
        assert raised.value is error
        assert not clock.pauses


def test_pauses_are_drawn_below_a_bound_that_doubles(clock: Clock) -> None:
    """So many processes that met the same trouble do not all ask at the same moment."""
    bounds = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0)
    drawn: list[list[float]] = []
    for _ in range(20):
        clock.pauses.clear()
        Retry(600.0)(failing(len(bounds)))
        drawn.append(list(clock.pauses))
    columns = list(zip(*drawn, strict=True))
    assert all(0 <= pause <= bound for pauses, bound in zip(columns, bounds, strict=True) for pause in pauses)
    assert all(
        max(pauses) > bound / 2 and len(set(pauses)) == 20 for pauses, bound in zip(columns, bounds, strict=True)
    )


def test_the_last_try_is_at_the_deadline(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten minutes are ten minutes: then the error is the caller's, unchanged, and each pause before it was told."""
    with pytest.raises(StoreAway) as raised:
        Retry(600.0)(failing(10_000))
    assert raised.value is AWAY
    assert clock.waited == pytest.approx(600.0)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(clock.pauses)
    assert all("trying again: store s3://lake: EndpointConnectionError: no route" in line for line in told)


def test_a_spell_begins_with_its_first_failure(clock: Clock) -> None:
    """An answer in between ends it: the next failure has all the time again."""
    policy = Retry(10.0, longest_s=8.0)
    trouble = policy.trouble()
    for _ in range(20):
        assert policy(failing(2), trouble) == "done"
        clock.pauses.append(3.0)


def test_the_users_random_numbers_stay_as_they_are(clock: Clock) -> None:
    """A training gives the same numbers, whether a store was away for a while or not."""
    before = random.getstate()
    assert Retry(600.0)(failing(5)) == "done"
    assert random.getstate() == before


def test_without_patience_nothing_is_tried_again(clock: Clock) -> None:
    """A person at a terminal wants to know at once."""
    with pytest.raises(StoreAway):
        Retry(0.0)(failing(1))
    assert not clock.pauses


def test_an_event_ends_the_pause_and_the_spell() -> None:
    """There is one more try, and then what it met."""
    stop, tries = threading.Event(), []

    def act() -> None:
        tries.append(1)
        raise AWAY

    policy = Retry(600.0, first_s=300.0, longest_s=300.0)
    trouble = policy.trouble(stop, tell=lambda _: stop.set())
    with pytest.raises(StoreAway):
        policy(act, trouble)
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("refusal", "away"),
    [
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.EIO, "I/O error"), True),
        (TimeoutError("slow"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (PermissionError(13, "no"), False),
    ],
)
def test_a_folder_of_another_machine_may_be_away_as_a_bucket_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, refusal: OSError, away: bool
) -> None:
    """What a network file system says while its server is away is tried again; a full disk is not."""
    create, left = Folder.create, [refusal] * 2

    def fail(self: Folder, key: str, data: bytes) -> bool:
        if left:
            raise left.pop()
        return create(self, key, data)

    monkeypatch.setattr(Folder, "create", fail)
    store = Store(str(tmp_path), patience_s=600.0)
    if away:
        assert store.create("a", b"x")
        assert len(clock.pauses) == 2
    else:
        with pytest.raises(StoreRefused) as raised:
            store.create("a", b"x")
        assert raised.value.cause is Cause.STORE_REFUSED


def test_only_trouble_loads_the_library() -> None:
    """It takes 30 ms to import, which no command that succeeds pays."""
    code = "import sys, runner.cli.commands, runner.store.store, runner.kube.client; print('tenacity' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
