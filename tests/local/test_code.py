"""The user's code in real runs: what it imports, what its children find, and what it may pickle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner import submit

COMMON = "K = 3\nclass Rows:\n    def __len__(self): return 8\n    def __getitem__(self, i): return float(i) * K\n"
JOB = """
import multiprocessing
from pathlib import Path
from concurrent.futures import ProcessPoolExecutor
import pyarrow as pa
from runner import Dataset, Job, Prep, Train
from ._ignored import K, Rows
import beside

def times(x): return x * K * beside.ONE
class Mine(Rows): ...

def make():
    yield pa.table({"x": list(range(4))})

def prep(batch, config):
    with multiprocessing.Pool(1) as pool, ProcessPoolExecutor(1) as other:
        return [{"x": x + y} for x, y in zip(pool.map(times, [1, 2]), other.map(times, [0, 0]))]

def train(ctx, config):
    import io, torch
    buffer = io.BytesIO()
    torch.save(Mine(), buffer)
    buffer.seek(0)
    whole = torch.load(buffer, weights_only=False)
    found = {"method": multiprocessing.get_start_method(), "whole": len(whole), "name": Mine.__module__}
    for method in (None, "spawn"):
        loader = torch.utils.data.DataLoader(whole, batch_size=4, num_workers=1, multiprocessing_context=method)
        found[str(method)] = float(sum(batch.sum() for batch in loader))
    ctx.save("found", found)

job = Job("My_job", stages=[
    Prep("Make_it", fn=prep, source=Dataset(make=make), sink="made", batch_format="rows"),
    Train("Fit_it", fn=train, data={"train": "made"}),
])
"""


@pytest.mark.parametrize("cluster", ["local", pytest.param("ray_local", marks=[pytest.mark.ray, pytest.mark.soak])])
def test_children_of_workers_find_what_a_job_file_defines(tmp_path: Path, cluster: str) -> None:
    """Pools in prep, DataLoader workers and whole objects in training, relative imports, siblings and ignored modules
    work on every backend alike, with the same start method.
    """
    root = tmp_path / "my project"
    for name, text in {
        "jobs/a-job.py": JOB,
        "jobs/__init__.py": "",
        "jobs/_ignored.py": COMMON,
        "jobs/beside.py": "ONE = 1\n",
        "pyproject.toml": "[tool.runner]\n",
        ".gitignore": "_ignored.py\n.runner\n",
        "token.py": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    run = submit(root / "jobs/a-job.py", cluster=cluster)
    run.wait()
    found = json.loads(run.artefact("Fit_it", "found.json"))
    method = "fork" if sys.version_info < (3, 14) else "forkserver"
    assert found == {"method": method, "whole": 8, "name": "jobs.a-job", "None": 84.0, "spawn": 84.0}
    assert "-my-job-" in run.id
    assert run.results()["Make_it"]["rows_out"] == {"": 2}


def test_python_m_submits_its_own_functions(tmp_path: Path) -> None:
    """A module that was started by its name is imported by workers with its package, so its relative imports work."""
    package = tmp_path / "lib"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "ops.py").write_text("def scale(x): return x * 2\n")
    (package / "go.py").write_text(
        "import runner, pyarrow as pa\nfrom .ops import scale\n"
        "def make(): yield pa.table({'x': [1, 2]})\n"
        "def fn(batch, config): return [{'x': scale(row['x'])} for row in batch]\n"
        "if __name__ == '__main__':\n"
        "    stage = runner.Prep('p', fn=fn, source=runner.Dataset(make=make), sink='o', batch_format='rows')\n"
        "    run = runner.submit(runner.Job('m', stages=[stage]))\n    print(run.wait())\n"
    )
    done = subprocess.run([sys.executable, "-m", "lib.go"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "succeeded\n", done.stderr


def test_a_session_uses_modules_that_it_has_put_on_its_path(tmp_path: Path) -> None:
    """Workers find them where the session did, and the result is found again until one of them is edited."""
    session = (
        (
            f"import sys; sys.path.append({str(tmp_path / 'lib')!r})\n"
            "import runner, pyarrow as pa, helper\n"
            "def make(): yield pa.table({'x': [1, 2]})\n"
            "def fn(batch, config): return [{'x': helper.scale(row['x'])} for row in batch]\n"
            "stage = runner.Prep('p', fn=fn, source=runner.Dataset(make=make), sink='o', batch_format='rows')\n"
            "job = runner.Job('m', stages=[stage])\n"
            "print(runner.prepare(job).plan.stages[0].action)\nrun = runner.submit(job)\n"
            "print(run.wait(), run.view().stages['p'].state, runner.dataset('o').to_table()['x'].to_pylist())\n"
        )
        .replace("runner.prepare", "runner.client.prepare.prepare")
        .replace("import runner,", "import runner.client.submit, runner,")
    )
    (tmp_path / "lib").mkdir()
    (tmp_path / "p").mkdir()
    said = []
    for factor in (2, 2, 33):
        (tmp_path / "lib/helper.py").write_text(f"def scale(x): return x * {factor}\ndef unused(): return 0\n")
        command = [sys.executable, "-"]
        done = subprocess.run(command, input=session, cwd=tmp_path / "p", capture_output=True, text=True, check=False)
        said.append(done.stdout)
        assert done.returncode == 0, done.stderr
    assert said[0] == "decide\nsucceeded done [2, 4]\n"
    assert said[1] == "skip\nsucceeded skipped [2, 4]\n"
    assert said[2].endswith("succeeded done [33, 66]\n")
