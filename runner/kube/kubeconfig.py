"""Kubeconfigs that say all themselves: a certificate or a token, no program to ask and no proxy to pass.

The `kubernetes` package reads every kind, but it takes a quarter of a second to import, which each command would pay.
"""

from __future__ import annotations

import base64
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_CLUSTER = {"server", "certificate-authority", "certificate-authority-data"}
_USER = {"client-certificate", "client-certificate-data", "client-key", "client-key-data", "token"}


@dataclass(frozen=True)
class Connection:
    """A way to the API that a kubeconfig says by itself.

    Args:
        host: the API's address.
        pool: of urllib3.
        headers: of every request.
    """

    host: str
    pool: Any
    headers: dict[str, str] = field(default_factory=dict)


def connect(context: str | None) -> Connection | None:
    """The API behind a context of the kubeconfig; None where that needs more than is known here."""
    file = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if ("KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ) or not file.is_file():
        return None
    found = _parts(file, context)
    if found is None:
        return None
    cluster, user = found
    host = str(cluster["server"]).rstrip("/")
    if "https" in getproxies() and not proxy_bypass(str(urlsplit(host).hostname)):
        return None
    try:
        return Connection(host, _pool(file.parent, cluster, user), _bearer(user))
    except (OSError, ValueError):
        return None  # a file that is not there, or no certificate


def _parts(file: Path, context: str | None) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The cluster and the user of a context, if nothing else is said of them than what is known here."""
    import yaml  # type: ignore[import-untyped, unused-ignore]

    try:
        config = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        wanted = _named(config["contexts"], context or config["current-context"])["context"]
        cluster = _named(config["clusters"], wanted["cluster"])["cluster"]
        user = _named(config["users"], wanted["user"])["user"]
        plain = set(cluster) <= _CLUSTER and set(user) <= _USER and str(cluster["server"]).startswith("https://")
    except (yaml.YAMLError, KeyError, TypeError, ValueError, StopIteration):
        return None  # whoever reads every kind says what is wrong with it
    return (cluster, user) if plain and user else None


def _named(parts: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(part for part in parts if part["name"] == name)


def _pool(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Any:
    import ssl

    import urllib3

    authority = _text(folder, cluster, "certificate-authority")
    security = ssl.create_default_context(cadata=authority)
    certificate, key = _text(folder, user, "client-certificate"), _text(folder, user, "client-key")
    if certificate and key:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:  # only files can be loaded; nobody else reads it
            both.write(f"{certificate}\n{key}\n")
            both.flush()
            security.load_cert_chain(both.name)
    return urllib3.PoolManager(ssl_context=security, maxsize=16)


def _text(folder: Path, part: dict[str, Any], name: str) -> str | None:
    """What is given within the file, or the path of."""
    if f"{name}-data" in part:
        return base64.b64decode(part[f"{name}-data"]).decode()
    return (folder / part[name]).read_text() if name in part else None


def _bearer(user: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
