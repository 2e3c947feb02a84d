"""Nodes: whether they could ever hold a run's machines, were they empty. Counted node by node; pods are not packed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.kube import client, quantities
from runner.kube.client import Kube
from runner.kube.needs import Amounts, Finding, Need, Pods, placement, pods_of
from runner.kube.quantities import amount, number, words
from runner.spec import Group, Kubernetes

#: Labels of nodes that an autoscaler may have brought.
_SCALED = (
    "karpenter.sh/nodepool", "cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
)  # fmt: skip
#: Taints that Kubernetes gives a node for a while: it is cordoned, away, or under pressure.
_PASSING = "node.kubernetes.io/"

Node = dict[str, Any]


def look(kube: Kube, where: Kubernetes, needs: list[Need]) -> Iterator[Finding]:
    """Each kind of pod must fit some node, and a stage's pods all of them; an autoscaler might bring others."""
    nodes = kube.select(client.NODES)
    unfit = None if any(_is_scaled(node) for node in nodes) else False
    largest = {need.group: need for need in sorted(needs, key=lambda need: need.machines)}
    for group, need in largest.items():
        machine, *others = pods_of(where, need)
        yield _one(where, nodes, f"'{group}'", machine, unfit)
        if need.machines > 1:
            yield from _gang(where, nodes, need, machine, unfit)
        yield from _together(where, nodes, need, (machine, *others), unfit)
    if needs:
        _, head, supervisor = pods_of(where, needs[0])
        yield _one(where, nodes, "the head", head, unfit)
        yield _one(where, nodes, "the supervisor", supervisor, unfit)


def _one(where: Kubernetes, nodes: list[Node], name: str, pods: Pods, unfit: bool | None) -> Finding:
    reasons = [why for node in nodes if (why := _misfit(node, where, pods))]
    fit = len(nodes) - len(reasons)
    if fit:
        return Finding(f"nodes for {name}", True, f"{fit} of {len(nodes)} could hold a machine")
    found = f"none of {len(nodes)} could ever hold one: {'; '.join(dict.fromkeys(reasons))[:600]}"
    return Finding(f"nodes for {name}", unfit, found, f"make {pods.what} smaller, or ask for such a node")


def _gang(where: Kubernetes, nodes: list[Node], need: Need, machine: Pods, unfit: bool | None) -> Iterator[Finding]:
    """All machines of a stage must be there at one time."""
    fit = [node for node in nodes if not _misfit(node, where, machine)]
    room = sum(_how_many(node, machine.requests) for node in fit)
    if fit and room < need.machines:
        found = f"{need.stage} needs {need.machines} machines, and {len(fit)} nodes could hold {room} when empty"
        yield Finding(f"nodes for '{need.group}' at one time", unfit, found, "ask for fewer workers, or for more nodes")


def _together(
    where: Kubernetes, nodes: list[Node], need: Need, all_pods: tuple[Pods, ...], unfit: bool | None
) -> Iterator[Finding]:
    """Machines, head and supervisor must be there at one time; said where each alone has a place."""
    if any(all(_misfit(node, where, pods) for node in nodes) for pods in all_pods):
        return
    wanted, room = Amounts(), Amounts()
    for pods in all_pods:
        quantities.add(wanted, pods.requests, pods.count)
    for node in nodes:
        if any(not _misfit(node, where, pods) for pods in all_pods):
            quantities.add(room, _allocatable(node))
    over = [f"{words(n, v)} of {amount(n, room[n])}" for n, v in wanted.items() if n in room and v > room[n]]
    if over:
        found = f"{need.stage} needs {', '.join(over)} that all nodes have, its head and supervisor included"
        yield Finding(f"nodes for {need.stage}", unfit, found, "ask for fewer workers, or for more nodes")


def _how_many(node: Node, requests: Amounts) -> int:
    room = _allocatable(node)
    each = {**requests, "pods": 1.0}
    return int(min(room.get(name, 0.0) / value for name, value in each.items() if value > 0))


def _allocatable(node: Node) -> Amounts:
    return {name: number(value) for name, value in node["status"]["allocatable"].items()}


def _is_scaled(node: Node) -> bool:
    """Whether the node looks like one that an autoscaler brought."""
    labels = node["metadata"].get("labels") or {}
    return any(mark in labels for mark in _SCALED)


def _misfit(node: Node, where: Kubernetes, pods: Pods) -> str:
    """Why such a pod cannot be on a node, even alone; empty if it can."""
    misplaced = _misplaced(node, where, pods.group)
    if misplaced:
        return misplaced
    room = _allocatable(node)
    short = [
        f"{words(name, value)} of {words(name, room.get(name, 0.0))}"
        for name, value in pods.requests.items()
        if value > room.get(name, 0.0)
    ]
    return f"needs {', '.join(short)}" if short else ""


def _misplaced(node: Node, where: Kubernetes, group: Group) -> str:
    """What of the node's labels and taints keeps such a machine away."""
    labels = node["metadata"].get("labels") or {}
    selector, tolerations = placement(where, group)
    wrong = [f"{key}={value}" for key, value in selector.items() if labels.get(key) != value]
    if wrong:
        return f"no label {', '.join(wrong)}"
    for taint in node["spec"].get("taints") or []:
        if taint["effect"] == "PreferNoSchedule" or taint["key"].startswith(_PASSING):
            continue
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            return f"taint {taint['key']}:{taint['effect']}"
    return ""


def _tolerates(toleration: Any, taint: dict[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))
