"""Whole runs on a real Kubernetes: how they end, and that nothing of them stays."""

from __future__ import annotations

import base64
import json

import pytest

from runner.client import resume, submit
from runner.client.run import Run
from runner.errors import PlanError, RunFailed, UserCodeError
from runner.kube import names
from runner.kube.client import JOBS, PODS, RAY_JOBS, SECRETS, Kube
from runner.record import RunState
from tests.cluster import kit
from tests.cluster.conftest import Cluster
from tests.cluster.ends import check_end

pytestmark = pytest.mark.timeout(420)


@pytest.mark.smoke
def test_a_run_trains_on_machines_that_come_and_go(kube: Kube, cluster: Cluster) -> None:
    """It succeeds, holds two GPUs only while it trains, keeps every rank's lines in the bundle, and shows the store's
    secret key and Ray's token in no object, log, event or file.
    """
    run = submit.submit("solo", cluster=kit.cluster_file(), steps=24, pause_s=0.5)
    kit.await_step(run, 1)
    shown = objects(cluster, run) + written(cluster, run)
    token = token_of_ray(kube, run)
    held = [each for each in kit.machines(kube, run) if each["metadata"]["labels"][names.ROLE] == names.WORKER]
    assert len(held) == 2
    check_end(kube, run, RunState.SUCCEEDED)
    assert {line for line in run.logs() if "begins" in line} == {
        f"train/rank{rank} | rank {rank} begins at step 0" for rank in (0, 1)
    }
    assert len(attempts := kit.attempts(run)) == 1, attempts
    told = json.loads(run.bundle.store.get("events.json"))
    assert {event["reason"] for event in told if event["object"].startswith("Pod ")} >= {"Scheduled", "Started"}
    assert run.view().receipt.remains["gpu_seconds"] > 0  # type: ignore[union-attr]
    files = run.bundle.store.fs.find(run.bundle.store.path())
    assert files
    for secret in (cluster.environment["AWS_SECRET_ACCESS_KEY"], token):
        assert secret not in shown
        for file in files:
            assert secret.encode() not in run.bundle.store.fs.cat_file(file), file


def objects(cluster: Cluster, run: Run) -> str:
    """What the API shows of a run's objects, and of the namespace's events."""
    kinds = "jobs,rayjobs,rayclusters,pods,configmaps,services"
    own = cluster.run("get", kinds, "-o", "json", "-l", names.of_run(run.id))
    assert {item["kind"] for item in json.loads(own)["items"]} >= {"Job", "RayJob", "RayCluster", "Pod"}
    return own + cluster.run("get", "events", "-o", "json")


def written(cluster: Cluster, run: Run) -> str:
    """What its pods have printed, for the API to keep."""
    lines = cluster.run("logs", "-l", names.of_run(run.id), "--all-containers", "--tail=-1", "--prefix")
    assert "main" in lines
    return lines


def token_of_ray(kube: Kube, run: Run) -> str:
    """What lets people in to its Ray."""
    (ray_job,) = kube.select(RAY_JOBS, names.of_run(run.id))
    secret = kube.get(SECRETS, ray_job["status"]["rayClusterName"])
    return base64.b64decode(secret["data"]["auth_token"]).decode()


def test_an_exception_of_the_user_is_the_users_own(kube: Kube) -> None:
    """The run fails with it and its traceback, and is not tried again."""
    run = submit.submit("solo", cluster=kit.cluster_file(), fail_at=3)
    check_end(kube, run, RunState.FAILED, "a rank raises an exception; from the submit on")
    with pytest.raises(UserCodeError, match="rank 1 is unhappy") as caught:
        run.raise_error()
    assert "raise ValueError" in caught.value.trace
    assert len(kit.attempts(run)) == 1


def test_a_cancelled_run_goes_at_once_and_can_be_resumed(kube: Kube) -> None:
    """After a cancel its machines go within seconds; a resume goes on at the last checkpoint and ends as if uncut."""
    run = submit.submit("solo", cluster=kit.cluster_file(), steps=24, pause_s=0.5)
    kit.await_step(run, 6)
    run.cancel()
    check_end(kube, run, RunState.CANCELLED, "`runner cancel`")
    resume.resume(run)
    check_end(kube, run, RunState.SUCCEEDED, "`runner resume` after it")
    begun = [line for line in run.logs(rank=0) if "begins" in line]
    assert begun[0] == "rank 0 begins at step 0"
    assert begun[1].startswith("rank 0 begins at step ")
    assert int(begun[1].split()[-1]) >= 4
    rows = [row["step"] for row in run.rows("train", "rank0") if "loss" in row]
    assert rows == list(range(1, 25))


@pytest.mark.parametrize("role", [names.HEAD, names.WORKER])
def test_a_lost_machine_costs_only_the_steps_since_the_checkpoint(kube: Kube, role: str) -> None:
    """A pod deleted while training: a second attempt begins from the checkpoint, by itself, and the run succeeds."""
    run = submit.submit("solo", cluster=kit.cluster_file(), steps=16, pause_s=0.5)
    kit.await_step(run, 6)
    kube.delete(PODS, kit.pod(kube, run, role)["metadata"]["name"], grace_s=0)
    check_end(kube, run, RunState.SUCCEEDED, f"the pod of a {role} is deleted while it trains")
    _, second = kit.attempts(run)
    assert (second.attempt, second.because) == (2, "lost")
    assert "deleted" in " ".join(second.causes)
    assert any(line.startswith("rank 0 begins at step ") and not line.endswith(" 0") for line in run.logs(rank=0))
    rows = [row["step"] for row in run.rows("train", "rank0") if "loss" in row]
    assert rows == list(range(1, 17))


def test_a_rank_without_memory_is_named_and_not_tried_again(kube: Kube) -> None:
    """The run fails, says OOMKilled and the limit, and keeps what the rank printed."""
    run = submit.submit("solo", cluster=kit.cluster_file(), eat_at=3)
    check_end(kube, run, RunState.FAILED, "a rank takes all memory; from the submit on")
    with pytest.raises(RunFailed, match="out of memory"):
        run.raise_error()
    assert len(kit.attempts(run)) == 1
    assert "rank 1 begins at step 0" in list(run.logs(rank=1))


def test_the_supervisor_may_die(kube: Kube) -> None:
    """Its pod deleted while a stage runs: another takes up the same attempt, and the run succeeds."""
    run = submit.submit("solo", cluster=kit.cluster_file(), steps=16, pause_s=0.5)
    kit.await_step(run, 2)
    kube.delete(PODS, kit.pod(kube, run, names.SUPERVISOR)["metadata"]["name"], grace_s=0)
    check_end(kube, run, RunState.SUCCEEDED, "the supervisor's pod is deleted")
    assert len(kit.attempts(run)) == 1
    assert sum(entry.kind == "supervisor" for entry in run.bundle.log.read()) == 2


def test_an_image_that_does_not_exist_is_what_why_says(kube: Kube) -> None:
    """While the machines wait for it `why` names the image and what to check; the run can be cancelled."""
    cluster = kit.cluster_file()
    broken = kit.with_group(
        cluster, "gpu", pod_template={"spec": {"containers": [{"name": "main", "image": "localhost/nowhere:1"}]}}
    )
    run = submit.submit("solo", cluster=broken)

    def said() -> bool:
        return any("image of worker pod" in reason.waits_for for reason in run.why())

    kit.await_that(said, 90, "why names the image")
    reason = next(reason for reason in run.why() if "image of worker pod" in reason.waits_for)
    assert "pull secret" in reason.helps
    run.cancel()
    check_end(kube, run, RunState.CANCELLED, "an image does not exist; cancelled", (reason.waits_for,))


def test_what_no_node_has_is_refused_before_any_pod(kube: Kube) -> None:
    """Too many GPUs on one machine, or a label that no node has: an error with the numbers, and nothing is made."""
    cluster = kit.cluster_file()
    before = {job["metadata"]["name"] for job in kube.select(JOBS)}
    with pytest.raises(PlanError, match=r"nvidia.com/gpu 16 of nvidia.com/gpu 4"):
        submit.submit("solo", cluster=kit.with_group(cluster, "gpu", gpu=16))
    with pytest.raises(PlanError, match="no label kind=h100"):
        submit.submit("solo", cluster=kit.with_group(cluster, "gpu", node_selector={"kind": "h100"}))
    assert {job["metadata"]["name"] for job in kube.select(JOBS)} == before


def test_a_deadline_ends_the_run(kube: Kube) -> None:
    """A stage over the cluster's deadline fails and says so, and its machines go."""
    run = submit.submit("solo", cluster=kit.cluster_file(deadline_s=30), steps=1000, pause_s=1.0)
    check_end(kube, run, RunState.FAILED, "`deadline_s` of 30 s; from the submit on")
    with pytest.raises(RunFailed, match="DeadlineExceeded"):
        run.raise_error()
