from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from rich.console import Console

from runner.cli.metrics_table import print_metrics
from runner.cli.plot import _smooth, panels, save_plot
from runner.views.metrics import metric_names, sample, stages_of


def rows(steps: int) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    for step in range(1, steps + 1):
        row = {"stage": "train", "at": float(step), "step": step, "epoch": 0, "loss": 1.0 / step, "samples_per_s": 10.0,
               "wait_share": 0.5, "steps_total": steps}  # fmt: skip
        if step % 100 == 0:
            row |= {"validation_loss": 2.0 / step, "accuracy": 0.9, "phase": "validation", "seconds": 1.0}
        made.append(row)
    return made


def test_only_the_users_numbers_are_metrics() -> None:
    """Not runner's own columns, and nothing that is no number."""
    assert metric_names([*rows(100), {"step": 101, "word": "x", "flag": True}]) == [
        "loss",
        "validation_loss",
        "accuracy",
    ]


def test_what_was_fetched_is_added_up() -> None:
    """Over all rows that say it; a training on this machine's files says nothing of it."""
    plain = rows(4)
    assert stages_of(plain)[0].requests == 0
    assert "fetched" not in shown(plain)
    for row in plain[1::2]:
        row |= {"fetch_requests": 60, "fetch_retries": 1, "fetched_bytes": 2_000_000, "cached_bytes": 500}
    assert "4.00 MB fetched by 120 requests (2 of them again), 1.00 kB from a cache" in shown(plain)
    assert metric_names(plain) == ["loss"]


def shown(made: list[dict[str, object]]) -> str:
    out = io.StringIO()
    print_metrics(Console(file=out, width=200), made)
    return out.getvalue()


def test_a_sample_prefers_rows_with_validations() -> None:
    """Rare metrics would otherwise fall between the rows that are shown."""
    shown = [row["step"] for row in sample(rows(500), metric_names(rows(500)))]
    assert {1, 100, 200, 300, 400, 500} < set(shown)
    assert len(shown) == 10
    often = [row["step"] for row in sample(rows(5000), metric_names(rows(5000)))]
    assert len(often) == 10
    assert all(step % 100 == 0 for step in often)
    few = sample(rows(2000), ["loss"])
    assert (len(few), few[0]["step"], few[-1]["step"]) == (10, 1, 2000)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_tables_fit_the_terminal(width: int) -> None:
    """Later metrics are left out of the sample where there is no room; the extremes hold them all."""
    many = [{**row, **{f"metric_number_{n}": float(n) for n in range(12)}} for row in rows(300)]
    stream = io.StringIO()
    print_metrics(Console(file=stream, width=width), many)
    out = stream.getvalue().splitlines()
    assert all(len(line) <= width for line in out[1:])
    assert any(line.startswith("metric_number_11") for line in out)


def test_a_metric_and_its_validation_share_a_panel() -> None:
    """They are compared by eye."""
    names = ["loss", "validation_loss", "val_accuracy", "accuracy", "lr"]
    assert panels(names) == [["loss", "validation_loss"], ["val_accuracy", "accuracy"], ["lr"]]


def test_smoothing_keeps_the_ends() -> None:
    """A curve that falls steeply at first does not seem to start lower."""
    smoothed = _smooth([10.0, 1.0, 1.0, 1.0, 4.0], 2)
    assert (smoothed[0], smoothed[2], smoothed[-1]) == (10.0, pytest.approx(17 / 5), 4.0)


def test_a_picture_grows_with_panels_and_stages(tmp_path: Path) -> None:
    """Two training stages are two columns; nothing but the picture is left."""
    path = tmp_path / "metrics.png"
    save_plot(path, rows(400), "r1")
    one = size(path)
    save_plot(path, [*rows(10), *({**row, "stage": "tune"} for row in rows(10))], "r1")
    assert size(path)[0] == 2 * one[0]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.png"]


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width, height
