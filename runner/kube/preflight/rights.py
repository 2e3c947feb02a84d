"""Rights, each asked of the API: what a submit cannot do without is refused, what other commands need is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runner.errors import listed
from runner.kube import client
from runner.kube.client import Kube, KubeError
from runner.kube.preflight.needs import Finding, Needs
from runner.spec import Kubernetes

#: (group, resource, verb)
Right = tuple[str, str, str]

#: What a submit does with the user's own rights: it makes the supervisor's Job and the first RayJob. Where supervisors
#: have a queue of their own, they make that as well.
CLIENT_RIGHTS: tuple[Right, ...] = (("batch", "jobs", "create"), ("ray.io", "rayjobs", "create"))

_TAKE_BACK: tuple[Right, ...] = (
    ("batch", "jobs", "get"), ("batch", "jobs", "delete"), ("ray.io", "rayjobs", "list"),
    ("ray.io", "rayjobs", "delete"), ("", "pods", "list"),
)  # fmt: skip
#: What the commands do besides.
COMMAND_RIGHTS: dict[str, tuple[Right, ...]] = {
    "status": (("batch", "jobs", "get"), ("batch", "jobs", "list")),
    "cancel": _TAKE_BACK,
    "why": (
        ("batch", "jobs", "get"), ("ray.io", "rayjobs", "list"), ("ray.io", "rayclusters", "list"),
        ("", "pods", "list"), ("", "events", "list"),
    ),
    "ssh": (("", "pods", "list"), ("", "pods/exec", "get"), ("", "pods/exec", "create")),
    "port-forward": (
        ("", "pods", "list"), ("ray.io", "rayclusters", "list"), ("", "pods/portforward", "get"),
        ("", "pods/portforward", "create"),
    ),
    "queue": (("", "resourcequotas", "list"), ("ray.io", "rayjobs", "list"), ("", "pods", "list")),
    "gc": (
        *_TAKE_BACK, ("batch", "jobs", "list"), ("ray.io", "rayclusters", "list"), ("ray.io", "rayclusters", "delete"),
    ),
}  # fmt: skip
#: What needs them beside the command of that name.
_ALSO = {"cancel": "`runner resume`, and the clearing away after a submit that fails half-way"}

#: What no run can do without: the supervisor makes RayJobs, looks at them and their pods, and removes them.
SUPERVISOR_RIGHTS: tuple[Right, ...] = (
    *(("ray.io", "rayjobs", verb) for verb in ("get", "list", "create", "delete")),
    ("", "pods", "list"), ("batch", "jobs", "get"),
)  # fmt: skip
#: What it does besides: it is told of changes at once, keeps events, and removes machines where the operator is away.
SUPERVISOR_BESIDES: tuple[Right, ...] = (
    ("ray.io", "rayjobs", "watch"), ("", "pods", "watch"), ("", "events", "list"), ("ray.io", "rayjobs", "patch"),
    ("ray.io", "rayclusters", "list"), ("ray.io", "rayclusters", "delete"), ("batch", "jobs", "delete"),
)  # fmt: skip
_LOCAL_REVIEWS = client.Resource("apis/authorization.k8s.io/v1", "localsubjectaccessreviews")


def of_user(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    """Whether this user may submit."""
    needed = CLIENT_RIGHTS if where.supervisor_queue is None else CLIENT_RIGHTS[:1]
    missing = _missing(needed, _asked(needed, lambda right: _may(kube, right)))
    if missing:
        yield Finding("rights", False, f"you may not {listed(missing)} in namespace '{where.namespace}'", _todo(where))
    else:
        yield Finding("rights", True, f"to make runs in '{where.namespace}'")


def of_commands(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    """What else this user may not do; no submit fails for it."""
    allowed = _asked([right for rights in COMMAND_RIGHTS.values() for right in rights], lambda right: _may(kube, right))
    for command, rights in COMMAND_RIGHTS.items():
        missing = _missing(rights, allowed)
        if missing:
            fails = f"`runner {command}`" + (f", {_ALSO[command]}," if command in _ALSO else "")
            found = f"you may not {listed(missing)} in namespace '{where.namespace}': {fails} may not work"
            yield Finding(f"rights for {command}", None, found, _todo(where))


def of_supervisor(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    """Whether the supervisors' account may do its work. Few may ask that; for who may not, nothing is said."""
    missing = _of_account(kube, where, SUPERVISOR_RIGHTS)
    if missing:
        yield _account_lacks(where, missing, False, "and supervisors have its rights")
    elif missing is not None:
        yield Finding(f"rights of {where.service_account}", True, "to look after runs")


def of_supervisor_besides(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    """What else it may not do; many runs do without."""
    if missing := _of_account(kube, where, SUPERVISOR_BESIDES):
        yield _account_lacks(where, missing, None, "which some runs will lack")


def _of_account(kube: Kube, where: Kubernetes, rights: tuple[Right, ...]) -> list[str] | None:
    """Which of these rights it has not; None where that is not for this user to ask."""
    try:
        return _missing(rights, _asked(rights, lambda right: _account_may(kube, where, right)))
    except KubeError as error:
        if error.status in (403, 404):
            return None
        raise


def _account_lacks(where: Kubernetes, missing: list[str], good: bool | None, words: str) -> Finding:
    name = f"rights of {where.service_account}" + (" besides" if good is None else "")
    found = f"ServiceAccount '{where.service_account}' may not {listed(missing)}, {words}"
    todo = f"give it the role `runner-supervisor` of namespace '{where.namespace}': runner admin tenant"
    return Finding(name, good, found, todo)


def _todo(where: Kubernetes) -> str:
    return f"ask for the role of users in namespace '{where.namespace}': runner admin tenant"


def _missing(rights: tuple[Right, ...], allowed: dict[Right, bool]) -> list[str]:
    return [f"{verb} {what}" for group, what, verb in rights if not allowed[group, what, verb]]


def _asked(rights: Iterable[Right], may: Callable[[Right], bool]) -> dict[Right, bool]:
    """Each once, several at a time: an API that is far away takes as long for each."""
    each = list(dict.fromkeys(rights))
    with ThreadPoolExecutor(max_workers=8) as pool:
        return dict(zip(each, pool.map(may, each), strict=True))


def _may(kube: Kube, right: Right) -> bool:
    return _allowed(kube, "SelfSubjectAccessReview", client.ACCESS_REVIEWS, right)


def _account_may(kube: Kube, where: Kubernetes, right: Right) -> bool:
    subject = {
        "user": f"system:serviceaccount:{where.namespace}:{where.service_account}",
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{where.namespace}", "system:authenticated"],
    }
    return _allowed(kube, "LocalSubjectAccessReview", _LOCAL_REVIEWS, right, **subject)


def _allowed(kube: Kube, kind: str, reviews: client.Resource, right: Right, **subject: Any) -> bool:
    group, what, verb = right
    resource, _, part = what.partition("/")
    attributes = {
        "namespace": kube.namespace,
        "group": group,
        "resource": resource,
        "subresource": part,
        "verb": verb,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1", "kind": kind,
        "metadata": {"namespace": kube.namespace} if reviews.namespaced else {},
        "spec": {"resourceAttributes": attributes, **subject},
    }  # fmt: skip
    review = kube.request("POST", reviews.path(kube.namespace if reviews.namespaced else None), body=body)
    return bool(review["status"].get("allowed"))
