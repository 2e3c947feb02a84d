"""What a ClusterQueue could ever give: its own quota and what it may borrow. Pure, but for one look at its cohort."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.kube import client
from runner.kube.client import Kube, KubeError
from runner.kube.quantities import amount, number
from runner.spec.cluster import VENDORS

Body = dict[str, Any]


@dataclass(frozen=True)
class Quota:
    """The most that a ClusterQueue could ever give, with what it may borrow.

    Args:
        groups: for each resource group of the queue: flavor -> resource -> the most that it could have.
    """

    groups: tuple[dict[str, dict[str, float]], ...]

    @classmethod
    def of(cls, kube: Kube, queue: Body) -> Quota:
        """Of a ClusterQueue and its cohort."""
        lent = _lent(kube, queue)
        return cls(
            tuple(
                {
                    flavor["name"]: {r["name"]: _most(r, flavor["name"], queue, lent) for r in flavor["resources"]}
                    for flavor in group["flavors"]
                }
                for group in queue["spec"].get("resourceGroups") or []
            )
        )


def _most(resource: Body, flavor: str, queue: Body, lent: dict[tuple[str, str], float] | None) -> float:
    """Its own, and as much of the cohort's as it may borrow and others may lend."""
    own = number(resource["nominalQuota"])
    if cohort_of(queue) is None:
        return own
    limit = resource.get("borrowingLimit")
    borrowed = math.inf if limit is None else number(limit)
    return own + min(borrowed, math.inf if lent is None else lent.get((flavor, resource["name"]), 0.0))


def cohort_of(queue: Body) -> str | None:
    """The name of its cohort, as v1beta1 and v1beta2 have it."""
    return queue["spec"].get("cohort") or queue["spec"].get("cohortName") or None


def _lent(kube: Kube, queue: Body) -> dict[tuple[str, str], float] | None:
    """(flavor, resource) -> what the others of its cohort may lend; None where that cannot be told."""
    cohort = cohort_of(queue)
    if cohort is None:
        return {}
    try:
        described = kube.find(client.COHORTS, cohort)
        queues = kube.select(client.CLUSTER_QUEUES)
    except KubeError as error:
        if error.status != 403:
            raise
        return None
    if described is not None and any(described["spec"].get(k) for k in ("parent", "parentName", "resourceGroups")):
        return None  # it has quota of its own, or borrows from above
    lent: dict[tuple[str, str], float] = {}
    for other in queues:
        if cohort_of(other) != cohort or other["metadata"]["name"] == queue["metadata"]["name"]:
            continue
        for group in other["spec"].get("resourceGroups") or []:
            for flavor in group["flavors"]:
                for resource in flavor["resources"]:
                    key = (flavor["name"], resource["name"])
                    limit = resource.get("lendingLimit", resource["nominalQuota"])
                    lent[key] = lent.get(key, 0.0) + number(limit)
    return lent


def unfit(quota: Quota, sets: list[tuple[str, dict[str, float]]]) -> Iterator[tuple[bool, str]]:
    """Why the queue could never admit these sets of pods together: (whether that is certain, in words).

    A set takes all resources of a group from one flavor; sets of a workload may differ in it.
    """
    covered = {name for group in quota.groups for flavor in group.values() for name in flavor}
    for name in dict.fromkeys(name for _, wanted in sets for name, value in wanted.items() if value):
        if name not in covered:
            # Kueue can be told to pass over resources (cores and memory, mostly), or to count them as others (parts of
            # GPUs, mostly); of whole GPUs nobody does either
            yield name in VENDORS.values(), f"the queue has no quota of {name}"
    for group in quota.groups:
        refused = {what: why for what, wanted in sets if (why := _in_no_flavor(group, wanted))}
        yield from ((True, f"{what} needs {why}") for what, why in refused.items())
        if not refused:
            yield from ((True, why) for why in _over(group, [wanted for _, wanted in sets]))


def _in_no_flavor(group: dict[str, dict[str, float]], wanted: dict[str, float]) -> str:
    """What each flavor of the group lacks for one set; empty if one of them would do."""
    lacks = {}
    for flavor, most in group.items():
        over = {name: value for name, value in wanted.items() if value > most.get(name, math.inf)}
        if not over:
            return ""
        lacks[flavor] = ", ".join(f"{n} {amount(n, v)} of {amount(n, most[n])}" for n, v in over.items())
    return "; ".join(f"{words} (flavor {flavor})" if len(lacks) > 1 else words for flavor, words in lacks.items())


def _over(group: dict[str, dict[str, float]], sets: list[dict[str, float]]) -> Iterator[str]:
    for name in dict.fromkeys(name for flavor in group.values() for name in flavor):
        asked = sum(wanted.get(name, 0.0) for wanted in sets)
        most = sum(flavor.get(name, 0.0) for flavor in group.values())
        if asked > most:
            yield f"{name} {amount(name, asked)} of {amount(name, most)} in all"
