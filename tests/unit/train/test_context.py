"""The train context in this process, alone: batches, steps, metrics, phases, checkpoints and going on from them."""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from runner import Dataset, Image, Mix, Stream
from runner.data.files.fetch import fetched
from runner.data.formats import parquet_footer
from runner.errors import DataError, SpecError, StageTimeout
from runner.record.entries import Resumed, StageDone, StageResult
from runner.store import Entry
from runner.train import loader, rank, until
from runner.train.checkpoint.published import Checkpoints, Loaded
from runner.train.gang.inline import InlineGang
from runner.train.peers import Peers
from runner.train.stage import run_train
from tests.unit.data.kit import register_remote
from tests.unit.record.entry_kit import log_of
from tests.unit.train.kit import RUN, Config, curve, make_scope, published, rows_of, write_rows


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tiny models: more threads only wait for each other, the longer the busier the machine."""
    torch.set_num_threads(1)


class Cut(Exception):
    """Stands for a kill: nothing of the function runs after it."""


def model_of(ctx: Any) -> tuple[Any, Any]:
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)
    )
    model = ctx.prepare(net)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def learn(model: Any, optimizer: Any, batch: Any) -> torch.Tensor:
    loss = (model(batch["x"]).squeeze(1) - batch["y"]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def plain(ctx: Any, config: Any) -> None:
    model, optimizer = model_of(ctx)
    ctx.track(model=model, optimizer=optimizer)
    for batch in ctx.batches("train", batch_size=config.batch, epochs=config.epochs):
        loss = learn(model, optimizer, batch)
        ctx.step(loss=loss, noise=random.random() + np.random.rand())
        if ctx.step_number == config.at_step:
            raise Cut


def fit(tmp_path: Path, fn: Any, config: Config | None = None, **stage: Any) -> tuple[dict[str, Any], Any]:
    given, scope = make_scope(tmp_path, fn, config, **stage)
    return run_train(given, scope, InlineGang()), scope


def test_result_says_what_was_trained(tmp_path: Path) -> None:
    """The result counts steps, epochs and samples, and names the last checkpoint and the final metrics."""
    result, scope = fit(tmp_path, plain, Config(epochs=2))
    assert (result["steps"], result["epochs"], result["samples"], result["world_size"]) == (24, 2, 192, 1)
    assert result["checkpoint"] == "checkpoints/fit/000000024-1"
    assert result["metrics"]["loss"] == curve(scope)[24]
    assert result["resumed_from"] is None
    assert result["seconds"] > 0


def test_a_function_of_whose_body_nothing_runs_is_no_training(tmp_path: Path) -> None:
    """A generator or a coroutine, also where only the call shows it, is an error and no success of zero steps."""

    def steps(ctx: Any) -> Any:
        for _ in ctx.batches("train", batch_size=8):
            ctx.step()
            yield

    async def later(ctx: Any) -> None:
        ctx.step()

    for fn in (lambda ctx, config: steps(ctx), lambda ctx, config: later(ctx)):
        with pytest.raises(SpecError, match="of whose body nothing has run"):
            fit(tmp_path / str(id(fn)), fn)


@pytest.mark.parametrize("steps", [0, 1])
def test_a_training_that_never_says_a_step_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    """Batches without one `ctx.step` are no error, but the log says what is missing; one step is enough."""

    def loop(ctx: Any, config: Any) -> None:
        for i, _ in enumerate(ctx.batches("train", batch_size=8)):
            if i < steps:
                ctx.step()

    fit(tmp_path, loop)
    assert ("12 batches were taken and no step was made" in capsys.readouterr().out) is (steps == 0)


@pytest.mark.parametrize("tracks", [False, True])
def test_a_training_that_tracks_nothing_is_told_at_its_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tracks: bool
) -> None:
    """Nobody learns after a long training that its checkpoints hold no weights; it is said once."""

    def loop(ctx: Any, config: Any) -> None:
        if tracks:
            ctx.track(seen={})
        for _ in ctx.batches("train", batch_size=8):
            ctx.step()

    fit(tmp_path, loop)
    assert capsys.readouterr().out.count("nothing is tracked") == (not tracks)


def test_row_for_every_step(tmp_path: Path) -> None:
    """Every step has one row, with its loss, epoch, samples so far, rates and the steps that there will be."""
    _, scope = fit(tmp_path, plain, Config(epochs=2))
    rows = [row for row in rows_of(scope) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 25))
    assert [row["samples"] for row in rows] == [8 * step for step in range(1, 25)]
    assert [row["epoch"] for row in rows] == [0] * 12 + [1] * 12
    assert {row["steps_total"] for row in rows} == {24}
    assert all(row["samples_per_s"] > 0 and 0 <= row["wait_share"] <= 1 for row in rows)


def test_steps_end_the_stream_wherever_the_training_went_on(tmp_path: Path) -> None:
    """Asked for a number of steps, the stream ends at that step of the training, cut or not, and rows say the total."""

    def loop(ctx: Any, config: Any) -> None:
        model, optimizer = model_of(ctx)
        ctx.track(model=model, optimizer=optimizer)
        for batch in ctx.batches("train", batch_size=8, steps=30):
            ctx.step(loss=learn(model, optimizer, batch))
            if ctx.step_number == config.at_step:
                raise Cut

    given, scope = make_scope(tmp_path, loop, Config(at_step=17), checkpoint_every_steps=5)
    with pytest.raises(Cut):
        run_train(given, scope, InlineGang())
    given, scope = make_scope(tmp_path, loop, Config(), attempt=2, checkpoint_every_steps=5)
    result = run_train(given, scope, InlineGang())
    assert (result["steps"], result["samples"]) == (30, 240)
    assert {row["steps_total"] for row in rows_of(scope) if "loss" in row} == {30}


def test_reduced_values_are_there_after_a_phase(tmp_path: Path) -> None:
    """ctx.metrics has a phase's values at its end; ctx.sum leaves the tensor that it was given as it is."""
    seen: list[Any] = []

    def loop(ctx: Any, config: Any) -> None:
        with ctx.phase("validation"):
            for batch in ctx.batches("train", batch_size=8, shuffle=False):
                ctx.log(rows=float(batch.positions[0]))
        mine = torch.ones(2)
        ctx.sum(mine).add_(1)
        seen.append((ctx.metrics, mine.tolist()))

    fit(tmp_path, loop)
    assert seen == [({"rows": 44.0}, [1.0, 1.0])]


def test_inline_keeps_the_global_batch(tmp_path: Path) -> None:
    """One process takes the rows that the stage's workers would take together."""
    seen: list[int] = []

    def count(ctx: Any, config: Any) -> None:
        for batch in ctx.batches("train", batch_size=8):
            seen.append(len(batch.positions))
            ctx.step()

    fit(tmp_path, count, workers=3)
    assert seen == [24] * 4


def test_inline_error_is_the_users_own(tmp_path: Path) -> None:
    """In the user's process the exception that comes out is the object that was raised."""
    mine = ValueError("mine")

    def fail(ctx: Any, config: Any) -> None:
        raise mine

    with pytest.raises(ValueError, match="mine") as caught:
        fit(tmp_path, fail)
    assert caught.value is mine


def test_a_rank_that_raises_tells_the_others_no_more_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its process stays, as on Ray, no thread of the rank goes on publishing for it."""
    peers = Peers(0, 2, dist.HashStore())
    monkeypatch.setattr(rank, "_peers", lambda place: peers)
    assert peers._board is not None

    def fail(ctx: Any, config: Any) -> None:
        assert not peers._board._left.is_set()
        raise Cut

    with pytest.raises(Cut):
        fit(tmp_path, fail)
    assert peers._board._left.is_set()


@pytest.mark.parametrize("cut", [1, 5, 11, 12, 13, 20])
def test_cut_run_goes_on_bit_for_bit(tmp_path: Path, cut: int) -> None:
    """Cut after any step, and again later, the loss curve and all random numbers equal those of a run that was not."""
    _, whole = fit(tmp_path / "whole", plain, Config(epochs=2), checkpoint_every_steps=3)
    losses: dict[int, float] = {}
    noises: dict[int, float] = {}
    for attempt, at_step in enumerate([cut, cut + 4, 0], 1):
        given, scope = make_scope(
            tmp_path, plain, Config(epochs=2, at_step=at_step), attempt=attempt, checkpoint_every_steps=3
        )
        try:
            run_train(given, scope, InlineGang())
        except Cut:
            assert at_step > 0
        losses.update(curve(scope))
        noises.update(curve(scope, name="noise"))
    assert losses == curve(whole)
    assert noises == curve(whole, name="noise")


def looped(ctx: Any, config: Any) -> None:
    """As `plain`, with an epoch at a time."""
    model, optimizer = model_of(ctx)
    ctx.track(model=model, optimizer=optimizer)
    for _ in ctx.epochs(config.epochs):
        for batch in ctx.batches("train", batch_size=config.batch):
            ctx.step(loss=learn(model, optimizer, batch))


def stepped(ctx: Any, config: Any) -> None:
    """As `plain`, with a number of steps."""
    model, optimizer = model_of(ctx)
    ctx.track(model=model, optimizer=optimizer)
    for batch in ctx.batches("train", batch_size=config.batch, steps=12 * config.epochs):
        ctx.step(loss=learn(model, optimizer, batch))


@pytest.mark.parametrize("fn", [plain, looped, stepped])
def test_a_training_that_is_done_goes_on_bit_for_bit(tmp_path: Path, fn: Any) -> None:
    """Asked for more epochs, or steps, than it was done with, it goes on as if it had been asked so from the start."""
    _, whole = fit(tmp_path / "whole", fn, Config(epochs=4))
    losses: dict[int, float] = {}
    for attempt, epochs in enumerate((2, 2, 3, 4), 1):  # asked for the same again, nothing is done
        given, scope = make_scope(tmp_path, fn, Config(epochs=epochs), attempt=attempt)
        assert run_train(given, scope, InlineGang())["steps"] == 12 * epochs
        losses.update(curve(scope))
    assert losses == curve(whole)


def test_a_training_that_was_asked_to_go_further_and_does_not_is_an_error(tmp_path: Path) -> None:
    """A loop that was left by `break` is over, however far it is asked to go: the run says so, and does not succeed."""

    def leaves(ctx: Any, config: Any) -> None:
        for _ in ctx.batches("train", batch_size=8, epochs=4):
            ctx.step()
            if ctx.step_number == 12 * config.epochs:
                break

    first, scope = fit(tmp_path, leaves, Config(epochs=1))
    scope.record(StageDone("fit", StageResult.from_json(first), attempt=1))
    scope.bundle.log.append(Resumed(again=("fit",)))
    for attempt in (2, 3):  # a resume of the resume that failed, too
        given, scope = make_scope(tmp_path, leaves, Config(epochs=2), attempt=attempt)
        with pytest.raises(
            SpecError, match=f"at step 12, .* at step 12 again(.|\n)*left by `break`(.|\n)*--from {RUN}"
        ):
            run_train(given, scope, InlineGang())


def test_of_several_trainings_one_may_go_no_further() -> None:
    """What `--until` names may concern only one of them, in whichever order; none of them is an error of the last."""

    def log(*ends: tuple[str, int]) -> list[Entry]:
        done = [("stage-done", {"stage": name, "result": {"steps": steps}}) for name, steps in ends]
        kinds = [*done[:2], ("resumed", {"again": ["a", "b"]}), ("resumed", {}), *done[2:]]
        return log_of(kinds)

    first = [("a", 10), ("b", 20)]
    until.check("a", 10, log(*first), RUN)
    until.check("b", 30, log(*first, ("a", 10)), RUN)
    until.check("b", 20, log(*first, ("a", 11)), RUN)
    until.check("c", 0, log(*first), RUN)
    with pytest.raises(SpecError, match="'b' was done at step 20"):
        until.check("b", 20, log(*first, ("a", 10)), RUN)


def test_what_is_not_tracked_any_more_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Code that tracks less than the checkpoint holds says what is left out."""

    def less(ctx: Any, config: Any) -> None:
        model, optimizer = model_of(ctx)
        ctx.track(model=model)
        for batch in ctx.batches("train", batch_size=config.batch, epochs=2):
            ctx.step(loss=learn(model, optimizer, batch))

    fit(tmp_path, plain)
    given, scope = make_scope(tmp_path, less, attempt=2)
    run_train(given, scope, InlineGang())
    assert capsys.readouterr().out.count("the checkpoint has 'optimizer', which ctx.track was not given") == 1


def test_checkpoint_belongs_to_its_step_with_all_that_follows_it(tmp_path: Path) -> None:
    """What the function does after a step, a validation say, is done once: before that step's checkpoint is made."""
    validated: list[int] = []

    def validate(ctx: Any, config: Any) -> None:
        for _ in ctx.batches("train", batch_size=8):
            ctx.step()
            if ctx.every(steps=4):
                validated.append(ctx.step_number)
                with ctx.phase("validation"):
                    total = sum(int(b.mask.sum()) for b in ctx.batches("validation", batch_size=20, tail="wrap"))
                    ctx.log(validation_rows=total, draw=float(torch.rand(())))
            if ctx.step_number == config.at_step:
                raise Cut

    given, scope = make_scope(tmp_path, validate, Config(at_step=5), checkpoint_every_steps=4)
    with pytest.raises(Cut):
        run_train(given, scope, InlineGang())
    given, scope = make_scope(tmp_path, validate, Config(), attempt=2, checkpoint_every_steps=4)
    run_train(given, scope, InlineGang())
    assert validated == [4, 8, 12]
    assert curve(scope, name="validation_rows") == {8: 96.0, 12: 96.0}


def test_views_and_mixtures_of_a_stages_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter, packed rows and a mixture of the stage's names go on at the exact sample from a checkpoint."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    import pyarrow.compute as pc

    mix, keep, seen = Mix({"train": 3, "validation": 1}), pc.field("id") < 90, []

    def train(ctx: Any, config: Any) -> None:
        model, optimizer = model_of(ctx)
        ctx.track(model=model, optimizer=optimizer)
        assert ctx.rows(mix, filter=keep) == 180
        assert ctx.total_steps(mix, batch_size=config.batch, filter=keep) == 22
        for batch in ctx.batches(mix, batch_size=config.batch, filter=keep):
            seen.append((batch["id"].tolist(), batch.sources.tolist()))
            ctx.step(loss=learn(model, optimizer, batch))
            if ctx.step_number == config.at_step:
                raise Cut

    fit(tmp_path / "whole", train)
    whole = list(seen)
    assert len(whole) == 22
    assert [sources.count(1) for _, sources in whole] == [2] * 22
    seen.clear()
    with pytest.raises(Cut):
        fit(tmp_path / "cut", train, Config(at_step=9), checkpoint_every_steps=4)
    del seen[8:]
    fit(tmp_path / "cut", train, attempt=2)
    assert seen == whole
    with pytest.raises(SpecError, match="Train\\(data"):
        fit(tmp_path / "other", lambda ctx, config: next(ctx.batches(Mix({"a": 1}, {"a": "x"}), batch_size=8)))


def test_how_data_is_read_changes_no_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, a budget of memory, a cache and a timeout reach the stream, and the batches are the same."""
    readings, seen = [], []

    class Seen(Stream):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            readings.extend(self._readings)

    def train(ctx: Any, config: Any) -> None:
        cache = {"cache": ctx.scratch, "cache_bytes": "2GiB"}
        for how in ({}, {"threads": 3, "memory_bytes": 1 << 30, "timeout_s": 7.0, **cache}):
            with ctx.phase("a look"):  # where a name begins anew
                batches = ctx.batches("train", batch_size=config.batch, **how)
                seen.append([batch["id"].tolist() for batch in batches])

    monkeypatch.setattr(loader, "Stream", Seen)
    fit(tmp_path, train)
    usual, other = readings
    assert seen[0] == seen[1]
    assert len(seen[0]) == 12
    assert (usual.cache, other.threads, other.timeout_s) == (None, 3, 7.0)
    assert (other.cache[0].is_dir(), other.cache[1]) == (True, 2 << 30)


def test_pictures_of_a_stages_data(tmp_path: Path) -> None:
    """Pictures are decoded by the same windows behind a checkpoint."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import simplejpeg

    pixels, seen = np.random.default_rng(0).integers(0, 256, (40, 20, 24, 3), dtype=np.uint8), []
    for name in ("whole", "cut"):
        (tmp_path / name / "data").mkdir(parents=True)
        table = pa.table({"image": [simplejpeg.encode_jpeg(one, 90, "RGB", "420") for one in pixels]})
        pq.write_table(table, tmp_path / name / "data" / "a.parquet", row_group_size=8)

    def train(ctx: Any, config: Any) -> None:
        image = Image("RGB", 8, crop="random", flip=0.5)
        for batch in ctx.batches("train", batch_size=config.batch, decode={"image": image}):
            seen.append(batch["image"].clone())
            ctx.step(loss=0.0)
            if ctx.step_number == config.at_step:
                raise Cut

    fit(tmp_path / "whole", train)
    whole = list(seen)
    assert [tuple(one.shape) for one in whole] == [(8, 8, 8, 3)] * 5
    seen.clear()
    with pytest.raises(Cut):
        fit(tmp_path / "cut", train, Config(at_step=3), checkpoint_every_steps=2)
    del seen[2:]
    fit(tmp_path / "cut", train, attempt=2)
    assert all(map(torch.equal, seen, whole))
    assert len(seen) == len(whole)


def test_inner_loops_get_different_epochs(tmp_path: Path) -> None:
    """A name that is opened again goes on with the next epoch, and a cut run skips what it has had."""
    orders: dict[int, list[int]] = {}

    def loops(ctx: Any, config: Any) -> None:
        ctx.track(notes=[])
        for _ in range(3):
            for batch in ctx.batches("train", batch_size=32, epochs=1):
                orders.setdefault(ctx.epoch, []).extend(batch["id"].tolist())
                ctx.step()
                if ctx.step_number == config.at_step:
                    raise Cut

    given, scope = make_scope(tmp_path, loops, Config(at_step=5), checkpoint_every_steps=4)
    with pytest.raises(Cut):
        run_train(given, scope, InlineGang())
    orders[1] = orders[1][:32]  # the fifth step was lost with the cut
    given, scope = make_scope(tmp_path, loops, Config(), attempt=2, checkpoint_every_steps=4)
    result = run_train(given, scope, InlineGang())
    assert result["epochs"] == 3
    assert [sorted(order) for order in orders.values()] == [list(range(96))] * 3
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize(("cut", "again"), [(3, [0, 1, 2]), (5, [0, 1, 2]), (7, [1, 2]), (8, [1, 2]), (10, [2])])
def test_loop_over_epochs_goes_on_with_the_open_one(tmp_path: Path, cut: int, again: list[int]) -> None:
    """With `ctx.epochs` nothing is done again of an epoch that had ended at the checkpoint, made every 3 steps."""
    done: list[Any] = []

    def loops(ctx: Any, config: Any) -> None:
        for epoch in ctx.epochs(3):
            for _ in ctx.batches("train", batch_size=24):
                ctx.step()
                if ctx.step_number == config.at_step:
                    raise Cut
            with ctx.phase("validation"):
                done.append((epoch, ctx.epoch, ctx.step_number))

    given, scope = make_scope(tmp_path, loops, Config(at_step=cut), checkpoint_every_steps=3)
    with pytest.raises(Cut):
        run_train(given, scope, InlineGang())
    done.clear()
    given, scope = make_scope(tmp_path, loops, attempt=2, checkpoint_every_steps=3)
    assert run_train(given, scope, InlineGang())["steps"] == 12
    assert done == [(epoch, epoch, 4 * epoch + 4) for epoch in again]


def test_accumulation_resumes_at_the_step(tmp_path: Path) -> None:
    """Several batches per step: a checkpoint made in the middle of a step holds the place of the step before."""
    seen: list[int] = []

    def accumulate(ctx: Any, config: Any) -> None:
        for number, batch in enumerate(ctx.batches("train", batch_size=8), 1):
            seen.extend(batch["id"].tolist())
            if number % 2 == 0:
                ctx.step()
            if ctx.step_number == config.at_step and number % 2:
                ctx.checkpoint()
                raise Cut

    given, scope = make_scope(tmp_path, accumulate, Config(at_step=2))
    with pytest.raises(Cut):
        run_train(given, scope, InlineGang())
    del seen[32:]
    given, scope = make_scope(tmp_path, accumulate, Config(), attempt=2)
    assert run_train(given, scope, InlineGang())["steps"] == 6
    assert sorted(seen) == list(range(96))


def test_values_are_restored_in_place(tmp_path: Path) -> None:
    """Dicts and lists of JSON values come back as they were at the checkpoint."""
    found: list[Any] = []

    def keep(ctx: Any, config: Any) -> None:
        history: list[int] = []
        best = {"value": math.inf}
        ctx.track(history=history, best=best)
        found.append((list(history), dict(best), ctx.resumed))
        for _ in ctx.batches("train", batch_size=32):
            history.append(ctx.step_number)
            best["value"] = 1.0 / (ctx.step_number + 1)
            ctx.step()
            if ctx.step_number == config.at_step:
                ctx.checkpoint()
                raise Cut

    given, scope = make_scope(tmp_path, keep, Config(at_step=2))
    with pytest.raises(Cut):
        run_train(given, scope, InlineGang())
    given, scope = make_scope(tmp_path, keep, Config(), attempt=2)
    run_train(given, scope, InlineGang())
    assert found == [([], {"value": math.inf}, False), ([0, 1], {"value": 0.5}, True)]


def test_best_is_kept_and_named(tmp_path: Path) -> None:
    """A best value that is logged in a phase makes a checkpoint of its own step, which stays while others go."""
    values = iter([3.0, 1.0, 2.0, 4.0])

    def best(ctx: Any, config: Any) -> None:
        for _ in ctx.batches("train", batch_size=8):
            ctx.step()
            if ctx.every(steps=3):
                with ctx.phase("validation"):
                    ctx.log(validation_loss=next(values))

    result, scope = fit(tmp_path, best, best=("validation_loss", "min"), keep=1, checkpoint_every_steps=2)
    assert result["best"] == "checkpoints/fit/000000006-1"
    assert scope.bundle.store.list("checkpoints/fit") == ["000000006-1", "000000012-1"]


def test_best_that_is_logged_after_the_last_checkpoint_is_named(tmp_path: Path) -> None:
    """A value that comes outside a phase, when its step has a checkpoint and nothing has changed since, counts."""

    def late(ctx: Any, config: Any) -> None:
        ctx.track(model=ctx.prepare(torch.nn.Linear(4, 1)))
        for _ in ctx.batches("train", batch_size=8):
            ctx.step()
        ctx.log(validation_loss=1.0)

    result, scope = fit(tmp_path, late, best=("validation_loss", "min"), keep=1, checkpoint_every_steps=6)
    assert result["best"] == result["checkpoint"] == "checkpoints/fit/000000012-1.2"
    assert scope.bundle.store.list("checkpoints/fit") == ["000000012-1.2"]


@pytest.mark.parametrize("after", ["weights", "value", "nothing"])
@pytest.mark.parametrize("last", ["steps", "best", "call"])
def test_last_checkpoint_is_what_the_function_ended_with(tmp_path: Path, after: str, last: str) -> None:
    """What is changed after the last step is in the last checkpoint, also where that step had one; "best" stays, and
    where nothing has changed none is made again."""

    def change(ctx: Any, config: Any) -> None:
        model, seen = ctx.prepare(torch.nn.Linear(4, 1)), {"value": 0}
        optimizer = torch.optim.AdamW(model.parameters())
        ctx.track(model=model, optimizer=optimizer, seen=seen)
        for batch in ctx.batches("train", batch_size=32):
            model(batch["x"]).sum().backward()
            optimizer.step()
            ctx.step()
        with ctx.phase("validation"):
            ctx.log(loss=1.0)
        if last == "call":
            ctx.checkpoint()
        list(ctx.batches("train", batch_size=32))  # the moment of a checkpoint that is due
        if after == "weights":
            model.weight.data.fill_(7.0)
        if after == "value":
            seen["value"] = 7

    given: dict[str, Any] = {"steps": {"checkpoint_every_steps": 3}, "best": {"best": ("loss", "min")}, "call": {}}
    result, scope = fit(tmp_path, change, **given[last])
    kept = Loaded(published(scope)[-1], {}, Checkpoints(scope, scope.job.stages[0]))
    manifest = json.loads(scope.bundle.store.get(f"{kept.entry.key}/manifest.json"))
    kept.manifest.update(manifest)
    weights = kept.read("model.safetensors")["weight"]
    assert bool((weights == 7.0).all()) is (after == "weights")
    assert (kept.read(manifest["objects"]["seen"]["file"])["value"] == 7) is (after == "value")
    keys = [each.key for each in published(scope)]
    assert keys == ["checkpoints/fit/000000003-1", "checkpoints/fit/000000003-1.2"][: 1 if after == "nothing" else 2]
    assert result["best"] == ("checkpoints/fit/000000003-1" if last == "best" else None)


def test_every_seconds_fires_by_the_clock(tmp_path: Path) -> None:
    """`every(seconds=)` is true at one step after each such time, and not before."""
    fired: list[float] = []
    steps: list[int] = []

    def tick(ctx: Any, config: Any) -> None:
        start = time.monotonic()
        while len(fired) < 2 and time.monotonic() - start < 60:
            time.sleep(0.01)
            ctx.step()
            if ctx.every(seconds=0.2):
                fired.append(time.monotonic() - start)
                steps.append(ctx.step_number)

    fit(tmp_path, tick)
    assert len(fired) == 2
    assert fired[0] >= 0.2
    assert fired[1] >= 0.4
    assert steps[1] > steps[0] + 1  # not at each step from then on


def test_phase_that_takes_too_long_is_named(tmp_path: Path) -> None:
    """A phase over its timeout raises StageTimeout with the phase's name, promptly."""

    def slow(ctx: Any, config: Any) -> None:
        with ctx.phase("validation", timeout_s=0.2):
            while True:
                time.sleep(0.01)

    started = time.monotonic()
    with pytest.raises(StageTimeout, match=r"phase 'validation' of stage 'fit' took longer than its timeout_s=0\.2"):
        fit(tmp_path, slow)
    assert time.monotonic() - started < 3


def test_phase_in_time_leaves_nothing_behind(tmp_path: Path) -> None:
    """A phase that ends in time raises nothing later, and its time is a row."""

    def quick(ctx: Any, config: Any) -> None:
        with ctx.phase("validation", timeout_s=0.2):
            ctx.log(accuracy=0.5)
        time.sleep(0.4)

    result, scope = fit(tmp_path, quick)
    assert result["metrics"] == {"accuracy": 0.5}
    assert [row["phase"] for row in rows_of(scope) if "phase" in row] == ["validation"]


def test_artefacts_are_kept_by_kind(tmp_path: Path) -> None:
    """Text, bytes, JSON values, modules and tensors each become a file that needs no code of ours to be read."""

    def save(ctx: Any, config: Any) -> None:
        ctx.save("sample", "To be")
        ctx.save("raw.bin", b"\0\1")
        ctx.save("report", {"accuracy": 0.5})
        ctx.save("model", torch.nn.Linear(2, 1))
        ctx.save("scores", [torch.ones(2), 3])

    _, scope = fit(tmp_path, save)
    store = scope.bundle.store
    assert store.list("artefacts/fit") == ["model.safetensors", "raw.bin", "report.json", "sample.txt", "scores.pt"]
    assert store.get("artefacts/fit/sample.txt") == b"To be"
    scores = torch.load(store.path("artefacts/fit/scores.pt"), weights_only=True)
    assert scores[0].tolist() == [1.0, 1.0]


def step_in_phase(ctx: Any) -> None:
    with ctx.phase("tune"):
        for _ in ctx.batches("train", batch_size=8):
            ctx.step()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda ctx: ctx.batches("trian", batch_size=8), "did you mean 'train'"),
        (lambda ctx: ctx.batches("train"), "one of the two"),
        (lambda ctx: ctx.batches("train", batch_size=0), "'train'.*: batch_size=0"),
        (lambda ctx: ctx.batches("train", batch_size=8.0), "'train'.*: batch_size=8.0"),
        (lambda ctx: ctx.batches("train", global_batch_size=0), "global_batch_size=0"),
        (lambda ctx: ctx.total_steps("train", batch_size=0), "'train'.*: batch_size=0"),
        (lambda ctx: ctx.total_steps("train", global_batch_size=0), "global_batch_size=0"),
        (lambda ctx: ctx.batches("train", batch_size=8, epochs=2, steps=9), "without epochs="),
        (lambda ctx: ctx.batches("train", batch_size=8, threads=0), "(?s)threads=0.*a whole number from 1 up"),
        (lambda ctx: ctx.batches("train", batch_size=8, memory_bytes=9), "(?s)memory_bytes=9.*at least"),
        (lambda ctx: ctx.batches("train", batch_size=8, cache=ctx.scratch, cache_bytes="many"), "cache_bytes='many'"),
        (lambda ctx: ctx.batches("train", batch_size=8, timeout_s=-1), "timeout_s=-1"),
        (lambda ctx: ctx.step(loss=torch.ones(2)), "one element"),
        (lambda ctx: ctx.step(epoch=1), "any name but"),
        (lambda ctx: step_in_phase(ctx), "a step in phase 'tune'"),
        (lambda ctx: ctx.track(best=3.0), "keep the value in a dict"),
        (lambda ctx: ctx.track(manifest={}), "not taken"),
        (lambda ctx: ctx.prepare(torch.nn.Linear(1, 1), strategy="dpp"), "'ddp', 'fsdp' or None"),
        (lambda ctx: ctx.every(), "one of the two"),
        (lambda ctx: ctx.save("../x", "y"), "letters, digits"),
    ],
)
def test_wrong_calls_say_what_is_allowed(tmp_path: Path, call: Any, words: str) -> None:
    """A wrong argument is an error that says what was found, what is allowed or what to do."""

    def wrong(ctx: Any, config: Any) -> None:
        call(ctx)

    with pytest.raises(SpecError, match=words):
        fit(tmp_path, wrong)


def test_ranks_ask_no_remote_file_for_its_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle keeps what the plan has read of the files; in a resume too a rank asks for rows alone."""
    fs, asked = register_remote(monkeypatch)(), []
    for file in Path(write_rows(tmp_path / "local")).iterdir():
        fs.pipe_file(f"/data/{file.name}", file.read_bytes())

    def train(ctx: Any, config: Any) -> None:
        ctx.track(place={})
        parquet_footer._anew()  # as in a process that has planned nothing
        before = fetched()
        for _ in ctx.batches("train", batch_size=config.batch):
            ctx.step(loss=0.0)
            if ctx.step_number == config.at_step:
                raise Cut
        now = fetched() - before
        asked.append(now.requests - now.hedges)

    (tmp_path / "data").symlink_to(tmp_path / "local")
    given, scope = make_scope(tmp_path, train, Config(at_step=5), checkpoint_every_steps=2)
    given = replace(given, data={"train": Dataset("remote://data")})
    with pytest.raises(Cut):
        run_train(given, scope, InlineGang())
    given = replace(given, fn=train)
    _, scope = make_scope(tmp_path, train, Config(), attempt=2)
    run_train(given, scope, InlineGang())
    assert asked == [6]
    told = [row for row in rows_of(scope) if "fetch_requests" in row]
    assert sum(row["fetch_requests"] for row in told if row["step"] > 4) >= 6
    assert all(row["fetched_bytes"] > 0 and "loss" in row for row in told)


def test_missing_data_starts_nothing(tmp_path: Path) -> None:
    """Data that is not there is an error before any rank is started."""
    called: list[int] = []

    def train(ctx: Any, config: Any) -> None:
        called.append(1)

    given, scope = make_scope(tmp_path, train)
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    with pytest.raises(DataError):
        run_train(given, scope, InlineGang())
    assert not called


def test_resume_reads_the_data_of_the_first_attempt(tmp_path: Path) -> None:
    """Files that were added between two attempts are not read: the order would be another."""
    given, scope = make_scope(tmp_path, plain, Config(at_step=5), checkpoint_every_steps=2)
    with pytest.raises(Cut):
        run_train(given, scope, InlineGang())
    (tmp_path / "data" / "9.parquet").write_bytes((tmp_path / "data" / "0.parquet").read_bytes())
    given, scope = make_scope(tmp_path, plain, attempt=2)
    result = run_train(given, scope, InlineGang())
    assert (result["resumed_from"], result["steps"]) == (4, 12)


# -- beginning from another run --------------------------------------------------------------------------------------

OTHER = "r260101-000000-other-xyz"


def begun(tmp_path: Path, fn: Any, *, everything: bool = False, config: Config | None = None) -> Any:
    """Train for an epoch as one run; then `fn`, from the last checkpoint of that run, as another. Its scope."""
    result, first = fit(tmp_path / "first", plain)
    shutil.copytree(tmp_path / "first/store" / RUN, tmp_path / "store" / OTHER)
    given, scope = make_scope(tmp_path, fn, config or Config(epochs=2))
    entry = next(iter(published(first)))
    assert entry.key == result["checkpoint"]
    start = {"run": OTHER, "all": everything, **{name: getattr(entry, name) for name in ("key", "step", "sha256")}}
    scope.spec = scope.spec.but(start_from={"run": OTHER, "stages": {"fit": start}})
    run_train(given, scope, InlineGang())
    return scope


def seen(objects: dict[str, Any]) -> Any:
    """A train function that notes what it begins with, and takes a step."""

    def train(ctx: Any, config: Any) -> None:
        model, optimizer = model_of(ctx)
        ctx.track(model=model, optimizer=optimizer)
        objects.update(step=ctx.step_number, resumed=ctx.resumed, adam=len(optimizer.state_dict()["state"]))
        objects["weight"] = model.state_dict()["0.weight"].clone()
        for batch in ctx.batches("train", batch_size=config.batch, epochs=config.epochs):
            ctx.step(loss=learn(model, optimizer, batch))

    return train


@pytest.mark.parametrize("everything", [False, True])
def test_a_training_begins_with_the_weights_of_another_run(tmp_path: Path, everything: bool) -> None:
    """At step 0 and on all of its own data, with that run's weights and, if told so, with its optimizer."""
    objects: dict[str, Any] = {}
    scope = begun(tmp_path, seen(objects), everything=everything)
    assert (objects["step"], objects["resumed"]) == (0, False)
    assert objects["adam"] == (6 if everything else 0)
    from safetensors.torch import load_file

    (folder,) = (tmp_path / "store" / OTHER / "checkpoints/fit").iterdir()
    assert torch.equal(objects["weight"], load_file(folder / "model.safetensors")["0.weight"])
    assert max(curve(scope)) == 24


def test_a_training_that_began_from_another_run_is_resumed_from_its_own(tmp_path: Path) -> None:
    """Once it has a checkpoint of its own, the other run's counts no more."""
    begun(tmp_path, seen({}))
    objects: dict[str, Any] = {}
    given, scope = make_scope(tmp_path, seen(objects), Config(epochs=2), attempt=2)
    gone = {
        "run": "r260101-000000aa-gone-aa",
        "key": "checkpoints/fit/000000001-1",
        "step": 1,
        "sha256": "",
        "all": False,
    }
    scope.spec = scope.spec.but(start_from={"stages": {"fit": gone}})
    run_train(given, scope, InlineGang())
    assert (objects["step"], objects["resumed"]) == (24, True)


def test_what_does_not_fit_another_runs_checkpoint_is_named(tmp_path: Path) -> None:
    """Shapes and names of parameters that differ, and a function that tracks nothing of it."""

    def wider(ctx: Any, config: Any) -> None:
        ctx.track(model=torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8, affine=False)))

    def renamed(ctx: Any, config: Any) -> None:
        ctx.track(modle=model_of(ctx)[0])
        next(iter(ctx.batches("train", batch_size=8)))

    with pytest.raises(SpecError, match=r"0\.weight is \[8, 5\] here and \[8, 4\] there.*1\.weight is only there"):
        begun(tmp_path / "a", wider)
    with pytest.raises(SpecError, match=f"nothing of the checkpoint of {OTHER}, step 12 is tracked") as caught:
        begun(tmp_path / "b", renamed)
    assert "did you mean 'model'" in caught.value.todo

    def own_loader(ctx: Any, config: Any) -> None:
        ctx.track(modle=model_of(ctx)[0])
        ctx.step()

    with pytest.raises(SpecError, match=f"nothing of the checkpoint of {OTHER}, step 12 is tracked"):
        begun(tmp_path / "c", own_loader)
