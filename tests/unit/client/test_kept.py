"""What a run has kept, and getting it: checkpoints that are verified, files of the bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.client.run import Run
from runner.errors import InputError, StoreError, StoreRefused
from runner.record import kept
from runner.record.entries import Ended, StageStarted
from runner.spec import Train
from runner.store import Store, whole_copy
from runner.train.checkpoint.published import Checkpoints, Damaged
from runner.train.gang.inline import InlineGang
from runner.train.stage import run_train
from tests.unit.cli.kit import call, write_lines
from tests.unit.train.kit import RUN, Config, make_scope


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
    scope.bundle.log.append(StageStarted(stage="fit", attempt=1))
    run_train(stage, scope, InlineGang())
    scope.bundle.index("test", "succeeded", 3.0)
    scope.bundle.log.append(Ended(state="succeeded", error=None))
    return Run(Store(str(tmp_path / "store")), RUN)


def test_checkpoints_are_listed_with_what_became_of_them(run: Run) -> None:
    """Steps, metrics, which is best and last, and which are still there, with their sizes."""
    found = {each.step: each for each in run.checkpoints()}
    assert sorted(found) == [3, 6, 9]
    assert [(found[step].best, found[step].last, found[step].exists) for step in (3, 6, 9)] == [
        (False, False, False),
        (True, False, True),
        (False, True, True),
    ]
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


@pytest.mark.parametrize("gone", [False, True])
def test_a_run_that_has_no_checkpoint_says_so(run: Run, gone: bool) -> None:
    """Not one was published, or all are gone: no list of steps is offered, and a wrong word is still told."""
    there = run.checkpoints()
    found = [dataclasses.replace(each, exists=False) for each in there] if gone else []
    for which in ("best", "last", 6):
        with pytest.raises(InputError, match="the run has no checkpoint") as caught:
            kept.choose(found, which, run.id)
        assert caught.value.allowed == "a run with a checkpoint that is there"
        assert ("all that it had are gone" in caught.value.found) is gone
    with pytest.raises(InputError, match="checkpoint 'bets'") as caught:
        kept.choose(found, "bets", run.id)
    assert caught.value.allowed == "'best', 'last' or a step"


def test_a_run_without_a_best_checkpoint_says_what_makes_one(run: Run) -> None:
    """What is asked for is the stage's `best=` and a value that was logged: either may be what is missing."""
    found = [dataclasses.replace(each, best=False) for each in run.checkpoints()]
    with pytest.raises(InputError, match="the run has no best checkpoint") as caught:
        kept.choose(found, "best", run.id)
    assert caught.value.allowed == "'last', or steps '6', '9'"
    assert "best=(metric" in caught.value.todo
    assert "ctx.log" in caught.value.todo


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


@pytest.mark.parametrize("kind", ["pipe", "zeros", "larger", "folder"])
def test_a_file_of_a_checkpoint_that_is_none_is_refused_at_once(run: Run, tmp_path: Path, kind: str) -> None:
    """A pipe, a device without an end, a larger file, a folder: neither waited for, nor read, nor copied."""
    file = run.checkpoint("best") / "model.safetensors"
    size = file.stat().st_size
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "zeros":
        file.symlink_to("/dev/zero")
    elif kind == "larger":
        file.touch()
        os.truncate(file, 1 << 40)
    else:
        file.mkdir()
    chosen = kept.choose(run.checkpoints(), "best", run.id)
    for folder in (None, tmp_path / "copy"):
        with pytest.raises(StoreError, match=r"no plain file|1,099,511,627,776 bytes"):
            kept.fetch(run.bundle, chosen, folder)
    assert not (tmp_path / "copy").exists()
    _, scope = make_scope(tmp_path, fit)
    with pytest.raises(Damaged, match=r"model\.safetensors: (no plain file|1,099,511,627,776 bytes)"):
        Checkpoints(scope, Train("fit", fit), run.bundle.store).fetch(
            chosen.key, file.name, {"sha256": "", "bytes": size}
        )
    if kind in ("pipe", "zeros"):
        with pytest.raises(StoreError, match="no plain file"):
            kept.copy(run.bundle, chosen.key, tmp_path)


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


#: What `get` is asked for, and the name of the copy below a folder.
COPIES = [("best", "{run}-fit-6"), ("logs", "{run}-logs"), ("artefacts", "artefacts"), ("spec.json", "spec.json")]
REFUSALS = [
    (errno.EACCES, "no permission to write to"),
    (errno.EROFS, "read-only"),
    (errno.ENOSPC, "no space left while writing"),
    (errno.ENAMETOOLONG, "too long"),
    (errno.EIO, "cannot be written: input/output error"),
]


@pytest.fixture
def printed(run: Run) -> Run:
    """The run, which has printed a line and has a spec."""
    run.bundle.store.put("spec.json", b"{}")
    write_lines(run.bundle, "fit", "logs", "rank0", "hello")
    return run


@pytest.mark.parametrize("asked", [asked for asked, _ in COPIES])
@pytest.mark.parametrize(("number", "words"), REFUSALS)
def test_a_destination_that_the_disk_refuses_is_an_error_of_input(
    printed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, number: int, words: str
) -> None:
    """No right, no room, a read-only disk: `get` says which of them it is, what is allowed and what to do."""

    def refuse(**named: Any) -> str:
        raise OSError(number, os.strerror(number), named["dir"])

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    said = call("get", "@last", asked, str(tmp_path / "copy"), "--store", str(tmp_path / "store"), code=2).stderr
    assert words in said.replace("\n", " ")
    assert "allowed:" in said
    assert "to do:" in said


@pytest.mark.parametrize("asked", [asked for asked, _ in COPIES])
def test_a_file_in_the_place_of_a_folder_and_a_link_to_nowhere_are_left_alone(
    printed: Run, tmp_path: Path, asked: str
) -> None:
    """Below a file nothing can lie, and a link that leads nowhere is something that is there already."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    store = ("--store", str(tmp_path / "store"))
    said = call("get", "@last", asked, str(tmp_path / "file/below/it"), *store, code=2).stderr.replace("\n", "")
    assert f"{tmp_path}/file is no folder" in said
    for taken in ("file", "link"):
        said = call("get", "@last", asked, str(tmp_path / taken), *store, code=2).stderr.replace("\n", " ")
        assert "is there already" in said
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(("asked", "name"), COPIES)
def test_a_copy_has_its_name_when_it_is_whole(
    printed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, name: str
) -> None:
    """Until then nothing has the name, so that whoever kills a `get` finds no half of it; what can be tidied goes."""
    out = tmp_path / "out"
    out.mkdir()
    target, store = out / name.format(run=printed.id), ("--store", str(tmp_path / "store"))
    seen: list[bool] = []
    for kind, method in ((Store, "get_file"), (Path, "write_text")):
        original = getattr(kind, method)

        def watched(self: Any, *given: Any, _original: Any = original, **named: Any) -> Any:
            _original(self, *given, **named)
            seen.append(target.exists())
            raise KeyboardInterrupt

        monkeypatch.setattr(kind, method, watched)
    call("get", "@last", asked, str(out), *store, code=130)
    assert seen == [False]
    assert list(out.iterdir()) == []
    monkeypatch.undo()
    call("get", "@last", asked, str(out), *store)
    assert list(out.iterdir()) == [target]


def test_what_came_to_lie_there_while_a_copy_was_made_stays(printed: Run, tmp_path: Path) -> None:
    """A file takes the place of no other, and a folder of none with something in it."""
    for make in (Path.touch, Path.mkdir):
        folder, file = tmp_path / f"{make.__name__}-folder", tmp_path / f"{make.__name__}-file"
        for target in (folder, file):
            with contextlib.ExitStack() as stack:
                make(stack.enter_context(whole_copy.whole(target)))
                folder.mkdir(exist_ok=True)
                (folder / "theirs").touch()
                file.write_text("theirs")
                with pytest.raises(InputError, match="is there already"):
                    stack.close()
        assert [path.name for path in folder.iterdir()] == ["theirs"]
        assert file.read_text() == "theirs"


def test_a_full_disk_here_is_not_taken_for_a_full_store(printed: Run, tmp_path: Path) -> None:
    """What the disk refuses of a copy names the copy; what it refuses of the store names the store."""
    store = printed.bundle.store
    store.put("large", b"x" * (1 << 20))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(StoreRefused, match=f"a file of {tmp_path}/copy is larger"):
            store.get_file("large", tmp_path / "copy")
        with pytest.raises(StoreRefused, match="store .*large"):
            store.put("larger", b"x" * (1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "copy").exists()
