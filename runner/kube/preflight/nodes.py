"""Nodes: whether they could ever hold a run's machines, were they empty. Counted node by node; pods are not packed.

Refused is only what no node can hold where all nodes are there that will ever be. Nodes of a provider may be made when
they are needed, and nodes may be none yet: there nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.kube import client, quantities
from runner.kube.client import Kube
from runner.kube.preflight.needs import Amounts, Finding, Need, Needs, Pods
from runner.kube.quantities import amount, number, words
from runner.spec import Kubernetes

#: Labels and annotations of nodes that belong to a pool, or were made by a machine of the API: either may grow.
_SCALED = (
    "karpenter.sh/nodepool", "karpenter.sh/provisioner-name", "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup", "alpha.eksctl.io/nodegroup-name", "kubernetes.azure.com/agentpool",
    "kops.k8s.io/instancegroup", "worker.gardener.cloud/pool", "hcloud/node-group",
    "cluster.x-k8s.io/machine", "machine.openshift.io/machine",
)  # fmt: skip
#: Beginnings of a node's providerID where no provider makes its machine.
_FIXED = ("kind://", "k3s://", "k3d://", "rke2://", "minikube://", "kwok:")
#: Taints that a node has for a while: it is cordoned, away, under pressure, not ready yet, or about to go.
_PASSING = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "node.cilium.io/",
    "karpenter.sh/",
    "ToBeDeletedByClusterAutoscaler",
)
_BRING = "or say autoscaled=True of the group if an autoscaler brings them"

Node = dict[str, Any]


@dataclass(frozen=True)
class _Nodes:
    """The nodes of a cluster, as far as a run's machines could be on them.

    Args:
        all: nodes there are.
        scaled: whether others may be made.
    """

    where: Kubernetes
    all: list[Node]
    scaled: bool

    def unfit(self, *pods: Pods) -> bool | None:
        """What it means that they do not fit: False, or None where an autoscaler may help."""
        return None if self.scaled or any(each.autoscaled for each in pods) else False

    def for_one(self, pods: Pods, *, kindly: bool = False) -> list[Node]:
        """Those that could hold one such pod."""
        return [node for node in self.all if not _misfit(node, self.where, pods, kindly=kindly)]

    def room(self, pods: Pods, *, kindly: bool = False) -> int:
        """How many such pods they could hold when empty."""
        return sum(_how_many(node, pods.requests) for node in self.for_one(pods, kindly=kindly))


def look(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    """Each kind of pod must fit some node, and a stage's pods all of them; an autoscaler might bring others."""
    found = kube.select(client.NODES)
    if not found and needs.stages:
        yield Finding("nodes", None, "there are none now: whether any will come for a run is not to be seen")
        return
    nodes = _Nodes(where, found, any(_is_scaled(node) for node in found))
    largest = {need.group: need for need in sorted(needs.stages, key=lambda need: need.machine.count)}
    for group, need in largest.items():
        yield _one(nodes, f"'{group}'", need.machine)
        if need.machine.count > 1:
            yield from _gang(nodes, need)
        for name, pods in need.beside.items():
            yield _one(nodes, f"'{name}' for data", pods)
        yield from _together(nodes, need, needs.pods(need))
    if needs.stages:
        heads = [need.head for need in needs.stages]
        yield _one(nodes, "the head", max(heads, key=lambda head: len(head.containers)))
        yield _one(nodes, "the supervisor", needs.supervisor)


def _one(nodes: _Nodes, name: str, pods: Pods) -> Finding:
    fit = len(nodes.for_one(pods))
    if fit:
        return Finding(f"nodes for {name}", True, f"{fit} of {len(nodes.all)} could hold a machine")
    reasons = "; ".join(dict.fromkeys(_misfit(node, nodes.where, pods) for node in nodes.all))[:600]
    todo = f"make {pods.what} smaller, bear the taints, or ask for such nodes, {_BRING}"
    if nodes.for_one(pods, kindly=True):
        found = f"none of {len(nodes.all)} could hold one, unless the cluster adds tolerations to pods: {reasons}"
        return Finding(f"nodes for {name}", None, found, todo)
    found = f"none of {len(nodes.all)} could ever hold one: {reasons}"
    return Finding(f"nodes for {name}", nodes.unfit(pods), found, todo)


def _gang(nodes: _Nodes, need: Need) -> Iterator[Finding]:
    """All machines of a stage must be there at one time."""
    machine = need.machine
    fit, room = nodes.for_one(machine), nodes.room(machine)
    if fit and room < machine.count:
        found = f"{need.stage} needs {machine.count} machines, and {len(fit)} nodes could hold {room} when empty"
        good = None if nodes.room(machine, kindly=True) >= machine.count else nodes.unfit(machine)
        todo = f"ask for fewer workers, or for more nodes, {_BRING}"
        yield Finding(f"nodes for '{need.group}' at one time", good, found, todo)


def _together(nodes: _Nodes, need: Need, all_pods: tuple[Pods, ...]) -> Iterator[Finding]:
    """Machines, head and supervisor must be there at one time; said where each alone has a place."""
    if any(not nodes.for_one(pods) for pods in all_pods):
        return
    over = _over(nodes, all_pods)
    if over:
        found = f"{need.stage} needs {over} that all nodes have, its head and supervisor included"
        good = nodes.unfit(*all_pods) if _over(nodes, all_pods, kindly=True) else None
        todo = f"ask for fewer workers, or for more nodes, {_BRING}"
        yield Finding(f"nodes for {need.stage}", good, found, todo)


def _over(nodes: _Nodes, all_pods: tuple[Pods, ...], *, kindly: bool = False) -> str:
    """What all of them need more of than there is on the nodes that could hold any of them; empty if nothing."""
    wanted, room = Amounts(), Amounts()
    for pods in all_pods:
        quantities.add(wanted, pods.requests, pods.count)
    for node in nodes.all:
        if any(not _misfit(node, nodes.where, pods, kindly=kindly) for pods in all_pods):
            quantities.add(room, _allocatable(node))
    return ", ".join(f"{words(n, v)} of {amount(n, room[n])}" for n, v in wanted.items() if n in room and v > room[n])


def _how_many(node: Node, requests: Amounts) -> int:
    room = _allocatable(node)
    each = {**requests, "pods": 1.0}
    return int(min(room.get(name, 0.0) / value for name, value in each.items() if value > 0))


def _allocatable(node: Node) -> Amounts:
    """What pods may have of it; devices that are out of order for now are counted as if they were not."""
    status = node["status"]
    room = {name: number(value) for name, value in status["allocatable"].items()}
    for name, value in (status.get("capacity") or {}).items():
        if "/" in name:
            room[name] = max(number(value), room.get(name, 0.0))
    return room


def _is_scaled(node: Node) -> bool:
    """Whether the node looks like one that is made, or like one of a pool that may grow."""
    metadata, provider = node["metadata"], node["spec"].get("providerID") or ""
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return any(mark in marks for mark in _SCALED) or bool(provider and not provider.startswith(_FIXED))


def _misfit(node: Node, where: Kubernetes, pods: Pods, *, kindly: bool = False) -> str:
    """Why such a pod cannot be on a node, even alone; empty if it can.

    Args:
        kindly: pass over taints that the cluster may have pods bear by itself.
    """
    misplaced = _misplaced(node, where, pods, kindly=kindly)
    if misplaced:
        return misplaced
    room = _allocatable(node)
    short = [
        f"{words(name, value)} of {words(name, room.get(name, 0.0))}"
        for name, value in pods.requests.items()
        if value > room.get(name, 0.0)
    ]
    return f"needs {', '.join(short)}" if short else ""


def _misplaced(node: Node, where: Kubernetes, pods: Pods, *, kindly: bool) -> str:
    """What of the node's labels and taints keeps such a machine away."""
    labels = node["metadata"].get("labels") or {}
    wrong = [f"{key}={value}" for key, value in pods.selector.items() if labels.get(key) != value]
    if wrong:
        return f"no label {', '.join(wrong)}"
    for taint in node["spec"].get("taints") or []:
        if taint["effect"] == "PreferNoSchedule" or taint["key"].startswith(_PASSING):
            continue
        if kindly and _may_be_borne(taint, where, pods):
            continue
        if not any(_tolerates(toleration, taint) for toleration in pods.tolerations):
            return f"taint {taint['key']}:{taint['effect']}"
    return ""


def _may_be_borne(taint: dict[str, Any], where: Kubernetes, pods: Pods) -> bool:
    """Whether something may add the toleration to a pod: a queue's flavor any, Kubernetes that of its own devices.

    The latter is its admission plugin ExtendedResourceToleration, which some providers have and others have not.
    """
    if where.queue is not None:
        return True
    device = "/" in taint["key"] and pods.requests.get(taint["key"], 0.0) > 0
    return device and bool(taint["effect"] == "NoSchedule")


def _tolerates(toleration: Any, taint: dict[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))
