"""The versions of a dataset, as its log and its summary say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from runner.store import Entry, Log
from runner.store.events import Event, kinds_of
from runner.untrusted import shapes
from runner.untrusted.names import FOLDER, RESULT, RUN_ID, VERSION
from runner.untrusted.shapes import moment, named, number, whole
from runner.untrusted.typed import Record


@dataclass(frozen=True)
class VersionMade(Event, kind="version"):
    """A dataset has a newest version.

    Args:
        id: of its manifest.
        folder: of its shards, below the dataset's.
        rows: of lines that nobody has counted -1.
        key: of the result that it is; `stage` and `run` have made that, of so many `bytes_in`.
    """

    id: Annotated[str, named(VERSION)]
    folder: Annotated[str, named(FOLDER)]
    rows: Annotated[int, whole(-1)]
    bytes: int
    files: int
    key: Annotated[str, named(RESULT)] | None = None
    stage: str | None = None
    run: Annotated[str, named(RUN_ID)] | None = None
    bytes_in: Annotated[float, number(-1.0)] | None = None


@dataclass(frozen=True)
class Version(Record):
    """A version with its place in the dataset's log, and when it was published."""

    number: int
    at: Annotated[float, moment]
    data: VersionMade


@dataclass(frozen=True)
class VersionsRemoved(Event, kind="removed"):
    """Versions are taken away."""

    ids: tuple[Annotated[str, named(VERSION)], ...]


@dataclass(frozen=True)
class VersionsRestored(Event, kind="restored"):
    """Versions are given back: a run has begun to use them."""

    versions: tuple[Version, ...]


#: What the log of a dataset tells.
VERSIONS = kinds_of(VersionMade, VersionsRemoved, VersionsRestored)


@dataclass(frozen=True)
class Summary(Record):
    """`_summary.json` of a dataset: its versions, as the log has them up to the entry of that number and mark."""

    number: int
    mark: str
    versions: tuple[Version, ...]


class History:
    """What a dataset's log says.

    Args:
        log: from the entry behind the summary on.
        number, mark: of the last entry that is in `versions`.
        versions: oldest first, without those that were removed.
    """

    def __init__(self, log: Log, number: int = 0, mark: str = "", versions: Iterable[Version] = ()) -> None:
        self.log, self.number, self.mark, self.versions = log, number, mark, list(versions)

    @classmethod
    def of(cls, data: bytes, log: Log) -> History:
        """From a summary, if it is one of this log: the last entry that it counts is there, and is that one. A slower
        writer may have put an older one in the place of a newer.
        """
        try:
            found = Summary.from_json(shapes.loads(data))
        except shapes.Misshapen:  # the log has all of it
            return cls(log)
        if log.mark(found.number) != found.mark:
            return cls(log)
        return cls(log.after(found.number), found.number, found.mark, found.versions)

    def add(self, entry: Entry) -> None:
        """Take in the next entry of the log."""
        if entry.number <= self.number:
            return
        self.number, self.mark = entry.number, entry.mark
        event = entry.event
        if isinstance(event, VersionsRemoved):
            self.versions = [version for version in self.versions if version.data.id not in event.ids]
        elif isinstance(event, VersionsRestored):
            known = {version.number for version in self.versions}
            fresh = [version for version in event.versions if version.number not in known]
            self.versions = sorted([*self.versions, *fresh], key=lambda version: version.number)
        elif isinstance(event, VersionMade):
            self.versions.append(Version(entry.number, entry.at, event))

    def summary(self) -> Summary:
        """What a later reader need not read again."""
        return Summary(self.number, self.mark, tuple(self.versions))
