"""The pool of local processes, and prep stages on it."""

from __future__ import annotations

import functools
import operator
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from runner.errors import Interrupted, RunFailed, StageTimeout, UserCodeError, WorkerLost
from runner.prep.stage import run_make, run_prep
from runner.spec import Dataset, Prep
from runner.worker.pool.base import InlinePool, ProcessPool
from runner.worker.scope import Scope
from tests.local.helpers import wait_for
from tests.unit.prep.kit import ROOT, Config, contents, make_scope, rows_of, write_shards


@pytest.fixture
def scope(tmp_path: Path) -> Scope:
    return make_scope(tmp_path / "s")


def lives(pid: int) -> bool:
    """Whether the process runs; one that nobody has reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def workers_of(pool: ProcessPool) -> list[psutil.Process]:
    return [psutil.Process(worker.process.pid) for worker in pool._workers]


# -- the pool --------------------------------------------------------------------------------------------------------


def test_every_item_is_done_once(scope: Scope) -> None:
    """Results carry the index of their item, in whatever order they come, also for a second map."""
    with ProcessPool(2, scope, "p") as pool:
        assert sorted(pool.map(operator.neg, range(20))) == [(i, -i) for i in range(20)]
        assert sorted(pool.map(abs, [-1, -2])) == [(0, 1), (1, 2)]
        assert list(pool.map(abs, [])) == []


def test_results_come_as_they_are_completed(scope: Scope) -> None:
    """A slow first item does not hold back the second."""
    with ProcessPool(2, scope, "p") as pool:
        assert [index for index, _ in pool.map(time.sleep, [3.0, 0.0])] == [1, 0]


def test_no_more_processes_than_items(scope: Scope) -> None:
    """Workers are started as items come."""
    with ProcessPool(8, scope, "p") as pool:
        assert list(pool.map(abs, [-1])) == [(0, 1)]
        assert len(workers_of(pool)) == 1


def test_an_error_comes_out_as_itself(scope: Scope) -> None:
    """What the function raises is raised by map, and the pool works on afterwards."""
    with ProcessPool(2, scope, "p") as pool:
        with pytest.raises(ValueError, match="invalid literal"):
            list(pool.map(int, ["1", "x", "2"]))
        assert sorted(pool.map(int, ["5", "6"])) == [(0, 5), (1, 6)]


class Stubborn(Exception):
    """Cannot be rebuilt from its arguments."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__("only one")


def raise_stubborn(item: int) -> None:
    raise Stubborn(item, item)


def test_an_error_that_cannot_travel_is_said_in_words(scope: Scope) -> None:
    """An exception that cannot be pickled becomes RunFailed with its name and traceback."""
    with ProcessPool(1, scope, "p") as pool, pytest.raises(RunFailed, match=r"Stubborn: only one(.|\n)*raise_stubborn"):
        list(pool.map(raise_stubborn, [1]))


def test_a_killed_worker_is_named(scope: Scope) -> None:
    """A worker that dies of kill -9 is WorkerLost with the item and the signal; one that exits, with its code."""
    with ProcessPool(1, scope, "p") as pool:
        with pytest.raises(WorkerLost, match=r"prep-0 died of signal 9 \(SIGKILL\).*at work on 9"):
            list(pool.map(signal.raise_signal, [9]))
        with pytest.raises(WorkerLost, match=r"exit code 3.*at work on 3"):
            list(pool.map(os._exit, [3]))
        assert list(pool.map(abs, [-1])) == [(0, 1)]


def test_stop_ends_the_map(scope: Scope) -> None:
    """When the run is cancelled map raises at once and the busy workers are gone."""
    processes: list[psutil.Process] = []

    def stop_after_the_first(pool: ProcessPool) -> None:
        for _ in pool.map(time.sleep, [0.0, 600, 600]):
            processes.extend(workers_of(pool))
            scope.stop.set()

    with ProcessPool(2, scope, "p") as pool, pytest.raises(Interrupted):
        stop_after_the_first(pool)
    assert processes
    assert not any(process.is_running() for process in processes)


def test_a_timeout_names_what_was_at_work(scope: Scope) -> None:
    """What is not done in time is StageTimeout."""
    with ProcessPool(1, scope, "p") as pool, pytest.raises(StageTimeout, match="at work on 60"):
        list(pool.map(time.sleep, [60], timeout_s=0.5))


def test_leaving_early_ends_busy_workers(scope: Scope) -> None:
    """Breaking out of map kills what is still busy; closing ends the rest."""
    pool = ProcessPool(2, scope, "p")
    for index, _ in pool.map(time.sleep, [0.0, 60]):
        processes = workers_of(pool)
        assert index == 0
        break
    pool.close()
    assert processes
    assert not any(process.is_running() for process in processes)


def test_output_goes_to_the_spool(scope: Scope) -> None:
    """What workers print, also without a newline at the end, is in their log file."""
    with ProcessPool(1, scope, "p") as pool:
        list(pool.map(functools.partial(print, end=""), ["hello from a worker"]))
    assert scope.spool("p", "logs", "prep-0").read_text() == "hello from a worker"


def test_workers_die_with_their_driver(tmp_path: Path) -> None:
    """After kill -9 of the driver its busy workers are gone within seconds."""
    script = textwrap.dedent("""
        import pathlib, sys, time
        from runner.worker.pool.base import ProcessPool
        from tests.unit.prep.kit import make_scope
        if __name__ == "__main__":
            pool = ProcessPool(2, make_scope(pathlib.Path(sys.argv[1])), "p")
            for _ in pool.map(time.sleep, [0, 600, 600]):
                print(*(worker.process.pid for worker in pool._workers), flush=True)
    """)
    path = tmp_path / "driver.py"
    path.write_text(script)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, path, tmp_path / "s"], stdout=subprocess.PIPE, text=True, env=env) as driver:
        assert driver.stdout is not None
        pids = [int(word) for word in driver.stdout.readline().split()]
        assert pids
        assert all(lives(pid) for pid in pids)
        driver.kill()
    wait_for(lambda: not any(lives(pid) for pid in pids), 10, "the workers are gone")


# -- prep on it ------------------------------------------------------------------------------------------------------


def double(batch: pa.RecordBatch, config: Config) -> dict[str, Any]:
    return {"y": batch.column("x").to_numpy() * config.factor, "s": batch.column("s")}


def dies_once(batch: pa.RecordBatch, config: Config) -> Any:
    mark = Path(config.mark)
    if batch.column("x")[0].as_py() >= 30 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def raises(batch: Any, config: Config) -> Any:
    for value in batch.column("x").to_pylist():
        if value == 17:
            raise ValueError("seventeen")
    return batch


class Model:
    """Tells when it is made."""

    def __init__(self, config: Config) -> None:
        with open(config.mark, "a") as file:
            file.write(f"{os.getpid()}\n")

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch


def make_numbers() -> Any:
    print("making")
    yield pa.table({"a": [1, 2]})


def test_bytes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    """In this process, on one worker and on three, a stage gives the same files and the same id."""
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in", shards=7)), sink="out", batch_size=4)
    found = []
    for workers in (0, 1, 3):
        scope = make_scope(tmp_path / f"s{workers}", stage, Config())
        pool = ProcessPool(workers, scope, "p") if workers else InlinePool()
        with pool:
            result = run_prep(stage, scope, pool)
        found.append((result["outputs"], contents(tmp_path / f"s{workers}", "out")))
    assert len(found[0][1]) == 8
    assert found[0] == found[1] == found[2]
    assert rows_of(tmp_path / "s3", "out").column("y").to_pylist() == [2 * i for i in range(70)]


def test_after_a_killed_worker_only_the_rest_is_done(tmp_path: Path) -> None:
    """A worker killed in the fourth shard is named with it; the next run does what is left, to the same result."""
    url = write_shards(tmp_path / "in", shards=6)
    stage = Prep("p", fn=dies_once, source=Dataset(url), sink="out", uses=())
    scope = make_scope(tmp_path / "s", stage, Config(mark=str(tmp_path / "mark")))
    with ProcessPool(1, scope, "p") as pool, pytest.raises(WorkerLost, match=r"SIGKILL.*shard part-3\.parquet"):
        run_prep(stage, scope, pool)
    with ProcessPool(1, scope, "p") as pool:
        result = run_prep(stage, scope, pool)
    assert (result["tasks"], result["tasks_reused"]) == (6, 3)
    uncut = run_prep(stage, make_scope(tmp_path / "t", stage, Config(mark=str(tmp_path / "mark"))), InlinePool())
    assert result["outputs"] == uncut["outputs"]
    assert contents(tmp_path / "s", "out") == contents(tmp_path / "t", "out")


def test_an_error_of_a_worker_names_the_row(tmp_path: Path) -> None:
    """The user's exception arrives with row, shard and the user's own traceback."""
    stage = Prep("p", fn=raises, source=Dataset(write_shards(tmp_path / "in")), sink="out")
    scope = make_scope(tmp_path / "s", stage, Config())
    with (
        ProcessPool(2, scope, "p") as pool,
        pytest.raises(UserCodeError, match=r"seventeen.*row 7 of .*part-1") as caught,
    ):
        run_prep(stage, scope, pool)
    assert "in raises" in caught.value.trace


def test_a_class_is_made_once_per_worker(tmp_path: Path) -> None:
    """Six tasks on two workers make at most two objects, each in a process of its own."""
    stage = Prep("p", fn=Model, source=Dataset(write_shards(tmp_path / "in", shards=6)), sink="out", batch_size=2)
    scope = make_scope(tmp_path / "s", stage, Config(mark=str(tmp_path / "made")))
    with ProcessPool(2, scope, "p") as pool:
        run_prep(stage, scope, pool)
    made = (tmp_path / "made").read_text().split()
    assert 1 <= len(made) <= 2
    assert len(set(made)) == len(made)


def test_make_runs_in_a_worker(tmp_path: Path) -> None:
    """The function of a dataset runs in the pool, its output in the worker's log."""
    scope = make_scope(tmp_path / "s")
    with ProcessPool(1, scope, "p") as pool:
        made = run_make("d", Dataset(make=make_numbers), scope, pool)
    assert made["rows"] == 2
    assert "making" in scope.spool("p", "logs", "prep-0").read_text()
