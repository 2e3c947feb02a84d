"""What a namespace allows: its ResourceQuotas and LimitRanges, against every pod of a run.

Refused is what could never be; what is only in use now is told, and a run would wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runner.kube import client, quantities
from runner.kube.client import Kube, KubeError
from runner.kube.preflight.needs import Amounts, Container, Finding, Needs, Pods
from runner.kube.quantities import amount, number
from runner.spec import Kubernetes

#: Objects that a run has at one time beside its pods; a quota may count them.
_OBJECTS = dict.fromkeys(
    (
        "count/jobs.batch",
        "count/rayjobs.ray.io",
        "count/rayclusters.ray.io",
        "services",
        "count/services",
        "secrets",
        "count/secrets",
    ),
    1.0,
)
#: Resources that may be more than a node has, and so have requests and limits apart.
_NATIVE = ("cpu", "memory", "ephemeral-storage")

Limit = dict[str, Any]


def look(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    """Both kinds; LimitRanges first, since they give containers what those do not say."""
    limits = _limits(kube)
    if limits is None:
        yield Finding("limits", None, "LimitRanges are not to be seen with these rights")
    kinds = {pods.what: pods for need in needs.stages for pods in needs.pods(need)}
    for name, limit in limits or []:
        words = (words for pods in kinds.values() for words in _outside(limit, pods, limits or []))
        found = "; ".join(dict.fromkeys(words))
        if found:
            todo = "change the shape, or its limits by a `pod_template`; or ask for another LimitRange"
            yield Finding(f"limits {name}", False, found, todo)
    for quota in kube.select(client.QUOTAS):
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            continue  # it counts some pods only, and whether ours are among them is the API's to say
        yield from _quota(quota, needs, limits)


def _limits(kube: Kube) -> list[tuple[str, Limit]] | None:
    """(name of a LimitRange, one of its limits); None where they may not be seen."""
    try:
        found = kube.select(client.LIMIT_RANGES)
    except KubeError as error:
        if error.status != 403:
            raise
        return None
    return [(each["metadata"]["name"], limit) for each in found for limit in each["spec"]["limits"]]


# -- quotas ----------------------------------------------------------------------------------------------------------


def _quota(quota: dict[str, Any], needs: Needs, limits: list[tuple[str, Limit]] | None) -> Iterator[Finding]:
    name = f"quota {quota['metadata']['name']}"
    hard = _numbers(quota["spec"].get("hard"))
    used = _numbers((quota.get("status") or {}).get("used"))
    silent = _silent(hard, needs, limits or [])
    if silent:
        key, words = silent
        todo = (
            "set it for the container 'main' (and any other) by the cluster's `pod_template`, or ask for a LimitRange "
            f"with a default for {key.partition('.')[2]}"
        )
        yield Finding(name, None if limits is None else False, f"it asks for {words}", todo)
    waits, refused = [], []
    for need in needs.stages:
        asked = _asked(needs.pods(need), limits or [])
        over = {key: value for key, value in asked.items() if key in hard and value > hard[key]}
        short = {key: value for key, value in asked.items() if key in hard and value > hard[key] - used.get(key, 0.0)}
        if over:
            refused.append(f"{need.stage} needs {_numbered(over, hard, used)}")
        elif short:
            waits.append(f"{need.stage} would wait: it needs {_numbered(short, hard, used)}")
    if refused:
        yield Finding(name, False, "; ".join(refused), "ask for fewer or smaller machines, or for more quota")
    elif waits or not silent:
        yield Finding(name, True, "; ".join(waits) or "has room for each stage")


def _numbered(over: Amounts, hard: Amounts, used: Amounts) -> str:
    return ", ".join(
        f"{key} {amount(key, value)} of {amount(key, hard[key])} ({amount(key, used.get(key, 0.0))} in use)"
        for key, value in over.items()
    )


def _asked(there: tuple[Pods, ...], limits: list[tuple[str, Limit]]) -> Amounts:
    """What the pods of a stage count in a quota, by each of the names that a quota may have for it."""
    requests, bounds, count = Amounts(), Amounts(), 0
    for pods in there:
        count += pods.count
        whole = _pod(pods, limits)
        quantities.add(requests, whole.requests, pods.count)
        quantities.add(bounds, whole.limits, pods.count)
    asked = {f"requests.{name}": value for name, value in requests.items()}
    asked |= {name: value for name, value in requests.items() if name in _NATIVE}
    asked |= {f"limits.{name}": value for name, value in bounds.items() if name in _NATIVE}
    return {**asked, "pods": float(count), "count/pods": float(count), **_OBJECTS}


def _silent(hard: Amounts, needs: Needs, limits: list[tuple[str, Limit]]) -> tuple[str, str] | None:
    """A limit that each container must name under this quota, and does not: the API would refuse the pod."""
    for key in (f"limits.{name}" for name in _NATIVE):
        if key not in hard:
            continue
        for pods in (pods for need in needs.stages for pods in needs.pods(need)):
            for container in pods.containers:
                if key.partition(".")[2] not in _defaulted(container, limits).limits:
                    return key, f"{key} of each container, and container '{container.name}' of {pods.what} has none"
    return None


# -- limits ----------------------------------------------------------------------------------------------------------


def _defaulted(container: Container, limits: list[tuple[str, Limit]]) -> Container:
    """The container with what the namespace's LimitRanges give it."""
    for _, limit in limits:
        if limit["type"] == "Container":
            container = _default(container, limit)
    return container


def _default(container: Container, limit: Limit) -> Container:
    most = _numbers(limit.get("max"))
    bounds = {**most, **_numbers(limit.get("default"))}  # Kubernetes' own defaults for a default
    requests = {**_numbers(limit.get("min")), **bounds, **_numbers(limit.get("defaultRequest"))}
    whole = {**bounds, **container.limits}
    own = {name: value for name, value in container.limits.items() if name not in container.requests}
    return Container(container.name, {**requests, **own, **container.requests}, whole)


def _outside(limit: Limit, pods: Pods, limits: list[tuple[str, Limit]]) -> Iterator[str]:
    """How such a pod breaks one limit of a LimitRange, in words. All defaults are given before any limit is held."""
    if limit["type"] == "Container":
        for container in (*pods.containers, *pods.inits):
            what = f"container '{container.name}' of {pods.what}"
            whole = _defaulted(container, limits)
            yield from _broken(limit, whole, what)
            yield from _contradicted(limit, whole, what)
    elif limit["type"] == "Pod":
        yield from _broken(limit, _pod(pods, limits), pods.what)


def _pod(pods: Pods, limits: list[tuple[str, Limit]]) -> Container:
    """A pod as one, with what the namespace's LimitRanges give its containers."""
    own, before = (tuple(_defaulted(each, limits) for each in group) for group in (pods.containers, pods.inits))
    return replace(pods, containers=own, inits=before).whole


def _broken(limit: Limit, whole: Container, what: str) -> Iterator[str]:
    kind = limit["type"].lower()
    for name, most in _numbers(limit.get("max")).items():
        asked = max(whole.limits.get(name, 0.0), whole.requests.get(name, 0.0))
        if asked > most:
            yield f"{what} asks for {name} {amount(name, asked)}, at most {amount(name, most)} a {kind}"
        elif name not in whole.limits:
            yield f"{what} has no limit of {name}, which is at most {amount(name, most)} a {kind}"
    for name, least in _numbers(limit.get("min")).items():
        asked = whole.requests.get(name, whole.limits.get(name, 0.0))
        if asked < least:
            yield f"{what} asks for {name} {amount(name, asked)}, at least {amount(name, least)} a {kind}"
    for name, ratio in _numbers(limit.get("maxLimitRequestRatio")).items():
        asked, most = whole.requests.get(name, 0.0), whole.limits.get(name, 0.0)
        if most > ratio * asked:
            shown = f"{amount(name, most)} for a request of {amount(name, asked)}"
            yield f"{what} has a limit of {name} {shown}, at most {ratio:g} times of it"


def _contradicted(limit: Limit, whole: Container, what: str) -> Iterator[str]:
    """A default limit below what the container asks for: the API takes no such container."""
    for name in whole.requests.keys() & whole.limits.keys():
        asked, most = whole.requests[name], whole.limits[name]
        if asked > most and name in _numbers(limit.get("default")) and name not in _numbers(limit.get("max")):
            yield f"{what} is given a limit of {name} {amount(name, most)}, less than its {amount(name, asked)}"


def _numbers(amounts: dict[str, Any] | None) -> Amounts:
    return {name: number(value) for name, value in (amounts or {}).items()}
