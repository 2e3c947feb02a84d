"""One answer to "why is nothing happening?": what a run waits for, since when, and what helps.

`look` asks the API once; `reasons` is pure, so that each answer can be tested with objects as they were seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from runner.kube import client, names, pods
from runner.kube.client import Kube, KubeError

Body = dict[str, Any]

_IMAGE_WAITS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
#: Kueue's label of a Workload: the uid of the job that it is for.
JOB_UID = "kueue.x-k8s.io/job-uid"
#: What a node autoscaler (cluster-autoscaler, Karpenter) says of a pod that no node has room for.
_SCALING = {
    "TriggeredScaleUp": "nodes are coming",
    "NotTriggerScaleUp": "no nodes will come",
    "Nominated": "a node is coming",
}
_CONFIG_WAITS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True)
class Reason:
    """Args:
    waits_for: what must happen first, in a sentence.
    since: seconds since 1970.
    helps: what would unblock it; empty where only time does.
    until: seconds since 1970 when a deadline ends the waiting.
    """

    waits_for: str
    since: float | None = None
    helps: str = ""
    until: float | None = None


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
    uids = [body["metadata"]["uid"] for body in jobs if _queued(body)]
    return _may(kube, client.WORKLOADS, f"{JOB_UID} in ({','.join(uids)})") if uids else []


def _events(kube: Kube, job: Body | None, mine: list[Body], machines: list[Body]) -> list[Body]:
    """Warnings about the run's objects: refusals to make the pods that are missing, volumes that cannot be mounted."""
    supervised = any(_role(pod) == names.SUPERVISOR for pod in mine)
    owners = [job] if job is not None and not supervised else []
    if all(_role(pod) == names.SUPERVISOR for pod in mine):
        owners += machines
    wanted = [f"type=Warning,involvedObject.name={owner['metadata']['name']}" for owner in owners]
    if any((pod.get("status") or {}).get("phase") == "Pending" for pod in mine):
        wanted.append("type=Warning,reason=FailedMount,involvedObject.kind=Pod")
    if any(pods.condition(pod, "PodScheduled").get("status") == "False" for pod in mine):
        wanted += [f"reason={reason},involvedObject.kind=Pod" for reason in _SCALING]
    return [event for fields in wanted for event in _may(kube, client.EVENTS, fields=fields)]


def _owner(body: Body) -> str:
    owners = body["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("name", ""))


def _queued(ray_job: Body) -> bool:
    return names.QUEUE in (ray_job["metadata"].get("labels") or {})


# -- the answer ------------------------------------------------------------------------------------------------------


def reasons(seen: Seen) -> list[Reason]:
    """What the run waits for, the most telling first; empty where its machines are all there and working."""
    found = [*_of_supervisor(seen), *_of_queue(seen), *_of_cluster(seen), *_of_pods(seen)]
    until = _until(seen)
    return list({reason.waits_for: replace(reason, until=until) for reason in found}.values())


def _until(seen: Seen) -> float | None:
    """When the attempt that waits for its machines is given up. Time in a queue does not count."""
    for ray_job in seen.ray_jobs:
        spec, status = ray_job["spec"], ray_job.get("status") or {}
        if spec.get("suspend") or not status.get("startTime") or status.get("jobDeploymentStatus") != "Initializing":
            continue
        limits = [spec[key] for key in ("preRunningDeadlineSeconds", "activeDeadlineSeconds") if key in spec]
        return pods.seconds(status["startTime"]) + min(limits) if limits else None
    return None


def _of_supervisor(seen: Seen) -> Iterator[Reason]:
    if seen.job is None:
        yield Reason("nothing: there is no supervisor any more", helps="`runner resume` starts another")
        return
    over = next(filter(None, (_true(seen.job, kind) for kind in ("Complete", "Failed"))), None)
    if over is not None:
        if over["type"] == "Failed":
            words = f"nothing: the supervisor's Job has failed: {over.get('message', '')}"
            yield Reason(words, _since(over), "`runner resume` starts another")
        return
    mine = [pod for pod in seen.pods if _role(pod) == names.SUPERVISOR]
    created = pods.seconds(seen.job["metadata"]["creationTimestamp"])
    if seen.job["spec"].get("suspend"):
        if not _queued(seen.job):  # its queue, if it names one, is told of with those of the machines
            helps = "Kueue manages every Job of this namespace: name `supervisor_queue` in the cluster's `kubernetes`"
            yield Reason("nothing: the supervisor's Job is suspended, and names no queue", created, helps)
    elif not mine:
        denied = _denied(seen, "Job")
        yield denied or Reason("the supervisor's pod to be made", created, "is the controller manager up?")
    elif not seen.ray_jobs and all(_runs(pod) for pod in mine) and not any(True for _ in _of_pods(seen)):
        going = [pod for pod in seen.pods if _role(pod) != names.SUPERVISOR]
        if going:
            yield Reason(f"its {len(going)} pods to be gone" if len(going) > 1 else "its last pod to be gone")
        else:
            yield Reason("the supervisor to ask for machines")  # at the start, and for a moment between two legs


def _of_queue(seen: Seen) -> Iterator[Reason]:
    for job in [*([seen.job] if seen.job is not None else []), *seen.ray_jobs]:
        if not job["spec"].get("suspend") or not _queued(job):
            continue
        queue = job["metadata"]["labels"][names.QUEUE]
        workload = next((w for w in seen.workloads if _owner(w) == job["metadata"]["name"]), None)
        if workload is None:
            since = pods.seconds(job["metadata"]["creationTimestamp"])
            yield Reason(f"the queue '{queue}' to look at it", since, "is Kueue running?")
            continue
        held = pods.condition(workload, "QuotaReserved")
        evicted = pods.condition(workload, "Evicted")
        words = held.get("message") or "no word from Kueue yet"
        since = _since(held) or pods.seconds(workload["metadata"]["creationTimestamp"])
        taken = f" (its machines were taken away: {evicted.get('message')})" if evicted.get("status") == "True" else ""
        helps = "`runner queue` shows who holds the quota"
        whose = " for the supervisor" if job is seen.job else ""
        what = f"queue '{queue}'{whose}"
        if held.get("status") == "True":
            yield Reason(f"{what} to start what it has admitted: {words}{taken}", since)
        else:
            yield Reason(f"quota in {what}: {words}{taken}", since, helps)


def _of_cluster(seen: Seen) -> Iterator[Reason]:
    alone = len(seen.ray_jobs) == 1  # beside another, it is that of a leg that is over
    for ray_job in seen.ray_jobs:
        status = ray_job.get("status") or {}
        going = ray_job["metadata"].get("deletionTimestamp")
        if going and alone:
            helps = "is the operator running? after 30 s without it the supervisor removes the machines itself"
            yield Reason("the KubeRay operator to remove the machines", pods.seconds(going), helps)
        elif status.get("jobDeploymentStatus") == "ValidationFailed":
            yield Reason(f"nothing: KubeRay refuses the RayJob: {status.get('message', '')}", helps="a bug of runner")
        elif not status and not going and not ray_job["spec"].get("suspend"):
            since = pods.seconds(ray_job["metadata"]["creationTimestamp"])
            yield Reason("the KubeRay operator to look at the RayJob", since, "is the operator running?")
    for cluster in seen.ray_clusters:
        failed = pods.condition(cluster, "ReplicaFailure")
        if failed.get("status") == "True":
            words = " ".join(str(failed.get("message", "")).split())
            yield Reason(f"machines that are refused: {words}", _since(failed), _help(words))
    if not any(_role(pod) != names.SUPERVISOR for pod in seen.pods):
        for kind in ("RayCluster", "RayJob"):
            denied = _denied(seen, kind)
            if denied is not None:
                yield denied


def _of_pods(seen: Seen) -> Iterator[Reason]:
    for pod in seen.pods:
        if pod["metadata"].get("deletionTimestamp"):
            continue
        placed = pods.condition(pod, "PodScheduled")
        name, role = pod["metadata"]["name"], _role(pod)
        if placed.get("status") == "False":
            words = placed.get("message") or placed.get("reason")
            helps = _scaling(seen, pod) or _help(str(words))
            yield Reason(f"a node for {role} pod {name}: {words}", _since(placed), helps)
            continue
        yield from _of_containers(pod, f"{role} pod {name}", _unmounted(seen, pod))


def _scaling(seen: Seen, pod: Body) -> str:
    """What a node autoscaler last said of a pod."""
    uid = pod["metadata"].get("uid")
    said = [e for e in seen.events if e.get("reason") in _SCALING and e["involvedObject"].get("uid") == uid]
    if not said:
        return ""
    newest = max(said, key=_when)
    return f"{_SCALING[newest['reason']]}: {' '.join(str(newest.get('message', '')).split())}"


def _unmounted(seen: Seen, pod: Body) -> str:
    """What the node last said of a volume that it cannot mount; the pod's own status is silent about it."""
    uid = pod["metadata"].get("uid")
    said = [e for e in seen.events if e.get("reason") == "FailedMount" and e["involvedObject"].get("uid") == uid]
    return " ".join(str(max(said, key=_when).get("message", "")).split()) if said else ""


def _of_containers(pod: Body, what: str, unmounted: str) -> Iterator[Reason]:
    status = pod.get("status") or {}
    since = pods.scheduled_at(pod)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, words = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _IMAGE_WAITS:
            helps = "check the image's name, its tag and the pull secret"
            yield Reason(f"the image of {what}: {reason}: {words or container.get('image')}", since, helps)
            return
        if reason in _CONFIG_WAITS:
            yield Reason(f"{what}: {reason}: {words}", since, "make what it names")
            return
        if reason == "CrashLoopBackOff":
            last = (container.get("lastState") or {}).get("terminated") or {}
            code = f"{last.get('reason', '')}, exit code {last.get('exitCode', '?')}"
            words = f"{what}, whose container {container['name']} ends again and again ({code})"
            yield Reason(words, since, f"`kubectl logs {pod['metadata']['name']} -c {container['name']}`")
            return
    running = [c["name"] for c in status.get("initContainerStatuses") or [] if "running" in (c.get("state") or {})]
    if running and not _runs(pod):
        yield Reason(f"{what}, whose init container {running[0]} waits for Ray's head", since)
    elif status.get("phase") == "Pending":
        if unmounted:
            yield Reason(f"a volume of {what}: {unmounted}", since, "make what it names")
        else:
            yield Reason(f"the containers of {what} to start", since)


def _denied(seen: Seen, kind: str) -> Reason | None:
    """The newest refusal to make something for an object of that kind which is still there."""
    about = [e for e in seen.events if e["involvedObject"]["kind"] == kind and _is_refusal(e) and _is_there(seen, e)]
    if not about:
        return None
    words = " ".join(str(max(about, key=_when).get("message", "")).split())
    first = min(str(event.get("firstTimestamp") or _when(event)) for event in about)
    return Reason(f"machines that are refused: {words}", pods.seconds(first) if first else None, _help(words))


def _is_refusal(event: Body) -> bool:
    """An operator that meets its own object again says so as if it were a failure; nothing waits for that."""
    made = str(event.get("reason", "")).startswith(("FailedToCreate", "FailedCreate"))
    return made and "already exists" not in str(event.get("message", ""))


def _is_there(seen: Seen, event: Body) -> bool:
    """Events outlive what they are about: those of an earlier attempt explain nothing."""
    name = str(event["involvedObject"].get("name", ""))
    owners = [body["metadata"]["name"] for body in seen.ray_jobs]
    return name in (seen.run_id, *owners) or any(name.startswith(f"{owner}-") for owner in owners)


def _when(event: Body) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")


def _help(words: str) -> str:
    if "exceeded quota" in words:
        return "`runner queue` shows who holds the quota; ask for less, or wait for another run's end"
    if "Insufficient" in words:
        return "a node with more room, or fewer or smaller machines"
    if "taint" in words or "didn't match Pod's node affinity" in words or "node selector" in words:
        return "check the group's node_selector and tolerations"
    return ""


def _role(pod: Body) -> str:
    return str((pod["metadata"].get("labels") or {}).get(names.ROLE, "pod"))


def _runs(pod: Body) -> bool:
    """Whether its containers all run; the sidecar that submits makes the head unready until the cluster is whole."""
    return (pod.get("status") or {}).get("phase") in ("Running", "Succeeded")


def _true(body: Body, kind: str) -> Body | None:
    found = pods.condition(body, kind)
    return found if found.get("status") == "True" else None


def _since(condition: Body) -> float | None:
    stamp = condition.get("lastTransitionTime")
    return pods.seconds(stamp) if stamp else None
