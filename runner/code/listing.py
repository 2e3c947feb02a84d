"""The files of a project: what git does not ignore, or all but the usual leftovers; never what runs have left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from runner.code.modules import inside_of
from runner.process.package import PACKAGE
from runner.store import Store
from runner.store.keys import is_own

#: Names of folders without sources, unless they are packages.
_SKIPPED = {"__pycache__", "node_modules", "venv", "build", "dist"}


def listed_files(root: Path, store: Store | None = None) -> set[Path]:
    """The files below `root`, relative to it, without those of stores and bundles, and without runner itself.

    A submodule, a repository inside, and a link to a folder with Python files are entered.

    Args:
        store: of the run; it may lie below the root, under any name.
    """
    files = {path for path in _tree(root, {os.path.realpath(root)}) if not path.is_relative_to(PACKAGE)}
    inside = {path.relative_to(root) for path in files}
    left = _of_runs(inside, root, store)
    return {path for path in inside if left.isdisjoint((path, *path.parents))}


def _tree(folder: Path, entered: set[str]) -> Iterator[Path]:
    """All files below a folder, by git where it is a repository's."""
    names = _listed_by_git(folder)
    for path in _walked(folder) if not names else (folder / name for name in names):
        if not path.is_dir():
            if path.is_file():
                yield path
        elif not path.is_symlink() or _has_sources(path):
            real = os.path.realpath(path)
            if real not in entered and not any(above.startswith(real + os.sep) for above in entered):
                entered.add(real)
                yield from _tree(path, entered)


def _has_sources(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(".py") for entry in entries)


def _listed_by_git(folder: Path) -> list[str]:
    """What git does not ignore; nothing outside a repository or without git.

    A submodule, another repository and a link are one name each.
    """
    command = ["git", "-C", str(folder), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return []
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name] if done.returncode == 0 else []


def _walked(top: Path) -> Iterator[Path]:
    """Files, and folders that are links or repositories of their own."""
    for folder, folders, names in os.walk(top):
        here = Path(folder)
        kept = [f for f in folders if not f.startswith(".") and _may_have_sources(here / f)]
        apart = {f for f in kept if (here / f).is_symlink() or (here / f / ".git").exists()}
        folders[:] = [f for f in kept if f not in apart]
        yield from (here / name for name in apart)
        yield from (here / name for name in names if not name.startswith("."))


def _may_have_sources(folder: Path) -> bool:
    return folder.name not in _SKIPPED or (folder / "__init__.py").exists()


def _of_runs(files: set[Path], root: Path, store: Store | None) -> set[Path]:
    """The folders of stores and bundles, relative to the root."""
    found = {Path(".runner"), *(path for file in files for path in file.parents if path.name == ".runner")}
    bundles = {file.parent for file in files if file.name == "spec.json" and file.parent / "code.zip" in files}
    for bundle in bundles - {Path()}:
        is_store = bundle.parent != Path() and (root / bundle.parent / "index").is_dir()
        found.add(bundle.parent if is_store else bundle)
    if store is not None and ("://" not in store.url or store.url.startswith("file://")):
        inside = inside_of(Path(store.url.removeprefix("file://")) / "x", root)
        if inside is not None and inside.parent != Path():
            found.add(inside.parent)
        elif inside is not None:  # the project's folder is the store
            found |= {file for file in files if is_own(file.parts)}
    return found - {Path()}
