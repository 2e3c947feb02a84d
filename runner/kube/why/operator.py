"""What a run waits for where KubeRay acts: its cluster, its driver's submission, pods that are refused."""

from __future__ import annotations

from collections.abc import Iterator

from runner.errors import Cause
from runner.kube import names, pods
from runner.kube.why.seen import HELPS, Body, Seen, is_running, role_of, since_of, when_of, words_of
from runner.kube.words import is_refusal, of_scheduler
from runner.record.reasons import Reason


def is_unsubmitted(status: Body) -> bool:
    """Whether all machines are there, and the operator has not heard of the driver from Ray's dashboard yet."""
    return status.get("jobDeploymentStatus") == "Running" and not status.get("jobStatus")


def of_cluster(seen: Seen) -> Iterator[Reason]:
    alone = len(seen.ray_jobs) == 1  # beside another, it is that of a leg that is over
    for ray_job in seen.ray_jobs:
        status = ray_job.get("status") or {}
        going = ray_job["metadata"].get("deletionTimestamp")
        if going and alone:
            helps = "is the operator running? after 30 s without it the supervisor removes the machines itself"
            yield Reason(
                "the KubeRay operator to remove the machines", pods.seconds(going), helps, cause=Cause.OPERATOR
            )
        elif status.get("jobDeploymentStatus") == "ValidationFailed":
            yield Reason(
                f"nothing: KubeRay refuses the RayJob: {status.get('message', '')}",
                helps="a bug of runner",
                cause=Cause.INTERNAL,
            )
        elif not status and not going and not ray_job["spec"].get("suspend"):
            since = pods.seconds(ray_job["metadata"]["creationTimestamp"])
            yield Reason(
                "the KubeRay operator to look at the RayJob", since, "is the operator running?", cause=Cause.OPERATOR
            )
    for cluster in seen.ray_clusters:
        failed = pods.condition(cluster, "ReplicaFailure")
        if failed.get("status") == "True":
            words = " ".join(str(failed.get("message", "")).split())
            yield _refused(words, since_of(failed))
    if not any(role_of(pod) != names.SUPERVISOR for pod in seen.pods):
        for kind in ("RayCluster", "RayJob"):
            denied = of_denied(seen, kind)
            if denied is not None:
                yield denied


def of_operator(seen: Seen) -> Iterator[Reason]:
    """What only Ray, or KubeRay's operator, can do, where nothing else is missing: all pods that there are run."""
    for ray_job in seen.ray_jobs:
        status, name = ray_job.get("status") or {}, ray_job["metadata"]["name"]
        mine = [pod for pod in seen.pods if pod["metadata"]["name"].startswith(f"{name}-")]
        going = any(each["metadata"].get("deletionTimestamp") for each in [ray_job, *mine])
        if going or ray_job["spec"].get("suspend") or not all(is_running(pod) for pod in mine):
            continue
        if is_unsubmitted(status) and mine:
            yield _unsubmitted(seen, ray_job)
        elif status.get("jobDeploymentStatus") == "Initializing":
            yield _unseen(status, mine)


def _unsubmitted(seen: Seen, ray_job: Body) -> Reason:
    status = ray_job["status"]
    service = str(status.get("dashboardURL") or f"{status.get('rayClusterName')}-head-svc").partition(".")[0]
    where = f"Ray's dashboard (service {service}, port {DASHBOARD_PORT})"
    helps = (
        "check that the operator's namespace may reach pods of this namespace (network policies, service mesh, proxy)"
    )
    words = f"the driver to begin: KubeRay's operator has not submitted it to {where}"
    return Reason(words, _whole_at(seen, ray_job), helps, cause=Cause.DRIVER)


def _unseen(status: Body, mine: list[Body]) -> Reason:
    """Pods that are made and run, and of which the operator has not said yet that they are all."""
    unready = [pod for pod in mine if pods.condition(pod, "Ready").get("status") == "False"]
    if unready:
        named = ", ".join(f"{role_of(pod)} pod {pod['metadata']['name']}" for pod in unready)
        return Reason(f"Ray to be up in {named}", since_of(pods.condition(unready[0], "Ready")))
    ready = [since_of(pods.condition(pod, "Ready")) or pods.scheduled_at(pod) for pod in mine]
    since = max((stamp for stamp in ready if stamp is not None), default=None)
    if since is None and status.get("startTime"):
        since = pods.seconds(status["startTime"])
    what = f"{len(mine)} pods run" if mine else "there is no pod yet"
    return Reason(
        f"the KubeRay operator to go on with the machines: {what}",
        since,
        "is the operator running?",
        cause=Cause.OPERATOR,
    )


def _whole_at(seen: Seen, ray_job: Body) -> float | None:
    """When all machines were there, as the RayCluster says; the RayJob itself tells only when it began."""
    status = ray_job["status"]
    for cluster in seen.ray_clusters:
        if cluster["metadata"]["name"] == status.get("rayClusterName"):
            since = since_of(pods.condition(cluster, "RayClusterProvisioned"))
            if since is not None:
                return since
    return pods.seconds(status["startTime"]) if status.get("startTime") else None


def of_denied(seen: Seen, kind: str) -> Reason | None:
    """The newest refusal to make something for an object of that kind which is still there."""
    about = [e for e in seen.events if e["involvedObject"]["kind"] == kind and _is_refusal(e) and _is_there(seen, e)]
    if not about:
        return None
    words = words_of(max(about, key=when_of))
    first = min(str(event.get("firstTimestamp") or when_of(event)) for event in about)
    return _refused(words, pods.seconds(first) if first else None)


def _refused(words: str, since: float | None) -> Reason:
    cause = of_scheduler(words)
    return Reason(f"machines that are refused: {words}", since, HELPS.get(cause, ""), cause=cause)


def _is_refusal(event: Body) -> bool:
    return is_refusal(str(event.get("reason", "")), str(event.get("message", "")))


def _is_there(seen: Seen, event: Body) -> bool:
    """Events outlive what they are about: those of an earlier attempt explain nothing."""
    name = str(event["involvedObject"].get("name", ""))
    owners = [body["metadata"]["name"] for body in seen.ray_jobs]
    return name in (seen.run_id, *owners) or any(name.startswith(f"{owner}-") for owner in owners)


#: Of Ray's head, where KubeRay's operator submits the driver.
DASHBOARD_PORT = 8265
