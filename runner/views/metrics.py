"""The metrics of a training in figures: of each its first, last, least and most, and a sample of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Columns of every row that are not the user's metrics.
OWN = (
    "at", "stage", "step", "epoch", "samples", "samples_per_s", "wait_share", "steps_total", "phase", "seconds",
    "quarantined", "fetch_requests", "fetch_retries", "fetched_bytes", "cached_bytes",
)  # fmt: skip
#: Of those the ones that are sums since the row before that has them.
FETCHED = ("fetch_requests", "fetch_retries", "fetched_bytes", "cached_bytes")
SAMPLE_ROWS = 10
#: A metric that fewer of the steps have is rare: that of a validation.
_SPARSE = 0.5
Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Range:
    """The values of one metric over the steps."""

    first: float
    last: float
    least: float
    most: float


@dataclass(frozen=True)
class StageMetrics:
    """The metrics of one training stage.

    Args:
        steps, samples: so far; None where no row tells.
        samples_per_s: the median over the rows.
        wait_share: the mean share of the time that was spent waiting for data, from 0 to 1.
        requests, retries: sent for files of other machines, and of them those after a failure.
        fetched_bytes, cached_bytes: that came of them, and from a cache on the machine instead.
        metrics: the user's, in the order in which they first came.
        rows: all of them.
    """

    stage: str
    steps: int | None
    samples: int | None
    samples_per_s: float | None
    wait_share: float | None
    requests: int
    retries: int
    fetched_bytes: int
    cached_bytes: int
    metrics: dict[str, Range]
    rows: Rows

    def sample(self, most: int = SAMPLE_ROWS) -> list[dict[str, Any]]:
        """At most `most` rows, with the first and the last; those with a rare metric come before others."""
        return sample(self.rows, list(self.metrics), most)


def stages_of(rows: Rows) -> list[StageMetrics]:
    """The rows of a run, stage by stage."""
    return [_stage(stage, own) for stage, own in by_stage(rows).items()]


def by_stage(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """The rows of each stage."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        stages.setdefault(row["stage"], []).append(row)
    return stages


def metric_names(rows: Rows) -> list[str]:
    """The user's numeric metrics, in the order in which they first came."""
    found = dict.fromkeys(name for row in rows for name, value in row.items() if _is_number(value))
    return [name for name in found if name not in OWN]


def sample(rows: Rows, names: Sequence[str], most: int = SAMPLE_ROWS) -> list[dict[str, Any]]:
    """At most `most` rows, with the first and the last. Rows with a rare metric (a validation) come before others."""
    steps = [row for row in rows if "step" in row]
    rare = [name for name in names if sum(name in row for row in steps) < _SPARSE * len(steps)]
    chosen = _spread([i for i, row in enumerate(steps) if any(name in row for name in rare)], most)
    chosen += _spread([i for i in range(len(steps)) if i not in chosen], most - len(chosen))
    return [steps[i] for i in sorted(chosen)]


def _stage(stage: str, rows: Rows) -> StageMetrics:
    rates = sorted(row["samples_per_s"] for row in rows if row.get("samples_per_s"))
    waits = [row["wait_share"] for row in rows if "wait_share" in row]
    return StageMetrics(
        stage,
        _largest(rows, "step"),
        _largest(rows, "samples"),
        rates[len(rates) // 2] if rates else None,
        sum(waits) / len(waits) if waits else None,
        *_fetched(rows),
        metrics={name: _range(rows, name) for name in metric_names(rows)},
        rows=rows,
    )


def _fetched(rows: Rows) -> tuple[int, int, int, int]:
    requests, retries, size, cached = (sum(int(row.get(name, 0)) for row in rows) for name in FETCHED)
    return requests, retries, size, cached


def _range(rows: Rows, name: str) -> Range:
    values = [row[name] for row in rows if _is_number(row.get(name))]
    return Range(values[0], values[-1], min(values), max(values))


def _largest(rows: Rows, name: str) -> int | None:
    return max((row[name] for row in rows if name in row), default=None)


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most `most` of the numbers, evenly spaced, with the first and the last."""
    if len(numbers) <= most or most < 2:
        return list(numbers[: max(most, 0)])
    return [numbers[round(i * (len(numbers) - 1) / (most - 1))] for i in range(most)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
