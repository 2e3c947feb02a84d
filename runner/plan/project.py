"""Finds the project and loads its definitions: the files in `jobs/`, `datasets/`, `clusters/`, named by their stem."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from runner.code import extras
from runner.code.modules import load_file
from runner.code.script import imported_names
from runner.errors import ProjectError, listed, suggest
from runner.spec import Cluster, Dataset, Job
from runner.store import Store
from runner.store.place import AZURE, GCS

T = TypeVar("T", Job, Dataset, Cluster)
_FOLDERS = {Job: "jobs", Dataset: "datasets", Cluster: "clusters"}
#: Kind of store -> the extra that brings its client.
_EXTRAS = {GCS: "gcs", AZURE: "azure"}


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
        store = Store(chosen, self.settings.get("store_options", {}))
        if store.kind in _EXTRAS:
            extras.need(_EXTRAS[store.kind], f"the store {chosen}")
        return store

    def job(self, reference: str | Path) -> Job:
        """The job in a file, by its path or its stem; of several in a file by `path:name` or `stem:name`."""
        text, name = split_reference(reference)
        path = Path(text)
        if path.suffix == ".py":
            return load_definition(path, self.root, Job, name)
        return self._by_stem(text, Job, name)

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

    def _by_stem(self, name: str, kind: type[T], value: str | None = None) -> T:
        path = self.root / _FOLDERS[kind] / f"{name}.py"
        if not path.is_file():
            known = self.stems(kind)
            raise ProjectError(
                f"no {kind.__name__.lower()} '{name}'",
                allowed=listed(known) if known else f"files in {self.root / _FOLDERS[kind]}",
                todo=suggest(name, known) or f"write {path}, or give a path that ends in .py",
                where=f"project {self.root}",
            )
        return load_definition(path, self.root, kind, value)


_BUILT_IN = {"local": Cluster(backend="local"), "ray_local": Cluster(backend="ray")}


def find_project(start: Path | None = None) -> Project:
    """The project around `start` (a file or folder; the current folder by default)."""
    start = (start or here()).resolve()
    folder = start if start.is_dir() else start.parent
    for candidate in (folder, *folder.parents):
        settings = _settings(candidate)
        if settings is not None or _has_marks(candidate):
            return Project(candidate, found=True, settings=settings or {})
    return Project(_alone(folder), found=False)


def _alone(folder: Path) -> Path:
    """Where there is no project: jobs/x.py of the current folder is that folder's, as the stem x is."""
    return folder.parent if folder.name == "jobs" and folder.parent == here() else folder


def here() -> Path:
    """The current folder. Raises ProjectError where it is gone."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ProjectError(
            "the current folder is gone", allowed="a folder that is there", todo="cd to the project"
        ) from None


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


def split_reference(reference: str | Path) -> tuple[str, str | None]:
    """The file or stem that a reference to a job begins with, and the name in it that may follow after a colon."""
    text, colon, name = str(reference).rpartition(":")
    return (text, name) if colon and text and name.isidentifier() else (str(reference), None)


def load_definition(path: Path, root: Path, kind: type[T], name: str | None = None) -> T:
    """The value of `kind` in the file at `path`.

    Args:
        name: of the value; None: the only one, the only one that the file does not import, or the one that is called
            as its kind is (`job`, `dataset`, `cluster`).

    Raises:
        ProjectError: there is no such file, it does not load, or it is not certain which value is meant.
    """
    path = Path(path)
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ProjectError(f"no file {path}", todo=suggest(path.name, near) or "check the path")
    values = _values(load_file(path, root), kind)
    if name is not None:
        if name not in values:
            raise ProjectError(
                f"{path} holds no {kind.__name__} '{name}'",
                allowed=listed(values) if values else "its own names",
                todo=suggest(name, values) or "give one of its names",
            )
        return values[name]
    chosen = _the_one(values, kind, path)
    if chosen is None:
        held = (
            f"holds {len(values)} values of type {kind.__name__}: {', '.join(values)}"
            if values
            else (f"holds no {kind.__name__}")
        )
        usual = kind.__name__.lower()
        raise ProjectError(
            f"{path} {held}",
            allowed=f"one module-level {kind.__name__}, or one that is called '{usual}'",
            todo=f"name one, as in {path.name}:{next(iter(values))}"
            if values and kind is Job
            else f"write `{usual} = {kind.__name__}(...)` in it",
        )
    return chosen


def _values(module: ModuleType, kind: type[T]) -> dict[str, T]:
    return {name: value for name, value in vars(module).items() if isinstance(value, kind)}


def _the_one(values: dict[str, T], kind: type[T], path: Path) -> T | None:
    """The value that is meant where none is named."""
    own = {name: value for name, value in values.items() if name not in imported_names(path)}
    for found in (own, values):
        distinct = {id(value): value for value in found.values()}
        if len(distinct) == 1:
            return next(iter(distinct.values()))
        if kind.__name__.lower() in found:
            return found[kind.__name__.lower()]
    return None
