"""The objects of a run, as they would be applied."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner import Cluster, Group, Kubernetes, Volume
from runner.backends import entry
from runner.backends.kuberay import manifest
from runner.errors import SpecError
from runner.kube import names


def facts(**kubernetes: Any) -> manifest.RunFacts:
    where = Kubernetes(image="repo/image:1", **kubernetes)
    groups = {
        "cpu": Group(cpu=4, memory="8GiB"),
        "gpu": Group(cpu=8, memory="32GiB", gpu=2, vendor="amd", node_selector={"kind": "mi300"}),
    }
    cluster = Cluster(backend="kuberay", groups=groups, kubernetes=where)
    return manifest.RunFacts("r1-digits-x", "digits", "s3://lake/runs", cluster, ray_version="2.60.0", by="ann")


OWNER = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "r1-digits-x", "uid": "u1"}}


def pods(body: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = body["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def test_the_rayjob_is_of_fixed_size_and_ours_to_retry() -> None:
    """One attempt, no retry by KubeRay, both deadlines, a token, and as many machines as the plan says."""
    body = manifest.ray_job(facts(deadline_s=3600), 1, 2, "gpu", (3, 3), OWNER)
    spec = body["spec"]
    assert body["metadata"]["name"] == "r1-digits-x-1-2"
    assert (spec["backoffLimit"], spec["shutdownAfterJobFinishes"], spec["ttlSecondsAfterFinished"]) == (0, True, 0)
    assert (spec["activeDeadlineSeconds"], spec["preRunningDeadlineSeconds"]) == (3600, 1800)
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert (workers["replicas"], workers["minReplicas"], workers["maxReplicas"]) == (3, 3, 3)
    assert workers["rayStartParams"] == {"num-cpus": "8", "num-gpus": "2"}


def test_everything_is_owned_and_labelled() -> None:
    """The RayJob belongs to the supervisor's Job, and each pod can be found by its run."""
    body = manifest.ray_job(facts(), 0, 1, "cpu", (1, 1), OWNER)
    assert body["metadata"]["ownerReferences"][0]["uid"] == "u1"
    for template, role in zip(pods(body), (names.HEAD, names.WORKER), strict=True):
        assert template["metadata"]["labels"][names.RUN] == "r1-digits-x"
        assert template["metadata"]["labels"][names.ROLE] == role


def test_kueue_sees_machines_and_supervisor_apart() -> None:
    """Each names its own queue. The Job owns the RayJob but does not control it: Kueue would take them for one."""
    body = manifest.ray_job(facts(queue="red", supervisor_queue="small", priority="high"), 0, 1, "cpu", (1, 1), OWNER)
    assert metav1_controller(body) is None
    assert body["metadata"]["labels"][names.QUEUE] == "red"
    assert body["metadata"]["labels"][names.QUEUE_PRIORITY] == "high"
    job = manifest.supervisor_job(facts(queue="red", supervisor_queue="small", priority="high"))
    assert job["metadata"]["labels"][names.QUEUE] == "small"
    assert names.QUEUE_PRIORITY not in job["metadata"]["labels"]
    assert names.QUEUE not in job["spec"]["template"]["metadata"]["labels"]
    assert names.QUEUE not in manifest.supervisor_job(facts(queue="red"))["metadata"]["labels"]


def metav1_controller(body: dict[str, Any]) -> dict[str, Any] | None:
    """Who controls an object, as Kubernetes' machinery tells it."""
    return next((o for o in body["metadata"]["ownerReferences"] if o.get("controller")), None)


def test_gpus_are_asked_for_by_their_vendor_and_kind() -> None:
    """Only the group's own machines ask for GPUs, by the vendor's resource, on nodes of the kind."""
    head, worker = pods(manifest.ray_job(facts(), 0, 1, "gpu", (1, 1), None))
    assert worker["spec"]["containers"][0]["resources"]["limits"]["amd.com/gpu"] == "2"
    assert worker["spec"]["nodeSelector"] == {"kind": "mi300"}
    assert "amd.com/gpu" not in head["spec"]["containers"][0]["resources"]["limits"]


def test_secrets_are_named_and_never_read() -> None:
    """Credentials reach a pod by the name of their Secret only."""
    body = manifest.supervisor_job(facts(secrets=("lake",), volumes=(Volume(mount="/keys", secret="key"),)))
    (container,) = body["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "lake"}}]
    assert body["spec"]["template"]["spec"]["volumes"] == [{"name": "volume-0", "secret": {"secretName": "key"}}]
    argument = json.loads(next(e["value"] for e in container["env"] if e["name"] == "RUNNER_ARGUMENT"))
    assert argument["options"] == {}


def test_the_template_of_the_user_is_laid_over_last() -> None:
    """Mappings are merged key by key and containers by name; the group's template comes after the cluster's."""
    template = {"spec": {"hostNetwork": True, "containers": [{"name": "main", "tty": True}, {"name": "proxy"}]}}
    body = manifest.ray_job(facts(pod_template=template), 0, 1, "cpu", (1, 1), None)
    for pod in pods(body):
        assert pod["spec"]["hostNetwork"] is True
        main, proxy = pod["spec"]["containers"]
        assert (main["image"], main["tty"], proxy["name"]) == ("repo/image:1", True, "proxy")


def test_the_entrypoint_survives_two_shells() -> None:
    """Nothing in it is expanded by a shell, and it holds no value of the run."""
    assert not set("$`\\!") & set(entry.ENTRYPOINT)
    assert "r1" not in entry.ENTRYPOINT


def test_a_queue_is_a_label_and_takes_the_priority() -> None:
    """With Kueue the queue and its priority class are labels of the RayJob; pods carry no priority then."""
    body = manifest.ray_job(facts(queue="team", priority="high"), 0, 1, "cpu", (1, 1), None)
    assert body["metadata"]["labels"][names.QUEUE] == "team"
    assert body["metadata"]["labels"][names.QUEUE_PRIORITY] == "high"
    assert all("priorityClassName" not in pod["spec"] for pod in pods(body))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Kubernetes(image="Not An Image"), "image reference"),
        (lambda: Kubernetes(image="a", secrets="lake"), "write secrets="),
        (lambda: Kubernetes(image="a", head=Group()), "with memory"),
        (lambda: Volume(mount="data", host_path="/data"), "absolute path"),
        (lambda: Volume(mount="/data"), "exactly one of"),
        (lambda: Volume(mount="/data", claim="a", secret="b"), "exactly one of"),
        (lambda: Cluster(backend="kuberay"), "a Kubernetes with"),
        (lambda: Cluster(kubernetes=Kubernetes(image="a")), "None with any other"),
        (
            lambda: Cluster(backend="kuberay", groups={"cpu": Group()}, kubernetes=Kubernetes(image="a")),
            "a size such as",
        ),
        (lambda: Group(vendor="nvdia"), "did you mean 'nvidia'"),
    ],
)
def test_wrong_clusters_say_what_is_allowed(make: Any, words: str) -> None:
    """A wrong field is an error that names it before anything is asked of a cluster."""
    with pytest.raises(SpecError, match=words):
        make()
