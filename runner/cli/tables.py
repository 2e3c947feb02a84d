"""Tables without frames: the columns of `ps`, `status` and `data ls`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from runner.views import units

if TYPE_CHECKING:
    from runner.client.revise import Revision
    from runner.views.datasets import VersionLine
    from runner.views.listing import RunLine

STYLES = {
    "succeeded": "green", "done": "green", "failed": "red", "lost": "red", "cancelled": "yellow",
    "cancelling": "yellow", "running": "cyan", "submitted": "cyan", "skipped": "green", "waiting": "dim",
}  # fmt: skip

_NUMBERS = ("rows", "size", "files", "versions", "time")


def plain_table(*headers: str, right: Iterable[str] = ()) -> Table:
    """A table without lines; the columns named in `right` are aligned to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    right = set(right)
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    return table


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state, STYLES.get(state, ""))


def runs_table(lines: Iterable[RunLine], now: float | None = None) -> Table:
    """The table of `ps`."""
    now = time.time() if now is None else now
    table = plain_table("run", "job", "state", "started", "time", right=["time"])
    table.columns[0].no_wrap = True
    table.columns[1].overflow, table.columns[1].no_wrap = "ellipsis", True
    for line in lines:
        state = state_text(line.state)
        if line.stage:
            state.append(f" {line.stage}", "dim")
        table.add_row(
            Text(line.run), Text(line.job), state, units.moment(line.started, now), units.seconds(line.seconds)
        )
    return table


def datasets_table(lines: Iterable[VersionLine], now: float | None = None) -> Table:
    """The table of `data ls`: the newest version of each dataset."""
    table = plain_table("dataset", "rows", "size", "files", "versions", "made", "id", right=_NUMBERS)
    for line in lines:
        table.add_row(
            Text(line.dataset),
            units.count(line.rows),
            units.size(line.bytes),
            units.count(line.files),
            units.count(line.number),
            units.moment(line.made, now),
            line.id[:12],
        )
    return table


def versions_table(lines: Iterable[VersionLine], now: float | None = None) -> Table:
    """The table of `data ls NAME`: the versions of one dataset, the newest first."""
    table = plain_table("id", "rows", "size", "files", "made", "by", right=_NUMBERS)
    for line in lines:
        table.add_row(
            line.id[:12],
            units.count(line.rows),
            units.size(line.bytes),
            units.count(line.files),
            units.moment(line.made, now),
            Text(line.run or ""),
        )
    return table


def revision_table(revision: Revision) -> Table:
    """What a resume changes."""
    table = plain_table("changed", "was", "now", "from")
    for line in revision.lines:
        table.add_row(Text(line.what), Text(line.was), Text(line.now), Text(line.source))
    return table
