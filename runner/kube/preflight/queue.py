"""Kueue: the queues that a run goes to, whether they could ever admit it, and what Kueue does to what names none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.errors import listed
from runner.kube import client, names, pods, quantities
from runner.kube.client import Kube, KubeError, Resource
from runner.kube.preflight.admission import Answer
from runner.kube.preflight.kueue import Quota, unfit
from runner.kube.preflight.needs import Body, Finding, Needs, Pods
from runner.spec import Kubernetes


def look(answers: list[Answer], kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    """The queue of the machines, and that of the supervisor.

    Args:
        answers: of dry runs of the run's objects.
    """
    machines = where.queue or (yield from _given(kube, answers, "RayJob", "queue"))
    supervisor = where.supervisor_queue or (yield from _given(kube, answers, "Job", "supervisor_queue"))
    queues = {name: body for name in filter(None, (machines, supervisor)) if (body := _local(kube, name))}
    for field, name in (("queue", machines), ("supervisor queue", supervisor)):
        if name is not None:
            yield _there(kube, field, name, queues.get(name))
    if machines is None:
        yield from _passed_by(kube)
    behind = {name: body["spec"]["clusterQueue"] for name, body in queues.items()}
    if machines in behind:
        shared = [needs.supervisor] if behind.get(supervisor) == behind[machines] else []
        stages = {need.stage: [need.machine, *need.beside.values(), need.head, *shared] for need in needs.stages}
        yield from _admitted(kube, f"quota of queue {machines}", behind[machines], stages)
    if supervisor in behind and behind[supervisor] != behind.get(machines):
        stages = {"a supervisor": [needs.supervisor]}
        yield from _admitted(kube, f"quota of queue {supervisor}", behind[supervisor], stages)


def priority(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    """The class must exist: a pod that names another is refused, and a workload waits for ever."""
    if where.priority is None:
        return
    what, kind = (
        (client.WORKLOAD_PRIORITIES, "WorkloadPriorityClass") if where.queue else (client.PRIORITIES, "PriorityClass")
    )
    if kube.find(what, where.priority) is not None:
        yield Finding("priority", True, f"{kind} {where.priority}")
        return
    others = _select(kube, what)
    if others is None and _has_kueue(kube):
        yield Finding("priority", None, f"this Kueue serves no {kind} that is known here")
        return
    known = [each["metadata"]["name"] for each in others or []]
    todo = f"one of {listed(known)}" if known else f"leave `priority` out, or ask for a {kind}"
    yield Finding("priority", False, f"no {kind} '{where.priority}'", todo)


# -- queues ----------------------------------------------------------------------------------------------------------


def _there(kube: Kube, field: str, name: str, found: Body | None) -> Finding:
    if found is not None:
        waiting = (found.get("status") or {}).get("pendingWorkloads") or 0
        active = pods.condition(found, "Active")
        if active.get("status") == "False":
            return Finding(
                field, None, f"{name} is not active: {active.get('message', '')}", "ask who runs the cluster"
            )
        return Finding(field, True, f"{name}, in which {waiting} wait" if waiting else name)
    others = _select(kube, client.LOCAL_QUEUES)
    if others is None and _has_kueue(kube):
        return Finding(field, None, "this Kueue serves no LocalQueues that are known here")
    if others is None:
        return Finding(field, False, "the API serves no LocalQueues", "install Kueue, or leave the queue out")
    known = [each["metadata"]["name"] for each in others]
    todo = f"one of {listed(known)}" if known else "ask for a LocalQueue: runner admin tenant"
    return Finding(field, False, f"no LocalQueue '{name}' in namespace '{kube.namespace}'", todo)


def _passed_by(kube: Kube) -> Iterator[Finding]:
    """Machines that no queue has seen take the room of those that one has admitted."""
    try:
        there = [each["metadata"]["name"] for each in _select(kube, client.LOCAL_QUEUES) or []]
    except KubeError as error:
        if error.status != 403:
            raise
        return
    if there:
        found = f"no `queue` is named, although namespace '{kube.namespace}' has {listed(there)}"
        todo = "the run passes by whoever waits there; name one in the cluster's `kubernetes`, or with --queue"
        yield Finding("queue left out", None, found, todo, told=True)


def _local(kube: Kube, name: str) -> Body | None:
    return kube.find(client.LOCAL_QUEUES, name)


def _select(kube: Kube, what: Resource) -> list[Body] | None:
    """None where the API knows no such objects."""
    try:
        return kube.select(what)
    except KubeError as error:
        if error.status == 404:
            return None
        raise


def _has_kueue(kube: Kube) -> bool:
    """Whether there is one, of whichever version."""
    return any(group["name"] == "kueue.x-k8s.io" for group in kube.request("GET", "/apis").get("groups", []))


def _admitted(kube: Kube, name: str, cluster_queue: str, stages: dict[str, list[Pods]]) -> Iterator[Finding]:
    """Whether a queue could ever admit each, were nothing else in it."""
    try:
        body = kube.find(client.CLUSTER_QUEUES, cluster_queue)
        quota = None if body is None else Quota.of(kube, body)
    except KubeError as error:
        if error.status != 403:
            raise
        yield Finding(name, None, "ClusterQueues are not to be seen with these rights")
        return
    if quota is None:
        todo = "ask who runs the cluster"
        yield Finding(name, False, f"its ClusterQueue '{cluster_queue}' does not exist", todo)
        return
    never: list[str] = []
    unknown: list[str] = []
    for stage, parts in stages.items():
        sets = [(each.what, _times(each)) for each in parts]
        for certain, words in unfit(quota, sets):
            (never if certain else unknown).append(f"{stage}: {words}")
    if never:
        todo = "ask for fewer or smaller machines, or for more quota in that ClusterQueue"
        yield Finding(name, False, "; ".join(dict.fromkeys(never)), todo)
    elif unknown:
        yield Finding(name, None, "; ".join(dict.fromkeys(unknown)), "ask who runs the cluster")
    else:
        yield Finding(name, True, f"could admit {', '.join(stages)}" if stages else cluster_queue)


def _times(each: Pods) -> dict[str, float]:
    total: dict[str, float] = {}
    quantities.add(total, each.requests, each.count)
    return total


# -- what names no queue ---------------------------------------------------------------------------------------------


def _given(kube: Kube, answers: list[Answer], kind: str, field: str) -> Any:
    """A generator: yields a finding where Kueue would hold such an object for ever, and returns the queue it goes to.

    Kueue's webhook suspends what it manages, and may name a queue for it; a dry run has passed through it.
    """
    made = next((answer.made for answer in answers if answer.kind == kind and answer.made is not None), None)
    if made is None:
        return None
    queue = (made["metadata"].get("labels") or {}).get(names.QUEUE)
    if made["spec"].get("suspend") and queue is None:
        todo = f"name a LocalQueue as `{field}` in the cluster's `kubernetes`"
        if field == "supervisor_queue":
            todo += ", one with a quota of its own (runner admin tenant makes one)"
        found = f"Kueue suspends every {kind} of namespace '{kube.namespace}' that names no queue"
        yield Finding(field.replace("_", " "), False, found, todo)
    return queue
