"""What rank 0 prints, for the person who is attached, without the traceback that the end of the run shows anyway."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

#: Seconds that a traceback is held back: if the run has not failed by then, the user's code printed it.
HELD_S = 4.0
_START = "Traceback (most recent call last):"
#: In front of what a rank of a process group, or its libraries, say: a place in C++ and the like.
_NOISE = re.compile(r"^(\[rank\d+\]:\s|\[[WE]\d{3,})")


class Prints:
    """Passes lines on; from the first line of a traceback on it waits to see whether the run fails."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._since = 0.0

    def pass_on(self, lines: Iterable[str], now: float, failed: bool, over: bool = False) -> Iterator[str]:
        """The lines to show now.

        Args:
            lines: that are new.
            now: any clock, in seconds.
            failed: the run has failed; what is held back is its traceback.
            over: nothing comes after these lines.
        """
        for line in lines:
            if _NOISE.match(line):
                continue
            if self._held or line.startswith(_START):
                if not self._held:
                    self._since = now
                self._held.append(line)
            else:
                yield line
        if failed:
            self._held.clear()
        elif self._held and (over or now - self._since >= HELD_S):
            yield from self._held
            self._held.clear()
