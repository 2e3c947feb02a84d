"""Packages that a job brings: locked when it is submitted, installed once, importable wherever its functions run."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.client import prepare, submit
from runner.client.run import Run
from runner.code import packages
from runner.errors import PlanError
from runner.record import RunState

#: A small package that nothing here depends on.
JOB = """
from runner import Dataset, Job, Prep

def make():
    import pyarrow as pa
    yield pa.table({"x": list(range(8))})

def words(rows, config):
    import humanize
    import pyarrow as pa
    return pa.table({"word": [humanize.apnumber(x.as_py()) for x in rows["x"]]})

job = Job("bring", packages=("humanize<5",), pin_packages=True, stages=[
    Prep("words", fn=words, source=Dataset(make=make), sink="words", workers=2),
])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the job `bring`, and an empty cache."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "clusters").mkdir()
    (tmp_path / "jobs" / "bring.py").write_text(JOB)
    (tmp_path / "clusters" / "rays.py").write_text("from runner import Cluster\ncluster = Cluster(backend='ray')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNNER_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    return tmp_path


def made(run: Run) -> int:
    """Rows of a run that succeeded."""
    assert run.wait(timeout_s=150, check=False) is RunState.SUCCEEDED, run.error
    return int(run.view().stages["words"].result.rows_out[""])


def test_a_job_brings_its_packages(project: Path) -> None:
    """What is not installed is importable in the workers, on processes and on Ray, from one folder of the cache."""
    with pytest.raises(ModuleNotFoundError):
        import humanize  # type: ignore[import-not-found]  # noqa: F401
    run = submit.submit("bring")
    assert made(run) == 8
    lock = run.bundle.lock()
    assert lock is not None
    assert "humanize==4." in lock
    assert "--hash=sha256:" in lock
    (folder,) = (project / ".cache" / "lake-runner" / "packages").glob("*/site-packages")
    assert (folder / "humanize").is_dir()
    (planned,) = prepare.prepare("bring").plan.stages
    assert planned.action == "skip", planned.why
    assert not any("humanize" in words for words in planned.why)
    before = folder.stat().st_mtime_ns
    (project / "jobs" / "bring.py").write_text(JOB.replace("apnumber", "ordinal"))
    assert made(submit.submit("bring", cluster="rays")) == 8
    assert folder.stat().st_mtime_ns == before


def test_a_package_that_does_not_exist_is_refused(project: Path) -> None:
    """Nothing is written for a package, or a version, that nobody has; also where it does not fit what is installed."""
    for wanted in ("lake-runner-has-no-such-package", "humanize>=999", "pandas<1"):
        text = JOB.replace("humanize<5", wanted)
        (project / "jobs" / "bring.py").write_text(text)
        with pytest.raises(PlanError, match="packages="):
            submit.submit("bring")
    assert not (project / "store").exists() or not list((project / "store").glob("r*"))


def test_what_is_there_is_not_installed_again() -> None:
    """Of a lock only what the environment has not in that version is missing."""
    lock = "numpy==0.0.1 \\\n    --hash=sha256:aa\npytest==" + pytest.__version__ + " \\\n    --hash=sha256:bb\n"
    assert packages.missing(lock) == ["numpy==0.0.1 --hash=sha256:aa"]
