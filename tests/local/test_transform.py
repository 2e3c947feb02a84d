"""Transforms of batches on real helpers: the batches of inline, whatever becomes of one, here and on a Ray."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import UserCodeError, WorkerLost
from runner.train.gang import server as gang_server
from runner.train.gang.base import Gang
from runner.train.gang.local import LocalGang
from runner.train.gang.ray import RayGang
from runner.train.stage import run_train
from runner.worker import ray_session
from runner.worker.scope import Scope
from tests.local.helpers import rank_processes, wait_for
from tests.unit.train.kit import Config, curve, job, make_scope, notes


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    """One server for the tests of this file: torch is imported once."""
    gang_server.warm_up()
    yield
    gang_server.stop()


@pytest.fixture
def _ray() -> Iterator[None]:
    """A Ray with room for ranks and helpers."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:  # short: sockets lie below it
        ray_session.start(Path(folder), 4)
        yield
        ray_session.stop()


def run(
    folder: Path, gang: Gang, act: str = "", transform: str = "noisy", attempt: int = 1, **stage: Any
) -> tuple[list[list[Any]], Scope]:
    """Train on 2 ranks; what each has seen, of training and validation, and the scope."""
    config = Config(batch=8, epochs=2, act=act, at_step=40, path=str(folder))
    given = {"transform": job(transform, "transforms"), "workers": 2, "checkpoint_every_steps": 5, **stage}
    fit, scope = make_scope(folder, job("seen", "transforms"), config, inline=False, attempt=attempt, **given)
    run_train(fit, scope, gang)
    return [notes(folder, name, rank) for name in ("seen", "validated") for rank in (0, 1)], scope


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[Any]], Scope]:
    """What the ranks see when they transform their batches themselves."""
    return run(tmp_path_factory.mktemp("inline"), LocalGang())


def test_helpers_give_the_batches_of_inline(tmp_path: Path, inline: tuple[list[list[Any]], Scope]) -> None:
    """Three local helpers, of which one is killed at work, give the same batches in the same order as none, random
    numbers of the transform and of the training included; nothing of them is left."""
    found, scope = run(tmp_path, LocalGang(), act="die", transform="Noisy", on_data="cpu", data_workers=3)
    assert found == inline[0]
    assert len(found[0]) == 24
    assert curve(scope, name="noise") == curve(inline[1], name="noise")
    said = "".join(scope.spool("fit", "logs", f"rank{rank}").read_text() for rank in (0, 1))
    assert said.count("it is begun again") == 1
    assert "SIGKILL" in said
    assert not rank_processes()


@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_helpers_on_ray_give_the_batches_of_inline(tmp_path: Path, inline: tuple[list[list[Any]], Scope]) -> None:
    """Actors of a Ray, of which one is killed at work, give the same batches in the same order as none."""
    found, scope = run(tmp_path, RayGang(), act="die", on_data="cpu", data_workers=2)
    assert found == inline[0]
    said = "".join(scope.spool("fit", "logs", f"rank{rank}").read_text() for rank in (0, 1))
    assert said.count("it is begun again") == 1


def test_a_training_that_was_killed_goes_on_with_the_batches_that_follow(
    tmp_path: Path, inline: tuple[list[list[Any]], Scope], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank is killed while helpers are ahead of it: from the checkpoint on, the next attempt, with another number of
    helpers, sees what a training sees that was not killed."""
    monkeypatch.setenv("CUT_AT", "13")
    with pytest.raises(WorkerLost, match="rank 1 of 2"):
        run(tmp_path, LocalGang(), act="hang", on_data="cpu", data_workers=4)
    wait_for(lambda: not rank_processes(), 10, "helpers go with their rank, whatever they are at")
    monkeypatch.delenv("CUT_AT")
    found, _ = run(tmp_path, LocalGang(), attempt=2, on_data="cpu", data_workers=2)
    for rank in (0, 1):
        made, whole = found[rank], inline[0][rank]
        assert made[:13] == whole[:13]
        assert made[-14:] == whole[10:]  # the checkpoint of step 10, not the place that helpers had come to
    assert found[2:] == inline[0][2:]


def test_errors_of_a_transform_are_told_as_the_users(tmp_path: Path) -> None:
    """What a transform raises on a helper comes out with its file and line, the user's traceback alone, and the batch's
    place; one that ends its helpers again and again fails the training with the place of the batch."""
    for act, kind in (("raise", UserCodeError), ("poison", WorkerLost)):
        with pytest.raises(kind) as caught:
            run(tmp_path / act, LocalGang(), act=act, on_data="cpu")
        words = str(caught.value)
        assert "the batch of positions" in words
        assert words.startswith("Train 'fit', transform")
        if isinstance(caught.value, UserCodeError):
            assert "ValueError: batch of " in words
            assert "tests/unit/train/transforms.py:" in words
            assert "in noisy" in caught.value.trace
            assert "feeding" not in caught.value.trace
        else:
            assert "has ended 3 workers; the last: data worker" in words
            assert "SIGKILL" in words
