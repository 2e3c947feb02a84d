"""What runners of before have written is read by this one: a run as 0.1 left it, in `tests/data/store-0.1.json`."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.client.run import Run
from runner.record import RunState
from runner.record.code import unpack
from runner.store import Store

KEPT = Path(__file__).parents[1] / "data" / "store-0.1.json"
RUN_ID = "r261130-015423xs-small-ug"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The store as it was left: a run whose preparation is done, and whose training failed at step 4 of 6."""
    for name, data in json.loads(KEPT.read_text()).items():
        path = tmp_path / ".runner" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else base64.b64decode(data["base64"]))
    return Store(str(tmp_path / ".runner"))


def test_a_run_of_before_is_shown_and_its_checkpoints_are_whole(store: Store, tmp_path: Path) -> None:
    """State, results, logs, metrics, code and checkpoints of a run of 0.1 are what they were."""
    run = Run(store, RUN_ID)
    assert run.status == RunState.FAILED
    assert [stage.state for stage in run.view().stages.values()] == ["done", "failed"]
    assert "step 4" in "".join(map(str, run.logs("fit")))
    assert run.metrics().num_rows == 4
    unpack(run.bundle, tmp_path / "code")
    assert "as the config says" in (tmp_path / "code/jobs/small.py").read_text()
    assert [each.step for each in run.checkpoints("fit")] == [4]
    assert (run.checkpoint("last", "fit") / "model.safetensors").stat().st_size == 168


def test_a_run_of_before_is_resumed(store: Store, tmp_path: Path) -> None:
    """It goes on from its checkpoint, with this runner on this machine, to its end."""
    command = [sys.executable, "-m", "runner", "resume", RUN_ID, "--trust", "--set", "fail_at=0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run(store, RUN_ID)
    assert run.status == RunState.SUCCEEDED
    assert run.results()["fit"]["steps"] == 6
    assert "going on from step 4" in done.stdout
