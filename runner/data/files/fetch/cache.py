"""Ranges of remote files kept on a disk of this machine: fetched once for all of its processes.

What one unit needs of its file is one entry: a file named by what it holds, published by rename. Whoever needs an
entry that is not there takes its lock, fetches, and publishes; others wait for the lock, and find it. A process that is
killed leaves its lock to the next, and a file that nobody will take for an entry.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.files.changed import HASHES, content
from runner.data.files.fetch.counters import Fetched
from runner.data.files.fetch.promise import Promise
from runner.errors import DataError

if TYPE_CHECKING:
    from runner.data.files.engines.base import Data
    from runner.data.files.fetch.source import Source

_MAGIC = b"runner range cache 1\n"
#: An entry's table: how many spans, and of each its start and end in the file; then a checksum of the spans' bytes.
_COUNT, _SPAN, _SUM_BYTES = struct.Struct("<Q"), struct.Struct("<QQ"), 4
_ENTRY, _TOTAL, _LOCKS = ".unit", "total", "locks"
#: Files that are no entries yet are left alone for so long: somebody may be writing them.
_STALE_S = 3600.0
#: How many locks the entries share.
_LOCK_FILES = 256

#: When an entry is needed next, by its name; None of one that is not known to be needed.
Due = Callable[[str], float | None]


class Kept:
    """A range whose bytes are here."""

    def __init__(self, start: int, data: Data) -> None:
        self.start, self.end, self._data = start, start + len(data), data

    def take(self) -> Data:
        """The bytes."""
        return self._data

    def drop(self) -> None:
        """Nobody wants it."""


@dataclass
class Cache:
    """A folder of entries.

    Args:
        folder: see `folder_in`.
        most_bytes: of all entries together.
        due: when entries are needed next; those that are needed last, or not at all, make room for others.
    """

    folder: Path
    most_bytes: int
    due: Due = lambda _: None

    def fetch(self, name: str, source: Source, ranges: Iterable[tuple[int, int]]) -> Promise:
        """The ranges (start, length) of an entry for whoever will ask for them, from the disk, or fetched and kept.

        Args:
            name: of the entry, see `entry_name`.

        Raises:
            DataAway, FileChanged, OSError: they cannot be fetched.
        """
        spans = source.spans(ranges)
        parts = self._found(name, source, spans)
        if parts is None:
            with self._locked(name):
                parts = self._found(name, source, spans)
                if parts is None:
                    parts = [Kept(start, data) for start, data in source.take(source.ask_spans(spans))]
                    with contextlib.suppress(OSError):  # a full disk: there is the store
                        self._publish(name, parts)
        return Promise(source.key, parts)

    def forget(self, name: str) -> None:
        """Keep an entry no longer. One that cannot be removed is read again."""
        with contextlib.suppress(OSError), self._total() as total:
            path = self._path(name)
            size = path.stat().st_size
            path.unlink()
            total.value -= size

    def _found(self, name: str, source: Source, spans: Sequence[tuple[int, int]]) -> list[Kept] | None:
        parts = self._read(name, spans)
        if parts is not None:
            source.count(Fetched(kept=sum(part.end - part.start for part in parts)))
        return parts

    # -- one entry -----------------------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self.folder / (name + _ENTRY)

    def _read(self, name: str, spans: Sequence[tuple[int, int]]) -> list[Kept] | None:
        """An entry; None if it is not there, not whole, or of other spans."""
        try:
            data = memoryview(self._path(name).read_bytes())
        except FileNotFoundError:
            return None
        head = _head(spans)
        if bytes(data[: len(head)]) != head:
            return None
        body = data[len(head) + _SUM_BYTES :]
        if len(body) != sum(end - start for start, end in spans) or _sum(body) != data[len(head) :][:_SUM_BYTES]:
            return None
        parts, at = [], 0
        for start, end in spans:
            parts.append(Kept(start, body[at : at + end - start]))
            at += end - start
        return parts

    def _publish(self, name: str, parts: Sequence[Kept]) -> None:
        """Keep an entry if there is, or can be made, room for it. A full disk is no error: there is the store."""
        head = _head([(part.start, part.end) for part in parts])
        body = b"".join(part.take() for part in parts)
        size = len(head) + _SUM_BYTES + len(body)
        with self._total() as total:
            if self._make_room(name, size, total) and self._write(name, head + _sum(body), body):
                total.value += size

    def _write(self, name: str, head: bytes, body: bytes) -> bool:
        """Whether there was room on the disk."""
        temporary = ""
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                temporary = file.name
                file.write(head)
                file.write(body)
            os.replace(temporary, self._path(name))
        except OSError:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            return False
        return True

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Alone with an entry, among all processes. Whoever holds the lock fetches, and that has a deadline."""
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") % _LOCK_FILES
        with _here(number), contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # without room for a lock others may fetch it too
                file = stack.enter_context((self.folder / _LOCKS / str(number)).open("ab"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # -- room ----------------------------------------------------------------------------------------------------

    def _make_room(self, name: str, size: int, total: _Total) -> bool:
        """Whether an entry of so many bytes may be kept; entries that are needed later than it may have to go."""
        if size > self.most_bytes:
            return False
        if total.value + size <= self.most_bytes:
            return True
        own, entries = self._when(name), self._entries()
        total.value = sum(entry.size for entry in entries)  # who counted may have been killed meanwhile
        for entry in entries:
            if total.value + size <= self.most_bytes:
                break
            if entry.due <= own:
                return False
            entry.path.unlink(missing_ok=True)
            total.value -= entry.size
        return total.value + size <= self.most_bytes

    def _entries(self) -> list[_Entry]:
        """All entries, those that may go first at the front; what was left half-written is removed."""
        found = []
        with os.scandir(self.folder) as listing:
            for one in listing:
                with contextlib.suppress(FileNotFoundError):
                    told = one.stat(follow_symlinks=False)
                    if one.name.endswith(_ENTRY):
                        name = one.name.removesuffix(_ENTRY)
                        found.append(_Entry(self._when(name), told.st_mtime, told.st_size, Path(one.path)))
                    elif one.name.startswith("tmp") and time.time() - told.st_mtime > _STALE_S:
                        Path(one.path).unlink(missing_ok=True)
        return sorted(found, key=lambda entry: (-entry.due, entry.made))

    def _when(self, name: str) -> float:
        due = self.due(name)
        return float("inf") if due is None else due

    @contextlib.contextmanager
    def _total(self) -> Iterator[_Total]:
        """The bytes of all entries, alone among all processes."""
        with _here(-1), (self.folder / _TOTAL).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read(32)
            total = _Total(int(text) if text.isdigit() else sum(entry.size for entry in self._entries()))
            yield total
            file.truncate(0)
            file.write(str(max(0, total.value)).encode())


@dataclass
class _Total:
    value: int


@dataclass(frozen=True)
class _Entry:
    due: float
    made: float
    size: int
    path: Path


def file_name(url: str, size: int, etag: str) -> str:
    """The first part of the names of a file's entries: where its content is known, the same wherever it lies."""
    etag = content(etag)
    what = f"{etag} {size}" if etag.partition(":")[0] in HASHES else f"{etag} {size} {url}"
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def entry_name(file: str, unit: int, columns: Sequence[str]) -> str:
    """The name of the entry of a unit of a file, for some of its columns."""
    chosen = hashlib.sha256(repr(sorted(columns)).encode()).hexdigest()[:8]
    return f"{file}-{unit}-{chosen}"


def folder_in(place: str | os.PathLike[str]) -> Path:
    """The folder of this user's entries below a place, made if need be.

    Raises:
        DataError: it cannot be written, or others may write there too: they would decide what is read.
    """
    folder = Path(place).expanduser() / f"runner-cache-{os.geteuid()}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        told = folder.lstat()
        (folder / _LOCKS).mkdir(0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unfit(folder, f"a cache that cannot be written ({error.strerror or error})") from error
    if not stat.S_ISDIR(told.st_mode) or told.st_uid != os.geteuid() or told.st_mode & 0o022:
        raise _unfit(folder, "a cache that others may write to")
    return folder


def free_share(folder: Path) -> int:
    """Half of the bytes that are free on the disk of a folder, and of those that it has taken already."""
    taken = sum(one.stat().st_size for one in os.scandir(folder) if one.name.endswith(_ENTRY))
    return (shutil.disk_usage(folder).free + taken) // 2


def _unfit(folder: Path, found: str) -> DataError:
    return DataError(
        found,
        allowed="a folder on a disk of this machine that is the user's alone",
        todo="give another with cache=, or none",
        where=str(folder),
    )


def _head(spans: Sequence[tuple[int, int]]) -> bytes:
    return _MAGIC + _COUNT.pack(len(spans)) + b"".join(_SPAN.pack(*span) for span in spans)


def _sum(data: bytes | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(_SUM_BYTES, "little")


_threads: dict[int, threading.Lock] = {}
_making = threading.Lock()


def _anew() -> None:
    """In a forked process: the locks may be held by threads of the parent's."""
    global _making, _threads
    _making, _threads = threading.Lock(), {}


os.register_at_fork(after_in_child=_anew)


@contextlib.contextmanager
def _here(number: int) -> Iterator[None]:
    """Alone among the threads of this process: each has a file of its own open, but they need not all wait there."""
    with _making:
        lock = _threads.setdefault(number, threading.Lock())
    with lock:
        yield
