"""Mix: several sources, each with its share of the samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.errors import SpecError, listed, suggest
from runner.spec.checks import Fields, checked


@checked
@dataclass(frozen=True)
class Mix:
    """Sources, each with its share: ``Mix({"web": 0.7, "code": 0.3}, {"web": url, "code": dataset})``.

    Args:
        weights: source -> its share of the samples; they need not add up to 1.
        sources: source -> anything that a Stream reads. In a job, whose stage names its inputs: None.
        at: step -> the weights from that step on, steps being global batches from 0.
        at_rows: the same by rows of all ranks instead of steps, so that it means the same for every batch size.

    Raises:
        SpecError: an argument is out of its range.
    """

    weights: Mapping[str, float]
    sources: Mapping[str, Any] | None = None
    at: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    at_rows: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fields = Fields("Mix")
        _check(fields, "weights", self.weights, self.weights)
        for name in ("at", "at_rows"):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise fields.fail(name, given, "a mapping such as {20_000: {'web': 0.5, 'code': 0.5}}")
            for place, weights in given.items():
                fields.integer(name, place, 1)
                _check(fields, f"{name}[{place}]", weights, self.weights)
        if self.at and self.at_rows:
            raise fields.fail("at_rows", dict(self.at_rows), "either at or at_rows")
        if self.sources is not None and (
            not isinstance(self.sources, Mapping) or set(self.sources) != set(self.weights)
        ):
            raise fields.fail("sources", self.sources, f"a source for each of {listed(self.weights)}, and no other")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sources, in the order of `weights`."""
        return tuple(self.weights)

    def phases(self, position: Callable[[int], int]) -> list[tuple[int, Mapping[str, float]]]:
        """The weights by the position from which on they hold.

        Args:
            position: of the first row of a step.
        """
        changes = {position(step): weights for step, weights in self.at.items()} or dict(self.at_rows)
        return [(0, self.weights), *sorted(changes.items(), key=lambda change: change[0])]


def _check(fields: Fields, field: str, weights: Any, known: Mapping[str, float]) -> None:
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(name, str) and name for name in weights):
        raise fields.fail(field, weights, "a mapping such as {'web': 0.7, 'code': 0.3}")
    if set(weights) != set(known):
        odd = next(iter(set(weights) ^ set(known)))
        raise SpecError(
            f"{field}: '{odd}' is in one of the mappings of weights only",
            allowed=f"{listed(known)}, each in all of them (0 leaves a source out)",
            todo=suggest(odd, known) or "give it a weight everywhere",
            where=fields.where,
        )
    for value in weights.values():
        fields.number(field, float(value) if hasattr(value, "__float__") else value, 0)
        if not math.isfinite(value):
            raise fields.fail(field, weights, "finite numbers")
    if not sum(weights.values()):
        raise fields.fail(field, weights, "one weight above 0")
