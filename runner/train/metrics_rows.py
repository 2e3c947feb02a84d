"""Rows of metrics: what ranks kept of their steps and logs, reduced over ranks, as lines of JSON."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.errors import RunFailed

#: What a row says of files of other machines: requests, those after a failure, bytes that came, and those of a cache.
#: Sums of all ranks since the last row that says it.
FETCHED = ("fetch_requests", "fetch_retries", "fetched_bytes", "cached_bytes")
#: Of one rank: its steps as (step, rows, values), and what it logged besides in the same form.
Kept = tuple[list[tuple[int, int, dict[str, float]]], list[tuple[int, int, dict[str, float]]]]


@dataclass(slots=True)
class Item:
    """Values of one rank at one step.

    Args:
        at: seconds since 1970.
        rows: of data that they are a mean over: their weight.
        steps_total: that the training will have made at its end, where that is known.
    """

    step: int
    epoch: int
    at: float
    rows: int
    values: dict[str, Any]
    steps_total: int | None = None


class Rows:
    """The rows of one exchange.

    Attributes:
        latest: the newest reduced values by name.
        samples: consumed by all ranks up to the last step.
        lines: the rows as JSON, a line each.
    """

    def __init__(self, samples: int) -> None:
        self.samples, self.latest, self.lines = samples, {}, []  # type: int, dict[str, float], list[str]

    def add_steps(
        self,
        items: list[Item],
        parts: list[Kept],
        active_s: float,
        wait_share: float,
        fetched: Mapping[str, int] | None = None,
    ) -> None:
        """A row for each step.

        Args:
            items: this rank's own, which say when and in which epoch.
            parts: what each rank kept, in the order of ranks.
            active_s: seconds that the steps took; wait_share: of them, the part spent waiting for data.
            fetched: meanwhile, by all ranks; see FETCHED. The last of the rows says it.

        Raises:
            RunFailed: ranks have not made the same steps.
        """
        check_steps([[step for step, _, _ in steps] for steps, _ in parts])
        consumed = sum(rows for steps, _ in parts for _, rows, _ in steps)
        rates = f'"samples_per_s": {consumed / active_s:.3f}, "wait_share": {wait_share:.4f}'
        for item, same in zip(items, zip(*(steps for steps, _ in parts), strict=True), strict=True):
            self.samples += sum(rows for _, rows, _ in same)
            self.lines.append(
                f'{{"at": {item.at:.6f}, "step": {item.step}, "epoch": {item.epoch}, "samples": {self.samples}, '
                f'{self._reduced(same)}{rates}, "steps_total": {item.steps_total or "null"}}}\n'
            )
        if fetched and items:
            said = "".join([f', "{name}": {value}' for name, value in fetched.items()])
            self.lines[-1] = self.lines[-1].removesuffix("}\n") + said + "}\n"

    def add_logged(self, items: list[Item], parts: list[Kept], now: float) -> None:
        """A row for the values that were logged at each step, steps in their order."""
        by_step: dict[int, list[tuple[int, int, dict[str, float]]]] = {}
        for _, logged in parts:
            for one in logged:
                by_step.setdefault(one[0], []).append(one)
        epochs = {item.step: item.epoch for item in items}
        for step in sorted(by_step):
            values = self._reduced(by_step[step]).removesuffix(", ")
            head = f'{{"at": {now:.6f}, "step": {step}, "epoch": {epochs.get(step, 0)}'
            self.lines.append(f"{head}, {values}}}\n" if values else f"{head}}}\n")

    def _reduced(self, same: Sequence[tuple[int, int, dict[str, float]]]) -> str:
        """The values of one step as fields of a row; they become the latest."""
        if len(same) == 1:
            reduced = same[0][2]
        else:
            pairs: dict[str, list[tuple[int, float]]] = {}
            for _, rows, values in same:
                for name, value in values.items():
                    pairs.setdefault(name, []).append((rows, value))
            reduced = {name: weighted_mean(found) for name, found in pairs.items()}
        self.latest.update(reduced)
        return "".join([f"{_quoted(name)}: {number(value)}, " for name, value in reduced.items()])


_quoted = functools.lru_cache(maxsize=4096)(json.dumps)


def number(value: float) -> str:
    """A number as `json.dumps` writes it, which is its shortest exact form."""
    return repr(value) if math.isfinite(value) else json.dumps(value)


def weighted_mean(pairs: list[tuple[int, float]]) -> float:
    """The mean of values weighted by rows, summed in the given order; exactly the value where there is one.

    A value over no rows says nothing (it may be 0/0) and does not count where another has rows.
    """
    pairs = [pair for pair in pairs if pair[0]] or pairs
    if len(pairs) == 1:
        return pairs[0][1]
    total = sum(rows for rows, _ in pairs)
    if total == 0:
        return sum(value for _, value in pairs) / len(pairs)
    return sum(rows * value for rows, value in pairs) / total


def check_steps(made: list[list[int]]) -> None:
    """Ranks that made different steps would train different models."""
    for rank, steps in enumerate(made):
        if steps != made[0]:
            raise RunFailed(
                f"ranks are out of step: since the last exchange rank 0 called ctx.step() {len(made[0])} times "
                f"and rank {rank} {len(steps)} times; every rank must call it for every step"
            )
