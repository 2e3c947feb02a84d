"""`python -O` in real runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import runner
from runner.client.run import Run
from runner.record import RunState

#: Every function, and a child of each kind, says what it was run as.
JOB = """
import sys
from dataclasses import dataclass
import pyarrow as pa
from runner import Dataset, Job, Prep, Train

@dataclass(frozen=True)
class Config:
    fail: bool = False

class Levels:
    def __len__(self): return 2
    def __getitem__(self, i): return level()

def level():
    try:
        assert False
    except AssertionError:
        return 0
    return sys.flags.optimize

def make():
    yield pa.table({"id": [0, 1, 2, 3], "made": [level()] * 4})

def prep(batch, config):
    return [{**row, "prepared": level()} for row in batch]

def with_ray_data(data, config):
    return data.map_batches(lambda batch: {**batch, "again": [level()] * len(batch["made"])})

def with_rows(batch, config):
    return [{**row, "again": level()} for row in batch]

def train(ctx, config):
    import torch
    loader = torch.utils.data.DataLoader(Levels(), num_workers=1, multiprocessing_context="spawn")
    found = {level(), *(int(each) for each in loader)}
    for batch in ctx.batches("train", batch_size=2, epochs=1):
        found |= {int(each) for name in ("made", "prepared", "again") for each in batch[name]}
        ctx.step()
    if config.fail:
        raise ValueError("not yet")
    ctx.save("levels", sorted(found))

job = Job("levels", config=Config(), stages=[
    Prep("prep", fn=prep, source=Dataset(make=make), sink="one", batch_format="rows", uses=()),
    Prep("again", fn=FORM, source="one", sink="two", uses=()),
    Train("train", fn=train, data={"train": "two"}, workers=2),
])
"""


def written(folder: Path, stage: str) -> None:
    """The project, in a folder that is the current one."""
    (folder / "jobs").mkdir()
    (folder / "jobs/levels.py").write_text(JOB.replace("FORM", stage))
    (folder / "pyproject.toml").write_text("[tool.runner]\n")


def submit(*words: str) -> Run:
    """What a submit by `python -O` makes of it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(runner.__file__).parents[1])}
    command = [sys.executable, "-O", "-m", "runner", "submit", "levels", *words]
    subprocess.run(command, env=environment, check=False)
    return runner.get_run("@last")


def levels(run: Run) -> list[int]:
    """At which levels its processes were."""
    assert run.wait(500) is RunState.SUCCEEDED
    found: list[int] = json.loads(run.artefact("train", "levels.json"))
    return found


@pytest.mark.timeout(600)
def test_every_process_of_a_run_is_of_the_level_of_its_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a process of another level resumes it; and what one level has made the other does not take."""
    written(tmp_path, 'with_rows, batch_format="rows"')
    monkeypatch.chdir(tmp_path)
    first = submit("--set", "fail=true")
    assert first.error is not None
    assert "not yet" in first.error["message"]
    assert levels(first.resume(fail=False)) == [1]
    second = runner.submit("levels")
    assert levels(second) == [0]
    assert not any(second.results()[name]["skipped"] for name in ("prep", "again"))


@pytest.mark.timeout(600)
@pytest.mark.ray
@pytest.mark.soak
def test_workers_of_a_ray_are_of_that_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of pools, of Ray Data and of the gang."""
    written(tmp_path, 'with_ray_data, batch_format="dataset", sort_by=("id",)')
    monkeypatch.chdir(tmp_path)
    assert levels(submit("--cluster", "ray_local")) == [1]
