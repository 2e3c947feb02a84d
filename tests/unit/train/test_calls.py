"""What a training loop asks for besides its batches: its length, when gradients meet, a loader of its own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.backends.registry import kind_of
from runner.errors import SpecError
from runner.spec import Cluster, Group, Kubernetes, Train
from runner.spec.shape import share_of_rank, told_threads
from runner.train.gang.inline import InlineGang
from runner.train.stage import run_train
from tests.unit.train.kit import Config, make_scope


class Cut(Exception):
    """Stands for a kill: nothing of the function runs after it."""


@pytest.mark.parametrize(
    "loop",
    [
        {"batch_size": 8},
        {"batch_size": 7},
        {"batch_size": 7, "tail": "wrap"},
        {"global_batch_size": 40, "epochs": 3},
        {"batch_size": 8, "epochs": 2, "accumulate": 4},
        {"batch_size": 7, "accumulate": 4},
    ],
)
def test_the_number_of_steps_is_known_before_the_first(tmp_path: Path, loop: dict[str, Any]) -> None:
    """total_steps is how many steps the loop makes that it describes, for two ranks' batches too."""
    told: list[Any] = []

    def train(ctx: Any, config: Any) -> None:
        told.append((ctx.rows("train"), ctx.total_steps("train", **loop)))
        group = loop.get("accumulate", 1)
        for i, _ in enumerate(ctx.batches("train", **{k: v for k, v in loop.items() if k != "accumulate"})):
            if (i + 1) % group == 0:
                ctx.step()

    given, scope = make_scope(tmp_path, train, Config(), workers=2)
    result = run_train(given, scope, InlineGang())
    assert told == [(96, result["steps"])]


@pytest.mark.parametrize("loop", [{}, {"batch_size": 8, "global_batch_size": 8}, {"batch_size": 8, "accumulate": 0}])
def test_a_loop_that_cannot_be_is_refused(tmp_path: Path, loop: dict[str, Any]) -> None:
    """total_steps wants one size of a batch, and at least one batch in a step."""
    given, scope = make_scope(tmp_path, lambda ctx, config: ctx.total_steps("train", **loop), Config())
    with pytest.raises(SpecError, match="total_steps"):
        run_train(given, scope, InlineGang())


def test_one_rank_accumulates_and_unwraps_like_many(tmp_path: Path) -> None:
    """On one rank the same lines do: gradients add up, and the bare module is the module."""
    seen: list[Any] = []

    def train(ctx: Any, config: Any) -> None:
        net = torch.nn.Linear(4, 1)
        model = ctx.prepare(net)
        batches = list(ctx.batches("train", batch_size=8))[:2]
        for i, batch in enumerate(batches):
            with ctx.accumulate(model, last=i == 1):
                (model(batch["x"]).sum() / 2).backward()
        expected = sum(batch["x"].sum(0) for batch in batches) / 2
        compiled = torch.compile(model, backend="eager")  # the usual one would load a compiler
        seen.extend(
            [torch.allclose(net.weight.grad[0], expected), ctx.unwrap(model) is net, ctx.unwrap(compiled) is net]
        )

    given, scope = make_scope(tmp_path, train, Config())
    run_train(given, scope, InlineGang())
    assert seen == [True, True, True]


def test_a_loader_of_ones_own_goes_on(tmp_path: Path) -> None:
    """Without data, what is tracked, the number of steps and the random states come back; the loader is the user's."""
    drawn: dict[int, float] = {}

    def train(ctx: Any, config: Config) -> None:
        place = {"seen": []}
        model = ctx.prepare(torch.nn.Linear(1, 1))
        ctx.track(model=model, place=place)
        for item in range(len(place["seen"]), 9):
            place["seen"].append(item)
            with torch.no_grad():
                model.weight.fill_(item)
            drawn[item] = random.random() + float(torch.rand(()))
            ctx.step(item=item)
            if ctx.step_number == config.at_step:
                raise Cut
        assert ctx.step_number == 9
        assert place["seen"] == list(range(9))

    def run(folder: Path, at_step: int, attempt: int = 1) -> Any:
        given, scope = make_scope(folder, train, Config(at_step=at_step), attempt=attempt, checkpoint_every_steps=2)
        object.__setattr__(given, "data", {})
        return run_train(given, scope, InlineGang())

    run(tmp_path / "whole", 0)
    whole = dict(drawn)
    with pytest.raises(Cut):
        run(tmp_path / "cut", 6)
    result = run(tmp_path / "cut", 0, attempt=2)
    assert (result["steps"], result["resumed_from"]) == (9, 5)
    assert drawn == whole


def test_a_stage_without_data_is_one() -> None:
    """Train takes no data at all, None and an empty mapping for the same."""
    made = [Train("t", fn=run_train, **words) for words in ({}, {"data": None}, {"data": {}})]  # type: ignore[arg-type]
    assert [dict(stage.data) for stage in made] == [{}, {}, {}]


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"MKL_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "many"}, None),
        ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "2"}, 1),
    ],
)
def test_the_users_number_of_threads_wins(
    environment: dict[str, str], threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables of the user's shell, or those that the cluster's file gives to pods, say how many threads ranks
    use; what Ray puts into the environment of its own processes is nobody's wish."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert told_threads(environment) == threads
    group = Group(cpu=8, memory="8GiB")
    pods = Cluster(backend="kuberay", groups={"cpu": group}, kubernetes=Kubernetes("image", environment=environment))
    ray = Cluster(backend="ray", address="http://head:8265")
    for cluster, expected in ((Cluster(backend="ray"), threads), (ray, None), (pods, threads)):
        kind = kind_of(cluster)
        shape = share_of_rank(group, kind.environment(cluster), one_machine=kind.layout(cluster).one_machine)
        assert shape.threads == expected
