"""How far each stage is, from the rows of metrics that it writes as it goes. Pure: rows in, words out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.record.entries import StageResult
from runner.views import units

#: Rates are taken over this many seconds, so that they follow what happens now.
WINDOW_S = 20.0
_COUNTED = ("rows_in", "bytes_in")


@dataclass
class Progress:
    """One stage's progress; `kind` is 'prep' or 'train'."""

    name: str
    kind: str
    last: dict[str, Any] = field(default_factory=dict)
    _recent: deque[dict[str, Any]] = field(default_factory=deque)
    _attempt: int = 0

    def begin(self, attempt: int) -> None:
        """A new attempt starts to count again."""
        if attempt != self._attempt:
            self._attempt = attempt
            self.last = {}
            self._recent.clear()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in a row."""
        self.last.update(row)
        if self._position(row) is None or "at" not in row:
            return
        self._recent.append(dict(row))
        while len(self._recent) > 2 and row["at"] - self._recent[1]["at"] >= WINDOW_S:
            self._recent.popleft()

    @property
    def done(self) -> float:
        """Units of work done: tasks of a prep, steps of a training."""
        return float(self._position(self.last) or 0)

    @property
    def total(self) -> float | None:
        """Units of work in all, if known."""
        total = self.last.get("total" if self.kind == "prep" else "steps_total")
        return float(total) if total else None

    @property
    def fraction(self) -> float | None:
        """From 0 to 1, if known."""
        return min(1.0, self.done / self.total) if self.total else None

    def seconds_left(self, now: float) -> float | None:
        """At the present rate; None if it cannot be told yet."""
        rate = self._rate("done" if self.kind == "prep" else "step")
        if self.total is None or not rate:
            return None
        since = max(0.0, now - self._recent[-1]["at"])
        return max(0.0, (self.total - self.done) / rate - since)

    def parts(self, now: float) -> list[str]:
        """What to say while it runs, the most important first."""
        parts = self._prep_parts() if self.kind == "prep" else self._train_parts()
        left = self.seconds_left(now)
        if left is not None and left >= 0.5:
            parts.insert(2, f"{units.seconds(left, whole=True)} left")
        return parts

    def _position(self, row: Mapping[str, Any]) -> float | None:
        return row.get("done" if self.kind == "prep" else "step")

    def _rate(self, name: str) -> float | None:
        """Per second over the window."""
        known = [row for row in self._recent if name in row]
        if len(known) < 2 or known[-1]["at"] <= known[0]["at"]:
            return None
        return float((known[-1][name] - known[0][name]) / (known[-1]["at"] - known[0]["at"]))

    def _prep_parts(self) -> list[str]:
        if not self.last:
            return []
        parts = [f"{units.count(self.done)}/{units.count(self.total)} tasks"] if self.total else []
        if self.last.get("rows_in"):
            parts.append(units.things(self.last["rows_in"], "row"))
        speed = self._rate("bytes_in")
        parts += [units.speed(speed)] if speed else []
        parts += [f"{units.count(self.last[n])} {n}" for n in ("filtered", "quarantined") if self.last.get(n)]
        return parts

    def _train_parts(self) -> list[str]:
        if "step" not in self.last:
            return []
        of = f"/{units.count(self.total)}" if self.total else ""
        parts = [f"{units.count(self.done)}{of} steps"]
        if "loss" in self.last:
            parts.append(f"loss {units.value(self.last['loss'])}")
        if self.last.get("samples_per_s"):
            parts.append(units.rate(self.last["samples_per_s"], "samples"))
        if self.last.get("wait_share", 0) >= 0.05:
            parts.append(f"{units.percent(self.last['wait_share'])} waiting for data")
        if self.last.get("quarantined"):
            parts.append(f"{units.things(self.last['quarantined'], 'row')} quarantined")
        return parts


def outcome(result: StageResult | None) -> list[str]:
    """What to say of a stage that has this result, the most important first."""
    if result is None:
        return []
    if result.rows_in is not None:
        out = sum(result.rows_out.values())
        parts = [f"{units.things(result.rows_in, 'row')} -> {units.count(out)}"]
        if not result.skipped and result.seconds:
            parts.append(units.speed((result.bytes_in or 0) / result.seconds))
        lost = {"filtered": result.filtered, "quarantined": result.quarantined}
        return parts + [f"{units.count(rows)} {name}" for name, rows in lost.items() if rows]
    parts = [units.things(result.steps, "step")] if result.steps is not None else []
    parts += [f"{units.things(result.quarantined, 'row')} quarantined"] if result.quarantined else []
    return parts + [f"{name} {units.value(number)}" for name, number in (result.metrics or {}).items()]


def fit(parts: list[str], width: int) -> str:
    """As many of the parts as fit on a line of `width` characters, with a dot between them."""
    text = ""
    for part in parts:
        longer = f"{text} · {part}" if text else part
        text = longer if len(longer) <= width else text
    return text
