"""A narrow client of the Kubernetes API: plain dicts in and out, one connection pool, errors in the API's own words.

The `kubernetes` package does what is hard (kubeconfigs, tokens, certificates); its model classes are not used.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from runner.code import extras
from runner.errors import ApiError, Cause, InputError, RunnerError
from runner.kube import kubeconfig, words
from runner.store.retry import Retry
from runner.untrusted.visible import one_line

_log = logging.getLogger(__name__)
#: Seconds for the whole of an ordinary request, and between two bytes of a watch.
TIMEOUT_S, WATCH_TIMEOUT_S = 15.0, 60.0


class KubeError(ApiError):
    """The API refused a request.

    Args:
        status: of HTTP; 0 where there was no answer.
        reason: the API's word, such as 'NotFound', 'AlreadyExists', 'Forbidden'.
        message: its sentence.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(status, message or f"{status} {reason}", words.of_refusal(status, message))
        self.reason, self.message = reason, message


def _is_put_off(error: RunnerError) -> bool:
    """Whether nothing was done, and the same request may do better in a moment: the API has too much to do, or a
    webhook that it must ask (Kueue's, say) is being replaced.
    """
    return error.cause is Cause.API_BUSY


#: Any request is sent again that the API has put off; what else went wrong may have been carried out.
PUT_OFF = Retry(for_s=15.0, first_s=0.25, longest_s=2.0, again=_is_put_off)


@dataclass(frozen=True)
class Resource:
    """A kind of object: where the API has it."""

    prefix: str  # such as 'apis/ray.io/v1'
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str = "", part: str = "") -> str:
        """The path of one object (or part of it), or of all."""
        words = [self.prefix]
        if self.namespaced and namespace is not None:
            words += ["namespaces", namespace]
        return "/" + "/".join(filter(None, [*words, self.plural, name, part]))


PODS = Resource("api/v1", "pods")
EVENTS = Resource("api/v1", "events")
SECRETS = Resource("api/v1", "secrets")
CONFIG_MAPS = Resource("api/v1", "configmaps")
SERVICES = Resource("api/v1", "services")
SERVICE_ACCOUNTS = Resource("api/v1", "serviceaccounts")
QUOTAS = Resource("api/v1", "resourcequotas")
LIMIT_RANGES = Resource("api/v1", "limitranges")
NAMESPACES = Resource("api/v1", "namespaces", namespaced=False)
NODES = Resource("api/v1", "nodes", namespaced=False)
JOBS = Resource("apis/batch/v1", "jobs")
RAY_JOBS = Resource("apis/ray.io/v1", "rayjobs")
RAY_CLUSTERS = Resource("apis/ray.io/v1", "rayclusters")
ENDPOINT_SLICES = Resource("apis/discovery.k8s.io/v1", "endpointslices")
ACCESS_REVIEWS = Resource("apis/authorization.k8s.io/v1", "selfsubjectaccessreviews", namespaced=False)
WORKLOADS = Resource("apis/kueue.x-k8s.io/v1beta1", "workloads")
LOCAL_QUEUES = Resource("apis/kueue.x-k8s.io/v1beta1", "localqueues")
CLUSTER_QUEUES = Resource("apis/kueue.x-k8s.io/v1beta1", "clusterqueues", namespaced=False)
COHORTS = Resource("apis/kueue.x-k8s.io/v1beta1", "cohorts", namespaced=False)
WORKLOAD_PRIORITIES = Resource("apis/kueue.x-k8s.io/v1beta1", "workloadpriorityclasses", namespaced=False)
PRIORITIES = Resource("apis/scheduling.k8s.io/v1", "priorityclasses", namespaced=False)


def resource(body: Mapping[str, Any]) -> Resource:
    """Where the API has objects of that kind."""
    group = body["apiVersion"]
    kind = body["kind"].lower()
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    namespaced = "namespace" in body["metadata"]
    return Resource(f"api/{group}" if "/" not in group else f"apis/{group}", plural, namespaced)


class Kube:
    """The API of one cluster, from one namespace.

    Args:
        context: of the kubeconfig; None: the current one, or the pod's own service account inside a cluster.
        namespace: of everything that is asked for without naming another.

    Raises:
        MissingPackage: the package that speaks to it is not installed.
        InputError: there is no kubeconfig, or no such context.
    """

    def __init__(self, context: str | None = None, namespace: str = "default") -> None:
        extras.need("kube", "speaking to Kubernetes")
        self.namespace, self._context = namespace, context
        self._api: Any = None  # of the `kubernetes` package, where it is needed
        found = kubeconfig.connect(context)
        if found is not None:
            self._host, self._pool, self._headers = found.host, found.pool, found.headers
            return
        self._api, self._headers = self.fresh_api(), {}
        self._host = self._api.configuration.host.rstrip("/")
        self._pool = self._api.rest_client.pool_manager

    @property
    def host(self) -> str:
        """The address of the API."""
        return self._host

    def fresh_api(self) -> Any:
        """A client of the `kubernetes` package: a websocket changes the one that it is opened with."""
        from kubernetes.client.api_client import ApiClient

        return ApiClient(_configuration(self._context))

    def at(self, namespace: str) -> Kube:
        """The same cluster from another namespace; connections are shared."""
        other = copy.copy(self)
        other.namespace = namespace
        return other

    # -- objects -------------------------------------------------------------------------------------------------

    def get(self, what: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        """One object. Raises KubeError, with status 404 if it is absent."""
        return self.request("GET", what.path(namespace or self.namespace, name))

    def find(self, what: Resource, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """One object, or None if it is absent."""
        try:
            return self.get(what, name, namespace)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def select(
        self, what: Resource, labels: str = "", fields: str = "", namespace: str | None = None, everywhere: bool = False
    ) -> list[dict[str, Any]]:
        """The objects that fit the selectors."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        path = what.path(None if everywhere else namespace or self.namespace)
        return list(self.request("GET", path, query=query).get("items") or [])

    def create(self, what: Resource, body: Mapping[str, Any], dry_run: bool = False) -> dict[str, Any] | None:
        """Make an object; None if one of that name was there already."""
        namespace = body["metadata"].get("namespace") or self.namespace
        try:
            return self.request("POST", what.path(namespace), body=body, query={"dryRun": "All"} if dry_run else None)
        except KubeError as error:
            if error.reason == "AlreadyExists":
                return None
            raise

    def delete(
        self,
        what: Resource,
        name: str,
        propagation: str = "Background",
        grace_s: int | None = None,
        uid: str | None = None,
    ) -> bool:
        """Ask for an object's end. Returns False if it is absent.

        Args:
            uid: of the one that is meant; another that has taken its name meanwhile stays.
        """
        body: dict[str, Any] = {"propagationPolicy": propagation}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", what.path(self.namespace, name), body=body)
        except KubeError as error:
            if error.status == 404 or (uid is not None and error.status == 409):
                return False
            raise
        return True

    def patch(self, what: Resource, name: str, body: Mapping[str, Any], part: str = "") -> dict[str, Any]:
        """A JSON merge patch."""
        path = what.path(self.namespace, name, part)
        return self.request("PATCH", path, body=body, content_type="application/merge-patch+json")

    def apply(self, body: Mapping[str, Any], what: Resource, manager: str = "lake-runner") -> dict[str, Any]:
        """Server-side apply: make the object, or bring it to what `body` says."""
        metadata = body["metadata"]
        path = what.path(metadata.get("namespace") or self.namespace, metadata["name"])
        query = {"fieldManager": manager, "force": "true"}
        return self.request("PATCH", path, body=body, query=query, content_type="application/apply-patch+yaml")

    def log(self, pod: str, container: str, lines: int = 200, previous: bool = False) -> str:
        """The last lines that a container wrote."""
        query = {"container": container, "tailLines": str(lines), "previous": "true" if previous else ""}
        response = self._send("GET", PODS.path(self.namespace, pod, "log"), None, query, None, TIMEOUT_S)
        return response.data.decode(errors="replace")

    def snapshot(self, what: Resource, labels: str = "") -> tuple[list[dict[str, Any]], str]:
        """The objects that fit, and the version of the whole from which a watch can go on."""
        found = self.request("GET", what.path(self.namespace), query={"labelSelector": labels})
        return list(found.get("items") or []), str(found["metadata"]["resourceVersion"])

    def watch(
        self, what: Resource, labels: str, version: str, seconds: float = WATCH_TIMEOUT_S
    ) -> Iterator[dict[str, Any]]:
        """Changes after `version`: {"type": "MODIFIED", "object": {...}}, until the server ends it (410 included)."""
        query = {
            "watch": "true",
            "labelSelector": labels,
            "timeoutSeconds": str(int(seconds)),
            "resourceVersion": version,
        }
        response = self._send("GET", what.path(self.namespace), None, query, None, seconds + 5, stream=True)
        rest = b""
        try:
            for chunk in response.stream(decode_content=True):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in filter(None, whole):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    yield event
        except Exception as error:
            raise _unreachable(error, self._host) from error
        finally:
            response.close()

    # -- requests ------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> dict[str, Any]:
        """One request, and the JSON that came back.

        Raises:
            KubeError: it was refused, or there was no answer.
        """
        response = self._send(method, path, body, query, content_type, TIMEOUT_S)
        return dict(json.loads(response.data)) if response.data else {}

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str] | None,
        content_type: str | None,
        timeout_s: float,
        stream: bool = False,
    ) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "lake-runner", **self._headers}
        if not stream:
            headers["Accept-Encoding"] = "gzip"
        if body is not None:
            headers["Content-Type"] = content_type or "application/json"
        if self._api is not None:
            self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        asked = {key: value for key, value in (query or {}).items() if value}
        url = f"{self._host}{path}" + (f"?{urlencode(asked)}" if asked else "")
        data = None if body is None else json.dumps(body).encode()

        def once() -> Any:
            try:
                response = self._pool.request(
                    method,
                    url,
                    headers=headers,
                    body=data,
                    timeout=timeout_s,
                    preload_content=not stream,
                    retries=False,
                )
            except Exception as error:
                raise _unreachable(error, self._host) from error
            _log.debug("%s %s: %s", method, one_line(url), response.status)
            if response.status >= 400:
                raise _refused(response.status, response.data if not stream else response.read())
            return response

        return PUT_OFF(once)


def _configuration(context: str | None) -> Any:
    import os

    from kubernetes import config
    from kubernetes.client.configuration import Configuration

    configuration = Configuration()
    inside = "KUBERNETES_SERVICE_HOST" in os.environ and context is None and "KUBECONFIG" not in os.environ
    try:
        if inside:
            config.load_incluster_config(client_configuration=configuration)
        else:
            # named here: the package looks at the variable only once, when it is imported
            file = os.environ.get("KUBECONFIG")
            config.load_kube_config(config_file=file, context=context, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise InputError(
            f"no Kubernetes to speak to: {' '.join(str(error).split())}",
            allowed="a kubeconfig with that context",
            todo="set KUBECONFIG, or the cluster's `context`",
            where="kubeconfig",
        ) from None
    return configuration


def _refused(status: int, data: bytes) -> KubeError:
    try:
        said = json.loads(data)
        return KubeError(status, said.get("reason", ""), said.get("message", ""))
    except ValueError:
        return KubeError(status, "", data.decode(errors="replace")[:500])


def _unreachable(error: Exception, host: str) -> KubeError:
    if isinstance(error, KubeError):
        return error
    return KubeError(
        0, "Unreachable", f"no answer from the Kubernetes API at {host}: {' '.join(str(error).split())[:300]}"
    )
