"""Copies what processes append to spool files into the bundle, as segments named by their byte offset.

Object stores cannot append, and a process that is killed with -9 cannot flush. So processes write to plain local
files, and this runs beside them. Segments are named by offset: copying again after a crash repeats nothing.

    <scratch>/spool/<stage>/<attempt>/<kind>/<writer>.<ending>  ->  stages/<stage>/<attempt>/<kind>/<writer>/<offset>
"""

from __future__ import annotations

import threading
from pathlib import Path

from runner.bundle import Bundle
from runner.errors import StoreError

SEGMENT_BYTES = 1 << 20
FIRST_FLUSH_S, LONGEST_FLUSH_S = 0.4, 15.0


class Shipper:
    """Ships one spool folder until closed; on an object store the flushes grow rarer with the run's age.

    Args:
        spool: the folder.
        bundle: where the segments go.
    """

    def __init__(self, spool: Path, bundle: Bundle) -> None:
        self._spool, self._bundle = spool, bundle
        self._sent: dict[Path, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: StoreError | None = None

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

    def _loop(self) -> None:
        pause = FIRST_FLUSH_S
        remote = self._bundle.store.kind != "file"
        while not self._stop.wait(pause):
            try:
                self.ship()
                self.error = None
            except StoreError as error:
                self.error = error  # tried again at the next round, and raised by close()
            if remote:
                pause = min(pause * 1.2, LONGEST_FLUSH_S)

    def ship(self) -> None:
        """Copy everything that was appended since the last call."""
        for file in sorted(self._spool.glob("*/*/*/*")):
            if file.is_file():
                self._ship_file(file)

    def _ship_file(self, file: Path) -> None:
        stage, attempt, kind = file.parts[-4:-1]
        folder = self._bundle.segments(stage, int(attempt), kind, file.stem)
        if file not in self._sent:
            self._sent[file] = self._shipped_before(folder)
        size = file.stat().st_size
        while self._sent[file] < size:
            offset = self._sent[file]
            with open(file, "rb") as source:
                source.seek(offset)
                data = source.read(SEGMENT_BYTES)
            if kind == "metrics":
                data = data[: data.rfind(b"\n") + 1]  # whole lines only: a segment can be read by itself
                if not data:
                    return
            self._bundle.store.create(f"{folder}/{offset:015d}", data)
            self._sent[file] = offset + len(data)

    def _shipped_before(self, folder: str) -> int:
        names = self._bundle.store.list(folder)
        if not names:
            return 0
        return int(names[-1]) + len(self._bundle.store.get(f"{folder}/{names[-1]}"))
