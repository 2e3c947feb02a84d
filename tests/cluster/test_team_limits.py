"""What a team may not make, nor have made for it: each is tried on the real cluster."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from runner.backends.kuberay import manifest
from runner.kube import client, names, quantities
from runner.kube.client import Kube, KubeError, Resource, resource
from runner.kube.team.objects import Tenant
from tests.cluster import kit
from tests.cluster.conftest import Cluster

RUN = "r260101-000000aa-limits-aa"
Body = dict[str, Any]

_HEAD = "spec rayClusterSpec headGroupSpec"
_POD = f"{_HEAD} template spec"
_WORKER = "spec rayClusterSpec workerGroupSpecs 0 template spec"
_ASKS = "spec containers 0 resources"
_SERVICE = {"type": "NodePort", "externalIPs": ["192.0.2.77"], "ports": [{"name": "s3", "port": 7070}]}

#: What is tried -> where in a RayJob of a run it is put, what is put there, and what the answer must name.
RAY_JOBS: dict[str, tuple[str, Any, str]] = {
    "a Service of its own kind": (f"{_HEAD} headService", {"metadata": {"name": "x"}, "spec": _SERVICE}, "headService"),
    "a NodePort": (f"{_HEAD} serviceType", "NodePort", "serviceType"),
    "an Ingress": (f"{_HEAD} enableIngress", True, "enableIngress"),
    "notes for a load balancer": ("spec rayClusterSpec headServiceAnnotations", {"a": "b"}, "headServiceAnnotations"),
    "a Redis and what clears it": ("spec rayClusterSpec gcsFaultToleranceOptions", {"redisAddress": "x:1"}, "gcsFault"),
    "another's operator": ("spec managedBy", "kueue.x-k8s.io/multikueue", "managedBy"),
    "a submitter of its own": (
        "spec submitterPodTemplate", {"spec": {"containers": [{"name": "a", "image": "b"}]}}, "submitterPodTemplate",
    ),
    "a mode that ignores queues": ("spec submissionMode", "InteractiveMode", "HTTPMode"),
    "a mode with a Job": ("spec submissionMode", "K8sJobMode", "HTTPMode"),
    "another account, at the head": (f"{_POD} serviceAccountName", "admin", "one of these accounts"),
    "another account, at a worker": (f"{_WORKER} serviceAccountName", "kuberay-operator", "one of these accounts"),
    "the node's network": (f"{_WORKER} hostNetwork", True, "hostNetwork"),
    "the node's processes": (f"{_WORKER} hostPID", True, "hostPID"),
    "a node by name": (f"{_WORKER} nodeName", "onebox", "nodeName"),
    "any taint": (f"{_WORKER} tolerations", [{"operator": "Exists"}], "names the key of a taint"),
    "the control plane": (
        f"{_WORKER} tolerations", [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}], "control",
    ),
    "a volume of NFS": (f"{_POD} volumes", [{"name": "n", "nfs": {"server": "10.0.0.1", "path": "/"}}], "volumes"),
    "a folder of the node": (f"{_POD} volumes", [{"name": "h", "hostPath": {"path": "/etc"}}], "volumes"),
    "a volume of a driver": (f"{_POD} volumes", [{"name": "c", "csi": {"driver": "x.y"}}], "volumes"),
    "a claim for a pod alone": (
        f"{_POD} volumes",
        [{"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Ti"}}}}}}],
        "volumes",
    ),
    "privileges": (f"{_POD} containers 0 securityContext", {"privileged": True}, "privileges"),
    "a capability": (f"{_POD} containers 0 securityContext", {"capabilities": {"add": ["NET_RAW"]}}, "privileges"),
    "a port of the node": (f"{_POD} containers 0 ports", [{"containerPort": 80, "hostPort": 80}], "privileges"),
    "GPUs of another vendor": (f"{_WORKER} containers 0 resources limits amd.com/gpu", "1", "may ask for"),
    "a part of a GPU": (f"{_WORKER} containers 0 resources limits nvidia.com/mig-1g.10gb", "1", "may ask for"),
    "devices by claims": (f"{_WORKER} resourceClaims", [{"name": "g", "resourceClaimName": "g"}], "resourceClaims"),
    "to be where nobody else's pods are": (
        f"{_WORKER} affinity",
        {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/os", "namespaceSelector": {}, "labelSelector": {}}]}},
        "own namespace",
    ),
    "to keep another's pods off": (
        f"{_POD} affinity",
        {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/os", "namespaces": ["blue"]}}]}},
        "own namespace",
    ),
    "a probe of another's port": (
        f"{_POD} containers 0 livenessProbe", {"tcpSocket": {"host": "10.0.0.1", "port": 80}}, "no host",
    ),
    "a hook that asks the cloud": (
        f"{_WORKER} containers 0 lifecycle",
        {"postStart": {"httpGet": {"host": "169.254.169.254", "path": "/", "port": 80}}}, "no host",
    ),
    "privileges beside the head": (
        "spec rayClusterSpec autoscalerOptions", {"securityContext": {"privileged": True}}, "privileges",
    ),
}  # fmt: skip
#: The same of what passes by Kueue, in a RayJob and in a Job of a run.
QUEUES: dict[str, tuple[str, str, Any, str]] = {
    "machines without a queue": ("RayJob", f"metadata labels {names.QUEUE}", None, "name its queue"),
    "machines in the supervisors' queue": ("RayJob", f"metadata labels {names.QUEUE}", "{}-supervisors", "its queue"),
    "machines in another's queue": ("RayJob", f"metadata labels {names.QUEUE}", "sec-blue", "its queue"),
    "a large supervisor": ("Job", "spec template spec containers 0 resources requests cpu", "1.5", "at most 0.2 cores"),
    "a supervisor of much memory": ("Job", "spec template spec containers 0 resources limits memory", "4Gi", "512 MiB"),
    "a supervisor with a GPU": (
        "Job", "spec template spec containers 0 resources limits nvidia.com/gpu", "1", "name its queue",
    ),
    "many pods of one supervisor": ("Job", "spec parallelism", 30, "name its queue"),
    "a Job that is no supervisor": ("Job", f"metadata labels {names.ROLE}", None, "name its queue"),
    "a supervisor of no run": ("Job", f"metadata labels {names.RUN}", "another", "name its queue"),
    "a supervisor in another's queue": ("Job", f"metadata labels {names.QUEUE}", "sec-blue", "its queue"),
}  # fmt: skip
NETWORKING, DISCOVERY = "apis/networking.k8s.io/v1", "apis/discovery.k8s.io/v1"
#: What a team's user has no right to: verb and kind; the answer comes before anything else is looked at.
NO_RIGHT: dict[str, tuple[str, Resource]] = {
    "make a pod": ("POST", client.PODS),
    "make a RayCluster": ("POST", client.RAY_CLUSTERS),
    "change a RayCluster": ("PATCH", client.RAY_CLUSTERS),
    "make a Service": ("POST", client.SERVICES),
    "make an Ingress": ("POST", Resource(NETWORKING, "ingresses")),
    "open the network": ("POST", Resource(NETWORKING, "networkpolicies")),
    "change who is let in": ("PATCH", Resource(NETWORKING, "networkpolicies")),
    "lead a Service elsewhere": ("POST", Resource(DISCOVERY, "endpointslices")),
    "make a claim": ("POST", Resource("api/v1", "persistentvolumeclaims")),
    "make an account": ("POST", client.SERVICE_ACCOUNTS),
    "take an account's token": ("POST", Resource("api/v1", "serviceaccounts/runner/token")),
    "change the quota": ("PATCH", client.QUOTAS),
    "change the limits": ("PATCH", client.LIMIT_RANGES),
    "have more allowed": ("PATCH", client.NAMESPACES),
    "take a policy away": ("DELETE", resource({"kind": "ValidatingAdmissionPolicy", "metadata": {},
                                               "apiVersion": "admissionregistration.k8s.io/v1"})),
    "admit its own workload": ("PATCH", client.WORKLOADS),
    "make a queue": ("POST", client.LOCAL_QUEUES),
    "make a Kueue quota": ("POST", client.CLUSTER_QUEUES),
}  # fmt: skip


@dataclass(frozen=True)
class Red:
    """A team, for who runs the cluster and for the team's user."""

    admin: Kube
    user: Kube
    queued: bool

    @property
    def name(self) -> str:
        """Of its namespace."""
        return self.admin.namespace

    def facts(self, **changes: Any) -> manifest.RunFacts:
        """Of a run of the team that mounts nothing of its nodes."""
        queue = self.name if self.queued else None
        cluster = kit.cluster_file(namespace=self.name, queue=queue, volumes=(), **changes)
        return manifest.RunFacts(RUN, "limits", "s3://lake/limits", cluster, ray_version="2.53.0", by="ann")

    def job(self, **changes: Any) -> Body:
        """A run's supervisor."""
        return manifest.supervisor_job(self.facts(**changes))

    def ray_job(self, machines: tuple[int, int] = (1, 1), **changes: Any) -> Body:
        """A run's machines."""
        return manifest.ray_job(self.facts(**changes), 0, 1, "gpu", machines, None)

    def pod(self, path: str = "", value: Any = None) -> Body:
        """A pod as the one of a worker, with one thing changed."""
        template = self.ray_job()["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]
        metadata = {"name": "tried", "namespace": self.name, "labels": template["metadata"]["labels"]}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        return changed(made, path, value) if path else made


def changed(body: Body, path: str, value: Any) -> Body:
    """The body with a value where the path says, keys and numbers with spaces between; None takes it away."""
    made = copy.deepcopy(body)
    *way, last = path.split()
    part: Any = made
    for word in way:
        part = part[int(word)] if isinstance(part, list) else part.setdefault(word, {})
    if value is None:
        part.pop(last, None)
    else:
        part[last] = value
    return made


@pytest.fixture(scope="module")
def red(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Red]:
    """A team without folders of nodes, with a GPU, as `runner admin tenant` makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        admin = Kube(None, "default")
        queued = kit.has_kueue(admin)
        name = f"test-limits-{kit.mark()}"
        try:
            kit.make_team(admin, Tenant(name, 4.0, 16 * kit.GIB, gpus=2, users=(kit.user_of(name),), queue=queued))
            path = kit.as_user(admin, cluster.kubeconfig, tmp_path_factory.mktemp("user"), name)
            patch.setenv("KUBECONFIG", str(path))
            made = Red(admin.at(name), Kube(None, name), queued)
            bad = changed(made.ray_job(), f"{_POD} hostNetwork", True)
            kit.await_that(lambda: refusal(made.user, bad), 30, "the policies are at work")
            yield made
        finally:
            kit.remove_team(admin, name)


def refusal(kube: Kube, body: Body) -> str:
    """Why the API would not make it; empty if it would."""
    try:
        kube.create(resource(body), body, dry_run=True)
    except KubeError as error:
        if error.status not in (403, 422):
            raise
        return error.message
    return ""


@pytest.mark.parametrize("machines", [(1, 1), (1, 2)])
def test_all_that_a_run_makes_is_let_through(red: Red, machines: tuple[int, int]) -> None:
    """The supervisor and RayJobs of fixed and growing size, by the team's user and with the hardening of the docs."""
    hardened = {
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        }
    }
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    for template in ({}, hardened, {"spec": {"tolerations": [taint]}}):
        if red.queued and machines == (1, 2):
            continue  # no growing with a queue
        assert not refusal(red.user, red.ray_job(machines, pod_template=template))
        assert not refusal(red.user, red.job(pod_template=template))
    if red.queued:
        assert not refusal(red.user, red.job(supervisor_queue=f"{red.name}-supervisors"))
    assert not refusal(red.admin, red.pod())


def test_all_that_kuberay_makes_of_it_is_let_through(kube: Kube) -> None:
    """The head (whose autoscaler has an account of its own), the workers and the Service, in a team without a queue."""
    with kit.team(kube, cpus=8, memory=32 * kit.GIB, gpus=2, queue=False) as own:
        red = Red(own, own, queued=False)
        own.create(client.RAY_JOBS, red.ray_job((1, 2), pod_template={"spec": {"nodeSelector": {"no": "where"}}}))

        def made() -> set[str]:
            return {pod["metadata"]["labels"][names.ROLE] for pod in own.select(client.PODS, names.of_run(RUN))}

        kit.await_that(lambda: made() == {names.HEAD, names.WORKER} and own.select(client.SERVICES), 60, "all is made")
        (head,) = own.select(client.PODS, f"{names.ROLE}={names.HEAD}")
        (cluster,) = own.select(client.RAY_CLUSTERS)
        assert head["spec"]["serviceAccountName"] == cluster["metadata"]["name"]
        own.delete(client.RAY_JOBS, names.ray_job(RUN, 0, 1))


@pytest.mark.parametrize("what", RAY_JOBS)
def test_no_machines_of_another_kind(red: Red, what: str) -> None:
    """A RayJob of a run, with one thing in it that grants more, is refused to the team's user and names it."""
    path, value, words = RAY_JOBS[what]
    assert words in (said := refusal(red.user, changed(red.ray_job(), path, value))), said


@pytest.mark.parametrize("what", QUEUES)
def test_nothing_passes_by_the_queue(red: Red, what: str) -> None:
    """Machines come through the team's queue, and what comes as a supervisor is one."""
    if not red.queued:
        kit.leave_out("no Kueue on this cluster")
    kind, path, value, words = QUEUES[what]
    value = value.format(red.name) if isinstance(value, str) else value
    body = red.ray_job() if kind == "RayJob" else red.job()
    assert words in (said := refusal(red.user, changed(body, path, value))), said


def test_what_another_object_controls_is_no_way_round(red: Red) -> None:
    """Kueue takes it for a part of that, which it has admitted, or has nothing to do with: it would never be queued."""
    if not red.queued:
        kit.leave_out("no Kueue on this cluster")
    owner = red.user.create(client.JOBS, changed(red.job(), "spec suspend", True))
    assert owner is not None
    try:
        reference = {**manifest.owned_by(owner), "controller": True}
        assert "controller" in refusal(red.user, changed(red.ray_job(), "metadata ownerReferences", [reference]))
        reference["controller"] = False  # as runs have it
        assert not refusal(red.user, changed(red.ray_job(), "metadata ownerReferences", [reference]))
    finally:
        red.user.delete(client.JOBS, RUN)


def test_only_the_queue_lets_machines_begin(red: Red) -> None:
    """The team's user can neither begin what waits, nor change what it is; Kueue can, when there is room."""
    if not red.queued:
        kit.leave_out("no Kueue on this cluster")
    name = names.ray_job(RUN, 0, 1)
    nowhere = {"spec": {"nodeSelector": {"no": "where"}}}
    try:
        made = red.user.create(client.RAY_JOBS, red.ray_job((5, 5), pod_template=nowhere))  # more GPUs than it has
        assert made is not None
        assert made["spec"]["suspend"] is True
        for spec in ({"suspend": False}, {"entrypoint": "true"}):
            with pytest.raises(KubeError, match="by the queue alone"):
                red.user.patch(client.RAY_JOBS, name, {"spec": spec})
        red.user.patch(client.RAY_JOBS, name, {"metadata": {"annotations": {"a": "b"}}})
        red.user.delete(client.RAY_JOBS, name)
        fits = red.ray_job(pod_template=nowhere)
        fits["metadata"]["name"] = f"{name}-fits"
        red.user.create(client.RAY_JOBS, fits)
        spec = lambda: red.admin.get(client.RAY_JOBS, f"{name}-fits")["spec"]  # noqa: E731
        kit.await_that(lambda: not spec().get("suspend"), 30, "it begins")
    finally:
        for each in (name, f"{name}-fits"):
            red.user.delete(client.RAY_JOBS, each)


@pytest.mark.parametrize("what", NO_RIGHT)
def test_what_is_no_business_of_a_team(red: Red, what: str) -> None:
    """The rights of the team's user end where the policies begin."""
    method, kind = NO_RIGHT[what]
    name = "" if method == "POST" else red.name if kind is client.NAMESPACES else "lake-runner-pods"
    path = kind.path(red.name if kind.namespaced else None, name)
    content = "application/merge-patch+json" if method == "PATCH" else None
    with pytest.raises(KubeError) as refused:
        red.user.request(method, path, body=None if method == "DELETE" else {}, content_type=content)
    assert refused.value.status == 403
    assert "cannot" in refused.value.message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "NodePort"}, "ClusterIP"),
        ({"type": "LoadBalancer"}, "ClusterIP"),
        ({"externalIPs": ["192.0.2.77"]}, "externalIPs"),
        ({"type": "ExternalName", "externalName": "evil.example"}, "ClusterIP"),
        ({"selector": {}}, "selects pods"),
    ],
)
def test_no_service_leads_out_whoever_makes_it(red: Red, spec: Body, words: str) -> None:
    """A Service of a team is reached from within the cluster, by an address of its own, and leads to pods."""
    whole = {"selector": {"a": "b"}, "ports": [{"name": "a", "port": 80}], **spec}
    metadata = {"name": "tried", "namespace": red.name}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": whole}
    assert words in (said := refusal(red.admin, body)), said
    assert not refusal(red.admin, {**body, "spec": {**whole, **dict.fromkeys(spec), "selector": {"a": "b"}}})


def test_no_way_in_from_outside_whoever_makes_it(red: Red) -> None:
    """Ingresses are refused; so is a RayCluster that would have KubeRay make one, or another Service."""
    backend = {"service": {"name": "a", "port": {"number": 80}}}
    ingress = {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "tried", "namespace": red.name},
        "spec": {"defaultBackend": backend},
    }  # fmt: skip
    with pytest.raises(KubeError, match="has no Ingress") as refused:
        red.admin.request("POST", f"/{NETWORKING}/namespaces/{red.name}/ingresses", body=ingress)
    assert refused.value.status in (403, 422)
    whole = red.ray_job()
    cluster = {
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "tried", "namespace": red.name},
        "spec": whole["spec"]["rayClusterSpec"],
    }  # fmt: skip
    assert not refusal(red.admin, cluster)
    assert "headService" in refusal(red.admin, changed(cluster, "spec headGroupSpec headService", {"spec": _SERVICE}))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec hostNetwork", True, "hostNetwork"),
        ("spec nodeName", "onebox", "nodeName"),
        ("spec serviceAccountName", "default-editor", "one of these accounts"),
        ("spec volumes", [{"name": "n", "nfs": {"server": "10.0.0.1", "path": "/"}}], "volumes"),
        ("spec containers 0 resources limits amd.com/gpu", "1", "may ask for"),
        ("spec containers 0 resources", {"requests": {"cpu": "0", "memory": "0"}, "limits": {"memory": "8Gi"}}, "min"),
        ("spec containers 0 resources", {"requests": {"memory": "1Gi"}, "limits": {"memory": "3Gi"}}, "ratio"),
        (
            "spec containers 0 resources",
            {"requests": {"memory": "30Gi"}, "limits": {"memory": "60Gi"}},
            "limits.memory",
        ),
        (
            "spec containers 0 resources",
            {"limits": {"memory": "1Gi", "nvidia.com/gpu": "3"}},
            "requests.nvidia.com/gpu",
        ),
        ("spec containers 0 resources", {"limits": {"ephemeral-storage": "1Pi"}}, "limits.ephemeral-storage"),
    ],
)
def test_a_pod_is_held_to_it_whoever_makes_it(red: Red, path: str, value: Any, words: str) -> None:
    """What makes pods for a team has more rights than the team: the pods themselves are looked at, and counted."""
    if path == "spec serviceAccountName":
        metadata = {"name": value, "namespace": red.name}
        red.admin.create(client.SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    assert words in (said := refusal(red.admin, red.pod(path, value))), said


def test_what_a_container_fills_of_its_nodes_disk_is_limited(red: Red) -> None:
    """One that says nothing of disk is given a limit, which its empty folders count towards."""
    made = red.admin.create(client.PODS, red.pod(), dry_run=True)
    assert made is not None
    limits = made["spec"]["containers"][0]["resources"]["limits"]
    assert quantities.number(limits["ephemeral-storage"]) == 100 * kit.GIB


def test_claims_are_counted(red: Red) -> None:
    """A team that was given no storage has no claim, whoever makes it."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "tried", "namespace": red.name}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    assert "exceeded quota: runner" in refusal(red.admin, body)
