"""A team's share of a cluster as Kubernetes objects: pure functions, printed or applied by `runner admin tenant`.

The namespace is the boundary: a RayJob may run any pod with any ServiceAccount of its namespace, so whoever may make
RayJobs there may do what any of them may. Two teams that must not see each other's runs need two namespaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.checks import Fields
from runner.kube import names
from runner.kube.quantities import add, number
from runner.spec_cluster import SUPERVISOR, VENDORS

#: The ServiceAccount of supervisors, as `Kubernetes(service_account=)` has it by default.
ACCOUNT = "runner"
_NAMESPACE, _NAMESPACE_WORDS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "lower-case letters, digits and '-'"
_KUEUE = "kueue.x-k8s.io/v1beta1"
Rule = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]

_READ = ("get", "list", "watch")
SUPERVISOR_RULES: tuple[Rule, ...] = (
    (("ray.io",), ("rayjobs",), (*_READ, "create", "patch", "delete")),
    (("ray.io",), ("rayclusters",), (*_READ, "delete")),
    (("batch",), ("jobs",), (*_READ, "delete")),
    (("batch",), ("jobs/finalizers",), ("update",)),  # some clusters ask for it of who makes what a Job owns
    (("",), ("pods", "events"), _READ),
    (("",), ("pods/log",), ("get",)),
)
USER_RULES: tuple[Rule, ...] = (
    (("batch",), ("jobs",), (*_READ, "create", "patch", "delete")),
    (("batch",), ("jobs/finalizers",), ("update",)),  # some clusters ask for it of who makes what a Job owns
    (("ray.io",), ("rayjobs", "rayclusters"), (*_READ, "create", "patch", "delete")),
    (("",), ("pods", "events", "services", "configmaps", "resourcequotas", "limitranges", "serviceaccounts"), _READ),
    (("",), ("pods/log",), ("get",)),
    (("",), ("pods/exec", "pods/portforward", "services/proxy"), ("get", "create")),
    (("",), ("secrets",), ("create", "patch", "delete")),
    (("kueue.x-k8s.io",), ("localqueues", "workloads"), _READ),
)


@dataclass(frozen=True)
class Tenant:
    """Args:
    name: of the team: its namespace and queue.
    cpus, memory, gpus: its share; memory in bytes.
    vendor: of the GPUs.
    users, groups: who may make runs, as the API knows them.
    queue: whether Kueue shares the quota out.
    host_paths: whether pods may mount folders of their nodes.
    operator: the namespace of the KubeRay operator, which asks Ray's dashboards how jobs stand.
    supervisors: how many runs may have a supervisor at one time, where a queue shares the quota out. They have a queue
        of their own: in that of the machines they would wait behind what they are to watch.
    """

    name: str
    cpus: float
    memory: int
    gpus: int = 0
    vendor: str = "nvidia"
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    queue: bool = True
    host_paths: bool = False
    operator: str = "kuberay-system"
    supervisors: int = 20

    def __post_init__(self) -> None:
        fields = Fields("runner admin tenant")
        fields.name(
            "NAME", self.name, longest=50, pattern=_NAMESPACE, words=_NAMESPACE_WORDS,
        )  # fmt: skip
        fields.one_of("--vendor", self.vendor, VENDORS)
        fields.name("--operator-namespace", self.operator, longest=63, pattern=_NAMESPACE, words=_NAMESPACE_WORDS)
        fields.integer("--supervisors", self.supervisors, 1)

    @property
    def share(self) -> dict[str, str]:
        """What may be asked for at one time."""
        share = {"cpu": f"{self.cpus:g}", "memory": str(self.memory)}
        return {**share, VENDORS[self.vendor]: str(self.gpus)}

    @property
    def supervisors_share(self) -> dict[str, str]:
        """What supervisors may hold at one time besides; nothing where no queue tells them from machines."""
        if not self.queue:
            return {}
        memory = int(SUPERVISOR.memory or 0) * self.supervisors
        return {"cpu": f"{SUPERVISOR.cpu * self.supervisors:g}", "memory": str(memory)}

    @property
    def supervisor_queue(self) -> str:
        """The LocalQueue of its supervisors."""
        return f"{self.name}-supervisors"


def objects(tenant: Tenant) -> list[dict[str, Any]]:
    """Everything of a tenant, in the order in which it can be applied."""
    made = [
        _namespace(tenant), _quota(tenant), _limits(tenant), _account(tenant),
        _role(tenant, "runner-supervisor", SUPERVISOR_RULES), _role(tenant, "runner-user", USER_RULES),
        _binding(tenant, "runner-supervisor", [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": tenant.name}]),
    ]  # fmt: skip
    subjects = [_subject("User", name) for name in tenant.users] + [_subject("Group", name) for name in tenant.groups]
    if subjects:
        made.append(_binding(tenant, "runner-user", subjects))
    made += [_deny(tenant), _allow(tenant)]
    return made + (_queues(tenant) if tenant.queue else [])


def supervisor_objects(namespace: str) -> list[dict[str, Any]]:
    """The least that a namespace needs for runs: the supervisors' account, and its role."""
    tenant = Tenant(namespace, 0, 0)
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    role = "runner-supervisor"
    return [_account(tenant), _role(tenant, role, SUPERVISOR_RULES), _binding(tenant, role, [subject])]


def _object(tenant: Tenant, kind: str, api: str, name: str, namespaced: bool = True, **body: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/managed-by": "lake-runner"}}
    if namespaced:
        metadata["namespace"] = tenant.name
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **body}


def _namespace(tenant: Tenant) -> dict[str, Any]:
    """Pods that ask for more than a container needs (the host's network, privileges) are refused, and warned about."""
    made = _object(tenant, "Namespace", "v1", tenant.name, namespaced=False)
    made["metadata"]["labels"].update({
        "pod-security.kubernetes.io/enforce": "privileged" if tenant.host_paths else "baseline",
        "pod-security.kubernetes.io/warn": "restricted",
    })  # fmt: skip
    return made


def _quota(tenant: Tenant) -> dict[str, Any]:
    """With Kueue the queues decide; the quota is the fence behind them."""
    total = {name: number(value) for name, value in tenant.share.items()}
    add(total, {name: number(value) for name, value in tenant.supervisors_share.items()})
    hard = {
        f"requests.{name}": str(int(value)) if value == int(value) else f"{value:g}" for name, value in total.items()
    }
    return _object(tenant, "ResourceQuota", "v1", "runner", spec={"hard": {**hard, "count/jobs.batch": "200"}})


def _limits(tenant: Tenant) -> dict[str, Any]:
    """A container that says nothing of itself must still fit a quota."""
    limit = {
        "type": "Container",
        "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
        "default": {"memory": "512Mi"},
    }
    return _object(tenant, "LimitRange", "v1", "runner", spec={"limits": [limit]})


def _account(tenant: Tenant) -> dict[str, Any]:
    return _object(tenant, "ServiceAccount", "v1", ACCOUNT)


def _role(tenant: Tenant, name: str, rules: tuple[Rule, ...]) -> dict[str, Any]:
    body = [
        {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}
        for groups, resources, verbs in rules
    ]
    return _object(tenant, "Role", "rbac.authorization.k8s.io/v1", name, rules=body)


def _binding(tenant: Tenant, role: str, subjects: list[dict[str, Any]]) -> dict[str, Any]:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
    return _object(
        tenant, "RoleBinding", "rbac.authorization.k8s.io/v1", role, subjects=subjects, roleRef=reference
    )  # fmt: skip


def _subject(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"}


def _deny(tenant: Tenant) -> dict[str, Any]:
    return _object(
        tenant, "NetworkPolicy", "networking.k8s.io/v1", "runner-deny",
        spec={"podSelector": {}, "policyTypes": ["Ingress"]},
    )  # fmt: skip


def _allow(tenant: Tenant) -> dict[str, Any]:
    """Pods of runs hear each other and the KubeRay operator. They may speak to anyone: the lake is outside."""
    runs = {"matchExpressions": [{"key": names.RUN, "operator": "Exists"}]}
    operator = {"matchLabels": {"kubernetes.io/metadata.name": tenant.operator}}
    sources = [{"podSelector": runs}, {"namespaceSelector": operator}]
    return _object(
        tenant, "NetworkPolicy", "networking.k8s.io/v1", "runner-runs",
        spec={"podSelector": runs, "policyTypes": ["Ingress"], "ingress": [{"from": sources}]},
    )  # fmt: skip


def _queues(tenant: Tenant) -> list[dict[str, Any]]:
    """One flavor for all machines; a queue for machines with the tenant's share, and a small one for supervisors.

    What is meant for supervisors is neither lent nor borrowed: machines would wait for those who give them back.
    """
    machines = {
        "cohort": "runner",
        "preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"},
    }
    flavor = _object(tenant, "ResourceFlavor", _KUEUE, "runner", namespaced=False, spec={})
    return [
        flavor, *_queue(tenant, tenant.name, tenant.share, machines),
        *_queue(tenant, tenant.supervisor_queue, tenant.supervisors_share, {}),
    ]  # fmt: skip


def _queue(tenant: Tenant, name: str, share: dict[str, str], more: dict[str, Any]) -> list[dict[str, Any]]:
    resources = [{"name": resource, "nominalQuota": value} for resource, value in share.items()]
    group = {"coveredResources": list(share), "flavors": [{"name": "runner", "resources": resources}]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": tenant.name}}
    spec = {**more, "namespaceSelector": selector, "resourceGroups": [group]}
    return [
        _object(tenant, "ClusterQueue", _KUEUE, name, namespaced=False, spec=spec),
        _object(tenant, "LocalQueue", _KUEUE, name, spec={"clusterQueue": name}),
    ]
