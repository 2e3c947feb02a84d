"""How fast rows come out of files: runner.Stream, its rivals and the bare limit, interleaved.

    python -m benchmarks.streaming                              five telling cases, 10 minutes
    python -m benchmarks.streaming --matrix                     everything; hours
    python -m benchmarks.streaming --cases jpeg@local --rivals limit:threads=all,pieces=0 runner:as=numpy,threads=2
    python -m benchmarks.streaming --resume                     resumes in the middle of an epoch
    python -m benchmarks.streaming --prep                       the same function by Prep and others

Each contestant runs in a fresh process of its own in each round and reads all rows twice. Every byte is touched, and
the ids are checked. Round 0 warms the caches, is sampled for memory and does not count for time. `table.md`,
`plot.png` (and `.svg`), `raw.csv` and `raw.json` are written into --out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.streaming import report, results
from benchmarks.streaming.cases import run_case
from benchmarks.streaming.others import measure_prep, measure_resume
from benchmarks.streaming.results import LIMITS, Line, Result
from benchmarks.streaming.sources import NAMES, Sources
from benchmarks.streaming.works import WORKS

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


def main() -> None:
    """Parses the arguments, measures, writes the report."""
    arguments = parse(sys.argv[1:])
    if arguments.report:
        write_report([one for path in arguments.report for one in results.load(path)], arguments.out)
        return
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
            lines = write_report(found, arguments.out)
    print((arguments.out / "table.md").read_text())
    if any(line.exact is False for line in lines):
        sys.exit("a contestant did not deliver each row once")


def write_report(found: Sequence[Result], out: Path) -> list[Line]:
    """Table, plot and raw numbers, into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    lines = results.lines(found)
    results.save(found, out)
    (out / "table.md").write_text(report.markdown(lines))
    report.plot(lines, out / "plot.png")
    return lines


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
    parser.add_argument("--report", nargs="+", type=Path, metavar="RAW.json", help="make a report of earlier results")
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
