"""Metrics over several ranks, without processes: what is reduced, when ranks meet, and what a row says."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from runner.errors import RunFailed
from runner.worker.metrics import EXCHANGE_S, MOST_STEPS, Item, Metrics, weighted_mean


class Others:
    """Peers whose other ranks say what the test has them say."""

    def __init__(self, *others: list[Any]) -> None:
        self.others, self.world_size = others, len(others) + 1

    def gather(self, mine: dict[str, Any]) -> list[Any]:
        return [mine, *({**mine, "items": items, "next": 10**9, "save": False} for items in self.others)]


def step(number: int, rows: int, **values: float) -> Item:
    return Item(number, 0, 1.0, rows, True, values)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_steps_are_means_over_all_rows(tmp_path: Path) -> None:
    """A rank with more rows counts for more, and samples are those of all ranks."""
    metrics = Metrics(Others([(1, True, 10, {"loss": 4.0})]), tmp_path / "rows")
    metrics.add(step(1, 30, loss=2.0), "")
    metrics.exchange(1)
    row = rows(tmp_path / "rows")[0]
    assert (row["loss"], row["samples"], row["step"]) == (2.5, 40, 1)
    assert metrics.latest == {"loss": 2.5}


def test_a_value_of_some_ranks_is_their_mean(tmp_path: Path) -> None:
    """A value that only one rank has logged is that value, exactly."""
    metrics = Metrics(Others([(3, False, 0, {"a": 0.1})], []), tmp_path / "rows")
    metrics.exchange(3)
    assert metrics.latest == {"a": 0.1}


def test_a_value_over_no_rows_does_not_count(tmp_path: Path) -> None:
    """A rank without rows may log 0/0; the mean is that of the ranks that have rows."""
    metrics = Metrics(Others([(3, False, 0, {"a": float("nan")})]), tmp_path / "rows")
    metrics.add(Item(3, 0, 1.0, 8, False, {"a": 0.5}), "")
    metrics.exchange(3)
    assert metrics.latest == {"a": 0.5}


def test_rows_do_not_depend_on_when_ranks_met(tmp_path: Path) -> None:
    """Meeting after every step or once at the end gives the same values, bit for bit."""
    random.seed(0)
    values = [[random.random() for _ in range(3)] for _ in range(20)]
    found = []
    for every in (1, 7, 20):
        path = tmp_path / str(every)
        peers = Others([], [])
        metrics = Metrics(peers, path)
        for number, (a, b, c) in enumerate(values, 1):
            metrics.add(step(number, 11, loss=a), "")
            peers.others[0].append((number, True, 11, {"loss": b}))
            peers.others[1].append((number, True, 10, {"loss": c}))
            if number % every == 0 or number == 20:
                metrics.exchange(number)
                peers.others[0].clear()
                peers.others[1].clear()
        found.append([row["loss"] for row in rows(path)])
    assert found[0] == found[1] == found[2]
    assert found[0][0] == weighted_mean(list(zip([11, 11, 10], values[0], strict=True)))


def test_ranks_out_of_step_are_an_error(tmp_path: Path) -> None:
    """Ranks that made different steps since they last met are told."""
    metrics = Metrics(Others([(1, True, 1, {}), (2, True, 1, {})]), tmp_path / "rows")
    metrics.add(step(1, 1), "")
    with pytest.raises(RunFailed, match=r"rank 0 called ctx.step\(\) 1 times and rank 1 2 times"):
        metrics.exchange(1)


def test_next_meeting_follows_the_speed(tmp_path: Path) -> None:
    """Fast steps are exchanged many at a time, up to a bound; slow ones one by one. Rank 0's proposal holds."""
    for seconds, expected in ((0.0001, MOST_STEPS), (EXCHANGE_S / 10, 10), (EXCHANGE_S * 3, 1)):
        metrics = Metrics(Others([(1, True, 1, {})]), None)
        metrics.add(step(1, 1), "")
        metrics._since -= seconds
        metrics.exchange(1)
        assert metrics.next_step - 1 == pytest.approx(expected, abs=1)
        assert not metrics.due(metrics.next_step - 1)
        assert metrics.due(metrics.next_step)


def test_rates_leave_out_what_was_not_training(tmp_path: Path) -> None:
    """Time of phases and checkpoints does not lower the rate; time waiting for data is its share."""
    metrics = Metrics(Others([(1, True, 100, {})]), tmp_path / "rows")
    metrics.add(step(1, 100), "")
    metrics._since -= 11.0
    metrics.idle_s, metrics.wait_s = 10.0, 0.25
    metrics.exchange(1)
    row = rows(tmp_path / "rows")[0]
    assert row["samples_per_s"] == pytest.approx(200, rel=0.1)
    assert row["wait_share"] == pytest.approx(0.25, rel=0.1)
