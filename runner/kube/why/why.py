"""One answer to "why is nothing happening?": what a run waits for, since when, and what helps.

`look` asks the API once; `reasons` is pure, so that each answer can be tested with objects as they were seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from runner.kube import client, names, pods
from runner.kube.client import Kube, KubeError
from runner.record.why import BEGINS

Body = dict[str, Any]

#: Of Ray's head, where KubeRay's operator submits the driver.
_DASHBOARD_PORT = 8265
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
_PULLS = ("Pulling", "Pulled")


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
    """About the run's objects: refusals to make the pods that are missing, volumes that cannot be mounted, images that
    are being pulled, what a node autoscaler says.
    """
    supervised = any(_role(pod) == names.SUPERVISOR for pod in mine)
    owners = [job] if job is not None and not supervised else []
    if all(_role(pod) == names.SUPERVISOR for pod in mine):
        owners += machines
    wanted = [f"type=Warning,involvedObject.name={owner['metadata']['name']}" for owner in owners]
    pending = [pod for pod in mine if (pod.get("status") or {}).get("phase") == "Pending"]
    if pending:
        wanted.append("type=Warning,reason=FailedMount,involvedObject.kind=Pod")
    if any(pods.scheduled_at(pod) is not None for pod in pending):
        wanted += [f"reason={reason},involvedObject.kind=Pod" for reason in _PULLS]
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
    found = found or list(_of_operator(seen))
    until = _until(seen)
    return list({reason.waits_for: replace(reason, until=until) for reason in found}.values())


def _until(seen: Seen) -> float | None:
    """When the attempt is given up: machines that do not come, a driver that does not begin, or all that may take long.
    Time in a queue does not count.
    """
    for ray_job in seen.ray_jobs:
        spec, status = ray_job["spec"], ray_job.get("status") or {}
        state = status.get("jobDeploymentStatus")
        if spec.get("suspend") or not status.get("startTime") or state not in ("Initializing", "Running"):
            continue
        keys = ["activeDeadlineSeconds"]
        if state == "Initializing" or _is_unsubmitted(status):
            keys.append("preRunningDeadlineSeconds")
        limits = [spec[key] for key in keys if key in spec]
        return pods.seconds(status["startTime"]) + min(limits) if limits else None
    return None


def _is_unsubmitted(status: Body) -> bool:
    """Whether all machines are there, and the operator has not heard of the driver from Ray's dashboard yet."""
    return status.get("jobDeploymentStatus") == "Running" and not status.get("jobStatus")


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
        what = f"queue '{queue}'{' for the supervisor' if job is seen.job else ''}"
        yield _stopped(workload, what) or _unchecked(workload, what) or _in_queue(workload, what)


def _in_queue(workload: Body, what: str) -> Reason:
    """A workload that is admitted when there is quota for it."""
    held = pods.condition(workload, "QuotaReserved")
    evicted = pods.condition(workload, "Evicted")
    words = held.get("message") or "no word from Kueue yet"
    since = _since(held) or pods.seconds(workload["metadata"]["creationTimestamp"])
    taken = f" (its machines were taken away: {evicted.get('message')})" if evicted.get("status") == "True" else ""
    if held.get("status") == "True":
        return Reason(f"{what} to start what it has admitted: {words}{taken}", since)
    return Reason(f"quota in {what}: {words}{taken}", since, "`runner queue` shows who holds the quota")


def _stopped(workload: Body, what: str) -> Reason | None:
    """A workload that Kueue does not try to admit: for good, until somebody acts, or for a while."""
    evicted, requeued = pods.condition(workload, "Evicted"), pods.condition(workload, "Requeued")
    out = evicted.get("status") == "True" and requeued.get("status") == "False"
    target = pods.condition(workload, "DeactivationTarget")
    told = [each.get("message") for each in (evicted, requeued, target)]
    words = next(filter(None, told), "Kueue does not say why")
    since = _since(evicted) or _since(requeued)
    if workload.get("spec", {}).get("active") is False or (out and _deactivates(evicted)):
        helps = (
            f"it is never admitted by itself: `runner cancel` and `runner resume` queue it anew, or who manages the "
            f"queue sets spec.active of Workload {workload['metadata']['name']}"
        )
        return Reason(f"nothing: {what} has deactivated it: {words}", since, helps)
    if requeued.get("status") == "False" and requeued.get("reason") == "Inadmissible":
        helps = "it is never admitted as it is: change what the words name, then `runner cancel` and `runner resume`"
        return Reason(f"nothing: {what} cannot admit it: {requeued.get('message', '')}", _since(requeued), helps)
    if out and str(evicted.get("reason", "")).endswith("QueueStopped"):
        return Reason(f"{what} to be started again: {words}", since, "who manages the queue has stopped it")
    again = ((workload.get("status") or {}).get("requeueState") or {}).get("requeueAt")
    if out and again:
        return Reason(f"{what} to take it again at {again}: {words}", since)
    return None


def _deactivates(evicted: Body) -> bool:
    """Whether the reason of an eviction is that of a workload which will not be tried again."""
    return str(evicted.get("reason", "")).startswith(("Deactivated", "InactiveWorkload"))


#: What Kueue does with a workload whose admission check is in that state.
_CHECKS = {
    "Pending": "its controller decides; a ProvisioningRequest waits for nodes: `kubectl get provisioningrequests`",
    "Retry": "Kueue gives the quota back, and tries again later",
    "Rejected": "Kueue does not try again by itself: change what it names, then `runner cancel` and `runner resume`",
}


def _unchecked(workload: Body, what: str) -> Reason | None:
    """An admission check that stands between the quota and the machines; one that was rejected before others."""
    if pods.condition(workload, "Admitted").get("status") == "True":
        return None
    reserved = pods.condition(workload, "QuotaReserved").get("status") == "True"
    worst = (
        ("Rejected", "Retry", "Pending") if reserved else ("Rejected", "Retry")
    )  # all are pending before there is quota
    checks = (workload.get("status") or {}).get("admissionChecks") or []
    open_checks = [check for check in checks if check.get("state") in worst]
    if not open_checks:
        return None
    check = min(open_checks, key=lambda each: worst.index(each["state"]))
    words = " ".join(str(check.get("message") or "no word from its controller yet").split())
    since = check.get("lastTransitionTime")
    told = f"admission check '{check['name']}' of {what} ({check['state']}): {words}"
    return Reason(told, pods.seconds(since) if since else None, _CHECKS[check["state"]])


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


def _of_operator(seen: Seen) -> Iterator[Reason]:
    """What only Ray, or KubeRay's operator, can do, where nothing else is missing: all pods that there are run."""
    for ray_job in seen.ray_jobs:
        status, name = ray_job.get("status") or {}, ray_job["metadata"]["name"]
        mine = [pod for pod in seen.pods if pod["metadata"]["name"].startswith(f"{name}-")]
        going = any(each["metadata"].get("deletionTimestamp") for each in [ray_job, *mine])
        if going or ray_job["spec"].get("suspend") or not all(_runs(pod) for pod in mine):
            continue
        if _is_unsubmitted(status) and mine:
            yield _unsubmitted(seen, ray_job)
        elif status.get("jobDeploymentStatus") == "Initializing":
            yield _unseen(status, mine)


def _unsubmitted(seen: Seen, ray_job: Body) -> Reason:
    status = ray_job["status"]
    service = str(status.get("dashboardURL") or f"{status.get('rayClusterName')}-head-svc").partition(".")[0]
    where = f"Ray's dashboard (service {service}, port {_DASHBOARD_PORT})"
    helps = (
        "check that the operator's namespace may reach pods of this namespace (network policies, service mesh, proxy)"
    )
    words = f"{BEGINS}: KubeRay's operator has not submitted it to {where}"
    return Reason(words, _whole_at(seen, ray_job), helps)


def _unseen(status: Body, mine: list[Body]) -> Reason:
    """Pods that are made and run, and of which the operator has not said yet that they are all."""
    unready = [pod for pod in mine if pods.condition(pod, "Ready").get("status") == "False"]
    if unready:
        named = ", ".join(f"{_role(pod)} pod {pod['metadata']['name']}" for pod in unready)
        return Reason(f"Ray to be up in {named}", _since(pods.condition(unready[0], "Ready")))
    ready = [_since(pods.condition(pod, "Ready")) or pods.scheduled_at(pod) for pod in mine]
    since = max((stamp for stamp in ready if stamp is not None), default=None)
    if since is None and status.get("startTime"):
        since = pods.seconds(status["startTime"])
    what = f"{len(mine)} pods run" if mine else "there is no pod yet"
    return Reason(f"the KubeRay operator to go on with the machines: {what}", since, "is the operator running?")


def _whole_at(seen: Seen, ray_job: Body) -> float | None:
    """When all machines were there, as the RayCluster says; the RayJob itself tells only when it began."""
    status = ray_job["status"]
    for cluster in seen.ray_clusters:
        if cluster["metadata"]["name"] == status.get("rayClusterName"):
            since = _since(pods.condition(cluster, "RayClusterProvisioned"))
            if since is not None:
                return since
    return pods.seconds(status["startTime"]) if status.get("startTime") else None


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
        yield from _of_containers(pod, f"{role} pod {name}", _unmounted(seen, pod), _pulled(seen, pod))


def _scaling(seen: Seen, pod: Body) -> str:
    """What a node autoscaler last said of a pod."""
    uid = pod["metadata"].get("uid")
    said = [e for e in seen.events if e.get("reason") in _SCALING and e["involvedObject"].get("uid") == uid]
    if not said:
        return ""
    newest = max(said, key=_when)
    return f"{_SCALING[newest['reason']]}: {_words(newest)}"


def _unmounted(seen: Seen, pod: Body) -> str:
    """What the node last said of a volume that it cannot mount; the pod's own status is silent about it."""
    said = _about(seen, pod, "FailedMount")
    return _words(max(said, key=_when)) if said else ""


def _pulled(seen: Seen, pod: Body) -> Body | None:
    """The node's word that it pulls an image, unless it has said since that it is there; the status is silent here."""
    pulling, pulled = _about(seen, pod, "Pulling"), _about(seen, pod, "Pulled")
    newest = max(pulling, key=_when, default=None)
    if newest is None:
        return None
    place = newest["involvedObject"].get("fieldPath")
    done = any(e["involvedObject"].get("fieldPath") == place and _when(e) >= _when(newest) for e in pulled)
    return None if done else newest


def _about(seen: Seen, pod: Body, reason: str) -> list[Body]:
    uid = pod["metadata"].get("uid")
    return [e for e in seen.events if e.get("reason") == reason and e["involvedObject"].get("uid") == uid]


def _words(event: Body) -> str:
    return " ".join(str(event.get("message", "")).split())


def _of_containers(pod: Body, what: str, unmounted: str, pulls: Body | None) -> Iterator[Reason]:
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
        elif pulls is not None:
            image = re.search(r'"([^"]+)"', _words(pulls))
            named = f"the image {image[1]}" if image else "the image"
            yield Reason(f"{named} of {what} to be pulled", pods.seconds(_when(pulls)))
        else:
            yield Reason(f"the containers of {what} to start", since)


def _denied(seen: Seen, kind: str) -> Reason | None:
    """The newest refusal to make something for an object of that kind which is still there."""
    about = [e for e in seen.events if e["involvedObject"]["kind"] == kind and _is_refusal(e) and _is_there(seen, e)]
    if not about:
        return None
    words = _words(max(about, key=_when))
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
    """Whether its containers all run, or have run: whether they are ready is for KubeRay to judge."""
    return (pod.get("status") or {}).get("phase") in ("Running", "Succeeded")


def _true(body: Body, kind: str) -> Body | None:
    found = pods.condition(body, kind)
    return found if found.get("status") == "True" else None


def _since(condition: Body) -> float | None:
    stamp = condition.get("lastTransitionTime")
    return pods.seconds(stamp) if stamp else None
