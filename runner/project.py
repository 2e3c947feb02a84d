"""Finds the project and loads its definitions: the files in `jobs/`, `datasets/`, `clusters/`, named by their stem."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from runner.capture import load_file
from runner.errors import ProjectError, listed, suggest
from runner.spec import Cluster, Dataset, Job
from runner.store import Store

T = TypeVar("T", Job, Dataset, Cluster)
_FOLDERS = {Job: "jobs", Dataset: "datasets", Cluster: "clusters"}


@dataclass(frozen=True)
class Project:
    """A folder with definitions.

    Args:
        root: the folder.
        found: whether it has the marks of a project; otherwise it is just where a script or notebook is.
        settings: the table ``[tool.runner]`` of its pyproject.toml.
    """

    root: Path
    found: bool
    settings: dict[str, Any] = field(default_factory=dict)

    def store(self, url: str | None = None) -> Store:
        """The store: the argument, RUNNER_STORE, ``[tool.runner] store``, or ``.runner`` in the project."""
        chosen = url or os.environ.get("RUNNER_STORE") or self.settings.get("store")
        if chosen is None:
            return Store(str(self.root / ".runner"))
        if "://" not in chosen and not os.path.isabs(os.path.expanduser(chosen)):
            chosen = str((Path.cwd() if url else self.root) / chosen)
        return Store(chosen, self.settings.get("store_options", {}))

    def job(self, reference: str | Path) -> Job:
        """The job in a file, by its path or its stem."""
        path = Path(reference)
        if path.suffix == ".py":
            return load_definition(path, self.root, Job)
        return self._by_stem(str(reference), Job)

    def dataset(self, name: str) -> Dataset | None:
        """The definition of a dataset, or None if the project has none by that name."""
        path = self.root / "datasets" / f"{name}.py"
        return load_definition(path, self.root, Dataset) if path.is_file() else None

    def cluster(self, name: str) -> Cluster:
        """The definition of a cluster; 'local' and 'ray_local' exist without one."""
        if name in _BUILT_IN and not (self.root / "clusters" / f"{name}.py").is_file():
            return _BUILT_IN[name]
        return self._by_stem(name, Cluster)

    def stems(self, kind: type[Job] | type[Dataset] | type[Cluster]) -> list[str]:
        """The names of all definitions of a kind."""
        folder = self.root / _FOLDERS[kind]
        stems = [path.stem for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]
        return stems + [name for name in _BUILT_IN if kind is Cluster and name not in stems]

    def _by_stem(self, name: str, kind: type[T]) -> T:
        path = self.root / _FOLDERS[kind] / f"{name}.py"
        if not path.is_file():
            known = self.stems(kind)
            raise ProjectError(
                f"no {kind.__name__.lower()} '{name}'",
                allowed=listed(known) if known else f"files in {self.root / _FOLDERS[kind]}",
                todo=suggest(name, known) or f"write {path}, or give a path that ends in .py",
                where=f"project {self.root}",
            )
        return load_definition(path, self.root, kind)


_BUILT_IN = {"local": Cluster(backend="local"), "ray_local": Cluster(backend="ray")}


def find_project(start: Path | None = None) -> Project:
    """The project around `start` (a file or folder; the current folder by default)."""
    start = (start or Path.cwd()).resolve()
    folder = start if start.is_dir() else start.parent
    for candidate in (folder, *folder.parents):
        settings = _settings(candidate)
        if settings is not None or _has_marks(candidate):
            return Project(candidate, found=True, settings=settings or {})
    return Project(folder, found=False)


def _has_marks(folder: Path) -> bool:
    """A folder called `jobs` is not enough: many have one that is something else."""
    others = ("datasets", "clusters", "pyproject.toml", ".git")
    return (folder / "jobs").is_dir() and any((folder / name).exists() for name in others)


def _settings(folder: Path) -> dict[str, Any] | None:
    path = folder / "pyproject.toml"
    if not path.is_file():
        return None
    try:
        table = tomllib.loads(path.read_text()).get("tool", {}).get("runner")
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{path}: {error}", todo="mend the file") from error
    if table is None:
        return None
    known = ("store", "store_options")
    for key in table:
        if key not in known:
            raise ProjectError(
                f"[tool.runner] {key}",
                allowed=listed(known),
                todo=suggest(key, known) or "remove it",
                where=str(path),
            )
    return dict(table)


def load_definition(path: Path, root: Path, kind: type[T]) -> T:
    """The one value of `kind` in the file at `path`.

    Raises:
        ProjectError: there is no such file, it does not load, or it holds none or several.
    """
    path = Path(path)
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ProjectError(f"no file {path}", todo=suggest(path.name, near) or "check the path")
    module = load_file(path, root)
    values = _values(module, kind)
    if len(values) != 1:
        held = f"holds {len(values)} values of type {kind.__name__}" if values else f"holds no {kind.__name__}"
        raise ProjectError(
            f"{path} {held}", allowed=f"exactly one module-level {kind.__name__}",
            todo=f"write `{kind.__name__.lower()} = {kind.__name__}(...)` in it, one a file",
        )  # fmt: skip
    return values[0]


def _values(module: ModuleType, kind: type[T]) -> list[T]:
    found: list[T] = []
    for value in vars(module).values():
        if isinstance(value, kind) and not any(value is other for other in found):
            found.append(value)
    return found
