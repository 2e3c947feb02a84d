"""What ended a process or a machine, as somebody beside it has seen it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from runner.errors import Cause
from runner.untrusted.shapes import Misshapen, loads, one_of, record, text

_KEPT = record({"words": text, "cause": one_of(*map(str, Cause))})


@dataclass(frozen=True)
class Ending:
    """One end: in words, and of what kind."""

    words: str
    cause: Cause

    def encoded(self) -> bytes:
        """As a bundle keeps it."""
        return json.dumps({"cause": str(self.cause), "words": self.words}).encode()

    @classmethod
    def decoded(cls, told: str) -> Ending:
        """What a bundle keeps. Before there were causes that was words alone, of memory that ran out."""
        try:
            kept = loads(told)
            _KEPT(kept, "")
        except Misshapen:
            return cls(told, Cause.OUT_OF_MEMORY)
        return cls(kept["words"], Cause(kept["cause"]))
