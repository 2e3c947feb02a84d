"""The versions of a dataset, as its log and its summary say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.data.record_shapes import SUMMARY
from runner.store.log import Entry, Log
from runner.untrusted import shapes

#: The kind of an entry in a dataset's log that takes versions away.
REMOVED = "removed"
#: The kind of one that gives them back: a run has begun to use them.
RESTORED = "restored"


class History:
    """What a dataset's log says.

    Args:
        log: from the entry behind the summary on.
        number, mark: of the last entry that is in `versions`.
        versions: oldest first, without those that were removed.
    """

    def __init__(self, log: Log, number: int = 0, mark: str = "", versions: Iterable[Entry] = ()) -> None:
        self.log, self.number, self.mark, self.versions = log, number, mark, list(versions)

    @classmethod
    def of(cls, data: bytes, log: Log) -> History:
        """From a summary, if it is one of this log: the last entry that it counts is there, and is that one. A slower
        writer may have put an older one in the place of a newer.
        """
        try:
            summary = shapes.loads(data)
            SUMMARY(summary, "")
        except shapes.Misshapen:  # the log has all of it
            return cls(log)
        number, mark = summary["number"], summary["mark"]
        versions = [version_of(told) for told in summary["versions"]]
        return cls(log.after(number), number, mark, versions) if log.mark(number) == mark else cls(log)

    def add(self, entry: Entry) -> None:
        """Take in the next entry of the log."""
        if entry.number <= self.number:
            return
        self.number, self.mark = entry.number, entry.mark
        if entry.kind == REMOVED:
            self.versions = [version for version in self.versions if version.data["id"] not in entry.data["ids"]]
        elif entry.kind == RESTORED:
            known = {version.number for version in self.versions}
            fresh = [version_of(told) for told in entry.data["versions"] if told["number"] not in known]
            self.versions = sorted([*self.versions, *fresh], key=lambda version: version.number)
        elif entry.kind == "version":
            self.versions.append(entry)

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        versions = [{"number": each.number, "at": each.at, "data": each.data} for each in self.versions]
        return {"number": self.number, "mark": self.mark, "versions": versions}


def version_of(told: Mapping[str, Any]) -> Entry:
    """A version as a summary has it."""
    return Entry(told["number"], "version", told["at"], told["data"])
