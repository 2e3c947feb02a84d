"""Preparation: the same function over the same tokens by runner's Prep, plain pyarrow, Polars, HF and Ray Data.

    python -m benchmarks.streaming --prep [--megabytes 256] [--rounds 5]

Parquet to Parquet, zstd; each in a fresh process, whose imports (and the start of Ray) are not counted. What was
written is read and compared. This module is also that process:

    python -m benchmarks.streaming.prep RESULT FOLDER < CASE
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.streaming import processes
from benchmarks.streaming.case import Case
from benchmarks.streaming.prep_function import BATCH, add_one, job
from benchmarks.streaming.touch import Tally

#: name -> the environment that has it.
CONTESTANTS = {
    "pyarrow:workers=1": "ours",
    "pyarrow:workers=2": "ours",
    "runner:workers=1": "ours",
    "runner:workers=2": "ours",
    "polars": "rivals",
    "hf": "rivals",
    "ray": "rivals",
}


def main() -> None:
    """One contestant's process."""
    target, folder = sys.argv[1:]
    case = Case.from_json(sys.stdin.read())
    run = globals()[f"_{case.rival.partition(':')[0]}"](case, folder)
    cpu, begin = processes.cpu_seconds(os.environ[processes.TAG]), time.monotonic()
    own = run()
    seconds = time.monotonic() - begin
    used = processes.cpu_seconds(os.environ[processes.TAG]) - cpu
    found = {"seconds": own or seconds, "whole_s": seconds, "cpu_s": used, **written(Path(folder))}
    Path(target).write_text(json.dumps(found))


def written(folder: Path) -> dict[str, int]:
    """Rows and the checksum of the tokens in all Parquet files below a folder."""
    import pyarrow.parquet as pq

    tally, rows = Tally(), 0
    for path in sorted(folder.rglob("*.parquet")):
        with pq.ParquetFile(path) as file:
            if "tokens" not in file.schema_arrow.names:
                continue  # a manifest
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=["tokens"])
                tally.add([], [table["tokens"]])
                rows += len(table)
    return {"rows": rows, "checksum": tally.checksum}


def _pyarrow(case: Case, folder: str) -> Callable[[], None]:
    """A loop over row groups, the files dealt to so many processes."""
    import multiprocessing

    workers = int(case.option("workers", "1"))
    jobs = [(path, f"{folder}/{Path(path).name}") for path in case.files]
    pool = multiprocessing.get_context("spawn").Pool(workers) if workers > 1 else None
    if pool is not None:
        pool.map(len, [""] * workers)  # they are started

    def run() -> None:
        if pool is not None:
            pool.map(loop, jobs, 1)
            return
        for one in jobs:
            loop(one)

    return run


def loop(paths: tuple[str, str]) -> None:
    """One file."""
    import pyarrow.parquet as pq

    source, target = paths
    writer = None
    with pq.ParquetFile(source) as file:
        for group in range(file.num_row_groups):
            table = add_one(file.read_row_group(group, use_threads=False))
            writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd", use_dictionary=False)
            writer.write_table(table)
    if writer is not None:
        writer.close()


def _runner(case: Case, folder: str) -> Callable[[], float]:
    """A run of its own; what counts is the stage, from its start to the published dataset."""
    import runner

    def run() -> float:
        started = runner.submit(job(case.url, int(case.option("workers", "1"))), store=folder)
        started.wait()
        return float(started.results()["plus"]["seconds"])

    return run


def _polars(case: Case, folder: str) -> Callable[[], None]:
    import polars as pl

    plan = pl.scan_parquet(list(case.files)).with_columns(pl.col("tokens") + pl.lit(1, pl.Int32))
    return lambda: plan.sink_parquet(f"{folder}/plus.parquet", compression="zstd")


def _hf(case: Case, folder: str) -> Callable[[], None]:
    from datasets import load_dataset

    def run() -> None:
        data = load_dataset("parquet", data_files=list(case.files), split="train", cache_dir=f"{folder}/cache")
        data = data.with_format("arrow").map(add_one, batched=True, batch_size=BATCH, num_proc=case.cores)
        data.to_parquet(f"{folder}/plus.parquet")

    return run


def _ray(case: Case, folder: str) -> Callable[[], None]:
    import ray
    import ray.data

    ray.init(num_cpus=case.cores, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run() -> None:
        data = ray.data.read_parquet(list(case.files)).map_batches(add_one, batch_size=BATCH, batch_format="pyarrow")
        data.write_parquet(folder, compression="zstd")

    return run


def table(found: Sequence[dict[str, Any]], payload: int) -> str:
    """Markdown: medians, and ratios within a round to the pyarrow loop of as many processes."""
    text = [
        "### Prep: one is added to every token\n",
        "| contestant | MB/s | CPU s/GB | to pyarrow, 1 process | to pyarrow, 2 | with the start, s | rows |",
        "|---|---|---|---|---|---|---|",
    ]
    speeds = {(one["rival"], one["round"]): payload / 1e6 / one["seconds"] for one in found if "seconds" in one}
    for rival in dict.fromkeys(one["rival"] for one in found):
        mine = [one for one in found if one["rival"] == rival and "seconds" in one]
        if not mine:
            text.append(f"| {rival} | {next(one['error'] for one in found if one['rival'] == rival)} | | | | | |")
            continue
        cells = [rival, f"{statistics.median(speeds[rival, one['round']] for one in mine):,.0f}"]
        cells.append(f"{statistics.median(one['cpu_s'] for one in mine) / payload * 1e9:.1f}")
        for workers in (1, 2):
            other = f"pyarrow:workers={workers}"
            ratios = [
                speeds[rival, one["round"]] / speeds[other, one["round"]]
                for one in mine
                if (other, one["round"]) in speeds
            ]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        cells.append(f"{statistics.median(one['whole_s'] for one in mine):.1f}")
        right = {(one["rows"], one["checksum"]) for one in found if "rows" in one}
        cells.append("the same" if len(right) == 1 else "**differ**")
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
