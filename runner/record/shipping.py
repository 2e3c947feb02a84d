"""Copies what processes append to spool files into the bundle, as segments named by their byte offset.

Object stores cannot append, and a process that is killed with -9 cannot flush. So processes write to plain local
files, and this runs beside them. Segments are named by offset and each is created if absent: copying again after a
crash repeats nothing, and two who copy the same file do not disturb each other.

    <scratch>/spool/<stage>/<attempt>/<kind>/<writer>.<ending>  ->  stages/<stage>/<attempt>/<kind>/<writer>/<offset>

When a line was printed is noted by looking at the files now and then, to LOOK_S: C code and children print as well. A
segment of a log is preceded by `times/<writer>/<offset>`, a list of [offset in the segment, seconds since 1970]. That
is an object more for each, on purpose: a segment is nothing but what was printed, which any tool reads and whose length
says where the next one begins, and whoever sees it finds its times.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from pathlib import Path

from runner.errors import StoreError
from runner.record.bundle import Bundle
from runner.untrusted.names import OFFSET
from runner.untrusted.visible import one_line

_log = logging.getLogger(__name__)
SEGMENT_BYTES = 1 << 20
FIRST_FLUSH_S, LONGEST_FLUSH_S = 0.4, 15.0
#: Seconds between looks at how far logs have grown.
LOOK_S = 0.1
#: A folder that was listed so soon after it was changed may change again at the same time by the file system's clock.
_TICK_NS, _UNKNOWN = 50_000_000, -1


class Shipper:
    """Ships one spool folder until closed; on an object store the flushes grow rarer with the run's age.

    Args:
        spool: the folder.
        bundle: where the segments go.
    """

    def __init__(self, spool: Path, bundle: Bundle) -> None:
        self._spool, self._bundle = spool, bundle
        self._files: dict[Path, SpoolFile] = {}
        self._folders = {spool: _UNKNOWN}  # those that hold logs, and those above: when each was changed last
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: StoreError | OSError | None = None

    def start(self) -> None:
        """Ship in a thread until `close`."""
        self._thread = threading.Thread(target=self._loop, name="shipper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ship what is left and stop. Raises StoreError if the store refuses it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.ship()
        self.error = None

    def _loop(self) -> None:
        pause = FIRST_FLUSH_S
        remote = self._bundle.store.kind != "file"
        while not self._stop_within(pause):
            try:
                self.ship()
                self.error = None
            except (StoreError, OSError) as error:
                self.error = error  # tried again at the next round, and raised by close()
                _log.info("not in the bundle yet: %s", one_line(str(error)))
            if remote:
                pause = min(pause * 1.2, LONGEST_FLUSH_S)

    def _stop_within(self, seconds: float) -> bool:
        """Watch the logs for so long. Returns True as soon as it is to stop."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stop.wait(min(left, LOOK_S)):
                return True
            with contextlib.suppress(StoreError, OSError):  # one that stays, `ship` meets as well
                self.look()
        return False

    def look(self) -> None:
        """Note how far the logs have grown, and when. Raises StoreError if one cannot be read."""
        if any(_changed(folder) != at for folder, at in self._folders.items()):
            self._find()
        for file in self._files.values():
            if file.is_log:
                file.look()

    def ship(self) -> None:
        """Copy everything that was appended since the last call. Raises StoreError."""
        self._find()
        for file in self._files.values():
            file.ship()

    def _find(self) -> None:
        """The files that there are now."""
        found = [path for path in sorted(self._spool.glob("*/*/*/*")) if path.is_file()]
        self._files = {path: self._files.get(path) or SpoolFile(path, self._bundle) for path in found}
        folders = {above for path in self._spool.glob("*/*/logs") for above in (path, *path.parents[:3])}
        now = time.time_ns()
        self._folders = {
            folder: at if now - (at := _changed(folder)) > _TICK_NS else _UNKNOWN for folder in folders or {self._spool}
        }


def _changed(folder: Path) -> int:
    """When a folder was changed, in ns since 1970; 0 if it is not there (yet, or any more)."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


class SpoolFile:
    """One spool file and how much of it is in the bundle.

    Args:
        path: <spool>/<stage>/<attempt>/<kind>/<writer>.<ending>.
    """

    def __init__(self, path: Path, bundle: Bundle) -> None:
        stage, attempt, kind = path.parts[-4:-1]
        self._path, self._store = path, bundle.store
        self.is_log = kind == "logs"
        self._folder = bundle.stage_files.segments(stage, int(attempt), kind, path.stem)
        self._times = bundle.stage_files.segments(stage, int(attempt), "times", path.stem) if self.is_log else None
        self._whole_lines = kind == "metrics"  # a segment can be read by itself
        self._sent: int | None = None
        self._seen = 0
        self._marks: list[tuple[int, float]] = []  # (offset from which on it came, when)

    def look(self) -> int:
        """Note when what is new was written. Returns the file's size; 0 if it is gone. Raises StoreError."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._unreadable(error) from error
        if found.st_size > self._seen:
            self._marks.append((self._seen, round(found.st_mtime, 3)))
            self._seen = found.st_size
        return found.st_size

    def ship(self) -> None:
        """Copy what was appended since. Raises StoreError if the store refuses it."""
        if self._sent is None:
            self._sent = self._shipped_before()
        size = self.look()
        while self._sent < size:
            data = self._read(self._sent, min(SEGMENT_BYTES, size - self._sent))
            if self._whole_lines:
                data = data[: data.rfind(b"\n") + 1]
            if not data:
                return
            if self._times is not None:
                marks = json.dumps(self._marks_of(self._sent, len(data))).encode()
                self._store.create(f"{self._times}/{self._sent:015d}", marks)
            made = self._store.create(f"{self._folder}/{self._sent:015d}", data)
            self._sent = self._sent + len(data) if made else self._shipped_before()

    def _read(self, start: int, length: int) -> bytes:
        try:
            with open(self._path, "rb") as source:
                source.seek(start)
                return source.read(length)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self._path} cannot be read: {error}",
            allowed="a temporary folder that this machine can read",
            todo="see to its disk; what is there by then is shipped",
            where="scratch folder",
        )

    def _marks_of(self, start: int, length: int) -> list[tuple[int, float]]:
        """Of a segment; those before it are needed no more."""
        while len(self._marks) > 1 and self._marks[1][0] <= start:
            self._marks.pop(0)
        return [(max(0, offset - start), at) for offset, at in self._marks if offset < start + length]

    def _shipped_before(self) -> int:
        names = [name for name in self._store.list(self._folder) if OFFSET.fits(name)]
        if not names:
            return 0
        return int(names[-1]) + len(self._store.get(f"{self._folder}/{names[-1]}"))
