"""What a team's users and its supervisors may do in its namespace: accounts, roles and bindings."""

from __future__ import annotations

from typing import Any

from runner.kube.team.team import ACCOUNT, Tenant, of_team

Rule = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_RBAC = "rbac.authorization.k8s.io"

_READ = ("get", "list", "watch")
SUPERVISOR_RULES: tuple[Rule, ...] = (
    (("ray.io",), ("rayjobs",), (*_READ, "create", "patch", "delete")),
    (("ray.io",), ("rayclusters",), (*_READ, "delete")),
    (("batch",), ("jobs",), (*_READ, "delete")),
    (("batch",), ("jobs/finalizers",), ("update",)),  # some clusters ask for it of who makes what a Job owns
    (("",), ("pods", "events"), _READ),
    (("",), ("pods/log",), ("get",)),
)
USER_RULES: tuple[Rule, ...] = (
    (("batch",), ("jobs",), (*_READ, "create", "patch", "delete")),
    (("batch",), ("jobs/finalizers",), ("update",)),  # some clusters ask for it of who makes what a Job owns
    (("ray.io",), ("rayjobs",), (*_READ, "create", "patch", "delete")),
    (("ray.io",), ("rayclusters",), (*_READ, "delete")),  # KubeRay makes them of RayJobs; others would pass a queue by
    (("",), ("pods", "events", "services", "configmaps", "resourcequotas", "limitranges", "serviceaccounts"), _READ),
    (("",), ("pods",), ("delete",)),  # of a pod that has lost its owner, for `runner gc`
    (("",), ("pods/log",), ("get",)),
    (("",), ("pods/exec", "pods/portforward", "services/proxy"), ("get", "create")),
    (("",), ("secrets",), ("create", "delete")),  # a patch would be answered with what is in it
    (("kueue.x-k8s.io",), ("localqueues", "workloads"), _READ),
)


def rights(tenant: Tenant) -> list[dict[str, Any]]:
    """Of the supervisors' account, and of the users if there are any."""
    team = tenant.name
    made = [
        _account(team),
        _role(team, "runner-supervisor", SUPERVISOR_RULES),
        _role(team, "runner-user", USER_RULES),
        _of_supervisors(team),
    ]
    subjects = [_subject("User", name) for name in tenant.users] + [_subject("Group", name) for name in tenant.groups]
    return made + ([_binding(team, "runner-user", subjects)] if subjects else [])


def supervisor_objects(namespace: str) -> list[dict[str, Any]]:
    """The least that a namespace needs for runs: the supervisors' account, and its role."""
    role = _role(namespace, "runner-supervisor", SUPERVISOR_RULES)
    return [_account(namespace), role, _of_supervisors(namespace)]


def _account(team: str) -> dict[str, Any]:
    return of_team(team, "ServiceAccount", "v1", ACCOUNT)


def _role(team: str, name: str, rules: tuple[Rule, ...]) -> dict[str, Any]:
    body = [
        {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}
        for groups, resources, verbs in rules
    ]
    return of_team(team, "Role", f"{_RBAC}/v1", name, rules=body)


def _of_supervisors(team: str) -> dict[str, Any]:
    return _binding(team, "runner-supervisor", [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": team}])


def _binding(team: str, role: str, subjects: list[dict[str, Any]]) -> dict[str, Any]:
    reference = {"apiGroup": _RBAC, "kind": "Role", "name": role}
    return of_team(team, "RoleBinding", f"{_RBAC}/v1", role, subjects=subjects, roleRef=reference)


def _subject(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "apiGroup": _RBAC}
