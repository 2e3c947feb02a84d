"""Objects as a real API server shows them, and an API that serves them from memory through the client's own code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.kube import client, names
from runner.kube.client import Kube, KubeError, Resource

Body = dict[str, Any]

RUN = "r261123-221649fb-digits-r9"
AT = "2026-11-23T22:20:53Z"
#: The same moment in seconds since 1970.
AT_S = 1795472453.0
RAY_APIS: Body = {
    "kind": "APIGroupList",
    "groups": [{"name": "ray.io", "versions": [{"groupVersion": "ray.io/v1", "version": "v1"}]}],
}
RAY_RESOURCES: Body = {
    "kind": "APIResourceList",
    "groupVersion": "ray.io/v1",
    "resources": [{"name": name, "namespaced": True} for name in ("rayclusters", "rayjobs", "rayjobs/status")],
}


#: What an API says of RayJobs, in little: KubeRay 1.6's.
RAY_FIELDS = ("preRunningDeadlineSeconds", "suspend"), ("authOptions", "headGroupSpec")


def ray_schema(spec: tuple[str, ...], cluster: tuple[str, ...]) -> Body:
    """The OpenAPI document of ray.io/v1 where RayJobs have these fields, and their cluster those."""
    properties: Body = {**{name: {} for name in spec}, "rayClusterSpec": {"properties": {n: {} for n in cluster}}}
    schema = {"type": "object", "properties": {"spec": {"properties": properties}}}
    return {"openapi": "3.0.0", "components": {"schemas": {"io.ray.v1.RayJob": schema, "io.ray.v1.RayJobList": {}}}}


class FakeKube(Kube):
    """Args:
    bodies: what there is.
    refused: path (or the start of one) -> the error that a request there meets.
    denied: (verb, plural) that this user may not do.
    account_denied: the same of the supervisors' account; None: whether it may is not for this user to ask.
    unmade: kind -> the error that making one meets.
    managed: kinds that Kueue suspends whether they name a queue or not.
    """

    def __init__(
        self,
        *bodies: Body,
        refused: Mapping[str, KubeError] | None = None,
        denied: tuple[tuple[str, str], ...] = (),
        namespace: str = "default",
        managed: tuple[str, ...] = (),
        unmade: Mapping[str, KubeError] | None = None,
        account_denied: tuple[tuple[str, str], ...] | None = (),
    ) -> None:
        self.managed, self.unmade, self.account_denied = managed, dict(unmade or {}), account_denied
        self.tried: list[Body] = []
        self.namespace, self._host = namespace, "https://10.96.0.1"
        self.there: dict[str, Body] = {}
        self.refused, self.denied = dict(refused or {}), denied
        self.pages = {
            "/version": {"gitVersion": "v1.34.4"}, "/apis": RAY_APIS, "/apis/ray.io/v1": RAY_RESOURCES,
            "/openapi/v3/apis/ray.io/v1": ray_schema(*RAY_FIELDS),
        }  # fmt: skip
        self.sent: list[tuple[str, str]] = []
        for body in bodies:
            self.put(body)

    def put(self, body: Body) -> None:
        """Make an object, whatever the API would say."""
        metadata = body["metadata"]
        self.there[client.resource(body).path(metadata.get("namespace"), metadata["name"])] = body

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> Body:
        """What the API would answer."""
        self.sent.append((method, path))
        for start, error in self.refused.items():
            if path.startswith(start):
                raise error
        if path.endswith("accessreviews"):
            return self._reviewed(body)
        if path in self.pages:
            return self.pages[path]
        if method == "POST":
            return self._made(body)
        if _is_list(path):
            found = [b for at, b in self.there.items() if _within(at, path)]
            asked = query or {}
            fits = [b for b in found if _fits(b, asked) and _has_fields(b, asked)]
            return {
                "metadata": {"resourceVersion": "1"},
                "items": fits,
            }
        if path not in self.there:
            raise KubeError(404, "NotFound", f'{path.split("/")[-2]} "{path.split("/")[-1]}" not found')
        return self.there.pop(path) if method == "DELETE" else self.there[path]

    def _reviewed(self, body: Body) -> Body:
        """Whether this user, or an account, may."""
        asked = body["spec"]["resourceAttributes"]
        what = "/".join(filter(None, [asked["resource"], asked["subresource"]]))
        denied = self.denied if body["kind"] == "SelfSubjectAccessReview" else self.account_denied
        if denied is None:
            raise forbidden("localsubjectaccessreviews", "create")
        return {"status": {"allowed": (asked["verb"], what) not in denied}}

    def _made(self, body: Body) -> Body:
        """A new object as the API shows it, Kueue's webhook having seen it: a queue named `default` takes the rest."""
        self.tried.append(body)
        if body["kind"] in self.unmade:
            raise self.unmade[body["kind"]]
        if client.resource(body).path(body["metadata"].get("namespace"), body["metadata"]["name"]) in self.there:
            raise KubeError(409, "AlreadyExists", f"{body['metadata']['name']} already exists")
        if body["kind"] not in ("Job", "RayJob"):
            return body
        labels = dict(body["metadata"].get("labels") or {})
        if client.LOCAL_QUEUES.path(self.namespace, "default") in self.there:
            labels.setdefault(names.QUEUE, "default")
        held = names.QUEUE in labels or body["kind"] in self.managed
        spec = {**body["spec"], "suspend": held}
        return {**body, "metadata": {**body["metadata"], "labels": labels}, "spec": spec}

    def watch(self, what: Resource, labels: str, version: str, seconds: float = 60.0) -> Iterator[Body]:
        """Not served."""
        raise NotImplementedError


def _is_list(path: str) -> bool:
    return len(path.split("/")[3 if path.startswith("/api/") else 4 :]) in (1, 3)


def _within(at: str, collection: str) -> bool:
    own = at.rsplit("/", 1)[0]
    return collection in (own, re.sub(r"/namespaces/[^/]+(?=/)", "", own))


def _fits(body: Body, query: Mapping[str, str]) -> bool:
    labels = body["metadata"].get("labels") or {}
    for word in filter(None, query.get("labelSelector", "").split(",")):
        if word.endswith(")"):
            key, _, values = word.removesuffix(")").partition(" in (")
            if labels.get(key) != values:  # of one value
                return False
            continue
        key, operator, value = re.fullmatch(r"([^!=]+)(!=|=|)(.*)", word).groups()  # type: ignore[union-attr]
        if (operator == "" and key not in labels) or (operator == "=" and labels.get(key) != value):
            return False
        if operator == "!=" and labels.get(key) == value:
            return False
    return True


def _has_fields(body: Body, query: Mapping[str, str]) -> bool:
    for word in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = word.partition("=")
        found: Any = body
        for key in path.split("."):
            found = found[key]
        if found != value:
            return False
    return True


def forbidden(what: str, verb: str = "list") -> KubeError:
    """As the API says it of who has not the right."""
    return KubeError(403, "Forbidden", f'{what} is forbidden: User "ann" cannot {verb} resource "{what}"')


# -- objects ---------------------------------------------------------------------------------------------------------


def body(kind: str, api: str, name: str, namespace: str | None = "default", **parts: Any) -> Body:
    """An object with the metadata that the API adds."""
    metadata: Body = {"name": name, "uid": f"uid-{name}", "creationTimestamp": AT, "resourceVersion": "1"}
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata.update(parts.pop("metadata", {}))
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **parts}


def of_run(run: str = RUN, **more: str) -> Body:
    """Metadata of an object of a run."""
    return {
        "labels": {names.RUN: run, names.JOB: "digits", **more},
        "annotations": {names.STORE: "s3://lake/runs", names.BY: "ann"},
    }


def job(name: str = RUN, created: str = AT, **status: Any) -> Body:
    """The supervisor's Job."""
    metadata = {**of_run(name, **{names.ROLE: names.SUPERVISOR}), "creationTimestamp": created}
    return body("Job", "batch/v1", name, metadata=metadata, spec={"backoffLimit": 100}, status=status)


def ray_job(name: str = f"{RUN}-0-1", suspend: bool = False, queue: str | None = None, **status: Any) -> Body:
    """An attempt at a leg."""
    labels = {} if queue is None else {names.QUEUE: queue}
    metadata = of_run(name.rsplit("-", 2)[0], **labels)
    return body("RayJob", "ray.io/v1", name, metadata=metadata, spec={"suspend": suspend}, status=status)


def ray_cluster(name: str = f"{RUN}-0-1-gxx7h", *conditions: Body) -> Body:
    """What KubeRay has made of a RayJob."""
    return body("RayCluster", "ray.io/v1", name, metadata=of_run(), spec={}, status={"conditions": list(conditions)})


def condition(kind: str, status: bool, reason: str = "", message: str = "") -> Body:
    """A condition of a status."""
    made: Body = {"type": kind, "status": str(status), "lastTransitionTime": AT}
    return {**made, **{key: value for key, value in (("reason", reason), ("message", message)) if value}}


def container(state: Body, last: Body | None = None, name: str = "main") -> Body:
    """A container's status."""
    return {
        "name": name, "image": "localhost/none:9", "imageID": "", "ready": False, "restartCount": 0, "started": False,
        "state": state, "lastState": last or {},
    }  # fmt: skip


def waiting(reason: str, message: str = "") -> Body:
    """A container that waits."""
    return container({"waiting": {"reason": reason, **({"message": message} if message else {})}})


def pod(
    name: str,
    role: str,
    phase: str = "Running",
    *,
    run: str = RUN,
    resources: Body | None = None,
    containers: tuple[Body, ...] = (),
    inits: tuple[Body, ...] = (),
    conditions: tuple[Body, ...] | None = None,
    **status: Any,
) -> Body:
    """A pod of a run; unless told otherwise a node has been found for it."""
    if conditions is None:
        conditions = (condition("PodScheduled", True),)
    spec: Body = {"containers": [{"name": "main", "image": "localhost/runner-host:1", "resources": resources or {}}]}
    status |= {"phase": phase, "conditions": list(conditions)}
    if containers:
        status["containerStatuses"] = list(containers)
    if inits:
        status["initContainerStatuses"] = list(inits)
    labels = {names.RUN: run, names.ROLE: role}
    return body("Pod", "v1", name, metadata={"labels": labels}, spec=spec, status=status)


def event(kind: str, name: str, reason: str, message: str, first: str = AT, last: str = AT) -> Body:
    """What a controller said of an object."""
    return body(
        "Event",
        "v1",
        f"{name}.18eaccaf12bb96fe",
        type="Warning",
        reason=reason,
        message=message,
        count=1,
        involvedObject={"kind": kind, "name": name, "namespace": "default", "uid": f"uid-{name}"},
        firstTimestamp=first,
        lastTimestamp=last,
        eventTime=None,
    )


def node(
    name: str = "onebox",
    labels: Body | None = None,
    taints: list[Body] | None = None,
    more: Body | None = None,
    capacity: Body | None = None,
    annotations: Body | None = None,
    **spec: Any,
) -> Body:
    """A machine of the cluster; `more` of its allocatable resources, and what it would have besides were it whole."""
    room = {"cpu": "4", "memory": "24632884Ki", "pods": "110", **(more or {})}
    metadata = {"labels": {"kubernetes.io/arch": "amd64", **(labels or {})}, "annotations": annotations or {}}
    return body(
        "Node",
        "v1",
        name,
        None,
        metadata=metadata,
        spec={**({"taints": taints} if taints else {}), **spec},
        status={"allocatable": room, "capacity": {**room, **(capacity or {})}},
    )


def quota(hard: Body, used: Body | None = None, **spec: Any) -> Body:
    """A namespace's ResourceQuota."""
    status = {"hard": hard, "used": used or dict.fromkeys(hard, "0")}
    return body("ResourceQuota", "v1", "unit", spec={"hard": hard, **spec}, status=status)
