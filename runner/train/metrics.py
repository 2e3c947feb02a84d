"""Metrics of a training: kept per rank, exchanged a few times a second, reduced over ranks, written as a row per step.

A step itself adds no collective. Ranks agree beforehand on the step of the next exchange: rank 0 proposes it from the
speed of the last steps, and the proposal travels with the exchange, as do rank 0's clock and what its hooks announce.
Where steps become slow after that, they agree on an earlier one (see `early`).
Values are summed in the order of ranks in double precision, so a row does not depend on when it was exchanged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner.errors import SpecError, listed
from runner.train.hooks import StepHook
from runner.train.metrics_rows import FETCHED, Item, Rows, weighted_mean
from runner.train.pace import Pace

if TYPE_CHECKING:
    from runner.train.checkpoint.published import Loaded

#: Seconds between the writes of a rank that has nobody to meet, and the most steps that it keeps for one.
ALONE_S, ALONE_STEPS = 0.25, 5000
#: Logged values that a rank keeps before it puts those of one name and step together.
MOST_LOGGED = 4096
RESERVED = (
    "at", "step", "epoch", "samples", "samples_per_s", "wait_share", "steps_total", "phase", "seconds", "quarantined",
    *FETCHED,
)  # fmt: skip
_RESERVED = frozenset(RESERVED)  # every value of every step is looked for there


@dataclass
class Exchanged:
    """What every rank knows after an exchange.

    Args:
        step: at which it was.
        latest: reduced values by name, those that this exchange brought.
        samples: consumed by all ranks.
        next_step: of the next exchange, if no earlier one is agreed on.
        clock: seconds that rank 0 has been training.
        announced: by rank 0's hooks, by name.
        told: by the hooks of every rank that had something to tell, by name, in the order of ranks.
    """

    step: int
    latest: dict[str, float]
    samples: int
    next_step: int
    clock: float
    announced: Mapping[str, Any]
    told: Mapping[str, list[Any]]


@dataclass
class Metrics(StepHook):
    """The metrics of one rank.

    Args:
        path: the file that takes the rows; only rank 0 has one.
        samples: consumed by all ranks, earlier attempts included.
        latest: the newest reduced values by name.
    """

    peers: Any
    path: Path | None
    samples: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    _steps: list[Item] = field(default_factory=list)
    _logged: list[Item] = field(default_factory=list)
    _joined: int = 0  # of those logged, put together already
    _fetched: dict[str, int] = field(default_factory=dict)  # by all ranks, that no row says yet

    def begin(self, loaded: Loaded | None) -> None:
        """Go on with the samples and values of a checkpoint."""
        if loaded is not None:
            self.samples, self.latest = loaded.manifest["samples"], dict(loaded.manifest["metrics"])

    def after_step(self, step: Item) -> None:
        """Keep the values of a step, which consumed its rows. Numbers and tensors of one element only."""
        step.values = _kept(step.values, "ctx.step")
        self._steps.append(step)

    def add_logged(self, item: Item) -> None:
        """Keep values besides those of steps."""
        item.values = _kept(item.values, "ctx.log")
        self._logged.append(item)
        if len(self._logged) >= self._joined + MOST_LOGGED:
            self._logged = _together(self._logged)
            self._joined = len(self._logged)

    def due(self, step: int) -> bool:
        """Whether ranks exchange at this step. The same on every rank; a rank alone asks its clock."""
        if self.peers.world_size == 1:
            return len(self._steps) >= ALONE_STEPS or time.monotonic() - self.pace.since >= ALONE_S or step <= 1
        return bool(self.peers.reached(step))

    def exchange(
        self,
        step: int,
        announced: Mapping[str, Any] | None = None,
        where: str = "ctx.step()",
        tells: Mapping[str, Any] | None = None,
    ) -> Exchanged:
        """Reduce what ranks have kept and write the rows. Every rank must come.

        Args:
            announced: what rank 0 tells all ranks, by name.
            tells: what this rank does.
            where: in the training this is, for words about ranks that are elsewhere.

        Raises:
            RunFailed: ranks have not made the same steps, or are at different places.
        """
        kept = [[(i.step, i.rows, _numbers(i.values)) for i in items] for items in (self._steps, self._logged)]
        mine = {"kept": kept, "wait_s": self.pace.wait_s, "tells": dict(tells or {})}
        told: Exchanged = self.peers.meet(where, mine, lambda theirs: self._reduce(theirs, step, announced or {}))
        self.latest.update(told.latest)
        self.samples = told.samples
        self.peers.agreed(step, told.next_step)
        self._steps, self._logged, self._joined = [], [], 0
        self.pace.begin()
        return told

    def paused(self, what: str, started: float) -> None:
        """That time does not count in the rates."""
        self.pace.idle_from(started)

    def state(self) -> dict[str, Any]:
        """The latest values are among the fields of every checkpoint anyway."""
        return {"samples": self.samples}

    def event(self, **fields: Any) -> None:
        """A row that no rank but the first has to say (a phase that ended, a checkpoint that was passed over)."""
        self._write([json.dumps({"at": time.time(), **fields}) + "\n"])

    # -- inside --------------------------------------------------------------------------------------------------

    def _reduce(self, theirs: list[dict[str, Any]], step: int, announced: Mapping[str, Any]) -> Exchanged:
        """On rank 0: write the rows of all ranks, and tell what every rank must know."""
        active = self.pace.active_s()
        share = min(1.0, sum(part["wait_s"] for part in theirs) / len(theirs) / active)
        rows = Rows(self.samples)
        parts = [part["kept"] for part in theirs]
        for part in theirs:
            for name, value in part["tells"].get("fetched", {}).items():
                self._fetched[name] = self._fetched.get(name, 0) + value
        rows.add_steps(self._steps, parts, active, share, self._fetched)
        if self._steps:
            self._fetched = {}
        rows.add_logged([*self._steps, *self._logged], parts, time.time())
        self._write(rows.lines)
        following = self.pace.next_exchange(step, len(self._steps), active)
        told: dict[str, list[Any]] = {}
        for part in theirs:
            for name, value in part["tells"].items():
                told.setdefault(name, []).append(value)
        return Exchanged(step, rows.latest, rows.samples, following, self.pace.clock, announced, told)

    def _write(self, lines: list[str]) -> None:
        if self.path is not None and lines:
            with open(self.path, "a") as file:
                file.write("".join(lines))


def _kept(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Values as a rank keeps them.

    Raises:
        SpecError: a name that rows have already, or something that is no number.
    """
    kept = {}
    for name, value in values.items():
        if name in _RESERVED:
            raise SpecError(
                f"the name '{name}'", allowed=f"any name but {listed(RESERVED)}", todo="rename it", where=where
            )
        kept[name] = value if type(value) is float else _number(name, value, where)
    return kept


def _number(name: str, value: Any, where: str) -> Any:
    """A number now, or, for a tensor on a GPU, a copy there: reading it would wait for the GPU at every step."""
    found = value
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex():
        value = value.detach()
        if value.device.type != "cpu":
            return value.clone()
        found = value.item()
    elif type(value).__module__ == "numpy" and getattr(value, "size", 0) == 1:
        found = value.item()  # Python's number, but for a long double
    if isinstance(found, bool | int | float) or type(found).__name__ == "longdouble":
        try:
            return float(found)
        except OverflowError:
            raise SpecError(
                f"{name} is a whole number beyond what a float can be",
                allowed="numbers up to 1.7e308",
                todo="pass a smaller one",
                where=where,
            ) from None
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else ""
    raise SpecError(
        f"{name} is a {type(value).__name__}{shape}",
        allowed="numbers and tensors of one element",
        todo="pass its mean, or keep it with ctx.save",
        where=where,
    )


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: value if type(value) is float else float(value) for name, value in values.items()}


def _together(logged: list[Item]) -> list[Item]:
    """The same with one item for each name and step, in the order of their first values."""
    groups: dict[tuple[int, str], list[Item]] = {}
    for item in logged:
        for name in item.values:
            groups.setdefault((item.step, name), []).append(item)
    joined = []
    for (_, name), items in groups.items():
        last, rows = items[-1], sum(item.rows for item in items)
        value = weighted_mean([(item.rows, float(item.values[name])) for item in items])
        joined.append(Item(last.step, last.epoch, last.at, rows, {name: value}))
    return joined
