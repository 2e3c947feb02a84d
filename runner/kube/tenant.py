"""A team's share of a cluster as Kubernetes objects: pure functions, printed or applied by `runner admin tenant`.

The namespace is the boundary: a RayJob may run any pod with any ServiceAccount of its namespace, so whoever may make
RayJobs there may do what any of them may. Two teams that must not see each other's runs need two namespaces.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.checks import Fields
from runner.kube import names
from runner.kube.quantities import add, amount, number
from runner.spec_cluster import SUPERVISOR, VENDORS

#: The ServiceAccount of supervisors, as `Kubernetes(service_account=)` has it by default.
ACCOUNT = "runner"
_NAMESPACE, _NAMESPACE_WORDS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "lower-case letters, digits and '-'"
#: Of everything that is made here.
LABELS = {"app.kubernetes.io/managed-by": "lake-runner"}
#: Pods of these classes go before every team's, and push others' off their nodes.
_SYSTEM = ["system-cluster-critical", "system-node-critical"]
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
    (("",), ("pods",), ("delete",)),  # of a pod that has lost its owner, for `runner gc`
    (("",), ("pods/log",), ("get",)),
    (("",), ("pods/exec", "pods/portforward", "services/proxy"), ("get", "create")),
    (("",), ("secrets",), ("create", "delete")),  # a patch would be answered with what is in it
    (("kueue.x-k8s.io",), ("localqueues", "workloads"), _READ),
)


@dataclass(frozen=True)
class Tenant:
    """Args:
    name: of the team: its namespace and queue.
    cpus, memory, gpus: its share; memory in bytes.
    most_cpus, most_memory, most_gpus: what it may hold while other teams leave their shares idle; None: its share.
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
    most_cpus: float | None = None
    most_memory: int | None = None
    most_gpus: int | None = None

    def __post_init__(self) -> None:
        fields = Fields("runner admin tenant")
        fields.name(
            "NAME", self.name, longest=50, pattern=_NAMESPACE, words=_NAMESPACE_WORDS,
        )  # fmt: skip
        fields.one_of("--vendor", self.vendor, VENDORS)
        fields.name("--operator-namespace", self.operator, longest=63, pattern=_NAMESPACE, words=_NAMESPACE_WORDS)
        fields.integer("--supervisors", self.supervisors, 1)
        fields.number("--cpus", self.cpus, 0)
        fields.integer("--gpus", self.gpus, 0)
        for resource in ("cpus", "memory", "gpus"):
            self._check_most(fields, f"--most-{resource}", getattr(self, f"most_{resource}"), getattr(self, resource))

    def _check_most(self, fields: Fields, option: str, most: float | None, share: float) -> None:
        if most is None:
            return
        if not self.queue:
            raise fields.fail(option, most, "nothing with --no-kueue", "without queues nobody gets a lent share back")
        if most < share:
            what = option.removeprefix("--most-")
            shown, least = amount(what, most), f"its share, which is {amount(what, share)}, or more"
            raise fields.fail(
                option, shown, least, f"give more, or leave it out: then the team holds its {what} at most"
            )

    @property
    def share(self) -> dict[str, str]:
        """What may be asked for at one time."""
        return self._amounts(self.cpus, self.memory, self.gpus)

    @property
    def most(self) -> dict[str, str]:
        """What it may hold at one time where others leave theirs idle."""
        own = ((self.most_cpus, self.cpus), (self.most_memory, self.memory), (self.most_gpus, self.gpus))
        return self._amounts(*(share if most is None else most for most, share in own))

    def _amounts(self, cpus: float, memory: float, gpus: float) -> dict[str, str]:
        return {"cpu": f"{cpus:g}", "memory": str(int(memory)), VENDORS[self.vendor]: str(int(gpus))}

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
        _namespace(tenant), _quota(tenant), _no_system_priority(tenant), _limits(tenant), _account(tenant),
        _role(tenant, "runner-supervisor", SUPERVISOR_RULES), _role(tenant, "runner-user", USER_RULES),
        _binding(tenant, "runner-supervisor", [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": tenant.name}]),
    ]  # fmt: skip
    subjects = [_subject("User", name) for name in tenant.users] + [_subject("Group", name) for name in tenant.groups]
    if subjects:
        made.append(_binding(tenant, "runner-user", subjects))
    made += [_deny(tenant), _allow(tenant)]
    return made + (_queues(tenant) if tenant.queue else [])


def left_out(tenant: Tenant) -> list[dict[str, Any]]:
    """What a tenant of that name may have from before and is no part of it now; the one who is to go first, first."""
    kinds = ("RoleBinding", "LocalQueue", "ClusterQueue")  # the ResourceFlavor is of all teams
    made = {(body["kind"], body["metadata"]["name"]) for body in objects(tenant)}
    whole = objects(dataclasses.replace(tenant, users=tenant.users or ("",), queue=True))
    absent = [body for body in whole if (body["kind"], body["metadata"]["name"]) not in made]
    return sorted((b for b in absent if b["kind"] in kinds), key=lambda body: kinds.index(body["kind"]))


def is_ours(body: Mapping[str, Any]) -> bool:
    """Whether an object was made here, and not by somebody who had the same idea for its name."""
    return (body["metadata"].get("labels") or {}).items() >= LABELS.items()


def supervisor_objects(namespace: str) -> list[dict[str, Any]]:
    """The least that a namespace needs for runs: the supervisors' account, and its role."""
    tenant = Tenant(namespace, 0, 0)
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    role = "runner-supervisor"
    return [_account(tenant), _role(tenant, role, SUPERVISOR_RULES), _binding(tenant, role, [subject])]


def _object(tenant: Tenant, kind: str, api: str, name: str, namespaced: bool = True, **body: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": dict(LABELS)}
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
    total = {name: number(value) for name, value in tenant.most.items()}
    add(total, {name: number(value) for name, value in tenant.supervisors_share.items()})
    hard = {f"requests.{name}": _words(value) for name, value in total.items()}
    return _object(tenant, "ResourceQuota", "v1", "runner", spec={"hard": {**hard, "count/jobs.batch": "200"}})


def _no_system_priority(tenant: Tenant) -> dict[str, Any]:
    """Anyone may name these classes, unless a quota that counts their pods alone has no room for one."""
    expression = {"scopeName": "PriorityClass", "operator": "In", "values": _SYSTEM}
    return _object(
        tenant, "ResourceQuota", "v1", "runner-no-system-priority",
        spec={"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [expression]}},
    )  # fmt: skip


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

    A queue admits no more than the quota lets in: machines that it refused would hold what came of them, and wait. What
    is meant for supervisors is neither lent nor borrowed: machines would wait for those who give them back.
    """
    machines = {
        "cohort": "runner",
        "preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"},
    }
    flavor = _object(tenant, "ResourceFlavor", _KUEUE, "runner", namespaced=False, spec={})
    own = {
        name: {"nominalQuota": value, "borrowingLimit": _beyond(tenant, name)} for name, value in tenant.share.items()
    }
    supervisors = {name: {"nominalQuota": value} for name, value in tenant.supervisors_share.items()}
    return [
        flavor, *_queue(tenant, tenant.name, own, machines), *_queue(tenant, tenant.supervisor_queue, supervisors, {}),
    ]  # fmt: skip


def _beyond(tenant: Tenant, name: str) -> str:
    """How much of a resource the team may hold beyond its share."""
    return _words(number(tenant.most[name]) - number(tenant.share[name]))


def _words(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _queue(tenant: Tenant, name: str, quotas: dict[str, dict[str, str]], more: dict[str, Any]) -> list[dict[str, Any]]:
    resources = [{"name": resource, **quota} for resource, quota in quotas.items()]
    group = {"coveredResources": list(quotas), "flavors": [{"name": "runner", "resources": resources}]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": tenant.name}}
    spec = {**more, "namespaceSelector": selector, "resourceGroups": [group]}
    return [
        _object(tenant, "ClusterQueue", _KUEUE, name, namespaced=False, spec=spec),
        _object(tenant, "LocalQueue", _KUEUE, name, spec={"clusterQueue": name}),
    ]
