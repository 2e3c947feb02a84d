from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from runner.cli.scaffold import FILES, project_name, write_project
from runner.errors import ProjectError
from tests.unit.cli.kit import call, call_json


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNNER_STORE", raising=False)
    return tmp_path


def test_init_writes_a_project_and_says_what_comes_next(here: Path) -> None:
    """Every file is there, the name is in it, and git ignores the store."""
    out = call("init", "My Project").stdout
    assert {str(p.relative_to(here / "My Project")) for p in (here / "My Project").rglob("*") if p.is_file()} == set(
        FILES
    )
    assert "runner submit example" in out
    assert "cd My Project" not in out  # as it must be typed
    project = tomllib.loads((here / "My Project/pyproject.toml").read_text())
    assert (project["project"]["name"], project["tool"]["runner"]["store"]) == ("my-project", ".runner")
    assert "/.runner/" in (here / "My Project/.gitignore").read_text()
    assert "NAME" not in (here / "My Project/README.md").read_text()


def test_the_example_passes_every_check_and_runs(here: Path) -> None:
    """Its plan has a prep that makes data for a training; with the fake backend it runs through."""
    call("init", ".")
    plan = call_json("submit", "example", "--dry-run")
    assert [(s["kind"], s["action"]) for s in plan["stages"]] == [("prep", "decide"), ("train", "run")]
    (here / "clusters/fake.py").write_text('from runner import Cluster\ncluster = Cluster(backend="fake")\n')
    assert call_json("submit", "example", "--cluster", "fake")["state"] == "succeeded"


def test_the_example_is_short_and_its_data_is_real(here: Path) -> None:
    """A job of less than 60 lines; its dataset needs nothing but what runner needs."""
    call("init", "p")
    assert len((here / "p/jobs/example.py").read_text().splitlines()) < 60
    from runner.plan.project import find_project

    dataset = find_project(here / "p").dataset("example")
    assert dataset is not None
    assert dataset.make is not None
    tables = list(dataset.make())
    assert (len(tables), sum(table.num_rows for table in tables)) == (4, 344 * 403)


def test_the_script_guards_its_submit(here: Path) -> None:
    """Workers may import it; a bare submit would be refused."""
    call("init", "p")
    script = (here / "p/run.py").read_text()
    assert script.index('if __name__ == "__main__":') < script.index("runner.submit(")


def test_templates_and_files_are_one_to_one() -> None:
    """No template without a file, and none that a tool would take for code of this package."""
    templates = {p.name for p in (resources.files("runner.cli") / "templates").iterdir()}
    assert templates == set(FILES.values())
    assert all(name.endswith(".txt") for name in templates)


def test_a_folder_that_holds_something_is_refused(here: Path) -> None:
    """Nothing is written into it."""
    (here / "p").mkdir()
    (here / "p/notes.txt").write_text("mine")
    with pytest.raises(ProjectError, match=r"not empty: notes\.txt"):
        write_project(here / "p")
    assert [p.name for p in (here / "p").iterdir()] == ["notes.txt"]
    with pytest.raises(ProjectError, match="is a file"):
        write_project(here / "p/notes.txt")


def test_what_cannot_be_written_whole_is_not_left_half(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the fifth file leaves no folder."""
    original = Path.write_text

    def full(self: Path, text: str) -> int:
        if self.name == "example.py":
            raise OSError(28, "No space left on device")
        return original(self, text)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ProjectError, match="No space left"):
        write_project(here / "deep/p")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("folder", "name"), [("My Project", "my-project"), ("a_b.c", "a-b-c"), ("___", "myproject")])
def test_names_become_distribution_names(folder: str, name: str) -> None:
    """Lower case, digits and '-'."""
    assert project_name(Path(folder)) == name
