"""The metrics of a training in a terminal: first, last, least and most of each, and a sample of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.cli.console import print_table
from runner.cli.tables import plain_table
from runner.views import units

#: Columns of every row that are not the user's metrics.
OWN = ("at", "stage", "step", "epoch", "samples", "samples_per_s", "wait_share", "steps_total", "phase", "seconds")
SAMPLE_ROWS = 10
_SPARSE = 0.5
Rows = Sequence[dict[str, Any]]


def metric_names(rows: Rows) -> list[str]:
    """The user's numeric metrics, in the order in which they first came."""
    found = dict.fromkeys(name for row in rows for name, value in row.items() if _is_number(value))
    return [name for name in found if name not in OWN]


def by_stage(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """The rows of each stage."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        stages.setdefault(row["stage"], []).append(row)
    return stages


def print_metrics(console: Console, rows: Rows) -> None:
    """Print a run's metrics, stage by stage."""
    for stage, own in by_stage(rows).items():
        names = metric_names(own)
        console.print(Text.assemble(("stage ", "dim"), (stage, "bold"), f": {_head(own)}"), soft_wrap=True)
        print_table(console, _extremes(own, names))
        console.print()
        print_table(console, _sample_table(own, names, console.width))


def _head(rows: Rows) -> str:
    steps = [row["step"] for row in rows if "step" in row]
    words = [units.things(max(steps), "step") if steps else "no steps"]
    samples = [row["samples"] for row in rows if "samples" in row]
    words += [units.things(max(samples), "sample")] if samples else []
    rates = sorted(row["samples_per_s"] for row in rows if row.get("samples_per_s"))
    words += [f"median {units.rate(rates[len(rates) // 2], 'samples')}"] if rates else []
    waits = [row["wait_share"] for row in rows if "wait_share" in row]
    words += [f"{units.percent(sum(waits) / len(waits))} waiting for data"] if waits else []
    return ", ".join(words)


def _extremes(rows: Rows, names: Sequence[str]) -> Table:
    table = plain_table("metric", "first", "last", "least", "most", right=["first", "last", "least", "most"])
    for name in names:
        values = [row[name] for row in rows if _is_number(row.get(name))]
        table.add_row(Text(name), *(units.value(v) for v in (values[0], values[-1], min(values), max(values))))
    return table


def _sample_table(rows: Rows, names: Sequence[str], width: int) -> Table:
    headers = ["step", "epoch", *names, "samples/s", "waiting"]
    while len(headers) > 5 and sum(max(len(header), 9) + 2 for header in headers) > width:
        headers.remove(headers[-3])  # the user's later metrics go first
    table = plain_table(*headers, right=headers)
    for row in sample(rows, names):
        shown = {**row, "samples/s": row.get("samples_per_s"), "waiting": row.get("wait_share")}
        table.add_row(*(_cell(name, shown.get(name)) for name in headers))
    return table


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "waiting":
        return units.percent(value)
    return units.count(value) if name in ("step", "epoch", "samples/s") else units.value(value)


def sample(rows: Rows, names: Sequence[str], most: int = SAMPLE_ROWS) -> list[dict[str, Any]]:
    """At most `most` rows, with the first and the last. Rows with a rare metric (a validation) come before others."""
    steps = [row for row in rows if "step" in row]
    rare = [name for name in names if sum(name in row for row in steps) < _SPARSE * len(steps)]
    chosen = _spread([i for i, row in enumerate(steps) if any(name in row for name in rare)], most)
    chosen += _spread([i for i in range(len(steps)) if i not in chosen], most - len(chosen))
    return [steps[i] for i in sorted(chosen)]


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most `most` of the numbers, evenly spaced, with the first and the last."""
    if len(numbers) <= most or most < 2:
        return list(numbers[: max(most, 0)])
    return [numbers[round(i * (len(numbers) - 1) / (most - 1))] for i in range(most)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
