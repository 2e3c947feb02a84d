"""What is checked of a Kubernetes before any pod is asked for: each check says what it found and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from runner.errors import PlanError, listed
from runner.kube import client
from runner.kube.client import Kube, KubeError
from runner.kube.preflight import (
    admission,
)
from runner.kube.preflight import (
    nodes as preflight_nodes,
)
from runner.kube.preflight import (
    queue as preflight_queue,
)
from runner.kube.preflight import (
    quota as preflight_quota,
)
from runner.kube.preflight import (
    rights as preflight_rights,
)
from runner.kube.preflight.needs import Finding, Needs
from runner.kube.preflight.rights import CLIENT_RIGHTS
from runner.spec import Cluster, Kubernetes

__all__ = ["CLIENT_RIGHTS", "Finding", "Needs", "check", "look"]

#: What a run uses of a RayJob, and the first KubeRay whose definition has it. An older one drops the field silently.
_SINCE = {"rayClusterSpec.authOptions": "1.5.1", "preRunningDeadlineSeconds": "1.6"}
#: Checks without which nothing is known: where they meet trouble, a submit would meet it too.
_NEEDED = ("namespace", "KubeRay", "rights")

Body = dict[str, Any]
Step = Callable[[Kube, Kubernetes, Needs], Iterator[Finding]]


def check(cluster: Cluster, needs: Needs, objects: Sequence[Body] = (), kube: Kube | None = None) -> list[str]:
    """Raise PlanError if something is known to be wrong, with everything that is. See `look`.

    Returns:
        What should be said before the run begins, in sentences.
    """
    findings = look(cluster, needs, objects, kube, whole=False)
    wrong = [finding for finding in findings if finding.good is False]
    if wrong:
        raise PlanError(
            "\n".join(f"{finding.name}: {finding.found}" for finding in wrong),
            todo="; ".join(dict.fromkeys(finding.todo for finding in wrong if finding.todo)),
            where="Kubernetes, before any pod",
        )
    return [f"{finding.found}: {finding.todo}" for finding in findings if finding.told]


def look(
    cluster: Cluster, needs: Needs, objects: Sequence[Body] = (), kube: Kube | None = None, *, whole: bool = True
) -> list[Finding]:
    """All findings; where the API does not answer, that one alone.

    Args:
        needs: what the run's objects ask for.
        objects: that a submit would make with the user's own rights: the supervisor's Job, and RayJobs.
        whole: also what could not hinder a submit.
    """
    where = cluster.kubernetes
    assert where is not None
    kube = kube or Kube(where.context, where.namespace)
    try:
        version = kube.request("GET", "/version")["gitVersion"]
    except KubeError as error:
        return [Finding("API", False, error.message, "check the kubeconfig, the context and the network")]
    findings = [Finding("API", True, f"Kubernetes {version} at {kube.host}")]
    for name, step in {**_STEPS, **(_BESIDES if whole else {})}.items():
        findings += _guarded(name, step(kube, where, needs))
    answers = admission.ask(kube, list(objects))
    findings += _guarded("admission", admission.look(kube, answers))
    limits: dict[str, Step] = {"queue": partial(preflight_queue.look, answers), **_LIMITS}
    for name, step in limits.items():
        findings += _guarded(name, step(kube, where, needs))
    return findings


def _guarded(name: str, step: Iterator[Finding]) -> list[Finding]:
    """What a step found until it ended, and why it ended early if it did. Only what is certain is wrong."""
    found = []
    try:
        for finding in step:
            found.append(finding)
    except KubeError as error:
        if error.status == 403:
            return [*found, Finding(name, None, f"not to be seen with these rights: {error.message}")]
        good = False if name in _NEEDED else None
        return [*found, Finding(name, good, error.message, "try again, or ask who runs the cluster")]
    return found


def _namespace(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    found = kube.find(client.NAMESPACES, where.namespace)
    if found is None:
        yield Finding("namespace", False, f"'{where.namespace}' does not exist", "ask for it: runner admin tenant")
    else:
        yield Finding("namespace", True, where.namespace)


def _kuberay(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    served = (
        {each["name"] for each in kube.request("GET", "/apis/ray.io/v1").get("resources", [])}
        if _has_ray(kube)
        else set()
    )
    missing = [name for name in ("rayjobs", "rayclusters") if name not in served]
    if missing:
        todo = "install the KubeRay operator, 1.6 or newer (docs/kubernetes.md)"
        yield Finding("KubeRay", False, f"the API does not serve {listed(missing)} of ray.io/v1", todo)
        return
    yield _how_new(kube)


def _how_new(kube: Kube) -> Finding:
    """Who may not read the definitions of resources may mostly read the API's description of itself."""
    try:
        document = kube.request("GET", "/openapi/v3/apis/ray.io/v1")
    except KubeError as error:
        if error.status not in (403, 404, 406):
            raise
        return Finding("KubeRay", None, "ray.io/v1 is served; which fields it knows is not to be seen")
    fields = _fields_of_ray_job(document)
    missing = {field: since for field, since in _SINCE.items() if field not in fields}
    if not missing:
        return Finding("KubeRay", True, "ray.io/v1 is served, of KubeRay 1.6 or newer")
    oldest = min(missing.values())
    found = f"RayJobs have no {listed(missing)}: their definition is of a KubeRay older than {oldest}"
    return Finding("KubeRay", False, found, "install KubeRay 1.6 or newer, with its custom resource definitions")


def _fields_of_ray_job(document: dict[str, Any]) -> set[str]:
    """Of the spec, and of its cluster's spec as 'rayClusterSpec.NAME'."""
    schemas = (document.get("components") or {}).get("schemas") or {}
    for name, schema in schemas.items():
        if name.rpartition(".")[2] == "RayJob":
            spec = schema.get("properties", {}).get("spec", {}).get("properties", {})
            cluster = spec.get("rayClusterSpec", {}).get("properties", {})
            return {*spec, *(f"rayClusterSpec.{field}" for field in cluster)}
    return set()


def _has_ray(kube: Kube) -> bool:
    groups = kube.request("GET", "/apis").get("groups", [])
    return any(
        group["name"] == "ray.io" and any(version["version"] == "v1" for version in group["versions"])
        for group in groups
    )


def _objects(kube: Kube, where: Kubernetes, needs: Needs) -> Iterator[Finding]:
    """What pods name must be there: a pod that waits for a Secret waits for ever."""
    wanted = [(client.SERVICE_ACCOUNTS, "ServiceAccount", where.service_account)]
    wanted += [(client.SECRETS, "Secret", name) for name in (*where.secrets, *where.image_pull_secrets)]
    wanted += [(client.SECRETS, "Secret", v.secret) for v in where.volumes if v.secret is not None]
    wanted += [(client.CONFIG_MAPS, "ConfigMap", v.config_map) for v in where.volumes if v.config_map is not None]
    for what, kind, name in wanted:
        there = _is_there(kube, what, kind, name)
        if there is None:
            yield Finding(f"{kind} {name}", None, "not to be seen with these rights")
            continue
        missing = f"there is none in namespace '{where.namespace}'"
        yield Finding(
            f"{kind} {name}", there, "is there" if there else missing, "" if there else f"make the {kind} first"
        )


def _is_there(kube: Kube, what: client.Resource, kind: str, name: str) -> bool | None:
    """Whether it exists. Who may not read Secrets may mostly make them, and a dry run tells that one is there."""
    try:
        return kube.find(what, name) is not None
    except KubeError as error:
        if error.status != 403:
            raise
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": kube.namespace}}
    try:
        return kube.create(what, body, dry_run=True) is None
    except KubeError as error:
        if not 400 <= error.status < 500:
            raise
        return None  # no right to make one, or a policy that would have this one look otherwise


_STEPS: dict[str, Step] = {
    "namespace": _namespace,
    "KubeRay": _kuberay,
    "rights": preflight_rights.of_user,
    "rights of the supervisor": preflight_rights.of_supervisor,
    "objects": _objects,
}
_BESIDES: dict[str, Step] = {
    "rights for commands": preflight_rights.of_commands,
    "other rights of the supervisor": preflight_rights.of_supervisor_besides,
}
_LIMITS: dict[str, Step] = {
    "priority": preflight_queue.priority,
    "quota": preflight_quota.look,
    "nodes": preflight_nodes.look,
}
