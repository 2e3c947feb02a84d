"""How fast rows come out of files: runner.Stream, its rivals and the bare limit, interleaved.

    python -m benchmarks.streaming                              five telling cases, 10 minutes
    python -m benchmarks.streaming --matrix                     everything; hours
    python -m benchmarks.streaming --cases jpeg@local --rivals limit:threads=all,pieces=0 runner:as=numpy,threads=2
    python -m benchmarks.streaming --resume                     resumes in the middle of an epoch
    python -m benchmarks.streaming --prep                       the same function by Prep and others

Each contestant runs in a fresh process of its own in each round and reads all rows twice. Every byte is touched, and
the ids are checked. Round 0 warms the caches, is sampled for memory and does not count for time. `table.md`,
`plot.png`, `raw.csv` and `raw.json` are written into --out.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import json
import operator
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.streaming import prep, report, results, resume
from benchmarks.streaming.case import Case
from benchmarks.streaming.environments import python_of
from benchmarks.streaming.images import SIDE
from benchmarks.streaming.results import LIMITS, Result
from benchmarks.streaming.rounds import Failed, log, measure, spawn
from benchmarks.streaming.sources import NAMES, Source, Sources
from benchmarks.streaming.works import WORKS, Written, write

#: Contestants, as NAME[:option=value,...]; the modules in `rivals` have the options.
LIMIT = tuple(name for names in LIMITS.values() for name in names)
RIVALS = (
    "arrow_dataset", "torch_loader", "hf:workers=0", "hf", "hf:buffer=256,workers=0", "litdata:workers=0", "litdata",
    "litdata:form=rows,workers=0", "litdata:form=own", "mosaic", "ray_data", "ray_data:buffer=0", "spdl", "webdataset",
)  # fmt: skip
#: The telling cases, each with those who are fastest at it.
DEFAULT = {
    "tokens-list-zstd@local": (*LIMIT, "runner", "torch_loader", "hf:workers=0", "litdata:workers=0"),
    "jpeg@local": (*LIMIT, "runner", "arrow_dataset", "torch_loader", "litdata:workers=0", "spdl"),
    "jpeg-decoded@local": (LIMIT[0], LIMIT[2], "runner", "torch_loader", "litdata", "spdl"),
    "floats-4@s3": (LIMIT[0], LIMIT[2], "runner", "arrow_dataset", "hf:workers=0", "spdl"),
    "tokens-list-zstd@s3-slow": (LIMIT[0], LIMIT[2], "runner", "arrow_dataset", "spdl"),
}
#: Of those that can resume.
RESUMES = ("runner", "hf:workers=0", "litdata", "mosaic")


def main() -> None:
    """Parses the arguments, measures, writes the report."""
    arguments = parse(sys.argv[1:])
    if arguments.prep:
        measure_prep(arguments)
        return
    if arguments.resume:
        measure_resume(arguments)
        return
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sources = Sources(folder, stack)
        arguments.out.mkdir(parents=True, exist_ok=True)
        found: list[Result] = []
        cases = arguments.cases or (matrix() if arguments.matrix else list(DEFAULT))
        for name in cases:
            rivals = arguments.rivals or DEFAULT.get(name, ())
            if arguments.matrix or not rivals:
                rivals = (*LIMIT, "runner", *RIVALS)
            found += run_case(name, rivals, arguments, folder, sources, 60 * arguments.minutes / len(cases))
            lines = results.lines(found)
            results.save(found, arguments.out)
            (arguments.out / "table.md").write_text(report.markdown(lines))
            report.plot(lines, arguments.out / "plot.png")
    print((arguments.out / "table.md").read_text())
    if any(line.exact is False for line in lines):
        sys.exit("a contestant did not deliver each row once")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.streaming", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=256, help="of each dataset")
    parser.add_argument("--rounds", type=int, default=5, help="that count, for each case")
    parser.add_argument("--minutes", type=float, help="no round begins later (10 for the default cases)")
    parser.add_argument("--cases", nargs="+", metavar="WORK@SOURCE", help=f"{', '.join(WORKS)} @ {', '.join(NAMES)}")
    parser.add_argument("--rivals", nargs="+", metavar="NAME[:option=value,...]", help="see the folder rivals")
    parser.add_argument("--matrix", action="store_true", help="every work at every source, every contestant")
    parser.add_argument("--resume", action="store_true", help="measure resumes instead")
    parser.add_argument("--prep", action="store_true", help="measure preparations instead")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="threads or workers of each contestant")
    parser.add_argument("--folder", type=Path, help="keeps the data for the next time (a temporary one)")
    parser.add_argument("--out", type=Path, default=Path("build/streaming"), help="where the report goes")
    given = parser.parse_args(argv)
    if given.minutes is None:
        given.minutes = 10.0 if not (given.cases or given.matrix) else float("inf")
    return given


def matrix() -> list[str]:
    """Every work at every source."""
    return [f"{work}@{source}" for source in NAMES for work in WORKS]


def run_case(
    name: str, rivals: Sequence[str], arguments: argparse.Namespace, folder: Path, sources: Sources, most_s: float
) -> list[Result]:
    """All rounds of a case, or as many as can be begun within a time. The contestants' order turns in each round."""
    work, _, place = name.partition("@")
    written = write(WORKS[work].dataset, folder, arguments.megabytes)
    source = sources.get(place)
    standing, found, seconds = [], [], {}
    for rival in rivals:
        case = case_of(work, source, rival, written, arguments.cores)
        reason = _module(rival).refuses(case)
        if reason is None:
            try:
                case, seconds[rival] = converted(case, source, written, folder / "converted")
            except Failed as failure:
                reason = f"conversion: {failure}"
        if reason is None:
            standing.append(case)
        else:
            found.append(Result(work, place, rival, 0, error=reason))
    end = time.monotonic() + most_s
    for number in range(arguments.rounds + 1):
        if number > 1 and time.monotonic() > end:
            log(f"{name}: {number - 1} rounds instead of {arguments.rounds}, for lack of time (--minutes)")
            break
        turn = number % max(1, len(standing))
        for case in [*standing[turn:], *standing[:turn]]:
            begin = time.monotonic()
            one = measure(python_of(environment(case)), case, number, source.requests)
            shuffled = _module(case.rival).shuffles(case)
            found.append(dataclasses.replace(one, convert_s=seconds[case.rival], shuffled=shuffled))
            rate = one.error or f"{one.second_MBs:.0f} ({one.first_MBs:.0f}) MB/s{'' if one.exact else ', NOT EXACT'}"
            log(f"{name} round {number} {case.rival}: {rate}, {time.monotonic() - begin:.1f} s")
        standing = [case for case in standing if not any(one.error and one.rival == case.rival for one in found)]
    return sorted(found, key=lambda one: rivals.index(one.rival))


def converted(case: Case, source: Source, written: Written, folder: Path) -> tuple[Case, float | None]:
    """The case with the contestant's own form of the data, and the seconds that it took to write; None: needs none."""
    module = _module(case.rival)
    if not hasattr(module, "convert"):
        return case, None
    name = f"{case.work}-{written.folder.name}-{re.sub('[^a-z0-9]+', '-', case.rival)}"
    path, took = folder / name, folder / f"{name}.seconds"
    if not took.exists():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        local = case_of(case.work, Source("local"), case.rival, written, case.cores)
        took.write_text(str(spawn(python_of(environment(case)), local, str(path))["seconds"]))
        log(f"{case.work}: converted for {case.rival} in {float(took.read_text()):.1f} s")
    return dataclasses.replace(case, converted=str(path), converted_url=source.place(path)), float(took.read_text())


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


def environment(case: Case) -> str:
    """Where a contestant's process runs; who decodes images by itself, where the fastest decoder is."""
    name = _module(case.rival).ENVIRONMENT
    return "rivals" if case.decode and not case.rival.startswith("runner") else name


def _module(rival: str) -> Any:
    return importlib.import_module(f"benchmarks.streaming.rivals.{rival.partition(':')[0]}")


def case_of(work: str, source: Source, rival: str, written: Written, cores: int) -> Case:
    """A contestant's case, nothing converted."""
    wanted, limit = WORKS[work], rival.startswith("limit")
    url = str(written.folder) if limit else source.place(written.folder)
    checksum = functools.reduce(operator.xor, (written.checksum[column] for column in wanted.columns))
    decoded = written.rows * SIDE * SIDE * 3
    return Case(
        work,
        source.name,
        rival,
        url,
        tuple(f"{url}/{file}" for file in written.files),
        wanted.dataset.format,
        wanted.columns,
        wanted.decode,
        wanted.batch,
        written.rows,
        decoded if wanted.decode else sum(written.payload[column] for column in wanted.columns),
        None if wanted.decode else checksum,
        None if limit else source.server,
        cores=cores,
        options=dict(one.split("=", 1) for one in rival.partition(":")[2].split(",") if one),
    )
