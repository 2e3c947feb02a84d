"""The API's events about a run: they are gone an hour later, so the bundle keeps them."""

from __future__ import annotations

import json
import logging
from typing import Any

from runner.errors import StoreError
from runner.kube import client
from runner.kube.client import Kube, KubeError
from runner.record import Bundle
from runner.untrusted.shapes import loads
from runner.untrusted.visible import one_line

KEY = "events.json"
_log = logging.getLogger(__name__)


def keep(kube: Kube, bundle: Bundle) -> None:
    """Add the events of the run's objects to those that its bundle has already, as often as anybody likes. Where these
    rights may not see any, and none are kept, say that instead. Trouble with it is told, and nobody else's.
    """
    try:
        kept = _kept(bundle)
        try:
            found = [shown(event) for event in kube.select(client.EVENTS) if _is_about(event, bundle.run_id)]
            body: Any = merged(kept, found)
        except KubeError as error:
            body = kept or {"error": error.message}
        if body != kept:
            bundle.store.put(KEY, json.dumps(body, indent=1).encode())
    except (StoreError, OSError, ValueError, LookupError, TypeError) as error:  # machines must go whatever these are
        _log.warning("the events are not kept: %s", one_line(str(error)))


def _kept(bundle: Bundle) -> list[dict[str, Any]]:
    """What is in the bundle; nothing where that is no list of events."""
    try:
        found = loads(bundle.store.get(KEY))
    except (FileNotFoundError, ValueError):
        return []
    return found if isinstance(found, list) else []


def merged(kept: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both, the oldest first. An event that was seen again is one: the API counts it up, and forgets it later."""
    by_name = {_identity(event): event for event in kept}
    for event in found:
        before = by_name.get(_identity(event))
        if before is None or (event["count"], str(event["last"])) >= (before["count"], str(before["last"])):
            by_name[_identity(event)] = event
    return sorted(by_name.values(), key=lambda event: str(event["last"]))


def _identity(event: dict[str, Any]) -> tuple[Any, ...]:
    if event.get("name"):
        return (event["name"],)
    return (event["object"], event["reason"], event["message"], event["first"])  # of an older version


def shown(event: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one event."""
    about = event["involvedObject"]
    last = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    return {
        "name": event["metadata"].get("name"),
        "first": event.get("firstTimestamp") or last, "last": last, "count": event.get("count") or 1,
        "type": event.get("type"), "object": f"{about.get('kind')} {about.get('name')}",
        "reason": event.get("reason"), "message": event.get("message"),
    }  # fmt: skip


def _is_about(event: dict[str, Any], run_id: str) -> bool:
    return str(event["involvedObject"].get("name", "")).startswith(run_id)
