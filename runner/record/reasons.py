"""Why nothing happens: one form for what the log, Kubernetes and Ray each tell of what a run waits for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runner.errors import Cause


@dataclass(frozen=True)
class Reason:
    """One thing that a run waits for.

    Args:
        waits_for: what must happen first, in a sentence.
        since: seconds since 1970.
        helps: what would unblock it; empty where only time does.
        until: seconds since 1970 when a deadline ends the waiting.
        cause: of what kind it is, for whoever decides by it.
    """

    waits_for: str
    since: float | None = None
    helps: str = ""
    until: float | None = None
    cause: Cause = Cause.STARTING

    def ended_by(self, until: float | None) -> Reason:
        """The same with the nearer one of its own deadline and another."""
        known = [each for each in (self.until, until) if each is not None]
        return replace(self, until=min(known, default=None))
