"""Machines that follow the phases of a run: ranges of workers, machines asked for early, deadlines, the receipt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from runner.backends.base import DriverState
from runner.backends.kuberay import attempt
from runner.backends.kuberay.attempt import Seen
from runner.client import prepare
from runner.control.decide import Observation, Prepare, StartAttempt, Wait, decide
from runner.errors import SpecError
from runner.kube import pods
from runner.prep.progress import seconds_left
from runner.record import fold
from runner.record.entries import NearlyDone
from runner.record.receipt import gpu_seconds_used, teardown
from runner.spec import Kubernetes, Prep
from runner.store import Entry
from tests.unit.backends.test_kuberay_check import CLUSTER, on
from tests.unit.backends.test_kuberay_manifest import OWNER, facts, manifest
from tests.unit.cli.kit import write_project
from tests.unit.control.test_decide import ATTEMPT, DONE, GONE, LEG_DONE, STARTED, log

LEGS = [["prep"], ["train"]]
RUNNING = Observation(DriverState.RUNNING, now=100.0)
NEARLY = ("nearly-done", {"stage": "prep", "left_s": 12.0})
PREPARED = ("prepared", {"leg": 1})


def prep(workers: Any) -> Prep:
    """A stage with these workers."""
    return Prep("p", fn=lambda batch, config: batch, source="a", sink="b", workers=workers)


def test_a_range_of_workers() -> None:
    """(fewest, most) is a range; one number, or twice the same, is no range."""
    assert prep((1, 8)).worker_range == (1, 8)
    assert prep([2, 3]).workers == (2, 3)
    assert prep((4, 4)).workers == 4
    assert prep(5).worker_range == (5, 5)
    for wrong in ((8, 1), (1, 2, 3), (0, 2), "12"):
        with pytest.raises(SpecError, match="workers"):
            prep(wrong)


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plans of the job `tiny` on a Kubernetes with these settings, its prep with one to six workers."""
    root = write_project(tmp_path / "project")
    monkeypatch.chdir(root)

    def plan(**settings: Any) -> Any:
        words = "".join(f", {name}={value!r}" for name, value in settings.items())
        text = CLUSTER.replace('secrets=("lake",)', f'secrets=("lake",){words}')
        (root / "clusters" / f"kube{len(words)}.py").write_text(text)
        changes = {"tokens.workers": "1,6"}
        return prepare.prepare("tiny", cluster=f"kube{len(words)}", store=str(tmp_path / "s"), changes=changes)

    return plan


def test_the_plan_says_what_grows_and_what_comes_early(planned: Any) -> None:
    """Machines of a prep grow from the fewest to the most; those of the training after it are asked for early."""
    made = planned().plan
    tokens = made.stages[0]
    assert (tokens.fewest_workers, tokens.workers, tokens.fewest_machines, tokens.machines) == (1, 6, 1, 3)
    assert made.early == (False, True)
    assert planned(lead_s=0).plan.early == (False, False)


def test_a_queue_admits_a_stage_whole(planned: Any) -> None:
    """With a queue nothing grows, and no quota is held twice."""
    made = planned(queue="team").plan
    assert (made.stages[0].fewest_machines, made.stages[0].machines) == (3, 3)
    assert made.early == (False, False)


def test_the_autoscaler_is_admitted_where_the_head_is(planned: Any) -> None:
    """Its container has the head's security context, a limit of cores where that has one, and a place in the quota."""
    from runner.backends.kuberay import check as kuberay_check

    strict = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    main = {"name": "main", "securityContext": strict, "resources": {"limits": {"cpu": "2"}}}
    prepared = planned(pod_template={"spec": {"containers": [main]}})
    made = kuberay_check.objects(on(prepared, "s3://lake/runs"), prepared.plan, "r1-tiny", "ann")
    options = made[1]["spec"]["rayClusterSpec"]["autoscalerOptions"]
    assert options["securityContext"] == strict
    assert options["resources"]["limits"] == {"memory": "1Gi", "cpu": "1"}
    heads = [need.head for need in kuberay_check.needs(prepared.resolved.cluster, prepared.plan, made).stages]
    assert heads[0].requests["cpu"] == pytest.approx(heads[1].requests["cpu"] + 0.1)
    assert heads[0].limits["cpu"] == heads[1].limits["cpu"] + 1


def test_what_grows_has_an_autoscaler(planned: Any) -> None:
    """Only there the head may ask the API; replicas begin at the fewest, and the autoscaler sees what pods see."""
    from runner.backends.kuberay import check as kuberay_check

    prepared = planned()
    _, grows, fixed = kuberay_check.objects(on(prepared, "s3://lake/runs"), prepared.plan, "r1-tiny", "ann")
    cluster = grows["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 3)
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["autoscalerOptions"]["envFrom"] == [{"secretRef": {"name": "lake"}}]
    assert cluster["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"]
    assert not any(each["name"].startswith("RUNNER_") for each in cluster["autoscalerOptions"]["env"])
    other = fixed["spec"]["rayClusterSpec"]
    assert "enableInTreeAutoscaling" not in other
    assert not other["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"]
    body = manifest.ray_job(facts(), 0, 1, "cpu", (2, 5), OWNER)["spec"]["rayClusterSpec"]
    assert body["workerGroupSpecs"][0]["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_next_machines_are_asked_for_once() -> None:
    """When the driver foresees its end the next leg's machines are asked for, once, and again by a new attempt."""
    assert decide(fold(log(ATTEMPT, STARTED, legs=LEGS)), RUNNING) == Wait()
    assert decide(fold(log(ATTEMPT, STARTED, NEARLY, legs=LEGS)), RUNNING) == Prepare(1)
    assert decide(fold(log(ATTEMPT, STARTED, NEARLY, PREPARED, legs=LEGS)), RUNNING) == Wait()
    done = log(ATTEMPT, STARTED, NEARLY, PREPARED, DONE, LEG_DONE, legs=LEGS)
    assert decide(fold(done), GONE) == StartAttempt(1, 1)
    second = ("attempt", {"leg": 0, "attempt": 2, "because": "lost"})
    again = log(ATTEMPT, STARTED, NEARLY, PREPARED, second, STARTED, legs=LEGS)
    assert decide(fold(again), RUNNING) == Wait()
    assert decide(fold([*again, Entry(8, 8.0, NearlyDone())]), RUNNING) == Prepare(1)
    assert decide(fold(log(ATTEMPT, STARTED, NEARLY, legs=[["prep", "train"]])), RUNNING) == Wait()


def test_the_end_is_foreseen_from_what_is_done() -> None:
    """Nothing is known before the first task is done, and nothing is left after the last."""
    assert seconds_left(0, 5, 3.0) is None
    assert seconds_left(2, 3, 10.0) == 15.0
    assert seconds_left(5, 0, 10.0) is None


def test_deadlines_are_kept_where_kuberay_looks_away() -> None:
    """After some slack the supervisor ends an attempt itself; time in a queue does not count."""
    where = Kubernetes(image="repo/image:1", start_deadline_s=60, deadline_s=600)
    began = pods.seconds("2026-11-24T00:00:00Z")

    def late(deployment: str, after_s: float, **other: Any) -> str:
        return attempt.late(dataclasses.replace(where, **other), Seen(True, deployment, started=began), began + after_s)

    assert late("Initializing", 70) == ""
    assert "start_deadline_s=60" in late("Initializing", 90)
    assert late("Running", 90) == ""
    assert "deadline_s=600" in late("Running", 630)
    assert late("Suspended", 10_000) == ""
    assert attempt.late(where, Seen(True), began) == ""
    assert late("Running", 10_000, deadline_s=None) == ""


def test_gpu_seconds_are_used_while_a_stage_works() -> None:
    """Only stages on GPUs count, in every attempt, from their start to their end or the attempt's."""
    train = ("stage-started", {"stage": "train", "attempt": 1})
    over = ("stage-done", {"stage": "train", "attempt": 1, "result": {}})
    entries = log(ATTEMPT, STARTED, DONE, train, ATTEMPT, train, over)  # entry n at n seconds
    assert gpu_seconds_used(entries, {"train": 4}, now=100.0) == (6 - 5) * 4 + (8 - 7) * 4
    assert gpu_seconds_used(log(ATTEMPT, train), {"train": 2}, now=10.0) == 14.0
    assert gpu_seconds_used(entries, {}, now=100.0) == 0.0
    again = log(ATTEMPT, train, over, ("resumed", {}), ATTEMPT, train, over)  # held are only this life's, too
    assert gpu_seconds_used(again, {"train": 4}, now=100.0) == (7 - 6) * 4


def test_teardown_counts_from_the_end_of_the_work() -> None:
    """From the last entry after which machines are needed no more to their deletion, and to their being gone."""
    entries = log(ATTEMPT, STARTED, DONE, LEG_DONE)  # the last at 5 s
    assert teardown(entries, 6.5, 12.0) == {"asked": 1.5, "gone": 7.0}
    assert teardown(log(ATTEMPT), 6.5, 7.5) == {"asked": 0.0, "gone": 1.0}
