"""Rounds: each contestant in a fresh process, all of them one after the other in each round."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.streaming import processes
from benchmarks.streaming.case import Case
from benchmarks.streaming.results import Result

ROOT = Path(__file__).resolve().parents[2]
#: A contestant that takes longer is ended, and this is its result.
LIMIT_S = 240.0


class Failed(Exception):
    """A contestant's process ended without a result; the message is what it said last."""


def spawn(python: str, case: Case, *arguments: str, module: str = "child", sample: bool = False) -> dict[str, Any]:
    """Runs `child`, or another module, and gives what it found, with the samples of its memory where they are wanted.

    Raises:
        Failed: it ended without a result, or took too long.
    """
    tag = uuid.uuid4().hex
    environment = {**os.environ, "PYTHONPATH": str(ROOT), processes.TAG: tag, **_quiet(case)}
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as said:
        target = Path(scratch) / "result"
        environment["TMPDIR"] = scratch
        command = [python, "-m", f"benchmarks.streaming.{module}", str(target), *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment, cwd=ROOT, start_new_session=True
        )
        sampler = processes.Sampler(tag)
        try:
            with sampler if sample else _Nothing():
                try:
                    process.communicate(case.to_json().encode(), timeout=LIMIT_S)
                except subprocess.TimeoutExpired:
                    raise Failed(f"took more than {LIMIT_S:.0f} s") from None
        finally:
            end_all(tag)
            process.wait()
        if not target.exists():
            said.seek(0)
            raise Failed(_last_words(said.read()))
        found: dict[str, Any] = json.loads(target.read_text())
    if sample and "passes" in found:
        found["idle"] = sampler.peak(0, found["ready"])
        found["peak"] = sampler.peak(found["ready"], found["passes"][-1]["end"])
    return found


class _Nothing:
    """A context that does nothing."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _quiet(case: Case) -> dict[str, str]:
    """What keeps contestants from the network, and from more threads than there are cores."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        **(case.server.environment if case.server else {}),
    }


def end_all(tag: str) -> None:
    """Ends what a contestant left behind."""
    for member in processes.members(tag, {}):
        try:
            os.kill(member, 9)
        except ProcessLookupError:
            continue


def _last_words(said: bytes) -> str:
    """The last line that names an error, or the last one."""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named or lines or ["ended without a word"])[-1][:200]


def measure(python: str, case: Case, number: int, requests: Any = None) -> Result:
    """One contestant in one round; round 0 warms caches, is sampled for memory and does not count for time.

    Args:
        requests: a function that tells how many requests the S3 server has had.
    """
    before = requests() if requests else 0
    try:
        found = spawn(python, case, sample=number == 0)
    except Failed as failure:
        return Result(case.work, case.source, case.rival, number, error=str(failure))
    if "refused" in found:
        return Result(case.work, case.source, case.rival, number, error=found["refused"])
    result = _result(case, number, found)
    if requests:
        result = replace(result, requests=(requests() - before) / (len(found["passes"]) * case.payload / 1e9))
    return result


def _result(case: Case, number: int, found: dict[str, Any]) -> Result:
    first, second = found["passes"]
    exact = not any(one["missing"] or one["duplicates"] or one["wrong_bytes"] for one in found["passes"])
    return Result(
        case.work,
        case.source,
        case.rival,
        number,
        first_MBs=case.payload / 1e6 / first["seconds"],
        second_MBs=case.payload / 1e6 / second["seconds"],
        first_cpu=first["cpu_s"] / case.payload * 1e9,
        second_cpu=second["cpu_s"] / case.payload * 1e9,
        first_batch_s=first["first_batch_s"],
        open_s=first["open_s"],
        import_s=found["import_s"],
        peak_MB=_megabytes(found.get("peak")),
        idle_MB=_megabytes(found.get("idle")),
        resident_MB=found["peak_resident"] / 1e6,
        exact=exact,
    )


def _megabytes(found: int | None) -> float | None:
    return None if found is None else found / 1e6


def log(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
