"""What ended a process or a machine, as somebody beside it has seen it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from runner.errors import Cause


@dataclass(frozen=True)
class Ending:
    """One end: in words, and of what kind."""

    words: str
    cause: Cause

    def encoded(self) -> bytes:
        """As a bundle keeps it."""
        return json.dumps({"cause": str(self.cause), "words": self.words}).encode()

    @classmethod
    def decoded(cls, text: str) -> Ending:
        """What a bundle keeps. Before there were causes that was words alone, of memory that ran out."""
        try:
            kept = json.loads(text)
            return cls(str(kept["words"]), Cause(kept["cause"]))
        except (ValueError, LookupError, TypeError):
            return cls(text, Cause.OUT_OF_MEMORY)
