"""What the processes of stages have written into a run: segments of logs and metrics, where they ran, their ends.

stages/<stage>/<attempt>/{logs,metrics,times}/<writer>/<byte offset>
stages/<stage>/<attempt>/{hosts,causes}/<writer>
"""

from __future__ import annotations

from runner.errors import StoreBroken
from runner.record.endings import Ending
from runner.store.store import Store
from runner.untrusted.names import ATTEMPT, OFFSET, STAGE, WRITER
from runner.untrusted.skipped import skipped

#: Bytes that are read, at most, of what is recorded in words, and of a segment (a `Shipper` writes 1 MiB).
WORDS_BYTES, SEGMENT_BYTES = 1 << 20, 16 << 20


class StageFiles:
    """The files of a run's stages.

    Args:
        store: of the run.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def stages(self) -> list[str]:
        """The stages that have written anything."""
        return [name for name in self._store.list("stages") if STAGE.fits(name)]

    def attempts(self, stage: str) -> list[int]:
        """The attempts at a stage that have written anything, in order."""
        return sorted(int(name) for name in self._store.list(f"stages/{STAGE(stage)}") if ATTEMPT.fits(name))

    def writers(self, stage: str, attempt: int, kind: str) -> list[str]:
        """Who wrote logs or metrics of an attempt at a stage."""
        return self._processes(f"{_at(stage, attempt)}/{kind}")

    def segments(self, stage: str, attempt: int, kind: str, writer: str) -> str:
        """The folder of a writer's segments; `kind` is 'logs', 'metrics' or 'times'."""
        return f"{_at(stage, attempt)}/{kind}/{WRITER(writer)}"

    def offsets(self, folder: str) -> list[str]:
        """The names of a writer's segments, in order; `folder` is of `segments`."""
        found = []
        for name in self._store.list(folder):
            if OFFSET.fits(name):
                found.append(name)
            else:
                skipped(f"{self._store.url}/{folder}/{name}", "no segment")
        return found

    def segment(self, folder: str, name: str) -> bytes:
        """The content of one segment; of one that cannot be read nothing. Raises FileNotFoundError."""
        try:
            return self._store.get(f"{folder}/{OFFSET(name)}", SEGMENT_BYTES)
        except StoreBroken as error:
            skipped(error.where, error.found)
            return b""

    def host(self, stage: str, attempt: int, writer: str, host: str) -> None:
        """Record where a process of a stage runs."""
        self._store.put(f"{_at(stage, attempt)}/hosts/{WRITER(writer)}", host.encode())

    def hosts(self, stage: str, attempt: int) -> dict[str, str]:
        """Process of a stage -> the machine (on Kubernetes the pod) where it runs."""
        folder = f"{_at(stage, attempt)}/hosts"
        return {writer: self._words(f"{folder}/{writer}") for writer in self._processes(folder)}

    def record_ending(self, stage: str, attempt: int, writer: str, ending: Ending) -> None:
        """Record what ended a process of a stage, where somebody beside it knows."""
        self._store.put(f"{_at(stage, attempt)}/causes/{WRITER(writer)}", ending.encoded())

    def endings(self, stage: str, attempt: int) -> list[Ending]:
        """What was recorded."""
        folder = f"{_at(stage, attempt)}/causes"
        return [Ending.decoded(self._words(f"{folder}/{writer}")) for writer in self._processes(folder)]

    def _processes(self, folder: str) -> list[str]:
        return [name for name in self._store.list(folder) if WRITER.fits(name)]

    def _words(self, key: str) -> str:
        return self._store.get(key, WORDS_BYTES).decode(errors="replace")


def _at(stage: str, attempt: int) -> str:
    return f"stages/{STAGE(stage)}/{ATTEMPT(attempt)}"
