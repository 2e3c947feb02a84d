"""Ranks on a Ray started on this machine: the same bits as local processes, and failures in the same words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import UserCodeError, WorkerLost
from runner.train.gang import server as gang_server
from runner.train.gang.local import LocalGang
from runner.train.gang.ray import RayGang
from runner.train.stage import run_train
from runner.worker import ray_session
from tests.unit.train.kit import Config, curve, job, make_scope, notes

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def _ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray for the tests of this file."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="r") as folder:  # short: sockets lie below it
        gang_server.warm_up()
        ray_session.start(Path(folder), 3)
        yield
        ray_session.stop()
        gang_server.stop()


def test_ray_gang_equals_local_gang(tmp_path: Path) -> None:
    """At the same world size, losses, random numbers and weights of both gangs are equal bit for bit."""
    found = []
    for name, gang in (("ray", RayGang()), ("local", LocalGang())):
        folder = tmp_path / name
        config = Config(batch=24, epochs=2, width=300, path=str(folder))
        stage, scope = make_scope(folder, job("exact"), config, inline=False, workers=3, checkpoint_every_steps=3)
        result = run_train(stage, scope, gang)
        weights = scope.bundle.store.get("artefacts/fit/weights.safetensors")
        found.append((curve(scope), curve(scope, name="noise"), weights, result["steps"], result["metrics"]))
        assert "hello" not in scope.spool("fit", "logs", "rank1").read_text()
    assert found[0] == found[1]
    assert len(found[0][0]) == 8


def test_ray_rank_that_raises_is_told_first(tmp_path: Path) -> None:
    """The user's exception comes out with rank and traceback, as from local ranks."""
    config = Config(path=str(tmp_path), act="raise")
    stage, scope = make_scope(tmp_path, job("misbehave"), config, inline=False, workers=2)
    with pytest.raises(UserCodeError, match="ValueError: rank 1 is unhappy") as caught:
        run_train(stage, scope, RayGang())
    assert caught.value.rank == 1
    assert "in misbehave" in caught.value.trace
    assert "ray/" not in caught.value.trace


def test_killed_ray_rank_is_named(tmp_path: Path) -> None:
    """A killed rank is WorkerLost with its number, not the echo in the others, and the others end."""
    config = Config(path=str(tmp_path), act="kill")
    stage, scope = make_scope(tmp_path, job("misbehave"), config, inline=False, workers=2)
    with pytest.raises(WorkerLost, match="rank 1 of 2"):
        run_train(stage, scope, RayGang())
    assert not notes(tmp_path, "notes", 0)
