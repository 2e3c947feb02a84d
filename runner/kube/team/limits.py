"""How much of a cluster a team may hold: the quotas of its namespace, and what its containers may ask for."""

from __future__ import annotations

from typing import Any

from runner.kube.quantities import add, number, written
from runner.kube.team.team import Tenant, of_team

#: Pods of these classes go before every team's, and push others' off their nodes.
_SYSTEM = ["system-cluster-critical", "system-node-critical"]
#: Of each kind of object at one time: runs that are over leave theirs behind for some minutes.
_MOST = {
    "count/jobs.batch": 200, "count/rayjobs.ray.io": 400, "count/rayclusters.ray.io": 400, "services": 800,
    "count/secrets": 1000, "count/configmaps": 100,
}  # fmt: skip
_MOST_CLAIMS = 100
#: What would let others in from outside of the cluster.
_OUTWARD = ("services.nodeports", "services.loadbalancers", "count/ingresses.networking.k8s.io")
#: A limit of memory is at most so many times what was asked for, and counted.
RATIO = 2
_LEAST = {"cpu": "10m", "memory": "1Mi"}


def limits(tenant: Tenant) -> list[dict[str, Any]]:
    """The quotas, and the LimitRange without which they would refuse what says nothing of itself."""
    return [_quota(tenant), _no_system_priority(tenant), _ranges(tenant)]


def _quota(tenant: Tenant) -> dict[str, Any]:
    """With Kueue the queues decide; the quota is the fence behind them.

    What is not counted is not limited, so objects are counted as well. A limit of memory above what was asked for would
    be memory that nobody has counted: limits have the same sum.
    """
    total = {name: number(value) for name, value in tenant.most.items()}
    add(total, {name: number(value) for name, value in tenant.supervisors_share.items()})
    hard = {
        **{f"requests.{name}": written(value) for name, value in total.items()},
        "limits.memory": written(total["memory"]),
        "limits.ephemeral-storage": str(tenant.most_scratch),
        "pods": str(tenant.most_pods),
        "requests.storage": str(tenant.storage),
        "persistentvolumeclaims": str(_MOST_CLAIMS if tenant.storage else 0),
        **{name: str(most) for name, most in _MOST.items()},
        **dict.fromkeys(_OUTWARD, "0"),
    }  # fmt: skip
    return of_team(tenant.name, "ResourceQuota", "v1", "runner", spec={"hard": hard})


def _no_system_priority(tenant: Tenant) -> dict[str, Any]:
    """Anyone may name these classes, unless a quota that counts their pods alone has no room for one."""
    expression = {"scopeName": "PriorityClass", "operator": "In", "values": _SYSTEM}
    spec = {"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [expression]}}
    return of_team(tenant.name, "ResourceQuota", "v1", "runner-no-system-priority", spec=spec)


def _ranges(tenant: Tenant) -> dict[str, Any]:
    """A container that says nothing of itself must still fit a quota; one that asks for nothing does not run for free.

    Disk is asked for by hardly anybody, and what a container fills beyond its limit ends it alone, not its neighbours.
    """
    limit = {
        "type": "Container",
        "defaultRequest": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
        "default": {"memory": "512Mi", "ephemeral-storage": str(tenant.scratch)},
        "min": dict(_LEAST),
        "maxLimitRequestRatio": {"memory": str(RATIO)},
    }
    return of_team(tenant.name, "LimitRange", "v1", "runner", spec={"limits": [limit]})
