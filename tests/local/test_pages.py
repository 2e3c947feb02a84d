"""The pages whose code a reader copies: it runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner.client.run import Run
from runner.store import Store
from tests.unit.train.kit import ROOT

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


def blocks(page: str, kind: str) -> dict[str, str]:
    """The code of a page by the file names in the first lines of its blocks; a diff's lines keep their marks."""
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return {match[1]: code for code in found if (match := re.match(r" ?# (\S+\.py)\n", code))}


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty project."""
    (tmp_path / "pyproject.toml").write_text('[tool.runner]\nstore = ".runner"\n')
    (tmp_path / "jobs").mkdir()
    return tmp_path


def test_a_job_of_ones_own(folder: Path) -> None:
    """The page's job trains, and plain PyTorch reads its best average of weights at the path that the run gives."""
    for name, code in blocks("own_job.md", "python").items():
        (folder / name).write_text(code)
    path = run(folder, sys.executable, "run.py").splitlines()[-1]
    trained = next(iter(runs(folder)))
    result = trained.results()["train"]
    assert result["steps"] == trained.metrics("train").to_pylist()[-1]["steps_total"] == 8 * (1437 // 32) // 2
    assert result["metrics"]["lr"] == pytest.approx(0, abs=1e-9)
    accuracy = float(run(folder, sys.executable, "use.py", path))
    assert accuracy > 0.9
    best = max(row["accuracy"] for row in trained.metrics("train").to_pylist() if row.get("accuracy") is not None)
    assert accuracy == pytest.approx(best, abs=1e-4)


def test_a_torchrun_script_as_a_job(folder: Path) -> None:
    """The page's script runs under torchrun without and with the marked lines, which are nine, and as a job."""
    code = blocks("torchrun.md", "diff")["mine.py"].splitlines()
    assert sum(line.startswith("+") for line in code) == 9
    plain = "\n".join(line[1:] for line in code if not line.startswith("+"))
    assert "runner" not in plain
    (folder / "mine.py").write_text(plain)
    said = run(folder, *TORCHRUN, "mine.py", "--epochs", "1")
    (folder / "mine.py").write_text("\n".join(line[1:] for line in code if not line.startswith("-")))
    assert run(folder, *TORCHRUN, "mine.py", "--epochs", "1").split()[:3] == said.split()[:3] == ["epoch", "0", "loss"]
    run(folder, sys.executable, "-m", "runner", "submit", "mine.py")
    result = next(iter(runs(folder))).results()["train"]
    assert (result["steps"], result["world_size"]) == (3 * -(-1797 // 64), 2)
    assert result["metrics"]["loss"] < 1.0


def runs(folder: Path) -> list[Run]:
    """The runs of the project's own store."""
    store = Store(str(folder / ".runner"))
    return [Run(store, name) for name in store.list("") if name.startswith("r2")]
