"""Metrics of a training: kept per rank, exchanged a few times a second, reduced over ranks, written as a row per step.

A step itself adds no collective. Ranks agree beforehand on the step of the next exchange: rank 0 proposes it from the
speed of the last steps, and the proposal travels with the exchange, as do rank 0's clock and its wish for a checkpoint.
Values are summed in the order of ranks in double precision, so a row does not depend on when it was exchanged.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from runner.errors import RunFailed, SpecError, listed

#: Seconds between exchanges that rank 0 aims at, and the most steps between two of them.
EXCHANGE_S, MOST_STEPS = 0.5, 100
#: Seconds between the writes of a rank that has nobody to meet.
ALONE_S = 0.25
RESERVED = ("at", "step", "epoch", "samples", "samples_per_s", "wait_share", "steps_total", "phase", "seconds")


@dataclass
class Item:
    """Values of one rank at one step.

    Args:
        rows: of data that they are a mean over: their weight.
        counts: whether it is a step (which consumed the rows) or a `log` besides.
    """

    step: int
    epoch: int
    at: float
    rows: int
    counts: bool
    values: dict[str, Any]
    steps_total: int | None = None


@dataclass
class Exchanged:
    """What every rank knows after an exchange.

    Args:
        latest: reduced values by name, in the order in which they came.
        clock: seconds that rank 0 has been training.
        save: rank 0 finds a checkpoint due.
    """

    latest: dict[str, float]
    clock: float
    save: bool


@dataclass
class Metrics:
    """The metrics of one rank.

    Args:
        path: the file that takes the rows; only rank 0 has one.
        samples: that had been consumed by all ranks before this attempt.
    """

    peers: Any
    path: Path | None
    samples: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    next_step: int = 0  # of the next exchange; 0: the next step there is
    idle_s: float = 0.0  # time since the last exchange that was not spent on steps (phases, checkpoints)
    wait_s: float = 0.0  # time since the last exchange that was spent waiting for data
    _step_s: float = EXCHANGE_S  # of the last steps
    _items: list[Item] = field(default_factory=list)
    _since: float = field(default_factory=time.monotonic)
    _started: float = field(default_factory=time.monotonic)

    def add(self, item: Item, where: str) -> None:
        """Keep the values of an item. Numbers and tensors of one element only."""
        for name in item.values:
            if name in RESERVED:
                raise SpecError(
                    f"the name '{name}'", allowed=f"any name but {listed(RESERVED)}", todo="rename it", where=where
                )
        item.values = {name: _kept(name, value, where) for name, value in item.values.items()}
        self._items.append(item)

    def due(self, step: int) -> bool:
        """Whether ranks exchange at this step. The same on every rank; a rank alone asks its clock."""
        if self.peers.world_size == 1:
            return time.monotonic() - self._since >= ALONE_S or step <= 1
        return step >= self.next_step

    def exchange(self, step: int, save: bool = False) -> Exchanged:
        """Reduce what ranks have kept and write the rows. A collective.

        Args:
            save: rank 0 wishes for a checkpoint.

        Raises:
            RunFailed: ranks have not made the same steps.
        """
        now = time.monotonic()
        mine = {
            "items": [(i.step, i.counts, i.rows, _numbers(i.values)) for i in self._items],
            "wait_s": self.wait_s,
            "next": self._propose(step, now),
            "clock": now - self._started,
            "save": save,
        }
        theirs = self.peers.gather(mine)
        _check_steps([part["items"] for part in theirs])
        active = max(now - self._since - self.idle_s, 1e-9)
        share = min(1.0, sum(part["wait_s"] for part in theirs) / len(theirs) / active)
        self._write(self._rows([part["items"] for part in theirs], active, share))
        self.next_step = theirs[0]["next"]
        self._items, self._since, self.idle_s, self.wait_s = [], time.monotonic(), 0.0, 0.0
        return Exchanged(self.latest, theirs[0]["clock"], theirs[0]["save"])

    def idle_from(self, started: float) -> None:
        """The time since `started` (of time.monotonic) was not spent on steps."""
        self.idle_s += time.monotonic() - max(started, self._since)

    def event(self, **fields: Any) -> None:
        """A row that no rank but the first has to say (a phase that ended, a checkpoint that was passed over)."""
        self._write([{"at": time.time(), **fields}])

    # -- inside --------------------------------------------------------------------------------------------------

    def _propose(self, step: int, now: float) -> int:
        made = sum(1 for item in self._items if item.counts)
        if made:
            self._step_s = max(now - self._since - self.idle_s, 1e-6) / made
        return step + max(1, min(MOST_STEPS, int(EXCHANGE_S / self._step_s)))

    def _rows(self, parts: list[list[Any]], active: float, share: float) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        consumed = sum(rows_ for part in parts for _, counts, rows_, _ in part if counts)
        rates = {"samples_per_s": round(consumed / active, 3), "wait_share": round(share, 4)}
        ours = iter(self._items)
        for item in (item for item in ours if item.counts):
            same = [p for part in parts for p in part if p[1] and p[0] == item.step]
            self.samples += sum(p[2] for p in same)
            row = {"at": item.at, "step": item.step, "epoch": item.epoch, "samples": self.samples}
            rows.append({**row, **self._reduced(same), **rates, "steps_total": item.steps_total})
        logged = sorted({p[0] for part in parts for p in part if not p[1]})
        for step in logged:
            same = [p for part in parts for p in part if not p[1] and p[0] == step]
            epoch = next((i.epoch for i in self._items if i.step == step), 0)
            rows.append({"at": time.time(), "step": step, "epoch": epoch, **self._reduced(same)})
        return rows

    def _reduced(self, items: list[Any]) -> dict[str, float]:
        reduced: dict[str, float] = {}
        for name in dict.fromkeys(name for item in items for name in item[3]):
            pairs = [(item[2], item[3][name]) for item in items if name in item[3]]
            reduced[name] = weighted_mean(pairs)
        self.latest.update(reduced)
        return reduced

    def _write(self, rows: list[dict[str, Any]]) -> None:
        if self.path is not None and rows:
            with open(self.path, "a") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))


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


def _kept(name: str, value: Any, where: str) -> Any:
    """A number now, or, for a tensor on a GPU, a copy there: reading it would wait for the GPU at every step."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.detach()
        return value.item() if value.device.type == "cpu" else value.clone()
    if isinstance(value, bool | int | float):
        return value
    if type(value).__module__ == "numpy" and getattr(value, "size", 0) == 1:
        return value.item()
    raise SpecError(
        f"{name} is a {type(value).__name__}", allowed="numbers and tensors of one element",
        todo="pass its mean, or keep it with ctx.save", where=where,
    )  # fmt: skip


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _check_steps(parts: list[list[Any]]) -> None:
    """Ranks that made different steps would train different models."""
    made = [[p[0] for p in part if p[1]] for part in parts]
    for rank, steps in enumerate(made):
        if steps != made[0]:
            raise RunFailed(
                f"ranks are out of step: since the last exchange rank 0 called ctx.step() {len(made[0])} times "
                f"and rank {rank} {len(steps)} times; every rank must call it for every step"
            )
