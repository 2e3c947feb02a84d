"""What a run asks of a cluster, as Kubernetes counts it: pods, their containers, requests and limits. And findings.

All of it is read from the very objects that are applied, and from what KubeRay is known to add to their pods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from runner.kube import names, quantities
from runner.kube.quantities import number
from runner.spec import Cluster

Amounts = dict[str, float]
Body = dict[str, Any]


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

    @classmethod
    def of(cls, name: str, resources: Mapping[str, Any]) -> Container:
        """As a manifest has it: who names a limit alone asks for as much."""
        limits = _numbers(resources.get("limits"))
        return cls(name, {**limits, **_numbers(resources.get("requests"))}, limits)


@dataclass(frozen=True)
class Pods:
    """Pods of one kind that are there at one time.

    Args:
        what: one of them, in words.
        containers: of one of them; `inits` run before, one by one.
        selector: the labels that its node must have.
        tolerations: the taints that it bears.
        autoscaled: nodes may be made for it.
    """

    what: str
    count: int
    containers: tuple[Container, ...]
    inits: tuple[Container, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    autoscaled: bool = False

    @classmethod
    def of(
        cls,
        what: str,
        template: Body,
        *,
        count: int = 1,
        autoscaled: bool = False,
        beside: Sequence[Container] = (),
        before: Sequence[Container] = (),
    ) -> Pods:
        """The pods of a template.

        Args:
            beside, before: containers that an operator adds, to run with its own or before them.
        """
        spec = template["spec"]
        own = [_container(each) for each in spec["containers"]]
        first = spec.get("initContainers") or ()
        stay = [_container(each) for each in first if each.get("restartPolicy") == "Always"]
        end = [_container(each) for each in first if each.get("restartPolicy") != "Always"]
        return cls(
            what,
            count,
            (*stay, *own, *beside),
            (*before, *end),
            spec.get("nodeSelector") or {},
            tuple(spec.get("tolerations") or ()),
            autoscaled,
        )

    @cached_property
    def whole(self) -> Container:
        """One pod as the scheduler counts it: the sum of its containers, or what runs before where that is more."""
        requests, limits = Amounts(), Amounts()
        for each in self.containers:
            quantities.add(requests, each.requests)
            quantities.add(limits, each.limits)
        for each in self.inits:
            for total, own in ((requests, each.requests), (limits, each.limits)):
                total.update({name: max(value, total.get(name, 0.0)) for name, value in own.items()})
        return Container("", requests, limits)

    @property
    def requests(self) -> Amounts:
        """Of one pod."""
        return self.whole.requests

    @property
    def limits(self) -> Amounts:
        """Of one pod."""
        return self.whole.limits


@dataclass(frozen=True)
class Need:
    """What a stage asks for at one time.

    Args:
        group: the name of the machines'.
        machine: one machine of it, and how many.
        head: Ray's.
        beside: machines of a group, in words -> those that transform batches for it.
    """

    stage: str
    group: str
    machine: Pods
    head: Pods
    beside: Mapping[str, Pods] = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """What a run asks for: a supervisor all the time, and for each stage in its turn its machines."""

    supervisor: Pods
    stages: tuple[Need, ...] = ()

    @classmethod
    def of(cls, cluster: Cluster, job: Body, ray_jobs: Mapping[str, Body]) -> Needs:
        """What the objects of a run ask for.

        Args:
            job: of the supervisor.
            ray_jobs: stage, in words -> its RayJob.
        """
        where = cluster.kubernetes
        assert where is not None
        template, autoscaled = job["spec"]["template"], where.supervisor.autoscaled
        supervisor = Pods.of("the supervisor", template, autoscaled=autoscaled)
        return cls(supervisor, tuple(_need(cluster, *each) for each in ray_jobs.items()))

    def pods(self, need: Need) -> tuple[Pods, ...]:
        """All that are there with a stage: its machines, Ray's head and the supervisor."""
        return need.machine, *need.beside.values(), need.head, self.supervisor


def templates(body: Body) -> Iterator[tuple[str, Body]]:
    """The pod templates of a supervisor's Job, or of a RayJob, in words."""
    if body["kind"] == "Job":
        yield "pod", body["spec"]["template"]
        return
    cluster = body["spec"]["rayClusterSpec"]
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield "worker", group["template"]


def _need(cluster: Cluster, stage: str, ray_job: Body) -> Need:
    """With what KubeRay adds to the pods of a RayCluster: who waits for the head, and an autoscaler beside it."""
    spec = ray_job["spec"]["rayClusterSpec"]
    group, *others = spec["workerGroupSpecs"]
    name, where = group["groupName"], cluster.kubernetes
    assert where is not None
    autoscaler = []
    if spec.get("enableInTreeAutoscaling"):
        autoscaler.append(Container.of("autoscaler", spec["autoscalerOptions"]["resources"]))
    machine = Pods.of(
        f"a machine of group '{name}'",
        group["template"],
        count=group["replicas"],
        before=(_container(_WAITS),),
        autoscaled=cluster.groups[name].autoscaled,
    )
    template = spec["headGroupSpec"]["template"]
    head = Pods.of("Ray's head", template, beside=autoscaler, autoscaled=where.head.autoscaled)
    return Need(stage, name, machine, head, dict(_beside(cluster, name, each) for each in others))


def _beside(cluster: Cluster, ranks: str, group: Body) -> tuple[str, Pods]:
    name = next(name for name in cluster.groups if names.data_group(name, ranks) == group["groupName"])
    what = f"a machine of group '{name}' for data"
    autoscaled = cluster.groups[name].autoscaled
    before = (_container(_WAITS),)
    return name, Pods.of(what, group["template"], count=group["replicas"], before=before, autoscaled=autoscaled)


def _container(body: Mapping[str, Any]) -> Container:
    return Container.of(body["name"], body.get("resources") or {})


def _numbers(amounts: Mapping[str, Any] | None) -> Amounts:
    return {name: number(value) for name, value in (amounts or {}).items()}


#: KubeRay has workers wait for the head in a container of its own.
_WAITS = {"name": "wait-gcs-ready", "resources": {"limits": {"cpu": "200m", "memory": "256Mi"}}}
