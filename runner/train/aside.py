"""Units of a training's data that cannot be read: what each rank has set aside, told to all, kept and shown.

A rank finds by itself what of its data cannot be read, and what stands in for it (see `data.stream.quarantine`). At
each exchange all ranks learn what the others have found, so that the share that may be set aside is that of the whole
data, and a checkpoint has what every rank has met.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.data.stream import Stream
from runner.data.stream.quarantine import Quarantine, SetAside, quiet
from runner.train.hooks import StepHook

if TYPE_CHECKING:
    from runner.train.checkpoint.published import Loaded
    from runner.train.loop import Loop
    from runner.train.metrics import Exchanged

_NAME = "quarantine"
#: Units that a summary names.
_SHOWN = 5
#: A unit, as JSON holds it: key (of the streams that have it), data, source, number, file, unit, rows, error.
Found = dict[str, Any]


@dataclass(frozen=True)
class _Watched:
    """What a stream has set aside; it is looked at once more after the stream is gone."""

    key: str
    name: str
    stream: weakref.ref[Stream]
    quarantines: Mapping[str, Quarantine]

    def join(self, known: Iterable[Found]) -> None:
        for source, quarantine in self.quarantines.items():
            quarantine.join({one["number"]: one["error"] for one in known if one["source"] == source})


class AsideUnits(StepHook):
    """What of the training's data is set aside, on one rank."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._watched: list[_Watched] = []
        self._known: dict[tuple[str, str, int], Found] = {}

    def watch(self, name: str, stream: Stream) -> None:
        """A stream is about to be read; what is known of its data is set aside in it.

        Raises:
            DataError: that is more than it may set aside.
        """
        if not stream.quarantines:
            return
        for quarantine in stream.quarantines.values():
            quarantine.tell = quiet
        one = _Watched(_key(name, stream), name, weakref.ref(stream), stream.quarantines)
        self._watched.append(one)
        one.join(self._of(one.key))

    def _of(self, key: str) -> list[Found]:
        return [one for one in self._known.values() if one["key"] == key]

    # -- events --------------------------------------------------------------------------------------------------

    def begin(self, loaded: Loaded | None) -> None:
        """Go on with what was set aside when the checkpoint was made."""
        if loaded is not None:
            self._take(loaded.manifest.get(_NAME, []))

    def tell(self) -> dict[str, Any]:
        """What this rank has found and not told."""
        found = [
            _found(one.key, one.name, quarantine.about(unit))
            for one in self._watched
            for source, quarantine in one.quarantines.items()
            for unit in quarantine.known
            if (one.key, source, unit) not in self._known
        ]
        self._watched = [one for one in self._watched if one.stream() is not None]
        return {_NAME: found} if found else {}

    def exchanged(self, told: Exchanged) -> None:
        """All ranks set aside what one of them has found. Raises DataError where that is too much."""
        told_of = self._units
        new = self._take([one for found in told.told.get(_NAME, []) for one in found])
        for one in [one for place, one in self._units.items() if place not in told_of] if new else ():
            words = f"set aside: {_words(one)}"
            self._loop.metrics.event(step=self._loop.step, epoch=self._loop.epoch, event=words, quarantined=self.rows)
            self._loop.say(words)
        for watched in self._watched if new else ():
            watched.join(self._of(watched.key))

    def state(self) -> dict[str, Any]:
        """All that is set aside."""
        return {_NAME: list(self._known.values())} if self._known else {}

    def _take(self, found: Iterable[Found]) -> list[Found]:
        """Those of the units that were not known."""
        new = []
        for one in found:
            place = one["key"], one["source"], one["number"]
            if place not in self._known:
                self._known[place] = one
                new.append(one)
        return new

    # -- what is said --------------------------------------------------------------------------------------------

    @property
    def _units(self) -> dict[tuple[str, str, str, int], Found]:
        """Each once, though streams with other columns or filters have met it too."""
        found: dict[tuple[str, str, str, int], Found] = {}
        for one in self._known.values():
            found.setdefault((one["data"], one["source"], one["file"], one["unit"]), one)
        return found

    @property
    def rows(self) -> int:
        """In units that are set aside."""
        return sum(one["rows"] for one in self._units.values())

    def result(self) -> dict[str, Any]:
        """What the stage's result says of it: nothing where nothing is set aside."""
        if not self._known:
            return {}
        units = [{name: value for name, value in one.items() if name != "key"} for one in self._units.values()]
        shown = [_words(one) for one in units[:_SHOWN]]
        more = [f"and {len(units) - _SHOWN} units more"] if len(units) > _SHOWN else []
        notes = [f"set aside: {words}" for words in shown + more]
        return {"quarantined": self.rows, _NAME: units, "notes": notes}


def _found(key: str, name: str, one: SetAside) -> Found:
    return {
        "key": key,
        "data": name,
        "source": one.source,
        "number": one.number,
        "file": one.url,
        "unit": one.unit,
        "rows": one.rows,
        "error": one.error,
    }


def _words(one: Mapping[str, Any]) -> str:
    return f"{one['rows']} rows of '{one['source'] or one['data']}', {one['file']} (unit {one['unit']}): {one['error']}"


def _key(name: str, stream: Stream) -> str:
    """What is the same of streams whose units have the same numbers and the same columns."""
    ids = {source: manifest.id for source, manifest in stream.manifests.items()}
    what = json.dumps([name, ids, sorted(stream.columns)], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()[:16]
