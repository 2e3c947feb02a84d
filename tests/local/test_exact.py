"""The same bits: a training that is killed and resumed, and the samples of any number of ranks."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import WorkerLost
from runner.train.gang import server as gang_server
from runner.train.gang.local import LocalGang
from runner.train.stage import run_train
from tests.unit.data.units_kit import write
from tests.unit.train.kit import Config, curve, job, make_scope, notes, train

ROWS, BATCH, EPOCHS = 96, 24, 5
STEPS = ROWS // BATCH * EPOCHS


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    """One server for the tests of this file: torch is imported once."""
    gang_server.warm_up()
    yield
    gang_server.stop()
    os.environ.pop("CUT_AT", None)


@pytest.fixture(scope="module")
def sequences() -> dict[str, list[list[int]]]:
    """The samples of every step, in the order of positions, by training."""
    return {}


def run(folder: Path, workers: int, cuts: tuple[int, ...] = (), strategy: str = "") -> dict[str, Any]:
    """Train, killing the last rank with SIGKILL after the steps of `cuts`, one an attempt; what came of it."""
    folder.mkdir(parents=True)
    losses: dict[int, float] = {}
    noises: dict[int, float] = {}
    for attempt, cut in enumerate([*cuts, 0], 1):
        config = Config(batch=BATCH, epochs=EPOCHS, width=700, path=str(folder), act=strategy)
        os.environ["CUT_AT"] = str(cut)
        given: dict[str, Any] = {"workers": workers, "checkpoint_every_steps": 3, "attempt": attempt}
        if cut:
            with pytest.raises(WorkerLost, match="SIGKILL"):
                train(folder, "exact", config, **given)
        result, scope = ({}, None) if cut else train(folder, "exact", config, **given)
        losses.update(rows_of_attempt(folder, attempt, "loss"))
        noises.update(rows_of_attempt(folder, attempt, "noise"))
    return {
        "losses": losses, "noises": noises, "weights": scope.bundle.store.get("artefacts/fit/weights.safetensors"),
        "samples": samples(folder, workers), "resumed_from": result["resumed_from"],
    }  # fmt: skip


def rows_of_attempt(folder: Path, attempt: int, name: str) -> dict[int, float]:
    class Place:
        scratch = folder / "scratch"

    return curve(Place(), attempt, name)  # type: ignore[arg-type]


def samples(folder: Path, workers: int) -> list[list[int]]:
    """The ids of every step by position: the slices of all ranks put together; the last attempt at a step counts."""
    steps: dict[int, dict[int, dict[int, int]]] = {}
    for rank in range(workers):
        for step, positions, ids in notes(folder, "ids", rank):
            steps.setdefault(step, {})[rank] = dict(zip(positions, ids, strict=True))
    joined = [{p: i for part in steps[step].values() for p, i in part.items()} for step in sorted(steps)]
    return [[ids[p] for p in sorted(ids)] for ids in joined]


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_killed_twice_equals_not_killed(tmp_path: Path, workers: int, sequences: dict[str, list[list[int]]]) -> None:
    """With several DDP buckets, a BatchNorm, dropout and a schedule, killed at two random steps: every loss, every
    random number and every weight equals that of the training that was not killed, bit for bit."""
    first = random.randint(1, STEPS - 3)
    cuts = (first, random.randint(max(first + 1, 6), STEPS - 2))
    print(f"killed after steps {cuts}")
    whole = run(tmp_path / "whole", workers)
    killed = run(tmp_path / "killed", workers, cuts)
    assert killed["resumed_from"] is not None
    assert list(whole["losses"]) == list(range(1, STEPS + 1))
    assert killed["losses"] == whole["losses"]
    assert killed["noises"] == whole["noises"]
    assert killed["weights"] == whole["weights"]
    sequences[f"whole {workers}"], sequences[f"killed {workers}"] = whole["samples"], killed["samples"]


def test_samples_are_the_same_for_any_number_of_ranks(sequences: dict[str, list[list[int]]]) -> None:
    """Step by step the ids by position are the same for 1, 2, 3 and 4 ranks, killed or not, with every row an epoch."""
    if len(sequences) < 8:
        pytest.skip("needs the trainings of the test before")
    first = sequences["whole 1"]
    assert all(other == first for other in sequences.values())
    for epoch in range(EPOCHS):
        ids = [i for step in first[epoch * 4 : epoch * 4 + 4] for i in step]
        assert sorted(ids) == list(range(ROWS))


def test_uneven_ranks_have_the_exact_gradient(tmp_path: Path) -> None:
    """A global batch of 32 on 3 ranks (10, 11 and 11 rows) gives the gradient and the loss of one rank."""
    import torch
    from safetensors.torch import load

    found = {}
    for workers in (1, 3):
        result, scope = train(tmp_path / str(workers), "gradient", Config(batch=32), workers=workers)
        kept = load(scope.bundle.store.get("artefacts/fit/gradient.safetensors"))
        found[workers] = (kept["grad"], result["metrics"]["loss"], int(kept["rows"]))
    assert [found[1][2], found[3][2]] == [32, 10]
    assert torch.allclose(found[1][0], found[3][0], rtol=1e-12, atol=0)
    assert found[1][1] == pytest.approx(found[3][1], rel=1e-12)


def test_gradients_are_those_of_plain_ddp(tmp_path: Path) -> None:
    """On 2 ranks, models with shared, unused, frozen, tied, sparse and checkpointed parts have the losses and gradients
    of DistributedDataParallel, bit for bit, whatever options it gets."""
    stage, scope = make_scope(tmp_path, job("as_plain_ddp", "ddp_models"), Config(), inline=False, workers=2)
    run_train(stage, scope, LocalGang())
    kept = json.loads(scope.bundle.store.get("artefacts/fit/differing.json"))
    assert kept["rank 0"] == []
    assert kept["kinds"] >= 15


def test_fsdp_killed_equals_not_killed(tmp_path: Path) -> None:
    """The word 'fsdp' shards the model, on CPUs too; its checkpoints are whole, and a resume has the same bits."""
    whole = run(tmp_path / "whole", 2, strategy="fsdp")
    killed = run(tmp_path / "killed", 2, (8,), strategy="fsdp")
    assert killed["losses"] == whole["losses"]
    assert killed["weights"] == whole["weights"]


def test_resume_on_another_number_of_ranks_takes_the_same_samples(tmp_path: Path) -> None:
    """Killed on 2 ranks and resumed on 3, the training goes on with the very samples that 2 ranks would have had."""
    whole = run(tmp_path / "whole", 2)
    folder = tmp_path / "killed"
    config = Config(batch=BATCH, epochs=EPOCHS, width=700, path=str(folder))
    os.environ["CUT_AT"] = "8"
    with pytest.raises(WorkerLost, match="SIGKILL"):
        train(folder, "exact", config, workers=2, checkpoint_every_steps=3)
    for rank in (0, 1):
        (folder / f"ids-{rank}").unlink()
    os.environ["CUT_AT"] = "0"
    result, _ = train(folder, "exact", config, workers=3, checkpoint_every_steps=3, attempt=2)
    assert (result["resumed_from"], result["steps"], result["world_size"]) == (6, STEPS, 3)
    assert samples(folder, 3) == whole["samples"][6:]


def test_what_is_set_aside_stays_so(tmp_path: Path) -> None:
    """Damaged units are named in the result of a training by two ranks that is killed, and goes on with the samples of
    one rank that is not, though the files have been mended meanwhile."""
    found = {}
    for name, workers in (("alone", 1), ("killed", 2)):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "data", damaged=[5, 20])
        config = Config(batch=BATCH, epochs=2, path=str(folder))
        given: dict[str, Any] = {"workers": workers, "checkpoint_every_steps": 4}
        if workers == 2:
            os.environ["CUT_AT"] = "10"
            with pytest.raises(WorkerLost, match="SIGKILL"):
                train(folder, "set_aside", config, **given)
            write(folder / "data")
        os.environ["CUT_AT"] = "0"
        result, scope = train(folder, "set_aside", config, attempt=workers, **given)
        found[name] = samples(folder, workers)
        units = [(Path(one["file"]).name, one["unit"]) for one in result["quarantine"]]
        assert sorted(units) == [("1.parquet", 2), ("6.parquet", 2)]
        assert result["quarantined"] == 40
        assert result["resumed_from"] == (8 if workers == 2 else None)
        assert all("(unit 2): it cannot be decoded" in line for line in result["notes"])
        log = scope.spool("fit", "logs", "rank0").read_text() if workers == 1 else ""
        assert log.count("runner: set aside: ") == (2 if workers == 1 else 0)
    assert found["killed"] == found["alone"]
    assert len(found["alone"]) == 2 * 480 // BATCH
