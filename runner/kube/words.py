"""The words of Kubernetes, of its webhooks and of Kueue, as causes: nobody else looks at what they say.

The API has a status and a reason for what it refuses, and both are coarse: a 403 may be a missing right, a quota or a
policy, a 500 a webhook that is just being replaced. What tells them apart are sentences, of Kubernetes 1.2x and 1.3x.
"""

from __future__ import annotations

import re

from runner.errors import Cause, cause_of_status

#: How each authorizer ends; any other 403 is about an object that one may make.
_NO_RIGHT = re.compile(r"cannot \S+ (resource|path) ")
#: Of webhooks, and of policies within the API.
_DENIED = re.compile(r"denied (the )?request")


def of_refusal(status: int, message: str) -> Cause:
    """Why the API did not do what it was asked for."""
    if status >= 500 and "failed calling webhook" in message:
        return Cause.API_BUSY
    if status == 403 and _NO_RIGHT.search(message):
        return Cause.DENIED
    if status == 403 and "exceeded quota" in message:
        return Cause.QUOTA
    if status == 403 and "violates PodSecurity" in message:
        return Cause.POD_SECURITY
    if status in (400, 403, 422) and _DENIED.search(message):
        return Cause.POLICY
    return Cause.API_REFUSED if status == 403 and message else cause_of_status(status)


def of_scheduler(message: str) -> Cause:
    """Why a pod has no machine: what the scheduler says of one that is made, quotas and webhooks of one that is not."""
    if "exceeded quota" in message:
        return Cause.QUOTA
    if "Insufficient" in message:
        return Cause.NO_ROOM
    if any(words in message for words in ("taint", "didn't match Pod's node affinity", "node selector")):
        return Cause.NO_NODE
    return Cause.POLICY if _DENIED.search(message) else Cause.STARTING


def is_refusal(reason: str, message: str) -> bool:
    """Whether an event tells that something could not be made. An operator that meets its own object again says so as
    if it were a failure; nothing waits for that.
    """
    return reason.startswith(("FailedToCreate", "FailedCreate")) and "already exists" not in message


#: Reasons of a pod's status, of its condition DisruptionTarget, and of a container's end.
_ENDS = {
    "OOMKilled": Cause.OUT_OF_MEMORY,
    "Evicted": Cause.EVICTED,
    "EvictionByEvictionAPI": Cause.EVICTED,
    "TerminationByKubelet": Cause.EVICTED,
    "Preempting": Cause.PREEMPTED,
    "PreemptionByScheduler": Cause.PREEMPTED,
    "DeadlineExceeded": Cause.TIMEOUT,
}


def of_end(reason: str) -> Cause:
    """What ended a pod, or one of its containers, against its will; most of what is left has to do with its node."""
    return _ENDS.get(reason, Cause.MACHINE_LOST)
