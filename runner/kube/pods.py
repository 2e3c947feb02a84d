"""What a pod's status says: whether it holds a machine, since when, and what ended it."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from typing import Any

from runner.errors import Cause
from runner.kube.words import of_end
from runner.record.endings import Ending
from runner.spec.cluster import VENDORS

Pod = dict[str, Any]


def seconds(stamp: str) -> float:
    """A time of the API as seconds since 1970."""
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def condition(body: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of an object's status; empty if it has none of that kind."""
    found = (body.get("status") or {}).get("conditions") or []
    return next((dict(each) for each in found if each["type"] == kind), {})


def scheduled_at(pod: Pod) -> float | None:
    """When it got a machine."""
    placed = condition(pod, "PodScheduled")
    return seconds(placed["lastTransitionTime"]) if placed.get("status") == "True" else None


def is_gpu(resource: str, named: Collection[str] = ()) -> bool:
    """Whether that resource is counted in GPUs, or in parts of one that are scheduled as if they were.

    Others have the word in their name: a sharing plug-in's memory or cores of a GPU are no GPUs.

    Args:
        named: what the groups of a run call theirs.
    """
    return resource in named or resource in VENDORS.values() or resource.startswith("nvidia.com/mig-")


def gpus(pod: Pod, named: Collection[str] = ()) -> int:
    """How many GPUs it holds; `named` as in `is_gpu`."""
    total = 0
    for container in pod["spec"]["containers"]:
        limits = (container.get("resources") or {}).get("limits") or {}
        total += sum(int(value) for name, value in limits.items() if is_gpu(name, named))
    return total


def ending(pod: Pod) -> Ending | None:
    """What ended it, or one of its containers, against its will; None if nothing did."""
    status = pod.get("status") or {}
    name = pod["metadata"]["name"]
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            ended = state.get("terminated")
            if ended and ended.get("reason") == "OOMKilled":
                words = f"pod {name}: out of memory (OOMKilled, {_limit(pod, container['name'])})"
                return Ending(words, Cause.OUT_OF_MEMORY)
    if status.get("reason"):
        words = f"pod {name}: {status['reason']}: {status.get('message', '')}".rstrip(": ")
        return Ending(words, of_end(status["reason"]))
    disrupted = condition(pod, "DisruptionTarget")
    if disrupted.get("status") == "True":
        words = f"pod {name}: {disrupted.get('reason')}: {disrupted.get('message', '')}".rstrip(": ")
        return Ending(words, of_end(str(disrupted.get("reason"))))
    return None


def _limit(pod: Pod, container: str) -> str:
    for each in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]:
        if each["name"] == container:
            limit = ((each.get("resources") or {}).get("limits") or {}).get("memory")
            return f"its limit is {limit} bytes" if limit and limit.isdigit() else f"its limit is {limit}"
    return "no limit"
