"""The process of one contestant: imports, opens, reads two passes, and writes down what it took.

python -m benchmarks.streaming.child RESULT < CASE        passes
python -m benchmarks.streaming.child RESULT FOLDER < CASE converts into the folder
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

PASSES = 2


def main() -> None:
    """Reads the case, measures, writes the result."""
    target, *folder = sys.argv[1:]
    from benchmarks.streaming.case import Case

    case = Case.from_json(sys.stdin.read())
    rival = importlib.import_module(f"benchmarks.streaming.rivals.{case.rival.partition(':')[0]}")
    reason = rival.refuses(case)
    if reason:
        result: dict[str, Any] = {"refused": reason}
    elif folder:
        result = convert(case, rival, folder[0])
    else:
        result = measure(case, rival)
    Path(target).write_text(json.dumps(result))
    sys.stdout.flush()


def convert(case: Any, rival: Any, folder: str) -> dict[str, Any]:
    """Seconds that a contestant's own form takes, imports left out."""
    rival.load(case)
    begin = time.monotonic()
    rival.convert(case, folder)
    return {"seconds": time.monotonic() - begin}


def measure(case: Any, rival: Any) -> dict[str, Any]:
    """Import, opening and passes, each with wall and processor seconds of all processes."""
    import benchmarks.streaming.touch  # noqa: F401
    from benchmarks.streaming import processes

    begin = time.monotonic()
    rival.load(case)
    ready = time.monotonic()
    tag = os.environ.get(processes.TAG, "")
    passes, reader = [], None
    for number in range(PASSES):
        cpu, start = processes.cpu_seconds(tag), time.monotonic()
        reader = reader or rival.Reader(case)
        opened = time.monotonic()
        one = pass_over(case, reader, number, start)
        passes.append({**one, "open_s": opened - start, "cpu_s": processes.cpu_seconds(tag) - cpu, "begin": start})
    return {
        "import_s": ready - begin,
        "ready": ready,
        "passes": passes,
        "peak_resident": processes.peak_resident(),
    }


def pass_over(case: Any, reader: Any, number: int, start: float) -> dict[str, Any]:
    """One pass; `start` is when its clock began."""
    from benchmarks.streaming.rivals.interface import consume
    from benchmarks.streaming.touch import Tally

    tally, first = Tally(), _First(start)
    consume(reader, number, tally, first)
    seconds = time.monotonic() - start
    missing, again = tally.check(case.rows)
    wrong = case.checksum is not None and (tally.payload, tally.checksum) != (case.payload, case.checksum)
    return {
        "seconds": seconds,
        "first_batch_s": first.seconds,
        "end": start + seconds,
        "payload": tally.payload,
        "missing": missing,
        "duplicates": again,
        "wrong_bytes": wrong,
    }


class _First:
    """Notes when it was first called."""

    def __init__(self, start: float) -> None:
        self.seconds: float | None = None
        self._start = start

    def __call__(self) -> None:
        if self.seconds is None:
            self.seconds = time.monotonic() - self._start


if __name__ == "__main__":
    main()
