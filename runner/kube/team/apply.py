"""Makes a cluster have a team: looks at all that is there first, so that nothing of anybody else is overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.errors import InputError
from runner.kube import client
from runner.kube.client import Kube, KubeError, resource
from runner.kube.queue import unfinished_in
from runner.kube.team.objects import left_out, objects
from runner.kube.team.team import LABELS, Tenant, is_ours

_WHERE = "runner admin tenant"


def apply(kube: Kube, tenant: Tenant) -> Iterator[str]:
    """Make all objects of a tenant be as they should, and remove what is no part of it any more; a line for each.

    Raises:
        InputError: something of that name is somebody else's, or what was asked for would not work; nothing was made.
    """
    bodies = objects(tenant)
    _check_ours(kube, bodies, tenant.name)
    _check_reaches_api(kube, tenant)
    for body in bodies:
        _make(kube, body)
        yield f"{body['kind']} {body['metadata']['name']}"
    for body in left_out(tenant):
        if words := _removed(kube, body, tenant.name):
            yield f"{body['kind']} {body['metadata']['name']} {words}"


def _check_ours(kube: Kube, bodies: list[dict[str, Any]], team: str) -> None:
    others = []
    for body in bodies:
        found = kube.find(resource(body), body["metadata"]["name"])
        if found is not None and not is_ours(found, team):
            others.append(f"{body['kind']} {body['metadata']['name']}")
    if others:
        ((key, value),) = LABELS.items()
        raise InputError(
            f"there already, and not made by this command for team '{team}': {', '.join(others)}",
            allowed="names that nobody has, and what this command has made for this very team",
            todo=f"choose another name; or, where it is to become the team's, label it {key}={value}",
            where=_WHERE,
        )


def _check_reaches_api(kube: Kube, tenant: Tenant) -> None:
    """Supervisors speak to the API, whose address a network policy sees as that of the API's own machines."""
    if not tenant.egress:
        return
    slices = kube.select(client.ENDPOINT_SLICES, "kubernetes.io/service-name=kubernetes", namespace="default")
    places = [
        (address, port["port"])
        for each in slices
        for port in each["ports"]
        for end in each["endpoints"]
        for address in end["addresses"]
    ]
    left = [at for at in places if not any(to.holds(*at) for to in tenant.destinations)]
    if left:
        options = " ".join(f"--egress {f'[{host}]' if ':' in host else host}:{port}" for host, port in left)
        raise InputError(
            "supervisors could not reach the Kubernetes API, which is not among what --egress allows",
            todo=f"add {options}",
            where=_WHERE,
        )


def _make(kube: Kube, body: dict[str, Any]) -> None:
    try:
        kube.apply(body, resource(body))
    except KubeError as error:
        if error.status != 404 or not body["kind"].startswith("ValidatingAdmissionPolicy"):
            raise
        raise InputError(
            "this Kubernetes has no admission policies (admissionregistration.k8s.io/v1)",
            allowed="Kubernetes 1.30 or newer: without them a team may make through KubeRay what it has no right to",
            todo="bring the cluster up to date",
            where=_WHERE,
        ) from None


def _removed(kube: Kube, body: dict[str, Any], team: str) -> str:
    """Remove what a tenant had before. What became of it, in words; none if it is not there."""
    what, name = resource(body), body["metadata"]["name"]
    found = kube.find(what, name)
    if found is None:
        return ""
    if not is_ours(found, team):
        return "kept: it was not made by this command"
    if body["kind"] != "RoleBinding" and (there := unfinished_in(kube, name)):
        return f"kept: runs are in it ({', '.join(there)}); say it again when they have ended"
    kube.delete(what, name)
    return "removed: it is no part of the team any more"
