"""How fast rows come out of files: runner.Stream, its rivals and the bare limit, interleaved.

    python -m benchmarks.streaming [--megabytes 256] [--rounds 5] [--cases tokens-list-zstd@local ...] [--rivals ...]

Each contestant runs in a fresh process of its own in each round and reads all rows twice. Every byte is touched, and
the ids are checked. Round 0 warms the caches, is sampled for memory and does not count for time. `table.md`,
`plot.png`, `raw.csv` and `raw.json` are written into --out.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import operator
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.streaming import report, results
from benchmarks.streaming.case import Case
from benchmarks.streaming.results import LIMITS, Result
from benchmarks.streaming.rounds import log, measure
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
        arguments.out.mkdir(parents=True, exist_ok=True)
        found: list[Result] = []
        for name in arguments.cases:
            found += run_case(name, arguments, folder)
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


def run_case(name: str, arguments: argparse.Namespace, folder: Path) -> list[Result]:
    """All rounds of a case. The order of the contestants turns by one in each round."""
    work, _, source = name.partition("@")
    written = write(WORKS[work].dataset, folder, arguments.megabytes)
    found: list[Result] = []
    standing = [case_of(work, source, rival, written, arguments.cores) for rival in arguments.rivals]
    for number in range(arguments.rounds + 1):
        turn = number % max(1, len(standing))
        for case in [*standing[turn:], *standing[:turn]]:
            begin = time.monotonic()
            one = measure(sys.executable, case, number)
            found.append(one)
            rate = one.error or f"{one.second_MBs:.0f} ({one.first_MBs:.0f}) MB/s"
            log(f"{name} round {number} {case.rival}: {rate}, {time.monotonic() - begin:.1f} s")
        standing = [case for case in standing if not any(one.error and one.rival == case.rival for one in found)]
    return sorted(found, key=lambda one: arguments.rivals.index(one.rival))


def case_of(work: str, source: str, rival: str, written: Written, cores: int) -> Case:
    """A case on local files."""
    wanted = WORKS[work]
    options = rival.partition(":")[2]
    checksum = functools.reduce(operator.xor, (written.checksum[column] for column in wanted.columns))
    return Case(
        work,
        source,
        rival,
        str(written.folder),
        tuple(str(written.folder / file) for file in written.files),
        wanted.dataset.format,
        wanted.columns,
        wanted.decode,
        wanted.batch,
        written.rows,
        written.rows * 224 * 224 * 3 if wanted.decode else sum(written.payload[column] for column in wanted.columns),
        None if wanted.decode else checksum,
        cores=cores,
        options=dict(one.split("=", 1) for one in options.split(",") if one),
    )
