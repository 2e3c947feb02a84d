"""What a run has kept, and getting it: checkpoints that are verified, files of the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.errors import InputError, StoreError
from runner.run import Run
from runner.store import Store
from runner.worker.gang_inline import InlineGang
from runner.worker.train import run_train
from tests.cli_kit import call
from tests.train_kit import RUN, Config, make_scope


def fit(ctx: Any, config: Config) -> None:
    """Three epochs, the second of which is the best."""
    model = ctx.prepare(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    ctx.track(model=model, optimizer=optimizer)
    for epoch in ctx.epochs(3):
        for batch in ctx.batches("train", batch_size=32):
            loss = (model(batch["x"]).squeeze(1) - batch["y"]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ctx.step(loss=loss)
        with ctx.phase("validation"):
            ctx.log(score=[1.0, 0.5, 0.7][epoch])
        ctx.save("note", "hello")
        ctx.checkpoint()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Trained for 9 steps; checkpoints of steps 6 (the best) and 9 are there, that of step 3 is gone."""
    torch.set_num_threads(1)
    stage, scope = make_scope(tmp_path, fit, best=("score", "min"), keep=1)
    scope.bundle.log.append("stage-started", {"stage": "fit", "attempt": 1})
    run_train(stage, scope, InlineGang())
    scope.bundle.index("test", "succeeded", 3.0)
    scope.bundle.log.append("ended", {"state": "succeeded", "error": None})
    return Run(Store(str(tmp_path / "store")), RUN)


def test_checkpoints_are_listed_with_what_became_of_them(run: Run) -> None:
    """Steps, metrics, which is best and last, and which are still there, with their sizes."""
    found = {each.step: each for each in run.checkpoints()}
    assert sorted(found) == [3, 6, 9]
    assert [(found[step].best, found[step].last, found[step].exists) for step in (3, 6, 9)] == [
        (False, False, False), (True, False, True), (False, True, True),
    ]  # fmt: skip
    assert found[6].metrics["score"] == 0.5
    assert (found[3].bytes, (found[9].bytes or 0) > 100) == (None, True)
    assert found[9].url == f"{run.bundle.store.url}/{found[9].key}"


def test_a_checkpoint_is_a_folder_that_plain_torch_reads(run: Run) -> None:
    """Best, last or a step: the weights as they were then, by safetensors and torch alone."""
    from safetensors.torch import load_file

    best, last = run.checkpoint("best"), run.checkpoint()
    assert best == run.checkpoint(6) == run.checkpoint("6")
    assert run.checkpoint("last", stage="fit") == last != best
    weights = load_file(best / "model.safetensors")
    assert weights["weight"].shape == (1, 4)
    assert not torch.equal(weights["weight"], load_file(last / "model.safetensors")["weight"])
    assert torch.load(best / "optimizer.pt", weights_only=True)["param_groups"][0]["lr"] == 0.01


@pytest.mark.parametrize(
    ("which", "words"), [("bets", "did you mean 'best'"), (3, "gone"), (4, "no checkpoint"), ("first", "'last'")]
)
def test_a_checkpoint_that_is_not_there_is_said_with_those_that_are(run: Run, which: Any, words: str) -> None:
    """A wrong word, a step that never was, one that is gone."""
    with pytest.raises(InputError) as caught:
        run.checkpoint(which)
    assert words in str(caught.value)
    assert "'6', '9'" in str(caught.value)
    with pytest.raises(InputError, match="no stage 'fitt'"):
        run.checkpoint("best", stage="fitt")


def test_a_damaged_checkpoint_is_refused(run: Run) -> None:
    """One byte that is another, or a file that is gone, is named."""
    file = run.checkpoint("best") / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match=r"model\.safetensors is not what was published"):
        run.checkpoint("best")
    file.unlink()
    with pytest.raises(StoreError, match=r"model\.safetensors is missing"):
        run.checkpoint("best")


def test_the_command_line_lists_and_copies(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`checkpoints` shows what `get` copies; nothing that is there already is touched; a wrong path suggests one."""
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    store = ["--store", str(tmp_path / "store")]
    listed = call("checkpoints", *store).stdout
    assert "best" in listed
    assert "gone" in listed
    document = json.loads(call("checkpoints", "-o", "json", *store).stdout)
    assert [(each["step"], each["exists"]) for each in document] == [(3, False), (6, True), (9, True)]
    call("get", "@last", "best", *store)
    copy = out / f"{run.id}-fit-6"
    assert {file.name for file in copy.iterdir()} >= {"model.safetensors", "optimizer.pt", "manifest.json"}
    assert "is there already" in call("get", "@last", "best", *store, code=2).stderr
    call("get", "@last", "artefacts/fit/note.txt", "mine.txt", *store)
    assert (out / "mine.txt").read_text() == "hello"
    call("get", "@last", "artefacts", *store)
    assert (out / "artefacts/fit/note.txt").read_text() == "hello"
    wrong = call("get", "@last", "artefacts/fit/nte.txt", *store, code=2).stderr
    assert "did you mean 'note.txt'" in wrong
    assert "a path in the run's bundle" in call("get", "@last", "../other", *store, code=2).stderr
