"""Reads back what a run's processes wrote: segments of logs and metrics, in order, also while they grow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from runner.bundle import Bundle


class Tail:
    """What was added since the last look.

    Args:
        bundle: of the run.
        kind: 'logs' or 'metrics'.
        stage: only this stage; None for all.
        writer: only this writer; None for all.
    """

    def __init__(self, bundle: Bundle, kind: str, stage: str | None = None, writer: str | None = None) -> None:
        self._bundle, self._kind, self._stage, self._writer = bundle, kind, stage, writer
        self._offset: dict[str, int] = {}
        self._partial: dict[str, bytes] = {}

    def lines(self) -> Iterator[tuple[str, str]]:
        """(stage/writer, line) for every whole line since the last call."""
        for label, folder in self._folders():
            yield from ((label, line) for line in self._new_lines(folder))

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(stage/writer, row) for every row of metrics since the last call."""
        for label, line in self.lines():
            yield label, json.loads(line)

    def skip(self) -> None:
        """Pass over all that is there now, without reading more than the last segment of each writer."""
        for _, folder in self._folders():
            names = self._bundle.store.list(folder)
            if names:
                self._offset[folder] = int(names[-1]) + len(self._bundle.store.get(f"{folder}/{names[-1]}"))

    def _folders(self) -> Iterator[tuple[str, str]]:
        stages = [self._stage] if self._stage else self._bundle.store.list("stages")
        for stage in stages:
            for attempt in self._bundle.attempts(stage):
                for writer in self._bundle.writers(stage, attempt, self._kind):
                    if self._writer in (None, writer):
                        yield f"{stage}/{writer}", self._bundle.segments(stage, attempt, self._kind, writer)

    def _new_lines(self, folder: str) -> Iterator[str]:
        for name in self._bundle.store.list(folder):
            start = int(name)
            if start < self._offset.get(folder, 0):
                continue
            data = self._bundle.store.get(f"{folder}/{name}")
            self._offset[folder] = start + len(data)
            lines = (self._partial.pop(folder, b"") + data).split(b"\n")
            if lines[-1]:
                self._partial[folder] = lines[-1]
            yield from (line.decode(errors="replace") for line in lines[:-1])


def last_word(bundle: Bundle, stage: str, attempt: int) -> float | None:
    """When an attempt at a stage last reported, in seconds since 1970; reads the last segment of each writer only."""
    times = []
    for writer in bundle.writers(stage, attempt, "metrics"):
        folder = bundle.segments(stage, attempt, "metrics", writer)
        for name in bundle.store.list(folder)[-1:]:
            lines = bundle.store.get(f"{folder}/{name}").splitlines()
            times += [json.loads(line).get("at", 0.0) for line in lines[-1:]]
    return max(times, default=None)


def metric_rows(bundle: Bundle, stage: str | None = None, writer: str | None = None) -> Iterator[dict[str, Any]]:
    """Metric rows in order of stage and step.

    Steps that a cut attempt had done after its last checkpoint are done again by the next attempt; of each step only
    the last row counts.
    """
    stages = [stage] if stage else bundle.store.list("stages")
    for name in stages:
        by_step: dict[Any, dict[str, Any]] = {}
        for attempt in bundle.attempts(name):
            fresh = list(_attempt_rows(bundle, name, attempt, writer))
            first = min((row["step"] for row in fresh if "step" in row), default=None)
            if first is not None:
                by_step = {key: row for key, row in by_step.items() if row.get("step", -1) < first}
            for number, row in enumerate(fresh):
                key = row["step"] if "step" in row and writer else (attempt, number)
                by_step[key] = {**by_step.get(key, {}), "stage": name, **row}
        yield from by_step.values()


def _attempt_rows(bundle: Bundle, stage: str, attempt: int, writer: str | None) -> Iterator[dict[str, Any]]:
    for who in bundle.writers(stage, attempt, "metrics"):
        if writer in (None, who):
            folder = bundle.segments(stage, attempt, "metrics", who)
            for name in bundle.store.list(folder):
                for line in bundle.store.get(f"{folder}/{name}").splitlines():
                    yield json.loads(line)
