"""Two teams on one cluster: what each may do in its own namespace, it may not do in the other's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner import api
from runner.errors import PlanError
from runner.kube.client import NAMESPACES, SECRETS, SERVICE_ACCOUNTS, Kube, KubeError, resource
from runner.kube.tenant import Tenant, objects
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
    "see the quota": ("GET", "api/v1/namespaces/{}/resourcequotas"),
}
NEVER = {
    "read a secret": ("GET", "api/v1/namespaces/{}/secrets/lake-credentials"),
    "list secrets": ("GET", "api/v1/namespaces/{}/secrets"),
    "give itself rights": ("POST", "apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings"),
    "raise its quota": ("DELETE", "api/v1/namespaces/{}/resourcequotas/runner"),
}


@pytest.fixture
def teams(kube: Kube) -> Iterator[tuple[str, str]]:
    """Two namespaces, new for each test, as `runner admin tenant` makes them; their users are ServiceAccounts `ann`."""
    mark = uuid.uuid4().hex[:6]
    teams = (f"test-red-{mark}", f"test-blue-{mark}")
    for name in teams:
        own = kube.at(name)
        user = f"system:serviceaccount:{name}:ann"
        for body in objects(Tenant(name, 1.0, 8 * GIB, gpus=1, users=(user,), queue=False, host_paths=True)):
            own.apply(body, resource(body))
        own.create(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ann"}})
        secret = {"name": "lake-credentials", "namespace": name}
        data = kube.get(SECRETS, "lake-credentials")["data"]
        own.apply({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": data}, SECRETS)
    yield teams
    for name in teams:
        kube.delete(NAMESPACES, name)


def as_user(kube: Kube, cluster: Cluster, folder: Path, team: str) -> Path:
    """A kubeconfig with nothing but the token of the team's user."""
    asked: dict[str, Any] = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = kube.request("POST", SERVICE_ACCOUNTS.path(team, "ann", "token"), body=asked)["status"]["token"]
    admin = yaml.safe_load(cluster.kubeconfig.read_text())
    config = {
        **admin, "users": [{"name": "ann", "user": {"token": token}}], "current-context": "mine",
        "contexts": [{"name": "mine", "context": {"cluster": admin["clusters"][0]["name"], "user": "ann"}}],
    }  # fmt: skip
    path = folder / f"{team}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def status(kube: Kube, method: str, path: str) -> int:
    """How the API answers."""
    try:
        kube.request(method, path, body={} if method == "POST" else None)
    except KubeError as error:
        return error.status
    return 200


def test_neither_team_may_touch_the_other(
    kube: Kube, cluster: Cluster, teams: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each verb is allowed at home and refused next door; Secrets cannot be read, rights and quota not be changed."""
    for team, other in (teams, teams[::-1]):
        monkeypatch.setenv("KUBECONFIG", str(as_user(kube, cluster, tmp_path, team)))
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
    monkeypatch.setenv("KUBECONFIG", str(as_user(kube, cluster, tmp_path, teams[0])))
    with pytest.raises(PlanError, match=r"needs .*requests.nvidia.com/gpu 2 of 1 \(0 in use\)"):
        api.submit("solo", cluster=kit.onebox_cluster(namespace=teams[0]))
