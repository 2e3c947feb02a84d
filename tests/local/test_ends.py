"""However a run ends, its state is told and nothing of it is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import runner
from runner.client import prepare, submit
from runner.client.resume import resume
from runner.client.run import Run
from runner.errors import StoreBroken
from runner.record import RunState
from tests.local.helpers import driver_pid, kill, wait_for

NothingLeft = Callable[[Run], None]


def blocked(tmp_path: Path, where: str, **changes: Any) -> Run:
    """A run that has reached its prep or training function and blocks there."""
    mark = tmp_path / "blocked"
    run = runner.submit("tiny", changes={f"block_{where}": str(mark), **changes})
    wait_for(mark.exists, 60, f"{where} is reached; the run is {run.status}, {run.error}")
    assert escaped(tmp_path)
    return run


def escaped(tmp_path: Path) -> list[psutil.Process]:
    """Living processes that the blocked functions of a test have started, and hidden as well as they could."""
    pids = [int(path.read_text()) for path in tmp_path.glob("blocked-*")]
    found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def test_a_run_that_succeeds(project: Path, nothing_left: NothingLeft) -> None:
    """A whole run succeeds, tells its counts and its last metrics, and leaves nothing."""
    run = runner.submit("tiny")
    assert run.wait(120) is RunState.SUCCEEDED
    nothing_left(run)
    results = run.results()
    assert results["double"]["rows_in"] == results["double"]["processed"] == 400
    assert results["train"]["steps"] == 20
    table = run.metrics()
    assert table.column("step").to_pylist() == list(range(1, 21))
    assert any("the end" in line for line in run.logs("train", rank=0))
    assert run.view().receipt is not None
    assert run.view().receipt.remains == {"processes": 0, "scratch_folders": 0}


def test_a_transform_that_raises(project: Path, nothing_left: NothingLeft) -> None:
    """The run fails with the user's traceback, the row and the shard."""
    run = runner.submit("tiny", fail_prep=123)
    with pytest.raises(runner.UserCodeError) as caught:
        run.wait(60)
    assert run.status == "failed"
    assert "bad row 123" in str(caught.value)
    assert "row 23" in str(caught.value)
    assert "jobs/tiny.py" in caught.value.trace
    nothing_left(run)


def test_a_train_function_that_raises_on_rank_1(project: Path, nothing_left: NothingLeft) -> None:
    """The run fails with rank 1 named and its traceback."""
    run = runner.submit("tiny", fail_rank=1)
    with pytest.raises(runner.UserCodeError) as caught:
        run.wait(60)
    assert caught.value.rank == 1
    assert "rank 1 is unhappy" in str(caught.value)
    assert "jobs/tiny.py" in caught.value.trace
    nothing_left(run)


@pytest.mark.parametrize("where", ["prep", "train"])
def test_cancel(project: Path, tmp_path: Path, where: str, nothing_left: NothingLeft) -> None:
    """A cancelled run ends as cancelled and leaves nothing, whatever it was doing."""
    run = blocked(tmp_path, where)
    assert run.cancel()
    assert run.wait(15, check=False) is RunState.CANCELLED
    nothing_left(run)
    assert not escaped(tmp_path)
    assert not run.cancel()


@pytest.mark.parametrize("where", ["prep", "train"])
def test_kill_9_of_the_supervisor(project: Path, tmp_path: Path, where: str, nothing_left: NothingLeft) -> None:
    """Without its supervisor the run ends by itself, says why, and can be resumed."""
    run = blocked(tmp_path, where)
    who = run.view().supervisor
    assert who is not None
    kill(who.pid)
    wait_for(lambda: run.view().state.ended and run.view().state is not RunState.LOST, 10, "the run has ended")
    nothing_left(run)
    assert not escaped(tmp_path)
    assert run.status == "failed"
    assert run.error is not None
    assert "supervisor" in run.error["message"]


@pytest.mark.parametrize("where", ["prep", "train"])
def test_kill_9_of_the_driver(project: Path, tmp_path: Path, where: str, nothing_left: NothingLeft) -> None:
    """The supervisor sees the driver's death, cleans up and ends the run; a resume finishes it."""
    run = blocked(tmp_path, where)
    kill(driver_pid(run))
    assert run.wait(10, check=False) is RunState.FAILED
    nothing_left(run)
    assert not escaped(tmp_path)
    assert run.error is not None
    assert "SIGKILL" in run.error["message"]


def test_kill_9_of_supervisor_and_driver_at_once(project: Path, tmp_path: Path, nothing_left: NothingLeft) -> None:
    """When both are gone the next look says 'lost', and reaping it removes what is left."""
    run = blocked(tmp_path, "train")
    who = run.view().supervisor
    assert who is not None
    driver = driver_pid(run)
    kill(who.pid)
    kill(driver)
    wait_for(lambda: run.status == "lost", 5, "the run is seen as lost")
    assert run.reap().state is RunState.FAILED
    nothing_left(run)
    for process in escaped(tmp_path):  # nobody is left who adopted it, and it has no mark: docs/runs.md says so
        process.kill()


def test_a_driver_that_fails_before_its_stages_says_so(project: Path, nothing_left: NothingLeft) -> None:
    """Code that cannot be unpacked is no error of the user: the run fails and names the object in the store."""
    run = submit.create(prepare.prepare("tiny"))
    run.bundle.store.put("code.zip", b"no archive")
    submit.launch(run)
    with pytest.raises(StoreBroken, match=r"code\.zip: no archive of code") as caught:
        run.wait(60)
    assert "restore it" in str(caught.value)
    nothing_left(run)


def test_resume_after_a_failure_goes_on(project: Path, nothing_left: NothingLeft) -> None:
    """A resumed run skips what is done, takes corrected code when told to, and succeeds."""
    run = runner.submit("tiny", fail_rank=1, steps=8)
    assert run.wait(60, check=False) is RunState.FAILED
    path = project / "jobs/tiny.py"
    path.write_text(path.read_text().replace("config.fail_rank == ctx.rank", "False"))
    resume(run, new_code=True)
    assert run.wait(60) is RunState.SUCCEEDED
    assert run.results()["train"]["steps"] == 8
    nothing_left(run)


def test_the_client_may_die(project: Path, tmp_path: Path, nothing_left: NothingLeft) -> None:
    """A run goes on when the process that submitted it is killed."""
    import subprocess
    import sys

    script = "import runner, os, signal; runner.submit('tiny', steps=8); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    run = runner.get_run("@last")
    assert run.wait(120) is RunState.SUCCEEDED
    nothing_left(run)
