"""The table as markdown, and the plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.streaming.results import Line, is_rival

HEAD = (
    "contestant", "order", "second pass", "first pass", "CPU s/GB", "to limit, 1 thread", "to limit, all",
    "CPU to limit", "to best rival", "to best that shuffles", "first pass to best", "first batch, s", "import, s",
    "peak, MB", "of it imports", "requests/GB", "conversion, s", "rows",
)  # fmt: skip


def markdown(lines: Sequence[Line]) -> str:
    """A table for each case; rates in MB/s."""
    parts = []
    for case in dict.fromkeys((line.work, line.source) for line in lines):
        parts.append(f"### {case[0]}, {case[1]}\n")
        parts.append("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
        parts += [_row(line) for line in lines if (line.work, line.source) == case]
        parts.append("")
    return "\n".join(parts)


def _row(line: Line) -> str:
    if line.error and not line.rounds:
        return f"| {line.rival} | {line.error.replace('|', '/')} |" + " |" * (len(HEAD) - 2)
    found = line.median
    cells = [
        line.rival,
        {True: "shuffled", False: "files", None: ""}[line.shuffled],
        number(found["second_MBs"], 0),
        number(found["first_MBs"], 0),
        number(found["second_cpu"], 1),
        number(line.to_one, 2),
        number(line.to_all, 2),
        number(line.cpu, 2),
        number(line.to_best, 2),
        number(line.to_shuffling, 2),
        number(line.first_to_best, 2),
        number(found["first_batch_s"], 2),
        number(found["import_s"], 2),
        number(found["peak_MB"], 0),
        number(found["idle_MB"], 0),
        number(found["requests"], 0),
        number(found["convert_s"], 1),
        {True: "exact", False: "**not exact**", None: ""}[line.exact],
    ]
    return "| " + " | ".join(cells) + " |"


def number(value: float | None, digits: int) -> str:
    """A number for people; nothing for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def plot(lines: Sequence[Line], path: Path) -> None:
    """Bars of both passes, a panel for each case; as SVG too, beside `path`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys((line.work, line.source) for line in lines))
    figure, axes = pyplot.subplots(
        len(cases), 1, figsize=(9, 0.9 + sum(0.5 + 0.32 * _bars(lines, case) for case in cases)), squeeze=False,
        height_ratios=[0.5 + 0.32 * _bars(lines, case) for case in cases],
    )  # fmt: skip
    for axis, case in zip(axes[:, 0], cases, strict=True):
        shown = [line for line in lines if (line.work, line.source) == case and line.rounds]
        for at, line in enumerate(shown):
            colour = "tab:blue" if line.rival.startswith("runner") else "tab:orange" if is_rival(line.rival) else "0.6"
            second, first = line.median["second_MBs"] or 0, line.median["first_MBs"] or 0
            axis.barh(at - 0.18, second, 0.36, color=colour)
            axis.barh(at + 0.18, first, 0.36, color=colour, alpha=0.4)
        axis.set_yticks(range(len(shown)), [line.rival for line in shown], fontsize=7)
        axis.invert_yaxis()
        axis.set_title(f"{case[0]}, {case[1]}: MB/s (dark: second pass, pale: first pass of a process)", fontsize=8)
        axis.tick_params(axis="x", labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):  # small, and the same each time
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _bars(lines: Sequence[Line], case: tuple[str, str]) -> int:
    return sum((line.work, line.source) == case and line.rounds > 0 for line in lines)
