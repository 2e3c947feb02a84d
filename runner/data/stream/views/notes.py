"""What was counted of data, noted in the user's cache folder: the ranks of a machine count once."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

#: Seconds that another process may take to count; then this one counts too.
_PATIENCE_S = 900.0


def kept(key: str | None, length: int, count: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """What `count` gives, from a note if there is one.

    Args:
        key: of the note, a file's name; None: nothing is noted.
        length: of the sequence; a note of another length is none.
    """
    if key is None:
        return count()
    note = os.path.join(_folder(), key)
    with contextlib.suppress(OSError, ValueError):
        return _read(note, length)
    with _alone(f"{note}.lock"):
        with contextlib.suppress(OSError, ValueError):
            return _read(note, length)
        found = count()
        _write(note, found)
    return found


def _folder() -> str:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "runner", "counts")


def _read(note: str, length: int) -> list[Any]:
    with open(note, encoding="utf-8") as file:
        found = json.load(file)
    whole = isinstance(found, list) and len(found) == length
    for one in found if whole else ():
        pair = isinstance(one, list) and len(one) == 2
        whole = whole and pair and type(one[0]) is int and one[0] >= 0 and isinstance(one[1], str)
    if not whole:
        raise ValueError(f"no counts: {note}")
    return list(found)


def _write(note: str, found: Sequence[Any]) -> None:
    """A note that cannot be written only costs others time."""
    with contextlib.suppress(OSError):
        beside = f"{note}.{os.getpid()}.{threading.get_ident()}"
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(found, file)
        os.replace(beside, note)


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """While no other process is in here with this path; where that cannot be had, or takes too long, beside it."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(path, "a")  # noqa: SIM115 (a thread may hold it longer than this)
    except OSError:
        yield
        return
    given, over = threading.Event(), threading.Event()

    def hold() -> None:
        with file:
            with contextlib.suppress(OSError):  # a file system without locks: whoever needs the counts counts
                fcntl.flock(file, fcntl.LOCK_EX)
            given.set()
            over.wait()

    threading.Thread(target=hold, name="runner-counts", daemon=True).start()
    given.wait(_PATIENCE_S)
    try:
        yield
    finally:
        over.set()
