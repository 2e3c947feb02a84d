"""Processor seconds and memory of a process with all that it started, from /proc."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

#: The environment variable by which all processes of one measurement are known, whoever their parent is by now.
TAG = "STREAMING_BENCHMARK_TAG"
TICK = 1 / os.sysconf("SC_CLK_TCK")


def members(tag: str, known: dict[int, bool]) -> list[int]:
    """Processes with the tag; `known` keeps the answers, as an environment does not change."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        process = int(name)
        if process not in known:
            try:
                environment = Path(f"/proc/{process}/environ").read_bytes()
            except OSError:
                continue
            if not environment:
                continue  # it is between fork and exec, or has ended
            known[process] = f"{TAG}={tag}".encode() in environment.split(b"\0")
        if known[process]:
            found.append(process)
    return found


def cpu_seconds(tag: str) -> float:
    """User and system time of all processes with the tag, and of their children that have ended."""
    total = 0
    for process in members(tag, {}):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(value) for value in fields[11:15])
    return total * TICK


def peak_resident(process: int | str = "self") -> int:
    """VmHWM in bytes; getrusage would tell the parent's, which a child inherits."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) << 10


class Sampler:
    """A thread that notes the proportional set size of all processes with a tag, with the time, until it is stopped."""

    def __init__(self, tag: str, every_s: float = 0.05) -> None:
        self.samples: list[tuple[float, int]] = []
        self._tag, self._every_s = tag, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def peak(self, begin: float, end: float) -> int | None:
        """The most bytes between two times of `time.monotonic`; None where they are too near for a sample."""
        return max((size for at, size in self.samples if begin <= at <= end), default=None)

    def _run(self) -> None:
        known: dict[int, bool] = {}
        while not self._stop.wait(self._every_s):
            total = sum(proportional(process) for process in members(self._tag, known))
            self.samples.append((time.monotonic(), total))


def proportional(process: int) -> int:
    """Proportional set size in bytes; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)
