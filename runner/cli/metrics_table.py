"""The metrics of a training in a terminal: first, last, least and most of each, and a sample of the rows."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.cli.console import print_table
from runner.cli.tables import plain_table
from runner.views import units
from runner.views.metrics import Rows, StageMetrics, stages_of


def print_metrics(console: Console, rows: Rows) -> None:
    """Print a run's metrics, stage by stage."""
    for own in stages_of(rows):
        console.print(Text.assemble(("stage ", "dim"), (own.stage, "bold"), f": {_head(own)}"), soft_wrap=True)
        print_table(console, _ranges(own))
        console.print()
        print_table(console, _sample_table(own, console.width))


def _head(own: StageMetrics) -> str:
    words = [units.things(own.steps, "step") if own.steps is not None else "no steps"]
    words += [units.things(own.samples, "sample")] if own.samples is not None else []
    words += [f"median {units.rate(own.samples_per_s, 'samples')}"] if own.samples_per_s is not None else []
    words += [f"{units.percent(own.wait_share)} waiting for data"] if own.wait_share is not None else []
    if own.requests:
        again = f" ({units.count(own.retries)} of them again)" if own.retries else ""
        words.append(f"{units.size(own.fetched_bytes)} fetched by {units.things(own.requests, 'request')}{again}")
    words += [f"{units.size(own.cached_bytes)} from a cache"] if own.cached_bytes else []
    return ", ".join(words)


def _ranges(own: StageMetrics) -> Table:
    table = plain_table("metric", "first", "last", "least", "most", right=["first", "last", "least", "most"])
    for name, found in own.metrics.items():
        table.add_row(Text(name), *map(units.value, (found.first, found.last, found.least, found.most)))
    return table


def _sample_table(own: StageMetrics, width: int) -> Table:
    headers = ["step", "epoch", *own.metrics, "samples/s", "waiting"]
    while len(headers) > 5 and sum(max(len(header), 9) + 2 for header in headers) > width:
        headers.remove(headers[-3])  # the user's later metrics go first
    table = plain_table(*headers, right=headers)
    for row in own.sample():
        shown = {**row, "samples/s": row.get("samples_per_s"), "waiting": row.get("wait_share")}
        table.add_row(*(_cell(name, shown.get(name)) for name in headers))
    return table


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "waiting":
        return units.percent(value)
    return units.count(value) if name in ("step", "epoch", "samples/s") else units.value(value)
