"""A team's share of a cluster as Kubernetes objects: pure functions, printed or applied by `runner admin tenant`.

The namespace is the boundary: a RayJob may run any pod with any ServiceAccount that the team may use, so whoever may
make RayJobs there may do what any of them may. Two teams that must not see each other's runs need two namespaces.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from runner.kube.team import admission
from runner.kube.team.limits import limits
from runner.kube.team.network import policies
from runner.kube.team.queues import queues
from runner.kube.team.rights import SUPERVISOR_RULES, USER_RULES, Rule, rights, supervisor_objects
from runner.kube.team.team import ACCOUNT, LABELS, TEAM, Tenant, is_ours, labels

__all__ = [
    "ACCOUNT", "LABELS", "SUPERVISOR_RULES", "TEAM", "USER_RULES", "Rule", "Tenant", "is_ours", "left_out", "objects",
    "supervisor_objects",
]  # fmt: skip


def objects(tenant: Tenant) -> list[dict[str, Any]]:
    """Everything of a tenant, in the order in which it can be applied: fences first, then who may come to them."""
    fences = [_namespace(tenant), *admission.policies(), *limits(tenant), *policies(tenant)]
    return [*fences, *rights(tenant), *(queues(tenant) if tenant.queue else [])]


def left_out(tenant: Tenant) -> list[dict[str, Any]]:
    """What a tenant of that name may have from before and is no part of it now; the one who is to go first, first."""
    kinds = ("RoleBinding", "LocalQueue", "ClusterQueue")  # the ResourceFlavor is of all teams
    made = {(body["kind"], body["metadata"]["name"]) for body in objects(tenant)}
    whole = objects(dataclasses.replace(tenant, users=tenant.users or ("",), queue=True))
    absent = [body for body in whole if (body["kind"], body["metadata"]["name"]) not in made]
    return sorted((b for b in absent if b["kind"] in kinds), key=lambda body: kinds.index(body["kind"]))


def _namespace(tenant: Tenant) -> dict[str, Any]:
    """Pods that ask for more than a container needs (the host's network, privileges) are refused, and warned about.

    The label puts it under the policies of `admission`, and the annotations tell those what this team may have.
    """
    level = "privileged" if tenant.host_paths else "baseline"
    metadata = {
        "name": tenant.name,
        "labels": {
            **labels(tenant.name),
            "pod-security.kubernetes.io/enforce": level,
            "pod-security.kubernetes.io/warn": "restricted",
        },
        "annotations": admission.notes(tenant),
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
