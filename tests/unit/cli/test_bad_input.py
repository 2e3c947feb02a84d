from __future__ import annotations

from pathlib import Path

import pytest

from runner.plan.project import find_project
from tests.unit.cli.kit import call, unstarted, write_project
from tests.unit.record.index_kit import read_index

#: What is typed -> words that the error must hold.
REFUSED: dict[str, list[str]] = {
    "submit none": ["no job 'none'", "allowed: 'tiny'"],
    "submit tinny": ["did you mean 'tiny'?"],
    "submit jobs/none.py": ["no file jobs/none.py"],
    "submit tiny --cluster clouds": ["no cluster 'clouds'", "'fake', 'local', 'ray_local'"],
    "submit tiny --set lr": ["--set lr", "name=value"],
    "submit tiny --set lr=fast": ["--set lr=fast", "a value of type float"],
    "submit tiny --set lrr=1": ["did you mean 'lr'?"],
    "submit tiny --set train.worker=2": ["did you mean 'workers'?"],
    "submit tiny --inline --detach": ["--inline and --detach", "one of the two"],
    "submit tiny --store ftp://host/x": ["the scheme 'ftp://'"],
    "submit": ["Missing argument"],
    "submit tiny -o yaml": ["yaml"],
    "submitt tiny": ["submitt"],
    "status nothing": ["no run 'nothing'"],
    "status @last~7": ["@last~7"],
    "logs --stage trains": ["no stage 'trains'", "did you mean 'train'?"],
    "logs -f -o json": ["-f with -o json"],
    "metrics --plot loss.txt": ["no metrics to draw"],
    "cancel": ["Missing argument"],
    "cancel nothing": ["no run 'nothing'"],
    "resume": ["the run is submitted", "cancel it first"],
    "data ls tokens": ["no dataset 'tokens'"],
    "ps -n -1": ["'-n'"],
    "ssh": ["does not run on Kubernetes", "`runner logs "],
    "port-forward": ["does not run on Kubernetes", "`runner logs "],
    "doctor local": ["of backend 'local'", "--dry-run"],
    "init jobs": ["jobs is not empty: ", "tiny.py"],
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with one run that lives."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    unstarted()


@pytest.mark.parametrize("line", REFUSED)
def test_bad_input_exits_2_and_says_what_to_do(line: str) -> None:
    """No traceback, nothing on standard output, no run more than before."""
    result = call(*line.split(), code=2)
    for words in REFUSED[line]:
        assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert len(read_index(find_project().store())) == 1


def test_a_job_file_that_raises_shows_the_users_traceback_only(tmp_path: Path) -> None:
    """The frames are those of the user's file; nothing of runner's is in the way."""
    (tmp_path / "jobs/broken.py").write_text("import runner\n1 / 0\n")
    shown = call("submit", "broken", code=2).stderr
    assert "ZeroDivisionError" in shown
    assert 'jobs/broken.py", line 2' in shown
    assert "runner/code/references.py" not in shown


def test_an_unwritable_picture_is_refused_before_anything_is_left(tmp_path: Path) -> None:
    """A format that cannot be drawn names those that can, and leaves no file."""
    from runner.cli.plot import save_plot
    from runner.errors import InputError

    rows = [{"stage": "train", "step": 1, "loss": 1.0}]
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        save_plot(tmp_path / "loss.doc", rows, "r1")
    with pytest.raises(InputError, match=r"none/loss\.png"):
        save_plot(tmp_path / "none/loss.png", rows, "r1")
    assert not list(tmp_path.glob("*loss*"))
