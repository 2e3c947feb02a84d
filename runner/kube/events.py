"""The API's events about a run: they are gone an hour later, so the bundle keeps them."""

from __future__ import annotations

import json
import sys
from typing import Any

from runner.bundle import Bundle
from runner.errors import StoreError
from runner.kube import client
from runner.kube.client import Kube, KubeError


def keep(kube: Kube, bundle: Bundle) -> None:
    """Write the events of the run's objects into its bundle; where these rights may not see any, say that instead."""
    try:
        found = [shown(event) for event in kube.select(client.EVENTS) if _is_about(event, bundle.run_id)]
        body: Any = sorted(found, key=lambda event: str(event["last"]))
    except KubeError as error:
        body = {"error": error.message}
    try:
        bundle.store.put("events.json", json.dumps(body, indent=1).encode())
    except StoreError as error:  # machines must go whatever the store says
        print(f"the events are not kept: {error}", file=sys.stderr)


def shown(event: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one event."""
    about = event["involvedObject"]
    last = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    return {
        "first": event.get("firstTimestamp") or last, "last": last, "count": event.get("count") or 1,
        "type": event.get("type"), "object": f"{about.get('kind')} {about.get('name')}",
        "reason": event.get("reason"), "message": event.get("message"),
    }  # fmt: skip


def _is_about(event: dict[str, Any], run_id: str) -> bool:
    return str(event["involvedObject"].get("name", "")).startswith(run_id)
