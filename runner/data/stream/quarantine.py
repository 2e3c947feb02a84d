"""Units that cannot be read and are set aside: which, how many may be, and what is read in their place.

A unit is set aside as a whole, and its rows are those of another unit: from its first one on, over again where it has
fewer. Which unit that is follows from the numbers of the units and from which of them are set aside, so every rank
finds the same by itself, and a stream that is given the set of an earlier one reads the same rows again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from runner.data.manifest import Manifest
from runner.errors import DataDamaged, DataError, brief

#: Units that an error names, and characters of what is kept of an error.
_NAMED, _LONGEST = 10, 300
#: Steps from a unit to the next that may stand in for it are about this share of all units: far from its neighbours,
#: which lie in the same file.
_APART = 0.618

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetAside:
    """A unit that cannot be read.

    Args:
        source: of a mixture; else ''.
        number: of the unit, counted through the manifest.
        url, unit: of the file, and the unit's number in it.
        rows: of the unit.
        error: what is wrong with it.
        instead: (url, unit) of what is read in its place.
    """

    source: str
    number: int
    url: str
    unit: int
    rows: int
    error: str
    instead: tuple[str, int]

    def __str__(self) -> str:
        return f"{self.url} (unit {self.unit}): {self.error}"


class Quarantine:
    """The units of one dataset that are set aside. For several threads at once.

    Args:
        manifest: whose units they are.
        most: the largest share (0 to 1) of all rows that they may have.
        source: the name of it in a mixture; else ''.

    Attributes:
        tell: what is called once for each unit that is set aside.
    """

    def __init__(self, manifest: Manifest, most: float, source: str = "") -> None:
        self.tell: Callable[[SetAside], None] = _warn
        self._manifest, self._most, self.source = manifest, most, source
        self._known: dict[int, str] = {}
        self._told: set[int] = set()

    def __contains__(self, unit: int) -> bool:
        """Whether a unit is set aside."""
        return unit in self._known

    @property
    def known(self) -> dict[int, str]:
        """Unit, counted through the manifest, -> what is wrong with it; in the order of units."""
        return dict(sorted(self._known.items()))

    @property
    def units(self) -> list[SetAside]:
        """All that are set aside."""
        return [self.about(unit) for unit in self.known]

    def about(self, unit: int) -> SetAside:
        """What there is to say of a unit that is set aside."""
        (url, index), instead = self._place(unit), self._place(self.standing_in(unit))
        return SetAside(self.source, unit, url, index, self._rows(unit), self._known[unit], instead)

    def candidates(self, unit: int) -> Iterator[int]:
        """A unit, unless it is set aside, and those that may stand in for it, the first one first.

        Raises:
            DataError: none is left.
        """
        count = len(self._manifest.units)
        step = _coprime(count)
        for turn in range(count):
            one = (unit + turn * step) % count
            if one not in self._known:
                yield one
        raise self._too_many("no unit is left that can be read", self.known)

    def standing_in(self, unit: int) -> int:
        """What is read for a unit: itself, or the first that is not set aside."""
        return next(self.candidates(unit)) if unit in self._known else unit

    def add(self, unit: int, error: DataDamaged) -> None:
        """Set a unit aside. Raises DataError where it is one too many."""
        self.join({unit: " ".join(error.found.split())[:_LONGEST]}, error)

    def join(self, known: Mapping[int, str], error: DataDamaged | None = None) -> None:
        """Set units aside, which others may have found. Each is told of once.

        Args:
            error: the last one.

        Raises:
            DataError: they are too many.
        """
        self._known.update({unit: words for unit, words in known.items() if unit not in self._known})
        self.check(self.known, error)
        for unit in known:
            if unit not in self._told:
                self._told.add(unit)
                self.tell(self.about(unit))

    def check(self, known: Mapping[int, str], error: DataDamaged | None = None) -> None:
        """Raise DataError, from the last error, where these units would be too many to be set aside."""
        rows = sum(self._rows(unit) for unit in known)
        if rows > self._most * self._manifest.rows:
            share = f"{rows} of {self._manifest.rows} rows ({rows / self._manifest.rows:.2%})"
            raise self._too_many(f"{share} in units that cannot be read", known) from error

    def restore(self, known: Mapping[int, str]) -> bool:
        """Set aside what an earlier stream had set aside, and nothing else; see `check`. Whether that is another set
        than now.
        """
        is_other = known.keys() != self._known.keys()
        self._known = {}
        self.join(known)
        return is_other

    def _rows(self, unit: int) -> int:
        return self._manifest.units[unit][1].rows

    def _place(self, unit: int) -> tuple[str, int]:
        shard, one = self._manifest.units[unit]
        return self._manifest.url(self._manifest.shards[shard]), one.index

    def _too_many(self, found: str, known: Mapping[int, str]) -> DataError:
        named = ["{} (unit {}): {}".format(*self._place(unit), error) for unit, error in known.items()]
        more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        return DataError(
            f"{found}: {'; '.join(named[:_NAMED])}{more}",
            allowed=f"at most {self._most:.4g} of the rows (max_quarantine=)",
            todo="restore these files from where they came from, or leave them out; or allow a larger share",
            where=self._manifest.base,
        )


def _warn(one: SetAside) -> None:
    _log.warning("set aside: %s; its %d rows are those of %s (unit %d)", one, one.rows, *one.instead)


def quiet(one: SetAside) -> None:
    """For those who tell of it otherwise."""


def repeated(batches: Callable[[], Iterator[pa.RecordBatch]], rows: int) -> Iterator[pa.RecordBatch]:
    """So many rows: those of the batches, from the first on, over again where they are fewer."""
    while rows:
        for batch in batches():
            taken = batch if batch.num_rows <= rows else batch.slice(0, rows)
            yield taken
            rows -= taken.num_rows
            if not rows:
                break


def merged(*states: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the first rank, with what all of them have set aside.

    Args:
        states: `Stream.state_dict()` of each rank at the same step.
    """
    together: dict[str, dict[str, str]] = {}
    for state in states:
        for source, known in state.get("quarantine", {}).items():
            together.setdefault(source, {}).update(known)
    return {**states[0], **({"quarantine": together} if together else {})}


def stored(kept: Any, units: Mapping[str, int], where: str) -> dict[str, dict[int, str]]:
    """What a state says is set aside: source -> unit -> what is wrong with it.

    Args:
        units: how many each source has.

    Raises:
        DataError: it is nothing that a state can say.
    """
    try:
        known = {name: {int(unit): str(words) for unit, words in one.items()} for name, one in kept.items()}
        if all(0 <= unit < units[name] for name, one in known.items() for unit in one):
            return {name: one for name, one in known.items() if one}
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise DataError(
        f"a state whose quarantine is {brief(kept)}",
        allowed="units of this data, as state_dict() has them",
        todo="give the state as it was written, or start without it",
        where=where,
    )


def _coprime(count: int) -> int:
    """A step by which all of so many units are come to."""
    step = max(1, int(count * _APART))
    while math.gcd(step, count) != 1:
        step += 1
    return step
