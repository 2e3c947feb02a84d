"""What is checked of a Kubernetes before any pod is asked for: each check says what it found and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from runner.errors import PlanError, listed
from runner.kube import client, quantities
from runner.kube.client import Kube, KubeError
from runner.kube.quantities import words
from runner.spec import Cluster, Group, Kubernetes

#: What the client does itself, and what the supervisor does under the namespace's service account.
CLIENT_RIGHTS = (
    ("batch", "jobs", "create"),
    ("batch", "jobs", "get"),
    ("batch", "jobs", "delete"),
    ("", "pods", "list"),
    ("ray.io", "rayjobs", "create"),
)


#: Labels of nodes that an autoscaler may have brought.
_SCALED = (
    "karpenter.sh/nodepool", "cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
)  # fmt: skip


@dataclass(frozen=True)
class Need:
    """Machines that a stage asks for at one time.

    Args:
        group: its name; `shape` is what one machine is, `machines` how many.
    """

    stage: str
    group: str
    shape: Group
    machines: int


@dataclass(frozen=True)
class Finding:
    """One check.

    Args:
        name: what was looked at.
        good: True, False, or None where it could not be told (no right to look, mostly).
        found: what was seen.
        todo: what would mend it.
    """

    name: str
    good: bool | None
    found: str
    todo: str = ""


def check(cluster: Cluster, needs: list[Need], kube: Kube | None = None) -> None:
    """Raise PlanError if something is known to be wrong, with everything that is."""
    findings = look(cluster, needs, kube)
    wrong = [finding for finding in findings if finding.good is False]
    if wrong:
        raise PlanError(
            "\n".join(f"{finding.name}: {finding.found}" for finding in wrong),
            todo="; ".join(dict.fromkeys(finding.todo for finding in wrong if finding.todo)),
            where="Kubernetes, before any pod",
        )


def look(cluster: Cluster, needs: list[Need], kube: Kube | None = None) -> list[Finding]:
    """All findings; where the API does not answer, that one alone."""
    where = cluster.kubernetes
    assert where is not None
    kube = kube or Kube(where.context, where.namespace)
    try:
        version = kube.request("GET", "/version")["gitVersion"]
    except KubeError as error:
        return [Finding("API", False, error.message, "check the kubeconfig, the context and the network")]
    findings = [Finding("API", True, f"Kubernetes {version} at {kube.host}")]
    for step in (_namespace, _kuberay, _rights, _objects, _queue, _quota, _nodes):
        findings += _guarded(step, kube, where, needs)
    return findings


Step = Callable[[Kube, Kubernetes, list[Need]], Iterator[Finding]]


def _guarded(step: Step, kube: Kube, where: Kubernetes, needs: list[Need]) -> list[Finding]:
    name = step.__name__.strip("_")
    try:
        return list(step(kube, where, needs))
    except KubeError as error:
        if error.status == 403:
            return [Finding(name, None, f"not to be seen with these rights: {error.message}")]
        return [Finding(name, False, error.message, "try again, or ask who runs the cluster")]


def _namespace(kube: Kube, where: Kubernetes, needs: list[Need]) -> Iterator[Finding]:
    found = kube.find(client.NAMESPACES, where.namespace)
    if found is None:
        yield Finding("namespace", False, f"'{where.namespace}' does not exist", "ask for it: runner admin tenant")
    else:
        yield Finding("namespace", True, where.namespace)


def _kuberay(kube: Kube, where: Kubernetes, needs: list[Need]) -> Iterator[Finding]:
    served = (
        {each["name"] for each in kube.request("GET", "/apis/ray.io/v1").get("resources", [])}
        if _has_ray(kube)
        else set()
    )
    missing = [name for name in ("rayjobs", "rayclusters") if name not in served]
    if missing:
        todo = "install the KubeRay operator, 1.6 or newer (docs/kubernetes.md)"
        yield Finding("KubeRay", False, f"the API does not serve {listed(missing)} of ray.io/v1", todo)
        return
    yield Finding("KubeRay", True, "ray.io/v1 is served")


def _has_ray(kube: Kube) -> bool:
    groups = kube.request("GET", "/apis").get("groups", [])
    return any(
        group["name"] == "ray.io" and any(version["version"] == "v1" for version in group["versions"])
        for group in groups
    )


def _rights(kube: Kube, where: Kubernetes, needs: list[Need]) -> Iterator[Finding]:
    missing = [f"{verb} {what}" for group, what, verb in CLIENT_RIGHTS if not _may(kube, where, group, what, verb)]
    if missing:
        todo = f"ask for the role of users in namespace '{where.namespace}': runner admin tenant"
        yield Finding("rights", False, f"you may not {listed(missing)} in namespace '{where.namespace}'", todo)
    else:
        yield Finding("rights", True, f"to make and remove runs in '{where.namespace}'")


def _may(kube: Kube, where: Kubernetes, group: str, resource: str, verb: str) -> bool:
    attributes = {"namespace": where.namespace, "group": group, "resource": resource, "verb": verb}
    body = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "metadata": {}, "spec": {"resourceAttributes": attributes},
    }  # fmt: skip
    review = kube.request("POST", client.ACCESS_REVIEWS.path(None), body=body)
    return bool(review["status"].get("allowed"))


def _objects(kube: Kube, where: Kubernetes, needs: list[Need]) -> Iterator[Finding]:
    """What pods name must be there: a pod that waits for a Secret waits for ever."""
    wanted = [(client.SERVICE_ACCOUNTS, "ServiceAccount", where.service_account)]
    wanted += [(client.SECRETS, "Secret", name) for name in (*where.secrets, *where.image_pull_secrets)]
    wanted += [(client.SECRETS, "Secret", v.secret) for v in where.volumes if v.secret is not None]
    wanted += [(client.CONFIG_MAPS, "ConfigMap", v.config_map) for v in where.volumes if v.config_map is not None]
    for what, kind, name in wanted:
        there = _is_there(kube, what, kind, name)
        if there is None:
            yield Finding(f"{kind} {name}", None, "not to be seen with these rights")
            continue
        missing = f"there is none in namespace '{where.namespace}'"
        yield Finding(
            f"{kind} {name}", there, "is there" if there else missing, "" if there else f"make the {kind} first"
        )


def _is_there(kube: Kube, what: client.Resource, kind: str, name: str) -> bool | None:
    """Whether it exists. Who may not read Secrets may mostly make them, and a dry run tells that one is there."""
    try:
        return kube.find(what, name) is not None
    except KubeError as error:
        if error.status != 403:
            raise
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": kube.namespace}}
    try:
        return kube.create(what, body, dry_run=True) is None
    except KubeError as error:
        if error.status != 403:
            raise
        return None


def _queue(kube: Kube, where: Kubernetes, needs: list[Need]) -> Iterator[Finding]:
    if where.queue is None:
        return
    if kube.find(client.LOCAL_QUEUES, where.queue) is None:
        names = _queues(kube)
        if names is None:
            yield Finding("queue", False, "the API serves no LocalQueues", "install Kueue, or leave `queue` out")
            return
        todo = f"one of {listed(names)}" if names else "ask for a LocalQueue: runner admin tenant"
        yield Finding("queue", False, f"no LocalQueue '{where.queue}' in namespace '{where.namespace}'", todo)
    else:
        yield Finding("queue", True, where.queue)


def _queues(kube: Kube) -> list[str] | None:
    """The names of the namespace's LocalQueues; None where the API knows no such objects."""
    try:
        return [each["metadata"]["name"] for each in kube.select(client.LOCAL_QUEUES)]
    except KubeError as error:
        if error.status == 404:
            return None
        raise


def _quota(kube: Kube, where: Kubernetes, needs: list[Need]) -> Iterator[Finding]:
    """The namespace's hard limits must fit each stage, even when nothing else runs."""
    for quota in kube.select(client.QUOTAS):
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            continue  # it counts some pods only, and whether ours are among them is the API's to say
        hard = {name: quantities.number(value) for name, value in (quota["spec"].get("hard") or {}).items()}
        for need in needs:
            over = _over(hard, requests(where, need))
            if over:
                found = f"{need.stage} needs {over}"
                yield Finding(
                    f"quota {quota['metadata']['name']}", False, found, "ask for fewer workers, or for more quota"
                )


def _over(hard: dict[str, float], wanted: dict[str, float]) -> str:
    parts = []
    for name, value in wanted.items():
        keys = {"cpu": ("requests.cpu", "cpu"), "memory": ("requests.memory", "memory", "limits.memory")}
        for key in keys.get(name, (f"requests.{name}",)):
            if key in hard and value > hard[key]:
                parts.append(f"{words(name, value)} of {words(name, hard[key])}")
    return ", ".join(dict.fromkeys(parts))


def requests(where: Kubernetes, need: Need) -> dict[str, float]:
    """What a stage asks for in all: its machines, Ray's head and the supervisor."""
    total: dict[str, float] = {}
    quantities.add(total, of_machine(need.shape), need.machines)
    quantities.add(total, of_machine(where.head))
    quantities.add(total, of_machine(where.supervisor))
    return total


def of_machine(group: Group) -> dict[str, float]:
    """The requests of one machine."""
    wanted = {"cpu": float(group.cpu), "memory": float(group.memory or 0)}
    return {**wanted, group.gpu_resource: float(group.gpu)} if group.gpu else wanted


def _nodes(kube: Kube, where: Kubernetes, needs: list[Need]) -> Iterator[Finding]:
    """Some node must be able to hold a machine of each group when it is empty; an autoscaler might bring another."""
    nodes = kube.select(client.NODES)
    scaled = any(_is_scaled(node) for node in nodes)
    for need in {need.group: need for need in needs}.values():
        reasons = [why for node in nodes if (why := _misfit(node, where, need.shape))]
        if len(reasons) < len(nodes):
            yield Finding(
                f"nodes for '{need.group}'", True, f"{len(nodes) - len(reasons)} of {len(nodes)} could hold a machine"
            )
            continue
        found = f"none of {len(nodes)} could ever hold one: {'; '.join(dict.fromkeys(reasons))[:600]}"
        todo = f"change the group '{need.group}', or ask for such a node"
        yield Finding(f"nodes for '{need.group}'", None if scaled else False, found, todo)


def _is_scaled(node: dict[str, Any]) -> bool:
    """Whether the node looks like one that an autoscaler brought."""
    labels = node["metadata"].get("labels") or {}
    return any(mark in labels for mark in _SCALED)


def _misfit(node: dict[str, Any], where: Kubernetes, group: Group) -> str:
    """Why a machine of the group cannot be on a node, even alone; empty if it can."""
    labels = node["metadata"].get("labels") or {}
    selector, tolerations = _placement(where, group)
    wrong = [f"{key}={value}" for key, value in selector.items() if labels.get(key) != value]
    if wrong:
        return f"no label {', '.join(wrong)}"
    for taint in node["spec"].get("taints") or []:
        if taint["effect"] != "PreferNoSchedule" and not any(_tolerates(t, taint) for t in tolerations):
            return f"taint {taint['key']}:{taint['effect']}"
    room = {name: quantities.number(value) for name, value in node["status"]["allocatable"].items()}
    short = [
        f"{words(name, value)} of {words(name, room.get(name, 0.0))}"
        for name, value in of_machine(group).items()
        if value > room.get(name, 0.0)
    ]
    return f"needs {', '.join(short)}" if short else ""


def _placement(where: Kubernetes, group: Group) -> tuple[dict[str, str], list[Any]]:
    """The labels that its node must have and the taints that it bears, the users' pod templates laid over them."""
    selector, tolerations = dict(group.node_selector), list(group.tolerations)
    for template in (where.pod_template, group.pod_template):
        spec = template.get("spec") or {}
        selector |= spec.get("nodeSelector") or {}
        tolerations = list(spec.get("tolerations", tolerations))
    return selector, tolerations


def _tolerates(toleration: Any, taint: dict[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))
