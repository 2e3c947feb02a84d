"""Going on with a run otherwise than it was: other values, newer code, further than it was to go."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import runner
from runner import Cluster
from runner.backends.fake import FakeBackend
from runner.backends.local.client import LocalClient
from runner.client import leftovers
from runner.client import resume as resuming
from runner.client.resume import go_on, prepare_resume, resume
from runner.client.revise import FILE, SET, SUBMITTED, Question, ask, fields
from runner.client.run import Run
from runner.errors import InputError, RunNotFound
from runner.plan.project import find_project
from runner.process.code_root import FOLDERS_NOTE, OUTSIDE
from runner.record import RunState
from runner.record.entries import CheckpointPublished, Resumed
from runner.record.index import LIVE
from runner.record.receipt import end_run
from runner.spec import wire
from runner.views import listing
from tests import ROOT
from tests.unit.backends.fake_kit import FAKE, project
from tests.unit.cli.kit import lost
from tests.unit.cli.kit import write_project as write
from tests.unit.record.index_kit import read_index

__all__ = ["project"]


def failed(**config: Any) -> Run:
    """A run whose training has failed."""
    FakeBackend.outcomes["tiny"] = {"train": "ValueError: nan"}
    run = runner.submit("tiny", cluster=FAKE, **config)
    FakeBackend.outcomes.clear()
    return run


def edit(project: Path, *pairs: tuple[str, str]) -> None:
    text = (project / "jobs/tiny.py").read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    (project / "jobs/tiny.py").write_text(text)


def lines(run: Run, **options: Any) -> dict[str, tuple[str, str, str]]:
    """What a resume would change: what -> (was, now, from)."""
    found = prepare_resume(run, **options).revision
    assert found is not None
    return {line.what: (line.was, line.now, line.source) for line in found.lines}


def test_values_and_workers_are_changed_for_what_is_left(project: Path) -> None:
    """Config fields, nested ones too, and workers reach the spec and the plan of the next attempt; the rest stays."""
    run = failed(words=5)
    assert resume(run, lr=1e-3, changes={"model.layers": 4}, workers=2).status == "succeeded"
    spec = run.spec()
    values = fields(run.bundle.spec())
    assert (values["lr"], values["words"], values["model"]["fields"]["layers"]) == (0.001, 5, 4)
    assert [stage["workers"] for stage in spec["job"]["stages"]] == [6, 2]
    assert [(stage["workers"], stage["machines"]) for stage in spec["plan"]["stages"]] == [(6, 2), (2, 1)]
    assert FakeBackend.started[-1] == (run.id, 1, 2)
    assert fields(run.bundle.spec("spec.json"))["lr"] == 0.1


def test_the_code_is_that_of_the_run_unless_newer_is_asked_for(project: Path) -> None:
    """A value is checked against the config as it was at submission, whatever the file says now."""
    run = failed()
    edit(project, ("    lr: float = 0.1\n", "    rate: float = 0.1\n"))
    assert lines(run, changes={"lr": 0.2}) == {"lr": ("0.1", "0.2", SET)}
    with pytest.raises(InputError, match=r"'rate'|rate"):
        prepare_resume(run, changes={"rate": 0.2})


def test_a_module_of_the_project_may_be_called_like_one_of_pythons(project: Path) -> None:
    """A resume looks at the code in a process of its own, whose own imports the project's files do not shadow."""
    run = failed()
    for name in ("types", "queue", "copy"):
        (project / f"{name}.py").write_text("raise RuntimeError('the wrong one')\n")
    assert lines(run, changes={"lr": 0.2}) == {"lr": ("0.1", "0.2", SET)}
    assert lines(run, new_code=True, changes={"lr": 0.2}) == {"lr": ("0.1", "0.2", SET)}


def test_newer_code_brings_its_stages_and_config(project: Path) -> None:
    """What the file says now holds, what the submission was told to change stays; each line says where it is from."""
    run = failed(words=5)
    edit(
        project,
        ("lr: float = 0.1", "lr: float = 0.2"),
        ("words: int = 3", "words: int = 4"),
        ("workers=3", "workers=4"),
    )
    found = lines(run, new_code=True, changes={"epochs": 9})
    assert found == {
        "train.workers": ("3", "4", FILE),
        "lr": ("0.1", "0.2", FILE),
        "epochs": ("2", "9", SET),
        "words": ("5", "5", SUBMITTED),
    }
    assert run.resume(new_code=True).status == "succeeded"
    assert run.spec()["job"]["stages"][1]["workers"] == 4
    assert run.bundle.newest_code() == "code-2.zip"


def test_values_that_json_lacks_stay_changed_with_newer_code(project: Path) -> None:
    """A tuple and an enum that the submission was given stay what they are when the file's config is read anew."""
    edit(
        project,
        ("class Config:\n", "class Config:\n    betas: tuple[float, ...] = (0.1,)\n    kind: Kind = Kind.A\n"),
        (
            "@dataclass(frozen=True)\nclass Model",
            "class Kind(enum.Enum):\n    A = 1\n    B = 2\n\n@dataclass(frozen=True)\nclass Model",
        ),
        ("from dataclasses", "import enum\nfrom dataclasses"),
    )
    kind = find_project().job("tiny").config.kind
    run = failed(betas=(0.5, 0.9), kind=type(kind).B)
    edit(project, ("lr: float = 0.1", "lr: float = 0.2"))
    assert lines(run, new_code=True) == {
        "betas": ("[0.5, 0.9]", "[0.5, 0.9]", SUBMITTED),
        "kind": ("enum 'B'", "enum 'B'", SUBMITTED),
        "lr": ("0.1", "0.2", FILE),
    }


def test_a_field_that_the_new_code_lacks_is_named(project: Path) -> None:
    """Renamed or removed, also in a nested config: an error, unless it is said that it is meant to be gone."""
    run = failed()
    edit(project, ("    words: int = 3\n", "    wordz: int = 3\n"), ('uses=("words",)', 'uses=("wordz",)'))
    with pytest.raises(InputError, match="no field 'words'; the run has words=3") as caught:
        resume(run, new_code=True)
    assert "did you mean 'wordz'?" in caught.value.todo
    assert lines(run, new_code=True, drop=["words"])["words"] == ("3", "-", FILE)
    for wrong, words in (("word", "did you mean 'words'"), ("lr", "the code has no more: 'words'")):
        with pytest.raises(InputError, match=words):
            resume(run, new_code=True, drop=["words", wrong])
    with pytest.raises(InputError, match="drop 'words' without new code"):
        resume(run, drop=["words"])
    edit(project, ("wordz", "words"), ("layers", "depth"))
    with pytest.raises(InputError, match=r"no field 'model\.layers'"):
        resume(run, new_code=True)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('Train("train"', 'Train("fit"', "other stages"),
        ('Job("tiny"', 'Job("small"', "called 'small'"),
        ("def train(", "def train(]", "cannot be imported"),
        ('data={"train": "tokens"}, ', 'data={"train": "x"}, ', "'x'"),
    ],
)
def test_newer_code_that_is_another_job_is_refused(project: Path, old: str, new: str, words: str) -> None:
    """Other stages, another name, a mistake in the file: said before the run is touched."""
    run = failed()
    edit(project, (old, new))
    before = len(run.bundle.log.read())
    with pytest.raises(InputError, match=words):
        resume(run, new_code=True)
    assert len(run.bundle.log.read()) == before


def test_a_done_stage_is_not_given_other_values(project: Path) -> None:
    """A prepared result that depends on a field is not made again by a resume, so the field cannot be changed."""
    run = failed()
    with pytest.raises(InputError, match="stage 'tokens' is done, and depends on 'words'"):
        resume(run, words=9)


@pytest.mark.parametrize("name", ["cluster", "cluster.queue"])
def test_a_run_goes_on_where_it_was(project: Path, name: str) -> None:
    """Another cluster is no change that a resume could make, and it says so instead of leaving it aside."""
    run = failed()
    before = run.bundle.log.read()
    with pytest.raises(InputError, match="the run goes on where it was, on 'fake'"):
        resume(run, changes={name: "local"})
    assert run.bundle.log.read() == before


def test_a_run_that_succeeded_is_trained_further(project: Path) -> None:
    """Only with `until`, and only beyond what it was to do: its training goes on, its preparation stays done."""
    run = runner.submit("tiny", cluster=FAKE)
    with pytest.raises(InputError, match="the run has succeeded") as caught:
        resume(run, epochs=4)
    assert f"runner resume {run.id} --until epochs=20" in caught.value.todo
    for wrong, words in ((2, "more than 2"), (1, "more than 2")):
        with pytest.raises(InputError) as caught:
            resume(run, until={"epochs": wrong})
        assert words in caught.value.allowed
    with pytest.raises(InputError, match="until epoch=3"):
        resume(run, until={"epoch": 3})
    before = len(FakeBackend.started)
    assert resume(run, until={"epochs": 4}).status == "succeeded"
    assert FakeBackend.started[before:] == [(run.id, 1, 2)]
    assert fields(run.bundle.spec())["epochs"] == 4
    assert [stage.state for stage in run.view().stages.values()] == ["done", "done"]


# -- newer code, as a submit packs it --------------------------------------------------------------------------------


@pytest.fixture
def scattered(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, whose job imports a sibling, a module of a folder that it puts on the path, one of a folder that
    only this process has there, and one by a name that no source tells.
    """
    write(
        project,
        {
            "jobs/sibling.py": "", "../lib/onpath.py": "", "../own/ofprocess.py": "", "named.py": "",
            "jobs/tiny.py": (
                f"import sys, importlib\nsys.path.append({str(project.parent / 'lib')!r})\n"
                "import sibling, onpath, ofprocess\nimportlib.import_module('na' + 'med')\n"
                + (project / "jobs/tiny.py").read_text()
            ),
            ".gitignore": "named.py\n",
        },
    )  # fmt: skip
    subprocess.run(["git", "init", "-q"], check=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(project.parent / "own")])
    return project


def members(archive: bytes) -> dict[str, bytes]:
    """The project's files in an archive of code."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist() if name.startswith("project/")}


def test_newer_code_is_packed_as_a_submit_packs_it(scattered: Path) -> None:
    """Whatever a job imports, from wherever this process has it: the same files make the same archive."""
    run = failed()
    resume(run, new_code=True)
    first, second = (run.bundle.store.get(name) for name in ("code.zip", "code-2.zip"))
    assert members(second) == members(first)
    assert second == first
    with zipfile.ZipFile(io.BytesIO(second)) as archive:
        folders = json.loads(archive.read(f"project/{FOLDERS_NOTE}"))
        assert "project/named.py" in archive.namelist()
    assert "jobs" in folders["last"]
    assert folders["after"] == [str(scattered.parent / "own"), str(scattered.parent / "lib")]


def test_modules_from_elsewhere_travel_with_newer_code_to_other_machines(scattered: Path) -> None:
    """A run that is on a cluster is given copies of what only this process finds, as at submission."""
    run = failed()
    cluster = wire.to_json(Cluster(backend="ray", address="http://head:8265"), scattered)
    spec = run.bundle.spec().but(cluster=cluster, legs=[["tokens", "train"]])
    path = tuple(map(os.path.abspath, sys.path))
    asked = Question(spec, find_project(), run.bundle.root, spec.source, "the file", path=path)
    code = ask(asked).code
    assert code is not None
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        brought = {name for name in archive.namelist() if name.startswith(f"project/{OUTSIDE}/")}
    assert brought == {f"project/{OUTSIDE}/onpath.py", f"project/{OUTSIDE}/ofprocess.py"}


#: Submits a job that it has made, whose training fails, and prints its id.
SCRIPT = """
import sys
import runner
from runner.backends.fake import FakeBackend
from jobs.tiny import job
from tests.unit.backends.fake_kit import FAKE

if __name__ == "__main__":
    FakeBackend.outcomes["tiny"] = {"train": "ValueError: nan"}
    print(runner.submit(job, cluster=FAKE).id)
"""


def test_newer_code_of_a_job_that_a_script_made_is_imported_and_packed(scattered: Path) -> None:
    """The run's functions are looked up in the project's files as they are now, with all that these import."""
    (scattered / "go.py").write_text(SCRIPT)
    path = os.pathsep.join([str(ROOT), str(scattered.parent / "own"), str(scattered / "jobs")])
    done = subprocess.run(
        [sys.executable, "go.py"], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    run = Run(find_project().store(), done.stdout.strip())
    assert run.spec()["source"] is None
    library = scattered.parent / "lib/onpath.py"
    library.write_text("raise RuntimeError('newer')")
    with pytest.raises(InputError, match="RuntimeError: newer"):
        resume(run, new_code=True)
    library.write_text("NEWER = 1\n")
    resume(run, new_code=True)
    with zipfile.ZipFile(io.BytesIO(run.bundle.store.get("code-2.zip"))) as archive:
        folders = json.loads(archive.read(f"project/{FOLDERS_NOTE}"))
        assert "project/named.py" in archive.namelist()
    assert folders["after"] == [str(scattered.parent / "own"), str(scattered.parent / "lib")]


# -- two at once -----------------------------------------------------------------------------------------------------


def test_of_two_resumes_at_once_one_goes_on(project: Path) -> None:
    """The other is told so, leaves nothing of its own, and the run is what the first has made of it."""
    run = failed()
    first, second = (prepare_resume(Run(run.bundle.root, run.id), changes={"lr": lr}) for lr in (0.2, 0.3))
    assert go_on(Run(run.bundle.root, run.id), first).status == "succeeded"
    with pytest.raises(InputError, match="somebody else has resumed the run, and it is succeeded"):
        go_on(Run(run.bundle.root, run.id), second)
    assert [name for name in run.bundle.store.list() if name.startswith("spec")] == ["spec-2.json", "spec.json"]
    assert fields(run.bundle.spec())["lr"] == 0.2
    assert [line.state for line in read_index(run.bundle.root)] == ["succeeded"]


def test_what_a_resume_left_that_died_is_nobody_elses(project: Path) -> None:
    """A client that was killed before its entry in the log has left a spec: the next one has a name of its own."""
    run = failed()
    run.bundle.store.create("spec-2.json", b"{}")
    assert resume(run, lr=0.2).status == "succeeded"
    assert run.bundle.newest_spec() == "spec-3.json"
    assert fields(run.bundle.spec())["lr"] == 0.2


def test_a_resume_that_dies_halfway_has_its_log_looked_at(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line in the index says that it may live before the log says so: no list calls it failed for good."""
    run = failed()
    monkeypatch.setattr(Run, "launch", lambda self: pytest.fail("not reached"))

    def die(*_: Any) -> None:
        (line,) = read_index(run.bundle.root)
        assert line.state == LIVE
        raise KeyboardInterrupt

    monkeypatch.setattr(resuming, "_take_up", die)
    with pytest.raises(KeyboardInterrupt):
        resume(run)
    assert [line.state for line in listing.run_lines(run.bundle.root, None)] == ["failed"]
    assert leftovers.living(run.bundle.root).runs == set()


def test_of_a_resume_and_a_removal_one_comes_first(project: Path) -> None:
    """A run that goes on is not removed, and one that is being removed does not go on, whoever looked first."""
    run = failed()
    (target,) = leftovers.targets(run.bundle.root, [run.id])
    resumption = prepare_resume(run)
    run.bundle.log.append(Resumed(by="ann"))
    with pytest.raises(InputError, match="the run is submitted"):
        leftovers.remove(run.bundle.root, target)
    assert run.bundle.spec()
    end_run(run.bundle, RunState.FAILED, None, {})
    leftovers._close(run.bundle)
    for late in (lambda: go_on(run, resumption), lambda: prepare_resume(run, trusted=True)):
        with pytest.raises(RunNotFound, match="the run has been removed"):
            late()
    leftovers.remove(run.bundle.root, target)
    with pytest.raises(RunNotFound, match="the run has been removed"):
        go_on(run, dataclasses.replace(resumption, view=dataclasses.replace(run.view(), removed=False)))
    assert read_index(run.bundle.root) == []
    assert run.id not in run.bundle.root.list()


def test_what_a_lost_run_left_is_removed_before_it_goes_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two clients that end it at once the one that began last does; the other waits, and removes nothing later."""
    run = lost()
    other, removed = Run(run.bundle.root, run.id), []

    def remove(self: Any) -> dict[str, Any]:
        removed.append(run.view().state)
        if len(removed) == 1:
            assert other.reap().state is RunState.FAILED
        return {}

    monkeypatch.setattr(LocalClient, "remove", remove)
    assert run.reap().state is RunState.FAILED
    assert removed == ["lost", "lost"]
    assert [entry.kind for entry in run.bundle.log.read()][-3:] == ["reaping", "reaping", "ended"]


# -- beginning from another run --------------------------------------------------------------------------------------


def with_checkpoints() -> Run:
    """A run whose training has published two checkpoints, the first of which is the best."""
    run = runner.submit("tiny", cluster=FAKE)
    for step, best in ((10, True), (20, False)):
        key = run.bundle.checkpoint("train", step, 1)
        run.bundle.store.put(f"{key}/manifest.json", b'{"files": {}}')
        run.bundle.log.append(CheckpointPublished("train", step, key, {}, best, sha256="x"))
    return run


def test_a_run_begins_from_a_checkpoint_of_another(project: Path) -> None:
    """The last one, the best one or that of a step; which it was is part of the new run's spec."""
    other = with_checkpoints()
    for which, step in (("", 20), (":last", 20), (":best", 10), (":10", 10)):
        run = runner.submit("tiny", cluster=FAKE, start_from=f"{other.id}{which}", start_with="all")
        start = run.spec()["start_from"]
        assert (start["run"], start["stages"]["train"]["step"], start["stages"]["train"]["all"]) == (
            other.id,
            step,
            True,
        )
    assert runner.submit("tiny", cluster=FAKE).spec()["start_from"] is None


def test_a_beginning_that_there_is_not_starts_nothing(project: Path) -> None:
    """No such run, no such checkpoint, no checkpoint at all, or a word that is none."""
    other = with_checkpoints()
    before = len(runner.runs())
    for start, words in (("nothing", "no run 'nothing'"), (f"{other.id}:30", "no checkpoint '30'")):
        with pytest.raises(InputError, match=words):
            runner.submit("tiny", cluster=FAKE, start_from=start)
    with pytest.raises(InputError, match="'weights' or 'all'"):
        runner.submit("tiny", cluster=FAKE, start_from=other.id, start_with="optimizer")
    assert len(runner.runs()) == before
    with pytest.raises(InputError, match="has no checkpoints") as caught:
        runner.submit("tiny", cluster=FAKE, start_from=runner.submit("tiny", cluster=FAKE).id)
    assert caught.value.allowed == "a run whose training has published one"
