"""How fast rows come out of files: runner.Stream, its rivals and the bare limit, interleaved.

    python -m benchmarks.streaming [--megabytes 256] [--rounds 5] [--cases tokens-list-zstd@local ...] [--rivals ...]

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

from benchmarks.streaming import report, results
from benchmarks.streaming.case import Case
from benchmarks.streaming.environments import python_of
from benchmarks.streaming.images import SIDE
from benchmarks.streaming.results import LIMITS, Result
from benchmarks.streaming.rounds import Failed, log, measure, spawn
from benchmarks.streaming.sources import Source, Sources
from benchmarks.streaming.works import WORKS, Written, write

#: NAME[:option=value,...]; see the modules in `rivals` for the options.
CONTESTANTS = (
    *(name for names in LIMITS.values() for name in names),
    "runner",
    "arrow_dataset",
    "torch_loader",
)
DEFAULT_CASES = ("tokens-list-zstd@local", "jpeg@local")


def main() -> None:
    """Parses the arguments, measures, writes the report."""
    arguments = parse(sys.argv[1:])
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sources = Sources(folder, stack)
        arguments.out.mkdir(parents=True, exist_ok=True)
        found: list[Result] = []
        for name in arguments.cases:
            found += run_case(name, arguments, folder, sources)
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
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument("--cases", nargs="+", default=DEFAULT_CASES, metavar="WORK@SOURCE", help=", ".join(WORKS))
    parser.add_argument("--rivals", nargs="+", default=CONTESTANTS, metavar="NAME[:option=value,...]")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="threads or workers of each contestant")
    parser.add_argument("--folder", type=Path, help="keeps the data for the next time (a temporary one)")
    parser.add_argument("--out", type=Path, default=Path("build/streaming"), help="where the report goes")
    return parser.parse_args(argv)


def run_case(name: str, arguments: argparse.Namespace, folder: Path, sources: Sources) -> list[Result]:
    """All rounds of a case. The order of the contestants turns by one in each round."""
    work, _, place = name.partition("@")
    written = write(WORKS[work].dataset, folder, arguments.megabytes)
    source = sources.get(place)
    standing, found, seconds = [], [], {}
    for rival in arguments.rivals:
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
    for number in range(arguments.rounds + 1):
        turn = number % max(1, len(standing))
        for case in [*standing[turn:], *standing[:turn]]:
            begin = time.monotonic()
            one = measure(python_of(environment(case)), case, number, source.requests)
            shuffled = _module(case.rival).shuffles(case)
            found.append(dataclasses.replace(one, convert_s=seconds[case.rival], shuffled=shuffled))
            rate = one.error or f"{one.second_MBs:.0f} ({one.first_MBs:.0f}) MB/s{'' if one.exact else ', NOT EXACT'}"
            log(f"{name} round {number} {case.rival}: {rate}, {time.monotonic() - begin:.1f} s")
        standing = [case for case in standing if not any(one.error and one.rival == case.rival for one in found)]
    return sorted(found, key=lambda one: arguments.rivals.index(one.rival))


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
