"""The same job gives the same result wherever it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import runner
from runner.client.run import Run
from runner.record import RunState
from tests.local.helpers import driver_pid, kill, wait_for

NothingLeft = Callable[[Run], None]


def losses(run: Run) -> list[float]:
    return [float(x) for x in run.metrics()["loss"].to_pylist()]


@pytest.mark.ray
def test_local_and_ray_give_equal_results(project: Path, tmp_path: Path, nothing_left: NothingLeft) -> None:
    """Processes and a Ray on this machine make the same data, byte for byte, and the same loss curve, bit for bit."""
    local = runner.submit("tiny", store=str(tmp_path / "one"))
    assert local.wait(120) is RunState.SUCCEEDED
    ray = runner.submit("tiny", cluster="ray_local", store=str(tmp_path / "two"))
    assert ray.wait(180) is RunState.SUCCEEDED
    nothing_left(ray)
    assert local.results()["double"]["outputs"] == ray.results()["double"]["outputs"]
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "datasets/doubled/data").iterdir()}
        for name in ("one", "two")
    ]
    assert files[0] == files[1]
    assert losses(local) == losses(ray)
    assert len(losses(local)) == 20


def test_inline_has_the_same_global_batches(project: Path) -> None:
    """One rank in this process sees the global batches of two: the loss curve agrees to rounding."""
    local = runner.submit("tiny")
    assert local.wait(120) is RunState.SUCCEEDED
    inline = runner.submit("tiny", inline=True)
    assert inline.status == "succeeded"
    assert losses(inline) == pytest.approx(losses(local), rel=1e-5)


def test_inline_exceptions_are_the_users_own(project: Path) -> None:
    """The very exception passes through, with a note of row and shard, and the run is recorded as failed."""
    with pytest.raises(ValueError, match="bad row 250"):
        runner.submit("tiny", inline=True, fail_prep=250)
    run = runner.get_run("@last")
    assert run.status == "failed"


@pytest.mark.ray
@pytest.mark.parametrize("where", ["prep", "train"])
def test_kill_9_of_the_driver_on_ray(project: Path, tmp_path: Path, where: str, nothing_left: NothingLeft) -> None:
    """A driver that is killed takes its Ray with it: no process, session folder or shared memory stays."""
    mark = tmp_path / "blocked"
    run = runner.submit("tiny", cluster="ray_local", changes={f"block_{where}": str(mark)})
    wait_for(mark.exists, 120, f"{where} is reached; the run is {run.status}, {run.error}")
    kill(driver_pid(run))
    assert run.wait(15, check=False) is RunState.FAILED
    nothing_left(run)


@pytest.mark.ray
@pytest.mark.soak
def test_cancel_on_ray(project: Path, tmp_path: Path, nothing_left: NothingLeft) -> None:
    """A cancelled run on Ray ends as cancelled and leaves nothing."""
    mark = tmp_path / "blocked"
    run = runner.submit("tiny", cluster="ray_local", changes={"block_train": str(mark)})
    wait_for(mark.exists, 120, f"the training is reached; the run is {run.status}, {run.error}")
    run.cancel()
    assert run.wait(20, check=False) is RunState.CANCELLED
    nothing_left(run)


def test_changing_what_a_prep_does_not_use_skips_it(project: Path) -> None:
    """A second run with another number of steps finds the data; another scale makes it anew."""
    assert runner.submit("tiny", steps=2).wait(120) is RunState.SUCCEEDED
    again = runner.submit("tiny", steps=3)
    assert again.wait(120) is RunState.SUCCEEDED
    assert again.view().stages["double"].state == "skipped"
    other = runner.submit("tiny", steps=3, scale=5.0)
    assert other.wait(120) is RunState.SUCCEEDED
    assert other.view().stages["double"].state == "done"
