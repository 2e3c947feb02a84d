"""Metrics as a picture: a column for each training stage, a panel for each kind of metric, all over the steps."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import InputError
from runner.untrusted.visible import one_line
from runner.views.metrics import Rows, by_stage, metric_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Which data a metric was taken on; metrics that differ only in this share a panel.
_SPLIT = re.compile(r"^(train|training|val|valid|validation|eval|test)_")
_LONG = 300
_MOST_PANELS = 8


def panels(names: Sequence[str]) -> list[list[str]]:
    """The metrics of each panel: ``loss`` and ``validation_loss`` together."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_SPLIT.sub("", name), []).append(name)
    return list(groups.values())[:_MOST_PANELS]


def _curves(rows: Rows) -> list[str]:
    """The metrics with more than one value; a single one is a number of the summary, not a curve."""
    return [name for name in metric_names(rows) if sum(row.get(name) is not None for row in rows) > 1]


def save_plot(path: Path, rows: Rows, title: str) -> None:
    """Draw the metrics into a file; its ending says the format (png, svg, pdf).

    Raises:
        InputError: there is nothing to draw, or the file cannot be written in that format.
    """
    stages = by_stage([row for row in rows if "step" in row])
    if not stages:
        raise InputError("no metrics to draw", allowed="a run with a training stage that has made a step", where=title)
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    columns = [(stage, own, panels(_curves(own))) for stage, own in stages.items()]
    height = max(len(groups) for _, _, groups in columns) + 2
    figure = Figure(figsize=(8.0 * len(columns), 1.0 + 2.1 * height), layout="constrained")
    axes = figure.subplots(height, len(columns), squeeze=False, sharex="col")
    figure.suptitle(_label(title))
    for column, (stage, own, groups) in enumerate(columns):
        _draw_stage([axes[row][column] for row in range(height)], own, groups)
        axes[0][column].set_title(_label(f"stage {stage}"), fontsize="medium")
    figure.align_ylabels()
    beside = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(beside, dpi=120, format=path.suffix.removeprefix("."))
        os.replace(beside, path)
    except (ValueError, OSError) as error:
        beside.unlink(missing_ok=True)
        allowed = "a file ending in .png, .svg or .pdf, in a folder that can be written"
        raise InputError(f"--plot {path}: {error}", allowed=allowed, todo="choose another") from None


def _draw_stage(axes: Sequence[Axes], rows: Rows, groups: Sequence[Sequence[str]]) -> None:
    for axis, names in zip(axes, groups, strict=False):
        for name in names:
            _draw(axis, rows, name, _label(name), smooth=True)
        axis.set_ylabel(_label(_SPLIT.sub("", names[0])))
        if len(names) > 1:
            axis.legend(frameon=False)
    rate, wait = axes[len(groups)], axes[len(groups) + 1]
    _draw(rate, rows, "samples_per_s", "samples per second")
    rate.set_ylabel("samples / s")
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter("{x:,.0f}")
    _draw(wait, rows, "wait_share", "share of time", scale=100.0)
    wait.set_ylabel("waiting for data (%)")
    wait.set_ylim(0, max(5.0, wait.get_ylim()[1]))
    for axis in axes[len(groups) + 2 :]:
        axis.set_visible(False)
    wait.set_xlabel("step")
    wait.tick_params(labelbottom=True)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.01)


def _draw(axis: Axes, rows: Rows, name: str, label: str, scale: float = 1.0, smooth: bool = False) -> None:
    points = [(row["step"], row[name] * scale) for row in rows if isinstance(row.get(name), int | float)]
    if not points:
        return
    steps: list[Any] = [step for step, _ in points]
    values: list[Any] = [value for _, value in points]
    if len(points) <= _LONG or not smooth:
        axis.plot(steps, values, label=label, marker="o" if len(points) < 25 else None, markersize=3, linewidth=1.4)
        return
    (line,) = axis.plot(steps, values, linewidth=0.6, alpha=0.3)
    axis.plot(steps, _smooth(values, len(values) // 60), label=label, color=line.get_color(), linewidth=1.6)


def _label(words: str) -> str:
    """Words of the user's in a picture, where dollars would begin a formula."""
    return one_line(words).replace("$", r"\$")


def _smooth(values: Sequence[float], width: int) -> list[float]:
    """The mean over `width` values on both sides; over fewer near the ends, so that those stay where they are."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    reach = [min(width, i, len(values) - 1 - i) for i in range(len(values))]
    spans = [(i - side, i + side + 1) for i, side in enumerate(reach)]
    return [(sums[high] - sums[low]) / (high - low) for low, high in spans]
