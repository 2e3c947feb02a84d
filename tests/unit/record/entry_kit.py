"""Entries of a run's log as tests write them: a kind and its details, as they stand in the bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.record.entries import KINDS
from runner.store import Entry
from runner.store.events import Event, event_of


def event(kind: str, data: Mapping[str, Any] | None = None) -> Event:
    """What happened, as the class of its kind."""
    return event_of(KINDS, kind, dict(data or {}))


def log_of(events: Iterable[tuple[str, Mapping[str, Any]]], first: int = 1) -> list[Entry]:
    """A log of these; entry n was written at n seconds."""
    return [Entry(n, float(n), event(kind, data)) for n, (kind, data) in enumerate(events, first)]
