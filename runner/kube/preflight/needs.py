"""What a run asks of a cluster, as Kubernetes counts it: pods, their containers, requests and limits. And findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.kube import quantities
from runner.kube.quantities import number
from runner.spec.cluster import Group, Kubernetes

Amounts = dict[str, float]
#: The name of our container in every pod, by which a `pod_template` speaks of it.
_MAIN = "main"
#: KubeRay has workers wait for the head in a container of its own.
_WAITS = {"cpu": 0.2, "memory": float(256 * 2**20)}
_AUTOSCALER = ({"cpu": 0.1, "memory": float(512 * 2**20)}, {"memory": float(2**30)})


@dataclass(frozen=True)
class Need:
    """Machines that a stage asks for at one time.

    Args:
        group: its name; `shape` is what one machine is, `machines` how many.
        grows: whether Ray's autoscaler may ask for more of them; it has a container beside the head.
    """

    stage: str
    group: str
    shape: Group
    machines: int
    grows: bool = False


@dataclass(frozen=True)
class Finding:
    """One check.

    Args:
        name: what was looked at.
        good: True, False, or None where it could not be told (no right to look, mostly).
        found: what was seen.
        todo: what would mend it.
        told: whether a submit says it too, though it is no hindrance.
    """

    name: str
    good: bool | None
    found: str
    todo: str = ""
    told: bool = False


@dataclass(frozen=True)
class Container:
    """What one container of a pod asks for, before the defaults of its namespace."""

    name: str
    requests: Amounts
    limits: Amounts


@dataclass(frozen=True)
class Pods:
    """Pods of one kind that are there at one time.

    Args:
        what: one of them, in words.
        group: the shape of the machine, for its place.
        containers: of one of them; `inits` run before, one by one.
    """

    what: str
    count: int
    group: Group
    containers: tuple[Container, ...]
    inits: tuple[Container, ...] = ()

    @property
    def requests(self) -> Amounts:
        """Of one pod, as the scheduler counts it."""
        return _total(container.requests for container in self.containers)

    @property
    def limits(self) -> Amounts:
        """Of one pod."""
        return _total(container.limits for container in self.containers)


def pods_of(where: Kubernetes, need: Need) -> tuple[Pods, ...]:
    """The pods of a stage: its machines, Ray's head and the supervisor."""
    waits = (Container("wait-gcs-ready", _WAITS, _WAITS),)
    machine = f"a machine of group '{need.group}'"
    head = _containers(where, where.head)
    if need.grows:
        requests, limits = _AUTOSCALER
        cores = {"cpu": 1.0} if any("cpu" in each.limits for each in head) else {}
        head += (Container("autoscaler", requests, {**limits, **cores}),)
    return (
        Pods(machine, need.machines, need.shape, _containers(where, need.shape), waits),
        Pods("Ray's head", 1, where.head, head),
        supervisor_pod(where),
    )


def supervisor_pod(where: Kubernetes) -> Pods:
    """The pod of a run's supervisor."""
    return Pods("the supervisor", 1, where.supervisor, _containers(where, where.supervisor))


def of_machine(group: Group) -> Amounts:
    """The requests of one machine, before any template."""
    wanted = {"cpu": float(group.cpu), "memory": float(group.memory or 0)}
    return {**wanted, group.gpu_resource: float(group.gpu)} if group.gpu else wanted


def placement(where: Kubernetes, group: Group) -> tuple[dict[str, str], list[Any]]:
    """The labels that its node must have and the taints that it bears, the users' pod templates laid over them."""
    selector, tolerations = dict(group.node_selector), list(group.tolerations)
    for template in (where.pod_template, group.pod_template):
        spec = template.get("spec") or {}
        selector |= spec.get("nodeSelector") or {}
        tolerations = list(spec.get("tolerations", tolerations))
    return selector, tolerations


def _containers(where: Kubernetes, group: Group) -> tuple[Container, ...]:
    """Ours, and what the users' pod templates add: to it, or beside it. Cores are a request and no limit."""
    requests = of_machine(group)
    found = {_MAIN: (requests, {name: value for name, value in requests.items() if name != "cpu"})}
    for template in (where.pod_template, group.pod_template):
        for container in (template.get("spec") or {}).get("containers") or ():
            more = container.get("resources") or {}
            before = found.get(container["name"], ({}, {}))
            limits = {**before[1], **_numbers(more.get("limits"))}
            asked = {**before[0], **_numbers(more.get("requests"))}
            found[container["name"]] = ({**limits, **asked}, limits)  # who names a limit alone asks for as much
    return tuple(Container(name, *amounts) for name, amounts in found.items())


def _numbers(amounts: Mapping[str, Any] | None) -> Amounts:
    return {name: number(value) for name, value in (amounts or {}).items()}


def _total(amounts: Iterator[Amounts]) -> Amounts:
    total: Amounts = {}
    for each in amounts:
        quantities.add(total, each)
    return total
