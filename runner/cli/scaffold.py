"""``runner init``: a small project that runs, from the templates in this package."""

from __future__ import annotations

import contextlib
import re
import shlex
from importlib import resources
from pathlib import Path

from runner.code import extras
from runner.errors import ProjectError
from runner.plan.project import here

#: File of the project -> template. Templates end in .txt, so that no tool takes them for code of this package.
FILES = {
    "README.md": "readme.md.txt",
    "pyproject.toml": "pyproject.toml.txt",
    ".gitignore": "gitignore.txt",
    "run.py": "run.py.txt",
    "jobs/example.py": "example_job.py.txt",
    "datasets/example.py": "example_dataset.py.txt",
    "clusters/local.py": "local_cluster.py.txt",
}


def write_project(folder: Path) -> list[str]:
    """Write a project into a folder that is new or empty; all of it or nothing.

    Returns:
        The files, relative to the folder.

    Raises:
        ProjectError: the folder holds something, or cannot be written.
    """
    here()
    _check(folder)
    name = project_name(folder)
    made: list[Path] = []
    try:
        for target, template in FILES.items():
            path = folder / target
            _make_folder(path.parent, made)
            made.append(path)
            path.write_text(_template(template).replace("NAME", name))
    except OSError as error:
        _remove(made)
        raise ProjectError(f"{error}", allowed="a folder that can be written", todo="choose another") from error
    return list(FILES)


def project_name(folder: Path) -> str:
    """A distribution name from the folder's: lower-case words with '-' between them."""
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "myproject"


def next_words(folder: Path) -> list[str]:
    """What to type after the project is written."""
    absent = extras.lacking("train", "plot")
    install = [extras.command(*absent)] if absent else []
    enter = [] if folder.resolve() == Path.cwd() else ["cd " + shlex.quote(str(folder))]
    return ["next:", *(f"  {words}" for words in [*install, *enter, "runner submit example", "python run.py"])]


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ProjectError(f"{folder} is a file", allowed="a new or empty folder", todo="choose another name")
    held = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if held:
        shown = ", ".join(held[:3]) + (" ..." if len(held) > 3 else "")
        raise ProjectError(
            f"{folder} is not empty: {shown}", allowed="a new or empty folder", todo="choose another name"
        )


def _template(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text()


def _make_folder(folder: Path, made: list[Path]) -> None:
    for missing in reversed([f for f in (folder, *folder.parents) if not f.exists()]):
        missing.mkdir(exist_ok=True)
        made.append(missing)


def _remove(made: list[Path]) -> None:
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
