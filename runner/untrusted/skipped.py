"""What a store holds and nobody can read is passed over, and said once: who looks at many things sees the others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from runner.errors import UNREADABLE
from runner.untrusted.visible import one_line

T = TypeVar("T")
_log = logging.getLogger(__name__)
#: More of them are only counted: somebody who fills a store with such names must not fill a terminal.
_MOST, _LONGEST = 20, 300
_said: set[str] = set()
_lock = threading.Lock()


def skipped(where: str, why: str) -> None:
    """Tell the logger that an object was passed over; once for each object.

    Args:
        where: its full path.
        why: what is wrong with it.
    """
    with _lock:
        if where in _said or len(_said) > _MOST:
            return
        _said.add(where)
        more = len(_said) > _MOST
    words = "and more that cannot be read" if more else _cut(f"{one_line(where)}: {one_line(why)}")
    _log.warning("passed over: %s", words)


def readable(act: Callable[[], T], otherwise: T) -> T:
    """What `act` reads of one object among others; `otherwise` where that cannot be read, which is said."""
    try:
        return act()
    except UNREADABLE as error:
        skipped(error.where, error.found)
        return otherwise


def _cut(words: str) -> str:
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 3]}..."


def forget() -> None:
    """Say all of it again, from here on."""
    with _lock:
        _said.clear()
