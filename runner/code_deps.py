"""What a result depends on besides its key, and whether that is still as it was.

A dependency has a name and a digest: ``params.json`` (of the project), ``/data/x.json`` (elsewhere), ``tables/*`` (the
names in a folder), ``import a.b`` (a module outside the project). The digest of what is not there is ABSENT, so that a
file that was looked for and comes later counts as well.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.code_files import SKIPPED, Finder

ABSENT = "absent"
#: Of what changed while it was used: it agrees with nothing.
CHANGED = "changed meanwhile"
_MODULE = "import "
_FOLDER = "*"
#: Files of the project up to this size count where nobody could watch which of them were read.
LARGEST_UNWATCHED = 8 << 20
_MOST_FOLDERS, _MOST_BYTES = 2000, 256 << 20
_NO_DATA = (".md", ".rst", ".pyc", ".lock")


def name_of(path: str | Path, root: Path) -> str:
    """The name of a file: relative where it belongs to the project."""
    path = Path(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def name_of_folder(path: str | Path, root: Path) -> str:
    """The name of a folder's list of names."""
    return f"{name_of(path, root)}/{_FOLDER}".removeprefix("./")


def name_of_module(dotted: str) -> str:
    """The name of a module outside the project."""
    return _MODULE + dotted


def digest(name: str, root: Path) -> str:
    """16 hex digits for what a dependency is now, or ABSENT."""
    try:
        if name.startswith(_MODULE):
            found = Finder(root).find(name.removeprefix(_MODULE).split("."), None)
            files = [each.file for each in found if each.file is not None and not each.rest]
            return digest_file(files[0]) if files else ABSENT
        if name.endswith(f"/{_FOLDER}") or name == _FOLDER:
            return digest_folder(root / name.removesuffix(_FOLDER))
        return digest_file(root / name)
    except OSError:
        return ABSENT


def digest_file(path: Path) -> str:
    """16 hex digits for a file's bytes. Raises OSError."""
    stat = path.stat()
    return _digest_file(str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino)


@functools.lru_cache(maxsize=65536)
def _digest_file(path: str, mtime_ns: int, size: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def digest_folder(path: Path) -> str:
    """16 hex digits for the names in a folder, without hidden ones and what Python leaves there. Raises OSError."""
    names = sorted(name for name in os.listdir(path) if not name.startswith(".") and name != "__pycache__")
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]


class Present:
    """How dependencies are now; each is looked at once.

    Args:
        root: the project's folder.
        pinned: whether the versions of packages count.
        brought: normal name -> version of the packages that a run will find besides those of this environment.
    """

    def __init__(self, root: Path, pinned: bool = False, brought: Mapping[str, str] | None = None) -> None:
        self.root, self.pinned = root, pinned
        self._brought = dict(brought or {})
        self._known: dict[str, str] = {}

    def differing(self, deps: Mapping[str, str]) -> list[str]:
        """Those that are not as they were."""
        return [name for name, known in deps.items() if self._digest(name) != known]

    def agrees(self, record: Mapping[str, Any]) -> bool:
        """Whether all that a record depends on is as it was."""
        if self.differing(record.get("deps", {})):
            return False
        return not (self.pinned and self.other_versions(record.get("packages", {})))

    def other_versions(self, packages: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Distribution -> (version then, version now) of those that differ; "absent" where there is none now."""
        now = {name: self._brought.get(normal(name)) or _version(name) or ABSENT for name in packages}
        return {name: (then, now[name]) for name, then in packages.items() if now[name] != then}

    def _digest(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = digest(name, self.root)
        return self._known[name]


def merged(all_deps: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The dependencies of several pieces of work; CHANGED where they saw different things."""
    found: dict[str, str] = {}
    for deps in all_deps:
        for name, known in deps.items():
            found[name] = known if found.get(name, known) == known else CHANGED
    return found


def variant(deps: Mapping[str, str]) -> str:
    """16 hex digits for a set of dependencies: a record's name among those of one key."""
    return hashlib.sha256("\n".join(f"{name}\0{known}" for name, known in sorted(deps.items())).encode()).hexdigest()[
        :16
    ]


def every_file(root: Path) -> Iterator[Path]:
    """The files of a project that may be read as data, where nobody could see which are; the largest do not count."""
    total = 0
    for number, (folder, folders, names) in enumerate(os.walk(root)):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and not f.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or name.endswith((".py", *_NO_DATA)) or not path.is_file():
                continue
            size = path.stat().st_size
            total += size if size <= LARGEST_UNWATCHED else 0
            if number > _MOST_FOLDERS or total > _MOST_BYTES:
                return
            if size <= LARGEST_UNWATCHED:
                yield path


# -- packages --------------------------------------------------------------------------------------------------------


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """Distribution -> version, of those that hold top-level modules."""
    found: dict[str, str] = {}
    for module in sorted(set(modules)):
        names = [module] if _version(module) else _distributions().get(module, [])
        found |= {name.lower(): version for name in names if (version := _version(name))}
    return found


def both(*found: Mapping[str, str]) -> dict[str, str]:
    """The versions of several pieces of work; where they differ all of them, which agrees with none."""
    names = sorted({name for each in found for name in each})
    return {name: " and ".join(dict.fromkeys(each[name] for each in found if name in each)) for name in names}


def normal(distribution: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
