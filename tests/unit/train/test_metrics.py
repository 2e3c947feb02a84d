"""Metrics over several ranks, without processes: what is reduced, when ranks meet, and what a row says."""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runner.errors import RunFailed, SpecError
from runner.train.metrics import ALONE_STEPS, MOST_LOGGED, Metrics
from runner.train.metrics_rows import FETCHED, Item, weighted_mean
from runner.train.pace import EXCHANGE_S, MOST_GROWTH, MOST_STEPS, Pace


class Others:
    """Peers whose other ranks say what the test has them say."""

    def __init__(self, *others: list[Any]) -> None:
        self.others, self.world_size = others, len(others) + 1
        self.next_step = 0

    def agreed(self, step: int, next_step: int) -> None:
        self.next_step = next_step

    def reached(self, step: int) -> bool:
        return step >= self.next_step

    def meet(self, where: str, mine: dict[str, Any], answer: Any) -> Any:
        return answer([mine, *({**mine, "kept": kept(items)} for items in self.others)])


class Alike(Others):
    """Two ranks that say the same."""

    def meet(self, where: str, mine: dict[str, Any], answer: Any) -> Any:
        return answer([mine, mine])


def kept(items: list[Any]) -> Any:
    """Steps and logs of a rank from (step, whether it is a step, rows, values)."""
    return [
        [(number, rows, values) for number, is_step, rows, values in items if is_step is kind] for kind in (True, False)
    ]


def step(number: int, rows: int, **values: float) -> Item:
    return Item(number, 0, 1.0, rows, values)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_steps_are_means_over_all_rows(tmp_path: Path) -> None:
    """A rank with more rows counts for more, and samples are those of all ranks."""
    metrics = Metrics(Others([(1, True, 10, {"loss": 4.0})]), tmp_path / "rows")
    metrics.after_step(step(1, 30, loss=2.0))
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
    metrics.add_logged(Item(3, 0, 1.0, 8, {"a": 0.5}))
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
            metrics.after_step(step(number, 11, loss=a))
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
    metrics.after_step(step(1, 1))
    with pytest.raises(RunFailed, match=r"rank 0 called ctx.step\(\) 1 times and rank 1 2 times"):
        metrics.exchange(1)


@pytest.mark.parametrize(
    ("made", "seconds", "expected"),
    [
        (MOST_STEPS, 0.0001, MOST_STEPS),
        (20, EXCHANGE_S / 10, 20 * MOST_GROWTH),
        (1, EXCHANGE_S / 10, 10),
        (1, EXCHANGE_S * 3, 1),
        (1, 1e-6, MOST_GROWTH),
    ],
)
def test_next_meeting_follows_the_speed(made: int, seconds: float, expected: int) -> None:
    """Fast steps are exchanged many at a time, up to a bound and not at once; slow ones one by one."""
    peers = Others([(n, True, 1, {}) for n in range(1, made + 1)])
    metrics = Metrics(peers, None)
    for number in range(1, made + 1):
        metrics.after_step(step(number, 1))
    metrics.pace.since = time.monotonic() - seconds
    metrics.exchange(made)
    assert peers.next_step - made == pytest.approx(expected, rel=0.1, abs=1)
    assert not metrics.due(peers.next_step - 1)
    assert metrics.due(peers.next_step)


def test_cost_of_a_step_does_not_grow_with_those_it_is_exchanged_with(tmp_path: Path) -> None:
    """Ten times the steps in one exchange take about ten times the time, and not a hundred times."""

    def seconds(made: int) -> float:
        steps = [(n, True, 1, {"loss": 0.5}) for n in range(1, made + 1)]
        (tmp_path / f"rows-{made}").unlink(missing_ok=True)
        metrics = Metrics(Others(steps), tmp_path / f"rows-{made}")
        started = time.process_time()
        for number in range(1, made + 1):
            metrics.after_step(step(number, 1, loss=1.5))
        metrics.exchange(made)
        return time.process_time() - started

    # The least of several: one may hold a look of the garbage collector at all that the tests before have left.
    few, many = (min(seconds(made) for _ in range(3)) for made in (500, 5_000))
    assert many < 40 * few
    assert [row["loss"] for row in rows(tmp_path / "rows-5000")] == [1.0] * 5_000


def test_rank_alone_keeps_a_bounded_number_of_steps() -> None:
    """However quick its steps are, a rank alone writes them before there are too many to keep."""
    metrics = Metrics(Others(), None, pace=Pace(since=time.monotonic() + 1000.0))
    for number in range(1, ALONE_STEPS):
        metrics.after_step(step(number, 1))
        assert number == 1 or not metrics.due(number)
    metrics.after_step(step(ALONE_STEPS, 1))
    assert metrics.due(ALONE_STEPS)


def test_logs_of_a_step_are_kept_in_bounded_memory(tmp_path: Path) -> None:
    """A phase that logs without end keeps a bounded number of values, and the same mean comes out."""
    metrics = Metrics(Others(), tmp_path / "rows")
    most = 0
    for number in range(3 * MOST_LOGGED):
        metrics.add_logged(Item(7, 0, 1.0, number % 3, {"a": float(number % 3)}))
        metrics.add_logged(Item(7, 0, 1.0, 1, {"b": 0.25}))
        most = max(most, len(metrics._logged))
    assert most <= MOST_LOGGED + 2
    metrics.exchange(7)
    assert metrics.latest == {"a": pytest.approx(5 / 3), "b": 0.25}


def test_rows_are_json_as_python_writes_it(tmp_path: Path) -> None:
    """Names and numbers of any kind come back from a row as they were given."""
    values = {'quoted "name"': 1.5, "é/ü": float("inf"), "small": 5e-324, "third": 1 / 3, "whole": 3, "yes": True}
    metrics = Metrics(Others(), tmp_path / "rows")
    metrics.after_step(step(1, 1, **values))
    metrics.add_logged(Item(1, 0, 1.0, 1, {"nan": np.float32("nan")}))
    metrics.exchange(1)
    first, second = rows(tmp_path / "rows")
    assert {name: first[name] for name in values} == values
    assert math.isnan(second["nan"])


@pytest.mark.parametrize(
    "value",
    [
        10**400,
        1j,
        np.complex64(1),
        np.array(["x"]),
        np.datetime64("2020-01-01"),
        torch.tensor(1j),
        "1",
        None,
    ],
)
def test_what_is_no_number_is_refused_where_it_is_given(value: Any) -> None:
    """And not at a meeting that many steps have gone by until, when nobody knows which it was."""
    metrics = Metrics(Others(), None)
    shape = r"Tensor of shape \(.*\)" if isinstance(value, torch.Tensor) else ""
    with pytest.raises(SpecError, match=rf"ctx.step: loss is a .*{shape}"):
        metrics.after_step(step(1, 1, loss=value))
    for number in (np.longdouble(0.5), np.array([[0.5]]), torch.tensor([0.5], requires_grad=True), True, np.int8(3)):
        metrics.after_step(step(1, 1, loss=number))  # type: ignore[arg-type]


def test_rates_leave_out_what_was_not_training(tmp_path: Path) -> None:
    """Time of phases and checkpoints does not lower the rate; time waiting for data is its share."""
    metrics = Metrics(Others([(1, True, 100, {})]), tmp_path / "rows")
    metrics.after_step(step(1, 100))
    metrics.pace.since -= 11.0
    metrics.pace.idle_s, metrics.pace.wait_s = 10.0, 0.25
    metrics.exchange(1)
    row = rows(tmp_path / "rows")[0]
    assert row["samples_per_s"] == pytest.approx(200, rel=0.1)
    assert row["wait_share"] == pytest.approx(0.25, rel=0.1)
    assert "fetch_requests" not in row


def test_what_ranks_have_fetched_is_in_the_last_row_of_an_exchange(tmp_path: Path) -> None:
    """Sums over ranks; what is told where no step was made waits for the next row."""
    fetched = dict(zip(FETCHED, (3, 1, 500, 40), strict=True))
    metrics = Metrics(Alike(), tmp_path / "rows")
    metrics.exchange(0, tells={"fetched": fetched})
    for number in (1, 2):
        metrics.after_step(step(number, 100))
    metrics.exchange(2, tells={"fetched": fetched})
    metrics.after_step(step(3, 100))
    metrics.exchange(3)
    first, last, after = rows(tmp_path / "rows")
    assert {name: last[name] for name in FETCHED} == {name: 4 * value for name, value in fetched.items()}
    assert not set(FETCHED) & (first.keys() | after.keys())
    with pytest.raises(SpecError, match="the name 'fetched_bytes'"):
        metrics.after_step(step(4, 1, fetched_bytes=1.0))
