"""The quota of a namespace: what there is, what is used, who holds it and who waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runner.kube import client, names, pods, quantities
from runner.kube.client import Kube, KubeError

#: How a quota names objects that are no machines.
_COUNTS = ("count/", "services", "persistentvolumeclaims")
#: Nobody waits for it: a run asks for next to none, and claims are no part of one.
_DISK = ("ephemeral-storage", "storage")


@dataclass(frozen=True)
class Share:
    """One resource of one quota.

    Args:
        source: 'queue NAME' or 'quota NAME'.
        resource: such as 'cpu', 'memory' (bytes) or 'nvidia.com/gpu'.
    """

    source: str
    resource: str
    used: float
    limit: float


@dataclass
class Holder:
    """A run that holds machines, or waits for them.

    Args:
        state: 'holds', or 'waits' where none of its machines runs.
        since: seconds since 1970.
        resources: that its pods ask for.
        words: what it waits for.
    """

    run: str
    state: str
    since: float
    by: str = ""
    resources: dict[str, float] = field(default_factory=dict)
    words: str = ""


def shares(kube: Kube) -> list[Share]:
    """Of the namespace's ResourceQuotas, and of the ClusterQueues behind its LocalQueues."""
    quotas = [quota for quota in kube.select(client.QUOTAS) if not _of_some_pods(quota)]
    found = [share for quota in quotas for share in _of_quota(quota)]
    try:
        queues = kube.select(client.LOCAL_QUEUES)
    except KubeError as error:
        if error.status not in (403, 404):
            raise
        queues = []
    for queue in queues:
        found += _of_queue(kube, queue)
    return [share for share in found if share.resource.rpartition(".")[2] not in _DISK]


def unfinished_in(kube: Kube, name: str) -> list[str]:
    """The names of Kueue's workloads in a LocalQueue."""
    there = [each for each in kube.select(client.WORKLOADS) if each["spec"].get("queueName") == name]
    return [w["metadata"]["name"] for w in there if pods.condition(w, "Finished").get("status") != "True"]


def _of_some_pods(quota: dict[str, Any]) -> bool:
    return bool(quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"))


def _of_quota(quota: dict[str, Any]) -> list[Share]:
    hard, used = quota["spec"].get("hard") or {}, (quota.get("status") or {}).get("used") or {}
    source = f"quota {quota['metadata']['name']}"
    return [
        Share(source, name.removeprefix("requests."), quantities.number(used.get(name, 0)), quantities.number(value))
        for name, value in hard.items()
        if not name.startswith(_COUNTS)
    ]


def _of_queue(kube: Kube, queue: dict[str, Any]) -> list[Share]:
    name = queue["metadata"]["name"]
    used: dict[str, float] = {}
    status = queue.get("status") or {}
    for flavor in status.get("flavorUsage") or status.get("flavorsUsage") or []:  # v1beta1, and v1beta2
        for resource in flavor.get("resources") or []:
            used[resource["name"]] = used.get(resource["name"], 0.0) + quantities.number(resource["total"])
    limits: dict[str, float] = {}
    try:
        cluster = kube.find(client.CLUSTER_QUEUES, queue["spec"]["clusterQueue"]) or {"spec": {}}
    except KubeError as error:
        if error.status != 403:
            raise
        cluster = {"spec": {}}  # a team may not see it; what is used can still be told
    for group in cluster["spec"].get("resourceGroups") or []:
        for flavor in group["flavors"]:
            for resource in flavor["resources"]:
                limit = quantities.number(resource["nominalQuota"])
                limits[resource["name"]] = limits.get(resource["name"], 0.0) + limit
    return [Share(f"queue {name}", r, used.get(r, 0.0), limits.get(r, float("nan"))) for r in {**limits, **used}]


def holders(kube: Kube) -> list[Holder]:
    """Runs with machines first, then those that wait, oldest first."""
    found: dict[str, Holder] = {}
    for ray_job in kube.select(client.RAY_JOBS, names.RUN):
        holder = _holder(ray_job)
        known = found.get(holder.run)  # one that goes, or is made early, beside that of the leg at work
        if known is None or known.state == "waits":
            found[holder.run] = holder
    phases: dict[str, list[str]] = {run: [] for run in found}
    for pod in kube.select(client.PODS, names.RUN):
        run, phase = pod["metadata"]["labels"][names.RUN], (pod.get("status") or {}).get("phase")
        if run in found and phase in ("Pending", "Running"):
            if pod["metadata"]["labels"].get(names.ROLE) != names.SUPERVISOR:
                phases[run].append(phase)
            for container in pod["spec"]["containers"]:
                asked = (container.get("resources") or {}).get("requests") or {}
                quantities.add(found[run].resources, {k: quantities.number(v) for k, v in asked.items()})
    for run, holder in found.items():
        if holder.state == "holds" and "Running" not in phases[run]:
            holder.state, holder.words = "waits", _words(len(phases[run]))
    return sorted(found.values(), key=lambda holder: (holder.state, holder.since))


def _words(pending: int) -> str:
    if not pending:
        return "machines: none has been made, or all were refused"
    return f"machines: {pending} {'pods are' if pending > 1 else 'pod is'} pending"


def _holder(ray_job: dict[str, Any]) -> Holder:
    metadata = ray_job["metadata"]
    waits = bool(ray_job["spec"].get("suspend"))
    return Holder(
        run=metadata["labels"][names.RUN],
        state="waits" if waits else "holds",
        since=pods.seconds(metadata["creationTimestamp"]),
        by=(metadata.get("annotations") or {}).get(names.BY, ""),
        words=f"queue {metadata['labels'].get(names.QUEUE, '')}" if waits else "",
    )
