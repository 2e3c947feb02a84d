"""Runs on a real Ray cluster that was there before them and is there after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import runner
from runner import Cluster, Group
from runner.backends.ray import jobs as ray_jobs
from runner.client.run import Run
from runner.code import optimized
from runner.errors import InputError, PlanError
from runner.record import RunState
from runner.record.entries import AttemptBegan
from tests.local.helpers import kill, remains, wait_for
from tests.local.ray_cluster import OTHER, RayCluster, await_held_nothing, job_pids, jobs_of, serve
from tests.local.test_optimized import levels, written

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def started() -> Iterator[RayCluster]:
    with serve() as running:
        yield running


@pytest.fixture
def cluster(started: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    return started


@pytest.fixture
def gone(cluster: RayCluster) -> Callable[[Run], None]:
    """Call it with a run that has ended: the cluster lives, and has nothing of the run but its supervisors' records."""

    def check(run: Run) -> None:
        await_held_nothing(cluster)
        assert sum(node["state"] == "ALIVE" for node in cluster.api.nodes()) == 2
        assert [name for name in jobs_of(cluster, run) if ray_jobs.is_driver(run.id, name)] == []
        wait_for(lambda: not remains(run), 10, f"nothing left of {run.id}: {remains(run)}")
        receipt = run.view().receipt
        assert receipt is not None
        assert set(receipt.remains.values()) == {0}

    return check


def blocked(run: Run, mark: Path) -> None:
    wait_for(mark.exists, 180, f"the training is reached; the run is {run.status}, {run.error}")


#: A training whose batches are transformed by actors.
HEAVY = """
from runner import Job, Train

def work(batch, config):
    import os
    print("data worker", os.getpid())
    return {"i": batch["i"], "x": batch["x"] * 2}

def train(ctx, config):
    for batch in ctx.batches("train", batch_size=10):
        ctx.step(loss=(batch["x"] * (batch["i"] + 1)).sum())

job = Job("heavy", stages=[
    Train("train", fn=train, data={"train": "numbers"}, workers=1, transform=work, on_data="cpu", data_workers=2),
])
"""


def submit(cluster: RayCluster, tmp_path: Path, **config: object) -> Run:
    return runner.submit("tiny", cluster=cluster.definition(), store=str(tmp_path / "store"), changes=config)


def test_a_run_gives_what_it_gives_locally(
    project: Path, cluster: RayCluster, tmp_path: Path, gone: Callable[[Run], None]
) -> None:
    """Prep and training on the cluster make the same data and losses as processes do, and no token is in the bundle."""
    run = submit(cluster, tmp_path)
    assert run.wait(120) is RunState.SUCCEEDED
    gone(run)
    local = runner.submit("tiny", store=str(tmp_path / "local"))
    assert local.wait(120) is RunState.SUCCEEDED
    assert run.metrics()["loss"].to_pylist() == local.metrics()["loss"].to_pylist()
    assert run.results()["double"]["outputs"] == local.results()["double"]["outputs"]
    assert any("the end" in line for line in run.logs("train", rank=0))
    hosts = run.bundle.stage_files.hosts("train", 1)
    assert not cluster.has_other or OTHER in hosts.values()
    assert set(hosts) == {"rank0", "rank1"}
    assert jobs_of(cluster, run) == {run.id: "SUCCEEDED"}
    token = cluster.environment["RAY_AUTH_TOKEN"].encode()
    written = [path for path in (tmp_path / "store" / run.id).rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if token in path.read_bytes()]


def test_batches_are_transformed_by_workers_of_the_cluster(
    project: Path, cluster: RayCluster, tmp_path: Path, gone: Callable[[Run], None]
) -> None:
    """Actors on a cluster give a training the batches of inline, their lines are in the bundle, and nothing of them is
    left; more of them than the cluster has room for are refused before."""
    Path("jobs/heavy.py").write_text(HEAVY)
    where = {"cluster": cluster.definition(), "store": str(tmp_path / "store")}
    with pytest.raises(PlanError, match="needs 9 CPUs for its data_workers, and Ray has 3 beside its 1 ranks"):
        runner.submit("heavy", changes={"train.data_workers": 9}, **where)
    run = runner.submit("heavy", **where)
    assert run.wait(120) is RunState.SUCCEEDED
    gone(run)
    alone = runner.submit("heavy", store=str(tmp_path / "alone"), changes={"train.on_data": "inline"})
    assert alone.wait(120) is RunState.SUCCEEDED
    assert run.metrics()["loss"].to_pylist() == alone.metrics()["loss"].to_pylist()
    assert sum("data worker" in line for line in run.logs("train")) == 40


@pytest.mark.timeout(600)
def test_workers_of_a_cluster_are_of_the_level_of_the_submission(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -O` holds for the driver and all workers, though the cluster was started without it."""
    written(tmp_path, 'with_rows, batch_format="rows"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(optimized, "level", lambda: 1)
    assert levels(runner.submit("levels", cluster=cluster.definition())) == [1]


def test_cancel_and_a_killed_driver(
    project: Path, cluster: RayCluster, tmp_path: Path, gone: Callable[[Run], None]
) -> None:
    """Of two runs at once one is cancelled and one loses its driver: both end in their own words and leave nothing."""
    marks = [tmp_path / "mark-one", tmp_path / "mark-two"]
    runs = []
    for mark in marks:
        runs.append(submit(cluster, tmp_path / mark.name[5:], block_train=str(mark)))
        blocked(runs[-1], mark)
    wait_for(lambda: "RUNNING" in jobs_of(cluster, runs[0]).values(), 5, "jobs")
    runs[0].cancel()
    for pid in job_pids(cluster, ray_jobs.driver_id(runs[1].id, 0, 1)):
        kill(pid)
    assert runs[0].wait(40, check=False) is RunState.CANCELLED
    assert runs[1].wait(40, check=False) is RunState.FAILED
    assert (runs[1].error or {})["class"] == "WorkerLost"
    assert "the driver ended without a result" in (runs[1].error or {})["message"]
    for run in runs:
        gone(run)


def test_a_killed_supervisor_is_seen_and_the_run_resumed(
    project: Path, cluster: RayCluster, tmp_path: Path, gone: Callable[[Run], None]
) -> None:
    """A client sees the run as lost, ends it for its driver lives on, and a resume goes on where a checkpoint was."""
    mark = tmp_path / "blocked"
    run = submit(cluster, tmp_path, block_train=str(mark))
    blocked(run, mark)
    for pid in job_pids(cluster, run.id):
        kill(pid)
    wait_for(lambda: run.view().state is RunState.LOST, 20, "lost")
    assert run.reap().state is RunState.FAILED
    assert f"Ray job {run.id} is FAILED" in (run.error or {})["message"]
    assert list(jobs_of(cluster, run)) == [run.id]
    runner.resume(run)
    wait_for(lambda: f"{run.id}-s2" in jobs_of(cluster, run), 5, "a second supervisor")
    wait_for(lambda: run.view().attempt == 2, 40, "a second attempt")
    run.cancel()
    assert run.wait(60, check=False) is RunState.CANCELLED
    gone(run)


@pytest.mark.slow
def test_a_lost_machine_begins_the_attempt_again(
    project: Path, cluster: RayCluster, tmp_path: Path, gone: Callable[[Run], None]
) -> None:
    """The run waits for room, says for what, and goes on when another machine has come; nobody asked it to."""
    mark = tmp_path / "blocked"
    run = submit(cluster, tmp_path, block_train=str(mark))
    blocked(run, mark)
    cluster.kill_other()
    wait_for(lambda: run.view().attempt == 2, 60, "a second attempt")
    begun = [each.event for each in run.bundle.log.read() if isinstance(each.event, AttemptBegan)][-1]
    assert begun.because == "lost"
    assert "of the Ray cluster died" in begun.causes[0]
    wait_for(lambda: any("2 x {CPU: 1} on the Ray cluster" in each.waits_for for each in run.why()), 60, "why")
    mark.unlink()
    cluster.add_other()
    wait_for(mark.exists, 90, "the training goes on")
    run.cancel()
    assert run.wait(60, check=False) is RunState.CANCELLED
    gone(run)


def test_an_address_without_a_ray_is_refused(project: Path, tmp_path: Path) -> None:
    """Where nothing answers, the error says so, and nothing was written."""
    store = tmp_path / "store"
    with pytest.raises(InputError, match="does not answer as Ray's dashboard") as raised:
        runner.submit("tiny", cluster=Cluster(backend="ray", address="http://127.0.0.1:9"), store=str(store))
    assert "port 8265" in str(raised.value)
    assert not store.exists() or not list(store.iterdir())


def test_a_wrong_token_is_refused(
    project: Path, cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable for the token, and shows no token."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "not-the-one")
    with pytest.raises(InputError, match="RAY_AUTH_TOKEN is not the right one") as raised:
        submit(cluster, tmp_path)
    assert "not-the-one" not in str(raised.value)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with pytest.raises(InputError, match="RAY_AUTH_TOKEN is not set"):
        submit(cluster, tmp_path)


def test_a_gang_that_never_fits_is_refused(project: Path, cluster: RayCluster, tmp_path: Path) -> None:
    """Ranks with GPUs where there are none, and five ranks on four cores, are refused with the numbers."""
    shape = cluster.definition(gpu=Group(cpu=2, gpu=1, pretend_gpu=True))
    with pytest.raises(PlanError, match=r"needs 2 x \(2 CPU, 1 GPU\) at a time, and Ray has room for 0"):
        runner.submit("tiny", cluster=shape, store=str(tmp_path / "store"))
    with pytest.raises(PlanError, match=r"needs 5 x \(1 CPU\) at a time, and Ray has room for 4 .*: 3 CPU"):
        runner.submit("tiny", cluster=cluster.definition(), store=str(tmp_path / "store"), changes={"train.workers": 5})
    assert not (tmp_path / "store" / "index").exists()
