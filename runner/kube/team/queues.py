"""A team's queues of Kueue."""

from __future__ import annotations

from typing import Any

from runner.kube.quantities import number, written
from runner.kube.team.team import Tenant, of_all, of_team

_KUEUE = "kueue.x-k8s.io/v1beta1"
_DISK = "ephemeral-storage"


def queues(tenant: Tenant) -> list[dict[str, Any]]:
    """One flavor for all machines; a queue for machines with the tenant's share, and a small one for supervisors.

    A queue admits no more than the quota lets in: machines that it refused would hold what came of them, and wait. What
    is meant for supervisors is neither lent nor borrowed: machines would wait for those who give them back.

    Kueue counts what the namespace's LimitRange adds, and admits nothing that asks for what its queue has not: so both
    have disk.
    """
    machines = {
        "cohort": "runner",
        "preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"},
    }
    flavor = of_all("ResourceFlavor", _KUEUE, "runner", spec={})
    own = {
        name: {"nominalQuota": value, "borrowingLimit": _beyond(tenant, name)} for name, value in tenant.share.items()
    }
    own[_DISK] = {"nominalQuota": str(tenant.most_scratch), "borrowingLimit": "0"}
    supervisors = {name: {"nominalQuota": value} for name, value in tenant.supervisors_share.items()}
    supervisors[_DISK] = {"nominalQuota": str(tenant.supervisors * tenant.scratch)}
    return [
        flavor,
        *_queue(tenant, tenant.name, own, machines),
        *_queue(tenant, tenant.supervisor_queue, supervisors, {}),
    ]


def _beyond(tenant: Tenant, name: str) -> str:
    """How much of a resource the team may hold beyond its share."""
    return written(number(tenant.most[name]) - number(tenant.share[name]))


def _queue(tenant: Tenant, name: str, quotas: dict[str, dict[str, str]], more: dict[str, Any]) -> list[dict[str, Any]]:
    resources = [{"name": resource, **quota} for resource, quota in quotas.items()]
    group = {"coveredResources": list(quotas), "flavors": [{"name": "runner", "resources": resources}]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": tenant.name}}
    spec = {**more, "namespaceSelector": selector, "resourceGroups": [group]}
    return [
        of_team(tenant.name, "ClusterQueue", _KUEUE, name, namespaced=False, spec=spec),
        of_team(tenant.name, "LocalQueue", _KUEUE, name, spec={"clusterQueue": name}),
    ]
