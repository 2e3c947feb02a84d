"""The other things that are measured: resumes in the middle of an epoch, and preparations."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.streaming import prep, resume
from benchmarks.streaming.cases import case_of, converted, environment
from benchmarks.streaming.environments import python_of
from benchmarks.streaming.rounds import Failed, log, spawn
from benchmarks.streaming.sources import Source, Sources
from benchmarks.streaming.works import WORKS, Written, write

#: Of those that can resume.
RESUMES = ("runner", "hf:workers=0", "litdata", "mosaic")


def measure_prep(arguments: argparse.Namespace) -> None:
    """Preparations, interleaved; the table goes to prep.md, what was measured to prep.json."""
    found: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arguments.out.mkdir(parents=True, exist_ok=True)
        written = write(WORKS["tokens-list-zstd"].dataset, folder, arguments.megabytes)
        for number in range(arguments.rounds):
            for rival in arguments.rivals or prep.CONTESTANTS:
                case = case_of("tokens-list-zstd", Source("local"), rival, written, arguments.cores)
                with tempfile.TemporaryDirectory() as target:
                    try:
                        one = spawn(python_of(prep.CONTESTANTS[rival]), case, target, module="prep")
                    except Failed as failure:
                        one = {"error": str(failure)}
                found.append({"rival": rival, "round": number, **one})
                log(f"prep round {number} {rival}: {one}")
    text = prep.table(found, written.payload["tokens"])
    (arguments.out / "prep.json").write_text(json.dumps(found, indent=1))
    (arguments.out / "prep.md").write_text(text)
    print(text)


def measure_resume(arguments: argparse.Namespace) -> None:
    """Resumes of each contestant on tokens and pictures, local; the table goes to resume.md."""
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arguments.out.mkdir(parents=True, exist_ok=True)
        text = []
        for name in arguments.cases or ("tokens-list-zstd@local",):
            work, _, place = name.partition("@")
            source = Sources(folder, stack).get(place)
            written = write(WORKS[work].dataset, folder, arguments.megabytes)
            found: dict[str, dict[str, Any]] = {}
            for rival in arguments.rivals or RESUMES:
                found[rival] = _resumes(rival, work, source, written, arguments, folder)
            text.append(resume.table(found, written.rows).replace("### Resume", f"### Resume, {work}, {place}"))
        (arguments.out / "resume.md").write_text("\n".join(text))
    print("\n".join(text))


def _resumes(
    rival: str, work: str, source: Source, written: Written, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as states:
        for part in ("whole", *map(str, resume.SHARES)):
            try:
                case = case_of(work, source, rival, written, arguments.cores)
                case, _ = converted(case, source, written, folder / "converted")
                parts[part] = spawn(python_of(environment(case)), case, states, part, module="resume")
            except Failed as failure:
                parts[part] = {"error": str(failure)}
            log(f"{work} resume {rival} {part}: {parts[part]}")
            if "bytes" not in parts[part] and part == "whole":
                break
    return parts
