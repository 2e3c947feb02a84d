"""Which source serves each position of a mixture, in closed form.

Weights become whole quotas of a period. Inside a period each position goes to one of the sources that are behind their
share, the one that must come soonest, so that at every position each source has had its share but for less than one
sample (Tijdeman, "The chairman assignment problem", 1980). A period repeats until the weights change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

#: The longest period. Weights with a larger common denominator are rounded to it.
LONGEST = 1 << 15


class Schedule:
    """Which source serves each position, and as its how manieth.

    Args:
        names: of the sources.
        phases: the weights by the position from which on they hold, ascending from 0; each has all names.
    """

    def __init__(self, names: Sequence[str], phases: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        self.names = tuple(names)
        self._starts = np.array([start for start, _ in phases], np.int64)
        self._phases = [_Phase(quotas([weights[name] for name in names])) for _, weights in phases]
        before = np.zeros((len(phases), len(names)), np.int64)
        for i in range(1, len(phases)):
            before[i] = before[i - 1] + self._phases[i - 1].counts(int(self._starts[i] - self._starts[i - 1]))
        self._before = before

    def locate(self, positions: Ints) -> tuple[Ints, Ints]:
        """Source, and index in the source's own endless sequence, of each position from 0 up; same shape as given."""
        sources, indexes = np.empty_like(positions), np.empty_like(positions)
        phase = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(phase).tolist():
            here = phase == number
            source, index = self._phases[number].locate(positions[here] - self._starts[number])
            sources[here], indexes[here] = source, index + self._before[number][source]
        return sources, indexes

    def until(self, position: int) -> list[Any]:
        """What the positions below this one depend on, as values of JSON."""
        last = max(1, int(np.searchsorted(self._starts, position)))
        found = zip(self._starts[:last].tolist(), self._phases[:last], strict=True)
        return [[start, list(phase.quotas)] for start, phase in found]


class _Phase:
    """Quotas that hold for a while, with positions counted from where it begins."""

    def __init__(self, quotas: tuple[int, ...]) -> None:
        self.quotas = quotas
        self._turns, self._nth = _period(quotas)
        self._counts = np.array(quotas, np.int64)

    def locate(self, positions: Ints) -> tuple[Ints, Ints]:
        rounds, turn = np.divmod(positions, len(self._turns))
        source = self._turns[turn]
        return source, rounds * self._counts[source] + self._nth[turn]

    def counts(self, length: int) -> Ints:
        """Of each source, how many of the first `length` positions are its."""
        rounds, rest = divmod(length, len(self._turns))
        return rounds * self._counts + np.bincount(self._turns[:rest], minlength=len(self._counts))


def quotas(weights: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers that stand to each other as the weights do.

    Weights count as they are written: 0.1 is a tenth. Exact where their sum is LONGEST at most; else LONGEST is shared
    out by the largest remainder, and each source that has a weight has one of them at least.
    """
    exact = [Fraction(str(float(weight))) for weight in weights]
    scale = math.lcm(*(one.denominator for one in exact))
    whole = [int(one * scale) for one in exact]
    whole = [one // math.gcd(*whole) for one in whole]
    total = sum(whole)
    if total <= LONGEST:
        return tuple(whole)
    found = [max(one * LONGEST // total, min(one, 1)) for one in whole]
    by_remainder = sorted(range(len(whole)), key=lambda i: (-(whole[i] * LONGEST % total), i))
    for i in by_remainder[: max(0, LONGEST - sum(found))]:
        found[i] += 1
    while sum(found) > LONGEST:  # many sources of hardly any weight took more than their share
        found[max(range(len(found)), key=lambda i: (found[i], -i))] -= 1
    return tuple(found)


@lru_cache(maxsize=64)
def _period(quotas: tuple[int, ...]) -> tuple[Ints, Ints]:
    """The source of each position of a period, and how many of its positions come before it in the period."""
    length, active = sum(quotas), [source for source, quota in enumerate(quotas) if quota]
    several = 2 * len(active) - 2
    taken, behind = [0] * len(quotas), [0] * len(quotas)  # behind its share: times the length
    turns, nth = np.empty(length, np.int64), np.empty(length, np.int64)
    for at in range(length):
        chosen, soonest = active[0], math.inf
        for source in active:
            behind[source] += quotas[source]
            if several * behind[source] >= length:
                due = ((several - 1) * length - several * behind[source]) / quotas[source]  # but for a factor
                if due < soonest:
                    chosen, soonest = source, due
        turns[at], nth[at] = chosen, taken[chosen]
        taken[chosen] += 1
        behind[chosen] -= length
    return turns, nth
