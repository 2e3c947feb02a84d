"""What is seen of a run on Kubernetes, and how its objects are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runner.errors import Cause
from runner.kube import client, names, pods
from runner.kube.client import Kube, KubeError

#: Kueue's label of a Workload: the uid of the job that it is for.
JOB_UID = "kueue.x-k8s.io/job-uid"
#: What a node autoscaler (cluster-autoscaler, Karpenter) says of a pod that no node has room for.
SCALING = {
    "TriggeredScaleUp": "nodes are coming",
    "NotTriggerScaleUp": "no nodes will come",
    "Nominated": "a node is coming",
}
#: What helps a pod that gets no machine.
HELPS = {
    Cause.QUOTA: "`runner queue` shows who holds the quota; ask for less, or wait for another run's end",
    Cause.NO_ROOM: "a node with more room, or fewer or smaller machines",
    Cause.NO_NODE: "check the group's node_selector and tolerations",
}
_PULLS = ("Pulling", "Pulled")


@dataclass(frozen=True)
class Seen:
    """The objects of one run."""

    run_id: str
    job: Body | None
    pods: list[Body] = field(default_factory=list)
    ray_jobs: list[Body] = field(default_factory=list)
    ray_clusters: list[Body] = field(default_factory=list)
    workloads: list[Body] = field(default_factory=list)
    events: list[Body] = field(default_factory=list)


def look(kube: Kube, run_id: str) -> Seen:
    """Ask the API, for this run's objects alone: others' may be many. What these rights may not see is left out."""
    labels = names.of_run(run_id)
    job = kube.find(client.JOBS, run_id)
    ray_jobs = _may(kube, client.RAY_JOBS, labels)
    clusters = _may(kube, client.RAY_CLUSTERS, labels)
    mine = _may(kube, client.PODS, labels)
    workloads = _workloads(kube, ray_jobs if job is None else [job, *ray_jobs])
    events = _events(kube, job, mine, [*ray_jobs, *clusters])
    return Seen(run_id, job, mine, ray_jobs, clusters, workloads, events)


def _may(kube: Kube, what: client.Resource, labels: str = "", fields: str = "") -> list[Body]:
    try:
        return kube.select(what, labels, fields)
    except KubeError as error:
        if error.status in (403, 404):
            return []
        raise


def _workloads(kube: Kube, jobs: list[Body]) -> list[Body]:
    """Kueue's, of these."""
    uids = [body["metadata"]["uid"] for body in jobs if is_queued(body)]
    return _may(kube, client.WORKLOADS, f"{JOB_UID} in ({','.join(uids)})") if uids else []


def _events(kube: Kube, job: Body | None, mine: list[Body], machines: list[Body]) -> list[Body]:
    """About the run's objects: refusals to make the pods that are missing, volumes that cannot be mounted, images that
    are being pulled, what a node autoscaler says.
    """
    supervised = any(role_of(pod) == names.SUPERVISOR for pod in mine)
    owners = [job] if job is not None and not supervised else []
    if all(role_of(pod) == names.SUPERVISOR for pod in mine):
        owners += machines
    wanted = [f"type=Warning,involvedObject.name={owner['metadata']['name']}" for owner in owners]
    pending = [pod for pod in mine if (pod.get("status") or {}).get("phase") == "Pending"]
    if pending:
        wanted.append("type=Warning,reason=FailedMount,involvedObject.kind=Pod")
    if any(pods.scheduled_at(pod) is not None for pod in pending):
        wanted += [f"reason={reason},involvedObject.kind=Pod" for reason in _PULLS]
    if any(pods.condition(pod, "PodScheduled").get("status") == "False" for pod in mine):
        wanted += [f"reason={reason},involvedObject.kind=Pod" for reason in SCALING]
    return [event for fields in wanted for event in _may(kube, client.EVENTS, fields=fields)]


def owner_of(body: Body) -> str:
    owners = body["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("name", ""))


def is_queued(ray_job: Body) -> bool:
    return names.QUEUE in (ray_job["metadata"].get("labels") or {})


def events_about(seen: Seen, pod: Body, reason: str) -> list[Body]:
    uid = pod["metadata"].get("uid")
    return [e for e in seen.events if e.get("reason") == reason and e["involvedObject"].get("uid") == uid]


def words_of(event: Body) -> str:
    return " ".join(str(event.get("message", "")).split())


def when_of(event: Body) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")


def role_of(pod: Body) -> str:
    return str((pod["metadata"].get("labels") or {}).get(names.ROLE, "pod"))


def is_running(pod: Body) -> bool:
    """Whether its containers all run, or have run: whether they are ready is for KubeRay to judge."""
    return (pod.get("status") or {}).get("phase") in ("Running", "Succeeded")


def condition_that_holds(body: Body, kind: str) -> Body | None:
    found = pods.condition(body, kind)
    return found if found.get("status") == "True" else None


def since_of(condition: Body) -> float | None:
    stamp = condition.get("lastTransitionTime")
    return pods.seconds(stamp) if stamp else None


Body = dict[str, Any]
