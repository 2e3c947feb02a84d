"""One answer to "why is nothing happening?": what a run waits for, since when, and what helps.

`look` asks the API once; `reasons` is pure, so that each answer can be tested with objects as they were seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from runner.errors import Cause
from runner.kube import names, pods
from runner.kube.why.operator import is_unsubmitted, of_cluster, of_denied, of_operator
from runner.kube.why.pods import of_pods
from runner.kube.why.queue import of_queue
from runner.kube.why.seen import (
    Seen,
    condition_that_holds,
    is_queued,
    is_running,
    role_of,
    since_of,
)
from runner.record.reasons import Reason

# -- the answer ------------------------------------------------------------------------------------------------------


def reasons(seen: Seen) -> list[Reason]:
    """What the run waits for, the most telling first; empty where its machines are all there and working."""
    found = [*_of_supervisor(seen), *of_queue(seen), *of_cluster(seen), *of_pods(seen)]
    found = found or list(of_operator(seen))
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
        if state == "Initializing" or is_unsubmitted(status):
            keys.append("preRunningDeadlineSeconds")
        limits = [spec[key] for key in keys if key in spec]
        return pods.seconds(status["startTime"]) + min(limits) if limits else None
    return None


def _of_supervisor(seen: Seen) -> Iterator[Reason]:
    if seen.job is None:
        yield Reason(
            "nothing: there is no supervisor any more", helps="`runner resume` starts another", cause=Cause.MACHINE_LOST
        )
        return
    over = next(filter(None, (condition_that_holds(seen.job, kind) for kind in ("Complete", "Failed"))), None)
    if over is not None:
        if over["type"] == "Failed":
            words = f"nothing: the supervisor's Job has failed: {over.get('message', '')}"
            yield Reason(words, since_of(over), "`runner resume` starts another", cause=Cause.FAILED)
        return
    mine = [pod for pod in seen.pods if role_of(pod) == names.SUPERVISOR]
    created = pods.seconds(seen.job["metadata"]["creationTimestamp"])
    if seen.job["spec"].get("suspend"):
        if not is_queued(seen.job):  # its queue, if it names one, is told of with those of the machines
            helps = "Kueue manages every Job of this namespace: name `supervisor_queue` in the cluster's `kubernetes`"
            yield Reason(
                "nothing: the supervisor's Job is suspended, and names no queue", created, helps, cause=Cause.QUEUE
            )
    elif not mine:
        denied = of_denied(seen, "Job")
        yield denied or Reason(
            "the supervisor's pod to be made", created, "is the controller manager up?", cause=Cause.OPERATOR
        )
    elif not seen.ray_jobs and all(is_running(pod) for pod in mine) and not any(True for _ in of_pods(seen)):
        going = [pod for pod in seen.pods if role_of(pod) != names.SUPERVISOR]
        if going:
            yield Reason(f"its {len(going)} pods to be gone" if len(going) > 1 else "its last pod to be gone")
        else:
            yield Reason("the supervisor to ask for machines")  # at the start, and for a moment between two legs
