"""Real ranks on this machine: what they are told, how their failures are told, and that none is left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from runner.errors import Interrupted, RunFailed, RunnerError, StageTimeout, StoreError, UserCodeError, WorkerLost
from runner.train.gang import server as gang_server
from runner.train.gang.local import LocalGang
from runner.train.stage import run_train
from tests.local.helpers import rank_processes, wait_for
from tests.unit.train.kit import ROOT, Config, curve, job, make_scope, notes, published, train


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    """One server for the tests of this file: torch is imported once."""
    gang_server.warm_up()
    yield
    gang_server.stop()


def misbehave(tmp_path: Path, act: str, expected: type[RunnerError], workers: int = 2) -> Any:
    """Run the misbehaving job; returns the error, which came within 10 s of the act, with no rank left."""
    given, scope = make_scope(
        tmp_path, job("misbehave"), Config(path=str(tmp_path), act=act), inline=False, workers=workers
    )
    with pytest.raises(expected) as caught:
        run_train(given, scope, LocalGang())
    assert not rank_processes()
    assert not notes(tmp_path, "notes", 0), "rank 0 was not stopped"
    return caught.value


def test_ranks_know_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks have their numbers, torchrun's variables, their share of the cores, the driver's environment now, a log of
    their own, and random numbers of their own; metrics are the mean over all rows; the driver loads no torch."""
    monkeypatch.setenv("FROM_THE_DRIVER", "yes")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    result, scope = train(tmp_path, "talk", Config(path=str(tmp_path)), workers=2)
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert [notes(tmp_path, "notes", r) for r in (0, 1)] == [[[r, r, 2, str(r), "2", threads, "yes"]] for r in (0, 1)]
    logs = [scope.spool("fit", "logs", f"rank{r}").read_text() for r in (0, 1)]
    assert ["only once" in log for log in logs] == [True, False]
    assert ["hello from rank 0" in logs[0], "hello from rank 1" in logs[1]] == [True, True]
    assert notes(tmp_path, "random", 0) != notes(tmp_path, "random", 1)
    assert set(curve(scope, name="rank").values()) == {0.5}
    assert result["metrics"]["validation_rank"] == 45 / 96  # the last global batch has 6 rows, all of them of rank 0
    assert result["metrics"]["only_second"] == 1.0
    assert (result["steps"], result["samples"], result["world_size"]) == (12, 96, 2)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_gradients_meet_at_the_last_batch_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """Accumulated over two batches of two ranks, the gradient is that of all their rows, on both, and with DDP no rank
    has heard of the other before; a number of threads from the user's shell holds in ranks."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    train(tmp_path, "accumulate", Config(path=str(tmp_path), act=strategy), workers=2)
    found = [notes(tmp_path, "notes", rank)[0] for rank in (0, 1)]
    assert [note[1:3] for note in found] == [["3", 3]] * 2
    assert found[0][3].endswith("Linear")
    assert found[0][0][-1] == found[1][0][-1]
    assert found[0][0][-1] == pytest.approx(whole_gradient(tmp_path / "data", rows=32), rel=1e-5)
    if strategy == "ddp":
        assert found[0][0][0] != found[1][0][0]


def whole_gradient(data: Path, rows: int) -> list[float]:
    """The gradient of `accumulate` of tests/unit/train/jobs.py over the first rows at once, by plain PyTorch."""
    import pyarrow.parquet as pq
    import torch

    table = pq.read_table(data).slice(0, rows)
    torch.manual_seed(1)
    model = torch.nn.Linear(4, 1)
    x, y = torch.tensor(table["x"].to_pylist()), torch.tensor(table["y"].to_pylist())
    (model(x).squeeze(1) - y).square().mean().backward()
    return [value for p in model.parameters() if p.grad is not None for value in p.grad.flatten().tolist()]


def test_rank_that_raises_is_told_first(tmp_path: Path) -> None:
    """The error is the user's, with rank and traceback, also where other ranks fail because that one left."""
    error = misbehave(tmp_path, "raise", UserCodeError)
    assert error.rank == 1
    assert "ValueError: rank 1 is unhappy" in error.message
    assert "tests/unit/train/jobs.py" in error.trace
    assert "in misbehave" in error.trace
    assert "runner/worker" not in error.trace


def test_killed_rank_is_named_with_its_signal(tmp_path: Path) -> None:
    """A rank that is killed is WorkerLost with its number and signal, not the echo in the other ranks; and promptly."""
    started = time.monotonic()
    error = misbehave(tmp_path, "kill", WorkerLost, workers=3)
    assert "rank 2 of 3" in str(error)
    assert "SIGKILL" in str(error)
    assert time.monotonic() - started < 30


def test_rank_that_exits_is_named_with_its_code(tmp_path: Path) -> None:
    """A rank that leaves without a word is WorkerLost with its exit code; sys.exit is the user's doing."""
    assert "exit code 3" in str(misbehave(tmp_path / "a", "exit", WorkerLost))
    assert "sys.exit('enough')" in misbehave(tmp_path / "b", "sys.exit", UserCodeError).message


def test_ranks_out_of_step_are_told(tmp_path: Path) -> None:
    """A rank that calls step() more often than the others fails the training, which says so."""
    assert "out of step" in str(misbehave(tmp_path, "skip", RunFailed))


def test_rank_that_leaves_its_loop_early_is_told(tmp_path: Path) -> None:
    """A rank that returns, while another waits for it in DDP's backward, fails the training, and both are named."""
    words = str(misbehave(tmp_path, "leave", RunFailed))
    assert "rank 1 has returned from the train function after 2 steps" in words
    assert re.search(r"rank 0 is at tests/unit/train/jobs.py:\d+ \(.*\), after [23] steps, in a collective", words)


def test_rank_that_tracks_alone_is_told(tmp_path: Path) -> None:
    """What only some ranks track would be restored on those alone: the training fails at once and says who is where."""
    with pytest.raises(RunFailed, match=r"rank 0 is at ctx.track\(model\) after 0 steps") as caught:
        train(tmp_path, "track_alone", Config(), workers=2)
    assert "and track the same" in str(caught.value)


def test_ranks_that_read_different_data_are_told(tmp_path: Path) -> None:
    """Batches of another size on one rank would take some rows twice and leave others out: a checkpoint refuses it."""
    with pytest.raises(RunFailed, match=r"in ctx.batches\('train'\): .*samples_seen is 40 on rank 0 and 50 on rank 1"):
        train(tmp_path, "other_batches", Config(), workers=2, checkpoint_every_steps=5)


def test_thread_that_the_function_left_keeps_no_stage(tmp_path: Path) -> None:
    """The training ends with its result all the same, and the log says what was left."""
    result, scope = train(tmp_path, "leave_a_thread", Config(), workers=2)
    assert result["steps"] == 0
    assert "what its function left: uploader" in scope.spool("fit", "logs", "rank1").read_text()


def test_rank_stuck_in_a_collective_ends_with_its_phase(tmp_path: Path) -> None:
    """A phase whose rank is stuck in a call of C code still ends at its timeout, and is named."""
    assert "phase 'validation'" in str(misbehave(tmp_path, "stuck", StageTimeout))


def test_stop_ends_the_ranks(tmp_path: Path) -> None:
    """Setting the scope's stop event ends every rank within seconds."""
    given, scope = make_scope(
        tmp_path, job("misbehave"), Config(path=str(tmp_path), act="sleep"), inline=False, workers=2
    )
    timer = threading.Thread(
        target=lambda: (wait_for(lambda: notes(tmp_path, "pid", 1), 60, "ranks"), scope.stop.set())
    )
    timer.start()
    with pytest.raises(Interrupted):
        run_train(given, scope, LocalGang())
    timer.join()
    assert not rank_processes()


def test_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """A store without room is a StoreError; the checkpoint before stays, and nothing refers to the new one."""
    given, scope = make_scope(
        tmp_path, job("full"), Config(path=str(tmp_path)), inline=False, workers=2, checkpoint_every_steps=2
    )
    with pytest.raises(StoreError, match="no space left"):
        run_train(given, scope, LocalGang())
    assert [each.key for each in published(scope)] == ["checkpoints/fit/000000002-1"]
    assert scope.bundle.store.list("checkpoints/fit") == ["000000002-1"]


DRIVER = """
import sys, time
from pathlib import Path
from runner.train.gang import base as gang
from tests.unit.train.kit import Config, job, make_scope
from runner.train.gang.local import LocalGang
from runner.train.stage import run_train

if __name__ == "__main__":
    gang.warm_up()
    tmp = Path(sys.argv[1])
    stage, scope = make_scope(tmp, job("misbehave"), Config(path=str(tmp), act="sleep"), inline=False, workers=2)
    assert "torch" not in sys.modules
    run_train(stage, scope, LocalGang())
"""


def test_ranks_die_with_the_driver(tmp_path: Path) -> None:
    """A driver that is killed leaves neither ranks nor its server for more than seconds; it never imports torch."""
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    short = tempfile.mkdtemp(prefix="g")  # a killed driver cannot remove the folder of the server's socket
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": short}
    driver = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment, cwd=tmp_path)
    try:
        wait_for(lambda: notes(tmp_path, "pid", 1) or driver.poll() is not None, 120, "ranks")
        below = psutil.Process(driver.pid).children(recursive=True)
        assert len(below) >= 3
        driver.send_signal(signal.SIGKILL)
        driver.wait(10)
        assert not psutil.wait_procs(below, timeout=5)[1]
    finally:
        driver.kill()
        driver.wait()
        shutil.rmtree(short)
