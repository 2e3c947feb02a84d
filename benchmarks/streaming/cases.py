"""A case for a contestant: where its data are, in which environment it runs; and all rounds of a case."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import operator
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.streaming.case import Case
from benchmarks.streaming.environments import python_of
from benchmarks.streaming.images import SIDE
from benchmarks.streaming.results import Result
from benchmarks.streaming.rounds import Failed, log, measure, spawn
from benchmarks.streaming.sources import Source, Sources
from benchmarks.streaming.works import WORKS, Written, write


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
        reason = module_of(rival).refuses(case)
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
            shuffled = module_of(case.rival).shuffles(case)
            found.append(dataclasses.replace(one, convert_s=seconds[case.rival], shuffled=shuffled))
            rate = one.error or f"{one.second_MBs:.0f} ({one.first_MBs:.0f}) MB/s{'' if one.exact else ', NOT EXACT'}"
            log(f"{name} round {number} {case.rival}: {rate}, {time.monotonic() - begin:.1f} s")
        standing = [case for case in standing if not any(one.error and one.rival == case.rival for one in found)]
    return sorted(found, key=lambda one: rivals.index(one.rival))


def converted(case: Case, source: Source, written: Written, folder: Path) -> tuple[Case, float | None]:
    """The case with the contestant's own form of the data, and the seconds that it took to write; None: needs none."""
    module = module_of(case.rival)
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
    name = module_of(case.rival).ENVIRONMENT
    return "rivals" if case.decode and not case.rival.startswith("runner") else name


def module_of(rival: str) -> Any:
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
