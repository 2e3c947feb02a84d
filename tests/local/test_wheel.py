"""What a user installs is what the repository has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

UV = Path(sys.executable).parent / "uv"
PREP = """
from runner import Job, Prep

def double(batch, config):
    return {"x": batch["x"] * 2}

job = Job("prep", stages=[Prep("double", fn=double, source="numbers", sink="doubled", batch_format="numpy")])
"""
NUMBERS = """
from runner import Dataset

def make():
    import pyarrow as pa
    yield pa.table({"x": list(range(1000))})

dataset = Dataset(make=make)
"""


def called(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command as it ended, outside of the environment that runs the tests."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = [str(part) for part in command]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints that must succeed."""
    done = called(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
    run(*build, "--out-dir", folder, cwd=ROOT)
    (made,) = folder.glob("lake_runner-*.whl")
    return made


def installed(wheel: Path, extras: str, folder: Path) -> Path:
    """The folder of commands of a new environment with the wheel at the versions of the constraints."""
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env", cwd=folder)
    install = [UV, "pip", "install", "--quiet", "--python", folder / "env/bin/python"]
    run(*install, "--constraint", ROOT / "constraints.txt", f"{wheel}{extras}", cwd=folder)
    return folder / "env/bin"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_works_outside_the_repository(tmp_path: Path, wheel: Path) -> None:
    """Installed into an empty environment, `runner init` writes a project whose job and whose script run."""
    commands = installed(wheel, "[train,plot]", tmp_path)
    assert "pip install" not in run(commands / "runner", "init", "myproject", cwd=tmp_path)
    project = tmp_path / "myproject"
    said = run(commands / "runner", "submit", "jobs/example.py", cwd=project)
    assert "succeeded" in said
    said = run(commands / "python", "run.py", cwd=project)
    assert "loss" in said
    run(commands / "runner", "metrics", "--plot", "loss.png", cwd=project)
    states = run(commands / "runner", "ps", cwd=project)
    assert states.count("succeeded") == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_alone_is_a_client(tmp_path: Path, wheel: Path) -> None:
    """Without an extra: a preparation runs, and of a training the plan is shown, and what to install."""
    commands = installed(wheel, "", tmp_path)
    for module in ("torch", "ray", "kubernetes", "matplotlib", "pandas", "uv"):
        assert called(commands / "python", "-c", f"import {module}", cwd=tmp_path).returncode == 1
    runner = commands / "runner"
    assert "submit" in run(runner, "--help", cwd=tmp_path)
    assert "  pip install 'lake-runner[train,plot]'\n" in run(runner, "init", "myproject", cwd=tmp_path)
    project = tmp_path / "myproject"
    (project / "jobs/prep.py").write_text(PREP)
    (project / "datasets/numbers.py").write_text(NUMBERS)
    assert "no runs" in run(runner, "ps", cwd=project)
    assert "1 worker" in run(runner, "submit", "prep", "--dry-run", cwd=project)
    assert "succeeded" in run(runner, "submit", "prep", cwd=project)
    for command in ("ps", "status", "logs", "metrics"):
        run(runner, command, cwd=project)
    for words in (["submit", "example"], ["submit", "example", "--inline"], ["submit", "example", "--dry-run"]):
        refused = called(runner, *words, cwd=project)
        assert refused.returncode == 2
        assert "heights-val" in refused.stdout
        assert refused.stderr == (
            "error: Train 'train' needs torch and safetensors, which are not installed: "
            "pip install 'lake-runner[train]'\n"
        )
