"""What a user installs is what the repository has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

UV = Path(sys.executable).parent / "uv"


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    """Installed into an empty environment, `runner init` writes a project whose job and whose script run."""
    run(
        UV,
        "build",
        "--quiet",
        "--wheel",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        tmp_path,
        cwd=ROOT,
    )
    (wheel,) = tmp_path.glob("lake_runner-*.whl")
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env/bin/python"
    install = [UV, "pip", "install", "--quiet", "--python", python, "--constraint", ROOT / "constraints.txt", wheel]
    run(*install, cwd=tmp_path)
    command = tmp_path / "env/bin/runner"
    run(command, "init", "myproject", cwd=tmp_path)
    project = tmp_path / "myproject"
    said = run(command, "submit", "jobs/example.py", cwd=project)
    assert "succeeded" in said
    said = run(python, "run.py", cwd=project)
    assert "loss" in said
    states = run(command, "ps", cwd=project)
    assert states.count("succeeded") == 2
