"""What a measurement found, and the table of many: medians, and ratios within a round."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

#: The contestants that make the bare limit, by the threads they use; the better of each is the limit.
LIMITS = {
    "limit, 1 thread": ("limit:threads=1,pieces=0", "limit:threads=1,pieces=32"),
    "limit, all threads": ("limit:threads=all,pieces=0", "limit:threads=all,pieces=32"),
}


@dataclass(frozen=True)
class Result:
    """One contestant at one case in one round.

    Attributes:
        error: why there are no numbers; all else is None then.
        first_MBs, second_MBs: 10^6 bytes of values a second, in the first pass of the process (from opening the data
            to the last batch) and in the second.
        first_cpu, second_cpu: processor seconds of all processes for 10^9 bytes.
        first_batch_s: from opening to the first batch, imports left out.
        peak_MB: the most proportional set size of all processes at a time, in 10^6 bytes; sampled in the warming round.
        idle_MB: the same before the data were opened: what the imports take.
        resident_MB: VmHWM of the first process alone.
        requests: to the S3 server, for 10^9 bytes.
        convert_s: what the contestant's own form of the data took to write, once.
        exact: each id came once in each pass, and the bytes are those that were written.
        shuffled: whether rows came in a random order.
    """

    work: str
    source: str
    rival: str
    round: int
    error: str | None = None
    first_MBs: float | None = None
    second_MBs: float | None = None
    first_cpu: float | None = None
    second_cpu: float | None = None
    first_batch_s: float | None = None
    open_s: float | None = None
    import_s: float | None = None
    peak_MB: float | None = None
    idle_MB: float | None = None
    resident_MB: float | None = None
    requests: float | None = None
    convert_s: float | None = None
    exact: bool | None = None
    shuffled: bool | None = None


@dataclass(frozen=True)
class Line:
    """A contestant at a case: medians over the rounds, and the medians of the ratios within the rounds.

    Attributes:
        to_one, to_all: second pass over that of the limit on one thread, and on all.
        cpu: processor seconds of the limit on one thread for a GB over those of this one, in the second pass: the ratio
            that holds where other work keeps the machine busy.
        to_best: second pass over that of the best other contestant that is neither a limit nor runner.
        to_shuffling: the same of those that shuffle.
        first_to_best: to_best in the first pass.
    """

    work: str
    source: str
    rival: str
    rounds: int
    error: str | None
    median: dict[str, float | None]
    exact: bool | None
    to_one: float | None
    to_all: float | None
    cpu: float | None
    to_best: float | None
    to_shuffling: float | None
    shuffled: bool | None
    first_to_best: float | None


MEASURES = tuple(one.name for one in fields(Result) if one.type == "float | None")


def lines(results: Sequence[Result]) -> list[Line]:
    """A line for each contestant of each case, in the order in which they first came."""
    cases: dict[tuple[str, str], dict[str, list[Result]]] = {}
    for one in results:
        cases.setdefault((one.work, one.source), {}).setdefault(one.rival, []).append(one)
    return [_line(found, rivals) for rivals in cases.values() for found in rivals.values()]


def _line(found: Sequence[Result], rivals: dict[str, list[Result]]) -> Line:
    first = found[0]
    timed = [one for one in found if one.round > 0 and not one.error]
    errors = [one.error for one in found if one.error]
    others = [name for name in rivals if is_rival(name) and name != first.rival]
    return Line(
        first.work,
        first.source,
        first.rival,
        len(timed),
        errors[0] if errors else None,
        {name: median(getattr(one, name) for one in found if one.round > 0 or name == "peak_MB") for name in MEASURES}
        | {"idle_MB": median(one.idle_MB for one in found), "convert_s": first.convert_s},
        None if not timed else all(one.exact for one in timed),
        ratio(timed, rivals, LIMITS["limit, 1 thread"], "second_MBs"),
        ratio(timed, rivals, LIMITS["limit, all threads"], "second_MBs"),
        ratio(timed, rivals, LIMITS["limit, 1 thread"], "second_cpu", less=True),
        ratio(timed, rivals, others, "second_MBs"),
        ratio(timed, rivals, [name for name in others if rivals[name][0].shuffled], "second_MBs"),
        first.shuffled,
        ratio(timed, rivals, others, "first_MBs"),
    )


def is_rival(name: str) -> bool:
    """Whether a contestant is neither a limit nor runner."""
    return name.partition(":")[0] not in ("limit", "runner")


def ratio(
    timed: Sequence[Result], rivals: dict[str, list[Result]], others: Iterable[str], measure: str, less: bool = False
) -> float | None:
    """The median over rounds of a measure over the best of others in the same round; None without a common round.

    Args:
        less: less is better; then it is the best of others over this one's.
    """
    best: dict[int, float] = {}
    for name in others:
        for one in rivals.get(name, []):
            value = getattr(one, measure)
            if one.round > 0 and value is not None:
                best[one.round] = (min if less else max)(best.get(one.round, value), value)
    ratios = [getattr(one, measure) / best[one.round] for one in timed if best.get(one.round)]
    return median(1 / one if less else one for one in ratios if one)


def median(values: Iterable[float | None]) -> float | None:
    """The median of those that are there; None of none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def save(results: Sequence[Result], folder: Path) -> None:
    """raw.json and raw.csv: each result, as it was."""
    rows = [asdict(one) for one in results]
    (folder / "raw.json").write_text(json.dumps(rows, indent=1))
    with (folder / "raw.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Result)])
        writer.writeheader()
        writer.writerows(rows)


def load(path: Path) -> list[Result]:
    """The results of a raw.json."""
    return [Result(**one) for one in json.loads(path.read_text())]
