"""The words of Ray for how a process of its ended, as causes: nobody else looks at them."""

from __future__ import annotations

import re

from runner.errors import Cause, OutOfMemory, WorkerAway, WorkerLost

_EXIT = re.compile(r"\bexit(ed)?\b (type|detail|code|with)", re.IGNORECASE)
#: Of Ray's memory monitor, before the line that says how much there was.
_USED = "Memory on the node"


def of_end(words: str) -> Cause:
    """Why an actor or a rank is gone. Ray's exceptions are of one class; only their text tells whether its memory
    monitor ended the process, or whether it only does not answer.
    """
    if "low on memory" in words:
        return Cause.OUT_OF_MEMORY
    return Cause.PEER_AWAY if "is unavailable" in words else Cause.MACHINE_LOST


def lost(what: str, words: str) -> WorkerLost:
    """The error for a process that ended without a result.

    Args:
        what: ended, in words.
        words: Ray's.
    """
    cause = of_end(words)
    kind = {Cause.OUT_OF_MEMORY: OutOfMemory, Cause.PEER_AWAY: WorkerAway}.get(cause, WorkerLost)
    return kind(f"{what}: {_told(words, cause)}")


def _told(words: str, cause: Cause) -> str:
    """The line of Ray's that tells how a process ended. Its memory monitor lists processes, whose command lines may say
    anything.
    """
    lines = [line.strip() for line in words.splitlines()]
    if cause is Cause.OUT_OF_MEMORY:
        told = next((line for line in lines if _USED in line), "")
        return f"out of memory: Ray's monitor ended it. {told[told.find(_USED) :]}".strip()
    return next((line for line in lines if _EXIT.search(line)), " ".join(words.split()))
