"""Faults around a run: the operator, the API, the queue and the client go away, and nothing is lost or left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest

from runner.client import bundling, submit
from runner.client.run import Run
from runner.kube import names
from runner.kube.client import (
    JOBS,
    WORKLOADS,
    Kube,
)
from runner.onebox import processes
from runner.record import RunState
from runner.store import Log, Store
from tests.cluster import kit
from tests.cluster.conftest import Cluster, onebox
from tests.cluster.ends import check_end
from tests.unit.record.index_kit import read_index

pytestmark = pytest.mark.timeout(480)
OPERATOR = ("-n", "kuberay-system", "deployment/kuberay-operator")
GIB = 1 << 30


@pytest.fixture
def no_operator(cluster: Cluster) -> Iterator[None]:
    """A moment to stop the operator in; it runs again afterwards."""
    yield
    start(cluster)


def start(cluster: Cluster) -> None:
    """Returns when the operator is at work."""
    cluster.run("scale", "--replicas=1", *OPERATOR)
    cluster.run("rollout", "status", "--timeout=120s", *OPERATOR)


def test_a_run_is_cancelled_while_the_operator_is_away(kube: Kube, cluster: Cluster, no_operator: None) -> None:
    """Nobody takes KubeRay's finalizer off: the supervisor does, and GPUs are free before the operator is back."""
    run = submit.submit("solo", cluster=kit.cluster_file(), steps=500, pause_s=0.5)
    kit.await_step(run, 2)
    cluster.run("scale", "--replicas=0", *OPERATOR)
    pods_gone = "--for=delete"
    cluster.run("wait", pods_gone, "pod", "-n", "kuberay-system", "--all", "--timeout=60s", check=False)
    run.cancel()
    check_end(kube, run, RunState.CANCELLED, "the operator is stopped, then `runner cancel`")
    start(cluster)
    assert not kit.left(kube, run), "the operator has made it again"


@pytest.mark.soak
def test_the_operator_may_restart_under_a_run(kube: Kube, cluster: Cluster) -> None:
    """A new operator takes up the RayJob that is there: the training does not notice."""
    run = submit.submit("solo", cluster=kit.cluster_file(), steps=24, pause_s=0.5)
    kit.await_step(run, 2)
    cluster.run("rollout", "restart", *OPERATOR)
    cluster.run("rollout", "status", "--timeout=120s", *OPERATOR)
    check_end(kube, run, RunState.SUCCEEDED, "the operator is restarted while it trains")
    assert len(kit.attempts(run)) == 1


def test_the_store_may_be_away_for_a_while(kube: Kube, cluster: Cluster) -> None:
    """No log, row or checkpoint can be written for some seconds: the training waits for it, and nothing is lost."""
    if not cluster.onebox:
        pytest.skip("the S3 server of a given cluster is not ours to stop")
    run = submit.submit("solo", cluster=kit.cluster_file(), steps=24, pause_s=0.5)
    kit.await_step(run, 2)
    processes.stop("s3")
    time.sleep(10)  # the fault itself
    onebox("up")
    check_end(kube, run, RunState.SUCCEEDED, "the S3 server is away for 10 s while it trains")
    assert len(kit.attempts(run)) == 1
    assert [row["step"] for row in run.rows("train", "rank0") if "loss" in row] == list(range(1, 25))
    assert "rank 1 begins at step 0" in list(run.logs(rank=1))


@pytest.mark.soak
def test_a_deadline_is_kept_while_the_operator_is_away(kube: Kube, cluster: Cluster, no_operator: None) -> None:
    """KubeRay's deadline passes and nobody is there to keep it: the supervisor does, and removes the machines."""
    run = submit.submit("solo", cluster=kit.cluster_file(deadline_s=75), steps=1000, pause_s=0.5)
    kit.await_step(run, 2)
    cluster.run("scale", "--replicas=0", *OPERATOR)
    check_end(kube, run, RunState.FAILED, "the operator is stopped while `deadline_s` of 75 s runs")
    assert "DeadlineExceeded: the attempt took longer than deadline_s=75" in run.error["message"]


def test_the_api_may_restart_in_the_middle(kube: Kube, cluster: Cluster) -> None:
    """The API server killed while a stage trains: the training does not notice, and the run succeeds."""
    if not cluster.onebox:
        pytest.skip("the API server of a given cluster is not ours to kill")
    run = submit.submit("solo", cluster=kit.cluster_file(), steps=30, pause_s=0.5)
    kit.await_step(run, 2)
    (pid,) = subprocess.run(
        ["pgrep", "-x", "kube-apiserver"], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(pid), signal.SIGKILL)
    onebox("up")
    check_end(kube, run, RunState.SUCCEEDED, "the API server is killed while it trains, and starts again")
    assert len(kit.attempts(run)) == 1


@pytest.mark.soak
def test_a_node_may_die_under_a_run(kube: Kube, cluster: Cluster) -> None:
    """The kubelet goes, and with it all processes of a worker: the attempt's end is not taken for the job's own, a
    second one begins before Kubernetes has given the node up, and goes on from the checkpoint when there is a node.
    """
    if not cluster.onebox:
        pytest.skip("the kubelet of a given cluster is not ours to stop")
    run = submit.submit("solo", cluster=kit.cluster_file(), steps=40, pause_s=0.5)
    kit.await_step(run, 6)
    worker = kit.pod(kube, run, names.WORKER)["metadata"]["name"]
    processes.stop("kubelet")
    try:
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get("HOSTNAME") == worker:
                process.kill()
        kit.await_that(lambda: len(kit.attempts(run)) == 2 or run.view().state.ended, 150, "a second attempt")
    finally:
        onebox("up")
    check_end(kube, run, RunState.SUCCEEDED, "a node dies; from its return")
    _, second = kit.attempts(run)
    assert second.because == "lost"
    assert "does not answer" in " ".join(second.causes)
    assert any(line.startswith("rank 0 begins at step ") and not line.endswith(" 0") for line in run.logs(rank=0))


@pytest.fixture
def team(kube: Kube) -> Iterator[Kube]:
    """The namespace and the queue of a team with two GPUs."""
    kit.need_kueue(kube)
    with kit.team(kube, cpus=1.9, memory=20 * kit.GIB, gpus=2) as own:
        yield own


def test_a_run_waits_for_quota_and_starts_when_another_ends(team: Kube) -> None:
    """The second run of a full queue waits, and `why` says for what; it starts when the first has ended."""
    cluster = kit.cluster_file(namespace=team.namespace, queue=team.namespace)
    first = submit.submit("solo", cluster=cluster, steps=40, pause_s=0.5)
    kit.await_step(first, 1)
    second = submit.submit("solo", cluster=cluster, steps=4)
    kit.await_that(lambda: any("insufficient" in r.waits_for for r in second.why()), 60, "why names the quota")
    assert not kit.machines(team, second)
    said = tuple(reason.waits_for for reason in second.why())
    check_end(team, first, RunState.SUCCEEDED)
    check_end(team, second, RunState.SUCCEEDED, "another run holds the quota", said)


@pytest.mark.soak
def test_machines_that_a_quota_refuses_come_when_it_has_room(kube: Kube) -> None:
    """Without a queue: `why` names the quota that refuses a run's pods, and the run goes on when another has ended."""
    with kit.team(kube, cpus=2.8, memory=20 * GIB, gpus=2, queue=False) as team:
        cluster = kit.cluster_file(namespace=team.namespace)
        first = submit.submit("solo", cluster=cluster, steps=30, pause_s=0.5)
        kit.await_step(first, 1)
        second = submit.submit("solo", cluster=cluster, steps=4)
        kit.await_that(lambda: any("quota" in r.waits_for for r in second.why()), 60, "why names the quota")
        said = tuple(reason.waits_for for reason in second.why())
        check_end(team, first, RunState.SUCCEEDED)
        check_end(team, second, RunState.SUCCEEDED, "a ResourceQuota refuses its pods while another run is there", said)
        assert len(kit.attempts(second)) == 1


def test_a_queue_may_take_the_machines_away(team: Kube) -> None:
    """An eviction while training: a new attempt waits for the queue, and goes on from the checkpoint."""
    cluster = kit.cluster_file(namespace=team.namespace, queue=team.namespace)
    run = submit.submit("solo", cluster=cluster, steps=24, pause_s=0.5)
    kit.await_step(run, 6)
    (workload,) = team.select(WORKLOADS)
    team.patch(WORKLOADS, workload["metadata"]["name"], {"spec": {"active": False}})
    check_end(team, run, RunState.SUCCEEDED, "Kueue takes the machines away while it trains")
    _, second = kit.attempts(run)
    assert second.because == "evicted"
    assert any(line.startswith("rank 0 begins at step ") and not line.endswith(" 0") for line in run.logs(rank=0))


def test_a_run_that_was_never_submitted_removes_itself(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client dies between Job and first entry of the log: a minute later Job, machines and bundle are gone."""

    def die(log: Log, *arguments: object) -> None:
        raise KeyboardInterrupt

    append = Log.append
    monkeypatch.setattr(Log, "append", die)
    monkeypatch.setattr(bundling, "_remove_half_made", lambda *arguments: None)  # one that is dead removes nothing
    with pytest.raises(KeyboardInterrupt):
        submit.submit("solo", cluster=kit.cluster_file())
    monkeypatch.setattr(Log, "append", append)
    store = Store(os.environ["RUNNER_STORE"])
    (line,) = read_index(store)
    run = Run(store, line.run_id)
    assert kube.find(JOBS, run.id) is not None
    kit.await_that(lambda: kube.find(JOBS, run.id) is None, 150, "the Job is gone")
    kit.await_that(lambda: not kit.left(kube, run), 60, "its machines are gone")
    assert run.bundle.store.list() == ["log"]  # that it was given up, for a client that would still submit it
    assert not read_index(store)
