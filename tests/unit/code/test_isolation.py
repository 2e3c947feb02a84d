"""One process that loads definitions again and again, of several projects."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runner.code import isolation
from runner.code.references import load_file
from runner.errors import ProjectError
from runner.plan.project import find_project

JOB = "from common import NAME\nfrom runner import Job, Train\ndef fit(ctx, config): return NAME\n"
JOB += "job = Job('j', stages=[Train('t', fn=fit, data={'train': 'd'})])\n"


def project(root: Path, name: str) -> Path:
    for folder in ("jobs", "datasets"):
        (root / folder).mkdir(parents=True)
    (root / "jobs/j.py").write_text(JOB)
    (root / "common.py").write_text(f"NAME = '{name}'\n")
    return root


def loaded(root: Path) -> str:
    """What the job's function sees, when the job is loaded as a submit does it."""
    with isolation.isolated():
        return str(find_project(root).job(root / "jobs/j.py").stages[0].fn(None, None))


def test_an_edited_helper_is_the_one_that_is_used(tmp_path: Path) -> None:
    """Two edits within a second that leave the size are both seen, in a helper and in the file itself."""
    root = project(tmp_path / "p", "A")
    found = [loaded(root)]
    for name in ("B", "C"):
        (root / "common.py").write_text(f"NAME = '{name}'\n")
        found.append(loaded(root))
    (root / "jobs/j.py").write_text(JOB.replace("return NAME", "return 'edited'"))
    assert [*found, loaded(root)] == ["A", "B", "C", "edited"]


def test_projects_do_not_see_each_others_modules(tmp_path: Path) -> None:
    """Modules of one name in two projects are two modules, in whatever order the projects are loaded."""
    one, two = project(tmp_path / "one", "1"), project(tmp_path / "two", "2")
    assert [loaded(root) for root in (one, two, one, two)] == ["1", "2", "1", "2"]


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a load the modules and the path of the process are what they were, its own `common` too."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/common.py").write_text("NAME = 'own'\n")
    monkeypatch.syspath_prepend(tmp_path / "own")
    import common

    before = dict(sys.modules), list(sys.path), list(sys.meta_path)
    assert loaded(project(tmp_path / "p", "A")) == "A"
    assert (list(sys.path), list(sys.meta_path)) == before[1:]
    assert sys.modules["common"] is common
    assert not {name for name in sys.modules.keys() - before[0].keys() if name.split(".")[0] in ("jobs", "common")}
    del sys.modules["common"]


def test_what_is_unchanged_is_not_imported_again(tmp_path: Path) -> None:
    """Modules that register something are run once for as long as no file of their project changes."""
    root = project(tmp_path / "p", "A")
    (root / "common.py").write_text("import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\nNAME = sys.counted\n")
    assert [loaded(root), loaded(root)] == ["1", "1"]
    del sys.counted  # type: ignore[attr-defined]


def test_a_failed_load_is_forgotten(tmp_path: Path) -> None:
    """A file that raised is loaded again once it is mended."""
    root = project(tmp_path / "p", "A")
    (root / "common.py").write_text("NAME = 1 / 0\n")
    with pytest.raises(ProjectError, match="ZeroDivisionError"):
        loaded(root)
    (root / "common.py").write_text("NAME = 'mended'\n")
    assert loaded(root) == "mended"


def test_an_installed_package_is_not_hidden_by_a_folder_of_its_name(tmp_path: Path) -> None:
    """A project's folder `yaml` of definitions leaves the package of that name what it is, for every file."""
    import yaml

    root = project(tmp_path / "p", "A")
    (root / "yaml").mkdir()
    (root / "yaml/x.py").write_text("import yaml\nfound = yaml.safe_load\n")
    with isolation.isolated():
        module = load_file(root / "yaml/x.py", root)
        assert module.found is yaml.safe_load
        assert module.__name__ == "runner.code.usercode.yaml.x"
