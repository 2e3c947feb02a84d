"""A narrow client of a Ray cluster over HTTP: Ray's Jobs API and the state that its dashboard tells.

Ray's own JobSubmissionClient would follow RAY_ADDRESS rather than the address it is given, waits without a limit, and
loads all of Ray, which a client does not need.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

from runner.errors import ApiError

#: Seconds for one request.
TIMEOUT_S = 15.0
TOKEN = "RAY_AUTH_TOKEN"
TERMINAL = ("STOPPED", "SUCCEEDED", "FAILED")
_MOST = 10000


class RayApiError(ApiError):
    """The dashboard refused a request, or did not answer (status 0)."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another host."""

    def redirect_request(self, *_: Any) -> None:
        """None: the redirect is an error."""


class RayApi:
    """Args:
    address: the URL of the dashboard.
    headers: of every request.
    """

    def __init__(self, address: str, headers: dict[str, str] | None = None) -> None:
        self.address, self._headers = address.rstrip("/"), dict(headers or {})
        self._opener = urllib.request.build_opener(_NoRedirects)

    @classmethod
    def outside(cls, address: str) -> RayApi:
        """From any machine; the token is taken from the environment, as Ray does it."""
        token = os.environ.get(TOKEN)
        return cls(address, {"Authorization": f"Bearer {token}"} if token else None)

    @classmethod
    def inside(cls) -> RayApi:
        """From a job of the cluster, which knows where its dashboard is and how to be let in."""
        from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
        from ray.dashboard.utils import get_address_for_submission_client

        return cls(get_address_for_submission_client(None), get_auth_headers_if_auth_enabled({}))

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of an answer. Raises RayApiError."""
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(20000).decode(errors="replace").strip()
            raise RayApiError(error.code, _last_line(text) or f"HTTP status {error.code}") from None
        except (OSError, ValueError) as error:  # no connection, no answer in time, no JSON
            words = str(getattr(error, "reason", error)) or type(error).__name__
            raise RayApiError(0, f"{self.address} does not answer as Ray's dashboard: {words}") from None

    # -- the cluster ---------------------------------------------------------------------------------------------

    def metadata(self) -> dict[str, Any]:
        """Versions: "rayVersion" and, where it tells it, "pythonVersion"."""
        return dict(self.request("GET", "/api/v0/cluster_metadata")["data"])

    def nodes(self) -> list[dict[str, Any]]:
        """The machines, dead ones too: "node_id", "node_ip", "state", "resources_total"."""
        return self._state("nodes", {})

    def actors(self, job_id: str) -> list[dict[str, Any]]:
        """The actors of a driver, dead ones too: "state", "node_id", "class_name"."""
        return self._state("actors", {"job_id": job_id})

    def placement_groups(self, job_id: str) -> list[dict[str, Any]]:
        """Those of a driver: "state", "bundles"."""
        return self._state("placement_groups", {"creator_job_id": job_id})

    def usage(self) -> dict[str, list[float]]:
        """Resource -> what is used and what there is."""
        status = self.request("GET", "/api/cluster_status")["data"].get("clusterStatus") or {}
        return dict((status.get("loadMetricsReport") or {}).get("usage") or {})

    def _state(self, what: str, filters: dict[str, str]) -> list[dict[str, Any]]:
        asked = [
            (f"filter_{key}", value)
            for name, wanted in filters.items()
            for key, value in (("keys", name), ("predicates", "="), ("values", wanted))
        ]
        query = urlencode([("limit", _MOST), ("detail", 1), *asked])
        answer = self.request("GET", f"/api/v0/{what}?{query}")
        if not answer["result"]:
            raise RayApiError(500, str(answer["msg"]))
        return list(answer["data"]["result"]["result"])

    # -- jobs ----------------------------------------------------------------------------------------------------

    def submit(
        self, submission_id: str, entrypoint: str, environment: dict[str, str], metadata: dict[str, str]
    ) -> bool:
        """Start a job on the head, for no CPU, unless there is one of that id. Returns whether this call made it."""
        body = {
            "submission_id": submission_id,
            "entrypoint": entrypoint,
            "metadata": metadata,
            "runtime_env": {"env_vars": environment},
        }
        try:
            self.request("POST", "/api/jobs/", body)
        except RayApiError:
            if self.job(submission_id) is None:
                raise
            return False
        return True

    def job(self, submission_id: str) -> dict[str, Any] | None:
        """A job ("status", "message", "job_id"), or None if there is none."""
        try:
            return dict(self.request("GET", f"/api/jobs/{submission_id}"))
        except RayApiError as error:
            if error.status == 404:
                return None
            raise

    def jobs(self) -> list[dict[str, Any]]:
        """All submitted jobs."""
        return [job for job in self.request("GET", "/api/jobs/") if job.get("submission_id")]

    def stop(self, submission_id: str) -> None:
        """Ask a job to end, if it is there; it gets SIGTERM, then SIGKILL."""
        self._unless_absent("POST", f"/api/jobs/{submission_id}/stop")

    def delete(self, submission_id: str) -> None:
        """Forget a job that has ended."""
        self._unless_absent("DELETE", f"/api/jobs/{submission_id}")

    def logs(self, submission_id: str) -> str:
        """What it printed."""
        return str(self.request("GET", f"/api/jobs/{submission_id}/logs").get("logs") or "")

    def _unless_absent(self, method: str, path: str) -> None:
        try:
            self.request(method, path)
        except RayApiError as error:
            if error.status != 404:
                raise


def _last_line(text: str) -> str:
    """The dashboard answers with whole tracebacks; the last line says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 1]
    return lines[-1][:500] if lines else ""
