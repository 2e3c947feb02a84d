"""What pods wait for: nodes, volumes, images, their configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runner.errors import Cause
from runner.kube import pods
from runner.kube import words as words_of_kube
from runner.kube.why.seen import (
    HELPS,
    SCALING,
    Body,
    Seen,
    events_about,
    is_running,
    role_of,
    since_of,
    when_of,
    words_of,
)
from runner.record.reasons import Reason

_IMAGE_WAITS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIG_WAITS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


def of_pods(seen: Seen) -> Iterator[Reason]:
    for pod in seen.pods:
        if pod["metadata"].get("deletionTimestamp"):
            continue
        placed = pods.condition(pod, "PodScheduled")
        name, role = pod["metadata"]["name"], role_of(pod)
        if placed.get("status") == "False":
            words = placed.get("message") or placed.get("reason")
            cause = words_of_kube.of_scheduler(str(words))
            helps = _scaling(seen, pod) or HELPS.get(cause, "")
            yield Reason(f"a node for {role} pod {name}: {words}", since_of(placed), helps, cause=cause)
            continue
        yield from _of_containers(pod, f"{role} pod {name}", _unmounted(seen, pod), _pulled(seen, pod))


def _scaling(seen: Seen, pod: Body) -> str:
    """What a node autoscaler last said of a pod."""
    uid = pod["metadata"].get("uid")
    said = [e for e in seen.events if e.get("reason") in SCALING and e["involvedObject"].get("uid") == uid]
    if not said:
        return ""
    newest = max(said, key=when_of)
    return f"{SCALING[newest['reason']]}: {words_of(newest)}"


def _unmounted(seen: Seen, pod: Body) -> str:
    """What the node last said of a volume that it cannot mount; the pod's own status is silent about it."""
    said = events_about(seen, pod, "FailedMount")
    return words_of(max(said, key=when_of)) if said else ""


def _pulled(seen: Seen, pod: Body) -> Body | None:
    """The node's word that it pulls an image, unless it has said since that it is there; the status is silent here."""
    pulling, pulled = events_about(seen, pod, "Pulling"), events_about(seen, pod, "Pulled")
    newest = max(pulling, key=when_of, default=None)
    if newest is None:
        return None
    place = newest["involvedObject"].get("fieldPath")
    done = any(e["involvedObject"].get("fieldPath") == place and when_of(e) >= when_of(newest) for e in pulled)
    return None if done else newest


def _of_containers(pod: Body, what: str, unmounted: str, pulls: Body | None) -> Iterator[Reason]:
    status = pod.get("status") or {}
    since = pods.scheduled_at(pod)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, words = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _IMAGE_WAITS:
            helps = "check the image's name, its tag and the pull secret"
            yield Reason(
                f"the image of {what}: {reason}: {words or container.get('image')}", since, helps, cause=Cause.IMAGE
            )
            return
        if reason in _CONFIG_WAITS:
            yield Reason(f"{what}: {reason}: {words}", since, "make what it names", cause=Cause.CONFIG)
            return
        if reason == "CrashLoopBackOff":
            last = (container.get("lastState") or {}).get("terminated") or {}
            code = f"{last.get('reason', '')}, exit code {last.get('exitCode', '?')}"
            words = f"{what}, whose container {container['name']} ends again and again ({code})"
            yield Reason(
                words, since, f"`kubectl logs {pod['metadata']['name']} -c {container['name']}`", cause=Cause.CONFIG
            )
            return
    running = [c["name"] for c in status.get("initContainerStatuses") or [] if "running" in (c.get("state") or {})]
    if running and not is_running(pod):
        yield Reason(f"{what}, whose init container {running[0]} waits for Ray's head", since)
    elif status.get("phase") == "Pending":
        if unmounted:
            yield Reason(f"a volume of {what}: {unmounted}", since, "make what it names", cause=Cause.VOLUME)
        elif pulls is not None:
            image = re.search(r'"([^"]+)"', words_of(pulls))
            named = f"the image {image[1]}" if image else "the image"
            yield Reason(f"{named} of {what} to be pulled", pods.seconds(when_of(pulls)), cause=Cause.IMAGE)
        else:
            yield Reason(f"the containers of {what} to start", since)
