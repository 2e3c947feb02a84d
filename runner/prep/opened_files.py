"""Which files below a folder are opened, by whatever program: libraries of C and children open where no hook sees it.

Linux tells (inotify); elsewhere, or where it refuses, nothing is known.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from runner.code.slicing.files import SKIPPED

_MODIFY, _OPEN, _MOVED_TO, _CREATE = 0x2, 0x20, 0x80, 0x100
_LOST, _ONLY_FOLDERS, _IS_FOLDER = 0x4000, 0x01000000, 0x40000000
_CHANGES = _MODIFY | _MOVED_TO | _CREATE
_HEAD = struct.Struct("iIII")
#: Folders that are watched at most: a machine has so many watches for all its processes.
_MOST_FOLDERS = 4000


class Opened:
    """Watches all folders below `root` from now on, without hidden ones and those that nobody's data lies in.

    Raises:
        OSError: this machine cannot, or there are too many folders.
    """

    def __init__(self, root: Path) -> None:
        self._folders: dict[int, str] = {}
        self._file = _start()
        try:
            for folder in _folders(root):
                if len(self._folders) >= _MOST_FOLDERS:
                    raise OSError(f"more than {_MOST_FOLDERS} folders below {root}")
                self._folders[_watch(self._file, folder)] = folder
        except OSError:
            self.close()
            raise

    def take(self) -> list[tuple[str, bool]] | None:
        """Each file that was opened since the last call, or (True) written or made, in order; None if some are lost."""
        found: list[tuple[str, bool]] = []
        whole = True
        for number, mask, name in self._events():
            if mask & _LOST:
                whole = False
            elif name and not mask & _IS_FOLDER and number in self._folders:
                found.append((os.path.join(self._folders[number], name), bool(mask & _CHANGES)))
        return found if whole else None

    def close(self) -> None:
        """Watch no more."""
        with contextlib.suppress(OSError):
            os.close(self._file)

    def _events(self) -> Iterator[tuple[int, int, str]]:
        while True:
            try:
                data = os.read(self._file, 1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                number, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                yield number, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
                at += length


def _folders(root: Path) -> Iterator[str]:
    for folder, folders, _ in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED and not f.startswith(".")]
        yield folder


def _start() -> int:
    if sys.platform != "linux":
        raise OSError("only Linux tells which files are opened")
    return _called("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)


def _watch(file: int, folder: str) -> int:
    return _called("inotify_add_watch", file, os.fsencode(folder), _OPEN | _CHANGES | _ONLY_FOLDERS)


def _called(name: str, *arguments: int | bytes) -> int:
    found = getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return int(found)
