"""Dry runs of what a submit makes: what the API refuses is refused in its words, and what it does not say is not."""

from __future__ import annotations

from typing import Any

import pytest

from runner import Cluster, Group, Kubernetes
from runner.backends.kuberay import check as kuberay_check
from runner.errors import PlanError
from runner.kube import names
from runner.kube.client import KubeError
from runner.kube.preflight import check as preflight
from runner.store import Store
from tests.unit.kube import kit
from tests.unit.kube.test_preflight import WHOLE, cluster, look, needs, wrong

POLICY = KubeError(
    422,
    "Invalid",
    "jobs.batch \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: pods need a label",
)
WEBHOOK = KubeError(400, "BadRequest", 'admission webhook "validate.example.com" denied the request: no label')
GATE = KubeError(403, "Forbidden", 'admission webhook "gate.example.com" denied the request: no label')
QUOTA = KubeError(
    403,
    "Forbidden",
    'jobs.batch "x" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: 9, limited: 9',
)
SECURITY = KubeError(403, "Forbidden", 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot')
NO_RIGHT = kit.forbidden("jobs", "create")


@pytest.mark.parametrize("error", [POLICY, WEBHOOK, GATE, QUOTA], ids=["policy", "webhook", "gate", "quota"])
@pytest.mark.parametrize(("kind", "name"), [("Job", "Job of the supervisor"), ("RayJob", "RayJob of group 'g'")])
def test_a_denial_is_refused_in_the_apis_words(error: KubeError, kind: str, name: str) -> None:
    """What was denied is named, with the API's own message and what to do."""
    bad = wrong(look(kit.FakeKube(*WHOLE, unmade={kind: error})))
    assert (bad.name, bad.found) == (name, error.message)
    assert ("that quota" if error is QUOTA else "pod_template") in bad.todo


@pytest.mark.parametrize(
    "error",
    [
        KubeError(0, "Unreachable", "no answer from the Kubernetes API at x"),
        KubeError(500, "InternalError", 'failed calling webhook "v.example.com": connection refused'),
        KubeError(500, "InternalError", 'admission webhook "v.example.com" denied the request: my store is away'),
        KubeError(429, "TooManyRequests", "try again later"),
        KubeError(400, "BadRequest", 'admission webhook "v.example.com" does not support dry run'),
        KubeError(409, "Conflict", "the object has been modified"),
    ],
)
def test_what_is_no_judgement_is_not_known(error: KubeError) -> None:
    """Trouble, and webhooks that take no part in dry runs, say nothing of the real object; other checks go on."""
    found = look(kit.FakeKube(*WHOLE, unmade={"Job": error}))
    assert (found["Job of the supervisor"].good, error.message in found["Job of the supervisor"].found) == (None, True)
    assert found["RayJob of group 'g'"].good
    assert not [f for f in found.values() if f.good is False]


def test_a_missing_right_is_told_once() -> None:
    """Who may not make Jobs is told that by the check of rights."""
    bad = wrong(look(kit.FakeKube(*WHOLE, unmade={"Job": NO_RIGHT}, denied=(("create", "jobs"),))))
    assert bad.name == "rights"


def test_the_very_objects_are_judged() -> None:
    """They have the user's templates, resources and labels, as `--dry-run -o yaml` prints them, and are not made."""
    template = {
        "metadata": {"labels": {"team": "red"}},
        "spec": {"securityContext": {"runAsNonRoot": True}},
    }
    kube = kit.FakeKube(*WHOLE)
    look(kube, pod_template=template)
    job, ray_job, *pods = kube.tried
    workers = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]
    head = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    for made in (job["spec"]["template"], head, workers):
        assert made["metadata"]["labels"]["team"] == "red"
        assert made["metadata"]["labels"][names.RUN] == job["metadata"]["name"]
        assert made["spec"]["securityContext"] == {"runAsNonRoot": True}
    resources = workers["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "2"
    assert [each["spec"] for each in pods] == [each["spec"] for each in (job["spec"]["template"], head, workers)]
    assert not [path for path in kube.there if path.endswith(job["metadata"]["name"])]


def test_pod_security_is_seen_by_who_may_make_pods() -> None:
    """It judges pods by what they are: each kind that it refuses is named. Who may not make pods is told nothing."""
    found = look(kit.FakeKube(*WHOLE, unmade={"Pod": SECURITY}))
    bad = {name for name, finding in found.items() if finding.good is False}
    assert bad == {"pod of Job of the supervisor", "head of RayJob of group 'g'", "worker of RayJob of group 'g'"}
    assert found["pod of Job of the supervisor"].found == SECURITY.message
    kube = kit.FakeKube(*WHOLE, unmade={"Pod": kit.forbidden("pods", "create")})
    assert {f.good for f in look(kube).values()} == {True}
    assert [body["kind"] for body in kube.tried].count("Pod") == 1


@pytest.mark.parametrize("error", [POLICY, WEBHOOK, GATE], ids=["policy", "webhook", "gate"])
def test_other_policies_of_pods_are_told(error: KubeError) -> None:
    """A policy may forbid users, and not controllers, to make pods: its words are told, and nothing is refused."""
    found = look(kit.FakeKube(*WHOLE, unmade={"Pod": error}))
    assert {f.good for f in found.values()} == {True, None}
    assert error.message in found["pod of Job of the supervisor"].found
    full = KubeError(
        403, "Forbidden", 'pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: 9, limited: 9'
    )
    assert {f.good for f in look(kit.FakeKube(*WHOLE, unmade={"Pod": full})).values()} == {True}


def test_a_policy_of_secrets_does_not_hide_one() -> None:
    """A dry run of making a Secret tells that it is there; where a policy answers instead, nobody knows."""
    secrets = "/api/v1/namespaces/default/secrets/lake-credentials"
    kube = kit.FakeKube(*WHOLE, unmade={"Secret": POLICY}, refused={secrets: kit.forbidden("secrets", "get")})
    assert look(kube)["Secret lake-credentials"].good is None


def test_check_judges_what_is_given() -> None:
    """A submit is refused with the policy's words."""
    kube = kit.FakeKube(*WHOLE, unmade={"RayJob": POLICY})
    objects = kuberay_check.samples(cluster(), Store("s3://lake/runs"))
    with pytest.raises(PlanError, match="pods need a label"):
        preflight.check(cluster(), needs(), objects, kube)
    preflight.check(cluster(), needs(), objects[:1], kube)


@pytest.mark.parametrize("options", [{"key": "AKIA", "secret": "hidden"}, {}])
@pytest.mark.parametrize("url", ["s3://lake/runs", "/some/folder"])
def test_samples_show_no_credentials(url: str, options: dict[str, Any]) -> None:
    """What is tried by hand has one RayJob for each group, and never a credential of the store."""
    groups = {"a": Group(memory="1GiB"), "b": Group(memory="1GiB")}
    made = Cluster(backend="kuberay", groups=groups, kubernetes=Kubernetes(image="repo/image:1"))
    objects = kuberay_check.samples(made, Store(url, options))
    assert [body["kind"] for body in objects] == ["Job", "RayJob", "RayJob"]
    assert "hidden" not in str(objects)
