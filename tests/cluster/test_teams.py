"""Two teams on one cluster: what each may do in its own namespace, it may not do in the other's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.client import submit
from runner.errors import PlanError
from runner.kube import names, pods
from runner.kube.client import CLUSTER_QUEUES, JOBS, PODS, WORKLOADS, Kube, KubeError
from runner.kube.team.objects import Tenant
from tests.cluster import kit
from tests.cluster.conftest import Cluster

GIB = 1 << 30

#: What is tried -> method and path below the namespace. Who may not is told so before it is known whether it exists.
TRIED = {
    "see pods": ("GET", "api/v1/namespaces/{}/pods"),
    "read a log": ("GET", "api/v1/namespaces/{}/pods/some/log"),
    "open a shell": ("POST", "api/v1/namespaces/{}/pods/some/exec"),
    "forward a port": ("POST", "api/v1/namespaces/{}/pods/some/portforward"),
    "see runs": ("GET", "apis/batch/v1/namespaces/{}/jobs"),
    "cancel a run": ("DELETE", "apis/batch/v1/namespaces/{}/jobs/some"),
    "remove machines": ("DELETE", "apis/ray.io/v1/namespaces/{}/rayjobs/some"),
    "see machines": ("GET", "apis/ray.io/v1/namespaces/{}/rayclusters"),
    "remove a pod": ("DELETE", "api/v1/namespaces/{}/pods/some"),
    "see the quota": ("GET", "api/v1/namespaces/{}/resourcequotas"),
}
NEVER = {
    "read a secret": ("GET", "api/v1/namespaces/{}/secrets/lake-credentials"),
    "be shown a secret by a patch of nothing": ("PATCH", "api/v1/namespaces/{}/secrets/lake-credentials"),
    "list secrets": ("GET", "api/v1/namespaces/{}/secrets"),
    "give itself rights": ("POST", "apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings"),
    "raise its quota": ("DELETE", "api/v1/namespaces/{}/resourcequotas/runner"),
}
CONTENT = {"PATCH": "application/merge-patch+json"}


@pytest.fixture
def teams(kube: Kube) -> Iterator[tuple[str, str]]:
    """Two namespaces, new for each test, as `runner admin tenant` makes them; their users are ServiceAccounts `ann`."""
    mark = uuid.uuid4().hex[:6]
    teams = (f"test-red-{mark}", f"test-blue-{mark}")
    for name in teams:
        users = (kit.user_of(name),)
        kit.make_team(kube, Tenant(name, 1.0, 8 * GIB, gpus=1, users=users, queue=False, host_paths=kit.mounts_hosts()))
    yield teams
    for name in teams:
        kit.remove_team(kube, name)


def status(kube: Kube, method: str, path: str) -> int:
    """How the API answers."""
    try:
        kube.request(method, path, {} if method in ("POST", "PATCH") else None, content_type=CONTENT.get(method))
    except KubeError as error:
        return error.status
    return 200


def test_neither_team_may_touch_the_other(
    kube: Kube, cluster: Cluster, teams: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each verb is allowed at home and refused next door; Secrets cannot be read, rights and quota not be changed."""
    for team, other in (teams, teams[::-1]):
        monkeypatch.setenv("KUBECONFIG", str(kit.as_user(kube, cluster.kubeconfig, tmp_path, team)))
        user = Kube(None, team)
        for what, (method, path) in TRIED.items():
            assert status(user, method, "/" + path.format(team)) != 403, f"{team} may not {what} at home"
            assert status(user, method, "/" + path.format(other)) == 403, f"{team} may {what} of {other}"
        for what, (method, path) in NEVER.items():
            for namespace in (team, other):
                assert status(user, method, "/" + path.format(namespace)) == 403, f"{team} may {what} in {namespace}"


def test_a_run_over_the_quota_is_refused_with_the_numbers(
    kube: Kube, cluster: Cluster, teams: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two GPUs of a quota of one: the team's user is told so before anything is made."""
    monkeypatch.setenv("KUBECONFIG", str(kit.as_user(kube, cluster.kubeconfig, tmp_path, teams[0])))
    with pytest.raises(PlanError, match=r"needs .*requests.nvidia.com/gpu 2 of 1 \(0 in use\)"):
        submit.submit("solo", cluster=kit.cluster_file(namespace=teams[0]))


@pytest.mark.parametrize("priority", ["system-cluster-critical", "system-node-critical"])
def test_no_pod_of_a_team_goes_before_those_of_the_system(kube: Kube, teams: tuple[str, str], priority: str) -> None:
    """The two classes that anyone may name are refused, and a pod without one is not."""
    own = kube.at(teams[0])
    pod: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks", "namespace": teams[0]},
        "spec": {"containers": [{"name": "main", "image": "localhost/nowhere:1"}]},
    }  # fmt: skip
    assert own.create(PODS, pod, dry_run=True)
    with pytest.raises(KubeError, match="exceeded quota: runner-no-system-priority"):
        own.create(PODS, {**pod, "spec": {**pod["spec"], "priorityClassName": priority}}, dry_run=True)


def test_a_team_borrows_up_to_its_most_and_gives_it_back(kube: Kube) -> None:
    """What the other leaves idle is held beyond the own share, up to the most; when the other comes, it is taken back.

    The Jobs' pods fit no node: Kueue counts them from their admission on.
    """
    kit.need_kueue(kube)
    mark = uuid.uuid4().hex[:6]
    red = Tenant(f"test-red-{mark}", 1.0, 8 * GIB, gpus=2, supervisors=1, most_cpus=2.0, most_gpus=4)
    blue = Tenant(f"test-blue-{mark}", 1.0, 8 * GIB, gpus=2, supervisors=1)
    try:
        for each in (red, blue):
            kit.make_team(kube, each)
            for own in (each.name, each.supervisor_queue):  # what teams of other tests lend is none of this one's
                kube.patch(CLUSTER_QUEUES, own, {"spec": {"cohort": f"test-{mark}"}})
        for name in ("first", "second", "third"):
            kube.create(JOBS, job_of_two_gpus(red.name, name))
        kit.await_that(lambda: len(admitted(kube, red)) == 2, 30, "red holds its most")
        kube.create(JOBS, job_of_two_gpus(blue.name, "own"))
        kit.await_that(lambda: len(admitted(kube, blue)) == 1, 30, "blue has its share back")
        assert len(admitted(kube, red)) == 1
    finally:
        for each in (red, blue):
            kit.remove_team(kube, each.name)


def admitted(kube: Kube, team: Tenant) -> list[str]:
    """The team's workloads that hold quota."""
    there = kube.select(WORKLOADS, namespace=team.name)
    return [w["metadata"]["name"] for w in there if pods.condition(w, "QuotaReserved").get("status") == "True"]


def job_of_two_gpus(team: str, name: str) -> dict[str, Any]:
    """A Job in the team's queue, whose pod fits no node."""
    resources = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": "2"}}
    container = {"name": "main", "image": "localhost/nowhere:1", "resources": resources}
    template = {"spec": {"nodeSelector": {"no": "where"}, "restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": team, "labels": {names.QUEUE: team}},
        "spec": {"suspend": True, "template": template},
    }  # fmt: skip
