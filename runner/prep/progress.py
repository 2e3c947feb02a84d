"""How far a prep stage is: told to whoever looks, and to the supervisor when its end can be foreseen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from runner.backends.registry import kind_of
from runner.record.entries import NearlyDone
from runner.worker.scope import Scope

COUNTS = ("rows_in", "processed", "filtered", "quarantined", "bytes_in")
_REPORT_S = 0.2


class Progress:
    """Adds up what is done and reports it now and then.

    Args:
        scope: of the run.
        stage: its name.
        total: how many tasks it has.
        records: of those that were done before.
    """

    def __init__(self, scope: Scope, stage: str, total: int, records: list[dict[str, Any]]) -> None:
        self._scope, self._stage, self._total = scope, stage, total
        self._done = 0
        self._sums = dict.fromkeys((*COUNTS, "rows_out"), 0)
        self._told = float("-inf")
        self._began, self._before = time.monotonic(), len(records)
        self._lead_s = lead_s(scope, stage)
        for record in records:
            self._count(record)
        self.tell()

    def add(self, record: Mapping[str, Any]) -> None:
        """A task is done."""
        self._count(record)
        if time.monotonic() - self._told > _REPORT_S:
            self.tell()

    def tell(self) -> None:
        """Report now."""
        self._told = time.monotonic()
        self._scope.report(self._stage, done=self._done, total=self._total, **self._sums)
        left_s = seconds_left(self._done - self._before, self._total - self._done, self._told - self._began)
        if left_s is not None and left_s < self._lead_s:
            self._lead_s = 0.0
            self._scope.record(NearlyDone(self._stage, round(left_s, 1)))

    def _count(self, record: Mapping[str, Any]) -> None:
        self._done += 1
        for name in COUNTS:
            self._sums[name] += record[name]
        self._sums["rows_out"] += sum(file["rows"] for sink in record["sinks"].values() for file in sink["files"])


def seconds_left(done: int, left: int, elapsed_s: float) -> float | None:
    """How long `left` tasks will take if they go as those did; None if nothing is known, or nothing is left."""
    return elapsed_s / done * left if done and left else None


def lead_s(scope: Scope, stage: str) -> float:
    """Seconds before the stage's end at which the next leg's machines should be asked for; 0: not early."""
    following = scope.leg + 1
    early = scope.spec.plan.raw.get("early") or ()
    if following >= len(early) or not early[following] or scope.spec.legs[scope.leg][-1] != stage:
        return 0.0
    return kind_of(scope.cluster).layout(scope.cluster).lead_s
