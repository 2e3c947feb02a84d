"""What an entry of a log tells: a frozen dataclass for each kind, and one for kinds that are not known here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from runner.untrusted.typed import Record


class Event(Record):
    """Base of what happened, as a frozen dataclass of its details: `class Cancelled(Event, kind="cancelled")`."""

    KIND: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.KIND = kind or cls.KIND

    @property
    def kind(self) -> str:
        """Under which name it is kept."""
        return self.KIND


@dataclass(frozen=True)
class Unknown(Event):
    """Of a kind that this reader does not know: a newer runner may write more of them.

    Args:
        name: the kind.
        data: the details.
    """

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Under which name it is kept."""
        return self.name

    def to_json(self) -> dict[str, Any]:
        """The details."""
        return dict(self.data)


Kinds = Mapping[str, type[Event]]


def kinds_of(*classes: type[Event]) -> Kinds:
    """The classes by the names under which they are kept."""
    return {each.KIND: each for each in classes}


def event_of(kinds: Kinds, kind: str, data: Any) -> Event:
    """What happened, as a log has it. Raises Misshapen."""
    known = kinds.get(kind)
    return Unknown(kind, data) if known is None else known.from_json(data, "data")
