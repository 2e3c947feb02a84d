"""What a run waits for in Kueue's queue."""

from __future__ import annotations

from collections.abc import Iterator

from runner.errors import Cause
from runner.kube import names, pods
from runner.kube.why.seen import Body, Seen, is_queued, owner_of, since_of
from runner.record.reasons import Reason

#: What Kueue does with a workload whose admission check is in that state.
_CHECKS = {
    "Pending": "its controller decides; a ProvisioningRequest waits for nodes: `kubectl get provisioningrequests`",
    "Retry": "Kueue gives the quota back, and tries again later",
    "Rejected": "Kueue does not try again by itself: change what it names, then `runner cancel` and `runner resume`",
}


def of_queue(seen: Seen) -> Iterator[Reason]:
    for job in [*([seen.job] if seen.job is not None else []), *seen.ray_jobs]:
        if not job["spec"].get("suspend") or not is_queued(job):
            continue
        queue = job["metadata"]["labels"][names.QUEUE]
        workload = next((w for w in seen.workloads if owner_of(w) == job["metadata"]["name"]), None)
        if workload is None:
            since = pods.seconds(job["metadata"]["creationTimestamp"])
            yield Reason(f"the queue '{queue}' to look at it", since, "is Kueue running?", cause=Cause.OPERATOR)
            continue
        what = f"queue '{queue}'{' for the supervisor' if job is seen.job else ''}"
        yield _stopped(workload, what) or _unchecked(workload, what) or _in_queue(workload, what)


def _in_queue(workload: Body, what: str) -> Reason:
    """A workload that is admitted when there is quota for it."""
    held = pods.condition(workload, "QuotaReserved")
    evicted = pods.condition(workload, "Evicted")
    words = held.get("message") or "no word from Kueue yet"
    since = since_of(held) or pods.seconds(workload["metadata"]["creationTimestamp"])
    taken = f" (its machines were taken away: {evicted.get('message')})" if evicted.get("status") == "True" else ""
    if held.get("status") == "True":
        return Reason(f"{what} to start what it has admitted: {words}{taken}", since, cause=Cause.QUEUE)
    return Reason(
        f"quota in {what}: {words}{taken}", since, "`runner queue` shows who holds the quota", cause=Cause.QUOTA
    )


def _stopped(workload: Body, what: str) -> Reason | None:
    """A workload that Kueue does not try to admit: for good, until somebody acts, or for a while."""
    evicted, requeued = pods.condition(workload, "Evicted"), pods.condition(workload, "Requeued")
    out = evicted.get("status") == "True" and requeued.get("status") == "False"
    target = pods.condition(workload, "DeactivationTarget")
    told = [each.get("message") for each in (evicted, requeued, target)]
    words = next(filter(None, told), "Kueue does not say why")
    since = since_of(evicted) or since_of(requeued)
    if workload.get("spec", {}).get("active") is False or (out and _deactivates(evicted)):
        helps = (
            f"it is never admitted by itself: `runner cancel` and `runner resume` queue it anew, or who manages the "
            f"queue sets spec.active of Workload {workload['metadata']['name']}"
        )
        return Reason(f"nothing: {what} has deactivated it: {words}", since, helps, cause=Cause.QUEUE)
    if requeued.get("status") == "False" and requeued.get("reason") == "Inadmissible":
        helps = "it is never admitted as it is: change what the words name, then `runner cancel` and `runner resume`"
        return Reason(
            f"nothing: {what} cannot admit it: {requeued.get('message', '')}",
            since_of(requeued),
            helps,
            cause=Cause.QUEUE,
        )
    if out and str(evicted.get("reason", "")).endswith("QueueStopped"):
        return Reason(
            f"{what} to be started again: {words}", since, "who manages the queue has stopped it", cause=Cause.QUEUE
        )
    again = ((workload.get("status") or {}).get("requeueState") or {}).get("requeueAt")
    if out and again:
        return Reason(f"{what} to take it again at {again}: {words}", since, cause=Cause.QUEUE)
    return None


def _deactivates(evicted: Body) -> bool:
    """Whether the reason of an eviction is that of a workload which will not be tried again."""
    return str(evicted.get("reason", "")).startswith(("Deactivated", "InactiveWorkload"))


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
    return Reason(told, pods.seconds(since) if since else None, _CHECKS[check["state"]], cause=Cause.QUEUE)
