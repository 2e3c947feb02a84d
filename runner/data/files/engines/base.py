"""What every engine is, and what it raises."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol, TypeAlias

from runner.data.files.changed import FileChanged

#: Bytes that nobody else writes to.
Data: TypeAlias = "bytes | memoryview[int]"


class Unfit(Exception):
    """This engine may not read the file as fsspec would: its own is asked from now on."""


class Passing(OSError):
    """What may succeed in a moment: the server is busy or away, or an answer broke off."""


class Attempt:
    """One request that is under way, for who wants to break it off from another thread."""

    def __init__(self) -> None:
        self.is_broken = False
        self._ways: list[Callable[[], None]] = []

    def breaks_by(self, way: Callable[[], None]) -> None:
        """From now on it is broken off so."""
        self._ways = [way]
        if self.is_broken:
            way()

    def break_off(self) -> None:
        """Let the request fail now, as far as the engine can."""
        self.is_broken = True
        for way in self._ways:
            way()


class Engine(Protocol):
    """Reads one file."""

    def get(self, start: int, end: int, attempt: Attempt) -> Data:
        """The bytes [start, end) by one request.

        Raises:
            Unfit: another engine must read this file.
            Passing: another try may help.
            FileChanged: the file is not what was listed.
            FileNotFoundError, PermissionError, OSError: no other try will help.
        """


#: Where the bytes of an answer begin and end, in its Content-Range.
_PLACE = re.compile(r"\s*bytes\s+(\d{1,18})\s*-\s*(\d{1,18})\s*", re.ASCII | re.IGNORECASE)


def check_range(told: str, size: int, start: int, end: int) -> None:
    """Look whether an answer has the bytes [start, end) of the file that was listed.

    Args:
        told: its Content-Range, as far as there is one.

    Raises:
        FileChanged: they are of another file.
        Passing: they are others of it.
    """
    place, _, whole = told.rpartition("/")
    if whole.isdecimal() and int(whole) != size:
        raise FileChanged(f"the file has {whole} bytes, {size} were listed")
    found = _PLACE.fullmatch(place)
    if found and (int(found[1]), int(found[2])) != (start, end - 1):
        raise Passing(f"the server sent bytes {found[1]} to {found[2]}, and not {start} to {end - 1}")


def of_status(status: int, words: str) -> Exception | None:
    """What a status of HTTP says; None where it says nothing to this purpose."""
    if status in (404, 410):
        return FileNotFoundError(words)
    if status in (401, 403):
        return PermissionError(words)
    if status in (408, 425, 429) or (500 <= status < 600 and status not in (501, 505)):
        return Passing(words)
    return None
