"""What is known before any pod: policies, Pod Security and rights of a real API, against what a submit would make."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.backends.kuberay import check as kuberay_check
from runner.client import lookup, prepare, submit
from runner.errors import PlanError
from runner.kube import client
from runner.kube.client import JOBS, NAMESPACES, RAY_JOBS, Kube, KubeError, resource
from runner.kube.preflight.needs import Finding
from runner.store import Store
from tests.cluster import kit
from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.timeout(180)
MESSAGE = "every pod says which team it is of"
LABELS = {"metadata": {"labels": {"team": "red"}}}
#: The pods that an object speaks of.
TEMPLATE = (
    "object.kind == 'Job' ? object.spec.template : "
    "object.kind == 'RayJob' ? object.spec.rayClusterSpec.headGroupSpec.template : object"
)
API = "admissionregistration.k8s.io/v1"
POLICIES = client.Resource(f"apis/{API}", "validatingadmissionpolicies", namespaced=False)
BINDINGS = client.Resource(f"apis/{API}", "validatingadmissionpolicybindings", namespaced=False)


@pytest.fixture
def team(kube: Kube) -> Iterator[Kube]:
    """A team without a queue."""
    with kit.team(kube, cpus=8, memory=32 * kit.GIB, gpus=4, queue=False) as own:
        yield own


@pytest.fixture
def policy(team: Kube) -> Iterator[str]:
    """A policy of the API for the team's namespace: pods, and what makes pods, must name their team."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    kinds = {"": ("v1", "pods"), "batch": ("v1", "jobs"), "ray.io": ("v1", "rayjobs")}
    rules = [
        {"apiGroups": [group], "apiVersions": [version], "resources": [plural], "operations": ["CREATE"]}
        for group, (version, plural) in kinds.items()
    ]
    labelled = "has(variables.template.metadata.labels) && 'team' in variables.template.metadata.labels"
    spec = {
        "matchConstraints": {"resourceRules": rules},
        "variables": [{"name": "template", "expression": TEMPLATE}],
        "validations": [{"expression": labelled, "message": MESSAGE}],
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    metadata = {"name": name}
    try:
        body = {"apiVersion": API, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": spec}
        team.apply(body, POLICIES)
        team.apply({**body, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding}, BINDINGS)
        kit.await_that(lambda: MESSAGE in refused(team), 60, "the policy holds")
        yield name
    finally:
        team.delete(BINDINGS, name)
        team.delete(POLICIES, name)


def refused(team: Kube) -> str:
    """What the API says of a pod that says nothing; it is not made."""
    spec = {"containers": [{"name": "main", "image": "none"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "none"}, "spec": spec}
    try:
        team.create(client.PODS, body, dry_run=True)
    except KubeError as error:
        return error.message
    return ""


def found(team: Kube, **kubernetes: Any) -> list[Finding]:
    """What `runner doctor` finds."""
    return kuberay_check.examine(kit.cluster_file(namespace=team.namespace, **kubernetes), Store("s3://lake/runs"))


def wrong(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.found for finding in findings if finding.good is False}


def test_a_policy_judges_what_a_submit_makes(team: Kube, policy: str) -> None:
    """Without the label nothing is made, and the policy's words are told; with it by a template, all passes."""
    judged = {"Job of the supervisor", "RayJob of group 'cpu'", "RayJob of group 'gpu'"}
    assert set(wrong(found(team))) == judged
    with pytest.raises(PlanError, match=MESSAGE) as raised:
        submit.submit("solo", cluster=kit.cluster_file(namespace=team.namespace))
    assert "pod_template" in str(raised.value)
    assert lookup.runs() == []
    assert not team.select(JOBS)
    assert not team.select(RAY_JOBS)

    labelled = kit.cluster_file(namespace=team.namespace, pod_template=LABELS)
    findings = found(team, pod_template=LABELS)
    assert not wrong(findings)
    assert {finding.name for finding in findings if finding.good} >= judged
    submit.check_machines(prepare.prepare("solo", cluster=labelled))


def test_pod_security_is_seen_before_any_pod(team: Kube) -> None:
    """A namespace for restricted pods: who may make pods is told what of them it would refuse."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    team.patch(NAMESPACES, team.namespace, {"metadata": {"labels": label}})
    bad = wrong(found(team))
    assert set(bad) >= {"pod of Job of the supervisor", "worker of RayJob of group 'gpu'"}
    assert all("violates PodSecurity" in words for words in bad.values())


def test_who_may_do_little_may_still_submit(
    team: Kube, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights to make the two objects of a run suffice; what other commands lack is told with each right's name."""
    group, name = "rbac.authorization.k8s.io", {"name": "ann"}
    rules = [
        {"apiGroups": ["batch", "ray.io"], "resources": ["jobs", "rayjobs"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    subject = {"kind": "ServiceAccount", "name": "ann", "namespace": team.namespace}
    binding = {"subjects": [subject], "roleRef": {"apiGroup": group, "kind": "Role", "name": "ann"}}
    metadata = {**name, "namespace": team.namespace}
    for kind, more in (("Role", {"rules": rules}), ("RoleBinding", binding)):
        body = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, **more}
        team.apply(body, resource(body))
    admins = {finding.name: finding for finding in found(team)}
    assert admins["rights of runner"].good
    monkeypatch.setenv("KUBECONFIG", str(kit.as_user(team, cluster.kubeconfig, tmp_path, team.namespace)))
    findings = {finding.name: finding for finding in found(team)}
    assert not [f for f in findings.values() if f.good is False]
    assert findings["Job of the supervisor"].good
    assert findings["RayJob of group 'gpu'"].good
    assert "rights of runner" not in findings
    assert "'get pods/exec', 'create pods/exec'" in findings["rights for ssh"].found
    submit.check_machines(prepare.prepare("solo", cluster=kit.cluster_file(namespace=team.namespace)))
