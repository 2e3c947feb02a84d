"""What a result depends on besides its key, and whether that is still as it was.

A dependency has a name and a digest: ``params.json`` (of the project), ``/data/x.json`` (elsewhere), ``tables/*`` (the
names in a folder), ``tables/*.csv`` (those with that ending), ``**/x.json`` (the files of that name),
``import a.b`` (a module outside the project), ``environment variable A``. The digest of what is not there is ABSENT, so
that a file that was looked for and comes later counts as well. Where nobody could watch, every data file counts, and
which there are (see `tree`).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.code.data_files import DIGITS, HERE, MOST_FILES, TRAVELLING, Tree
from runner.code.slicing.files import Finder
from runner.store import credentials

ABSENT = "absent"
#: Of what changed while it was used: it agrees with nothing.
CHANGED = "changed meanwhile"
_MODULE = "import "
#: Variables of the environment that are other ones in every process of a run, or on every machine.
_OF_PROGRAMS = ("RUNNER_", "RAY_", "SLURM_", "KUBERNETES_", "NCCL_", "GLOO_", "CUDA_", "LD_", "XDG_", "MASTER_")
_OF_MACHINES = {
    "DISPLAY", "HOME", "HOSTNAME", "LOCAL_RANK", "LOGNAME", "OLDPWD", "PATH", "PWD", "PYTHONPATH", "RANK", "SHELL",
    "TEMP", "TERM", "TMP", "TMPDIR", "USER", "VIRTUAL_ENV", "WORLD_SIZE",
}  # fmt: skip
_FOLDER = "*"
_STAMP, _VARIABLE = "size and time of ", "environment variable "


def name_of(path: str | Path, root: Path) -> str:
    """The name of a file: relative where it belongs to the project."""
    path = Path(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def name_of_folder(path: str | Path, root: Path) -> str:
    """The name of a folder's list of names."""
    return f"{name_of(path, root)}/{_FOLDER}".removeprefix("./")


def name_of_alike(path: str | Path, root: Path) -> str:
    """The name of the list of those names in a file's folder that end as its own does."""
    return f"{name_of_folder(Path(path).parent, root)}{Path(path).suffix}"


def name_of_stamp(path: str | Path, root: Path) -> str:
    """The name of a file's size and time, which stand for a content that is too much to read."""
    return _STAMP + name_of(path, root)


def name_of_variable(variable: str) -> str:
    """The name of a variable of the environment."""
    return _VARIABLE + variable


def told(name: str) -> str:
    """A dependency that is not as it was, in words."""
    kind, _, end = name.partition("/")
    if kind in (TRAVELLING, HERE):
        what = f"a file {end}" if end else "a data file"
        return f"{what} of the project is new or gone, or there are more than {MOST_FILES:,}"
    if name.startswith(_VARIABLE):
        return f"{name} is not as it was"
    if name.rpartition("/")[2].startswith(_FOLDER):
        return f"the list of files {name} is not as it was"
    return f"file {name.removeprefix(_STAMP)} is not as it was"


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
        if name.startswith(_VARIABLE):
            value = os.environ.get(name.removeprefix(_VARIABLE))
            return ABSENT if value is None else _short(value)
        if name.startswith(_STAMP):
            stat = (root / name.removeprefix(_STAMP)).stat()
            return _short(f"{stat.st_size} {stat.st_mtime_ns}")
        folder, star, ending = name.rpartition(_FOLDER)
        if star and folder[-1:] in ("", "/") and "/" not in ending and not os.path.lexists(root / name):
            return digest_folder(root / folder, ending)
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
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def digest_folder(path: Path, ending: str = "") -> str:
    """16 hex digits for the names in a folder, without hidden ones and what Python leaves there. Raises OSError.

    Args:
        ending: only of those with it.
    """
    return digest_names(os.listdir(path), ending)


def digest_names(names: Iterable[str], ending: str = "") -> str:
    """As `digest_folder`, for a folder with these names."""
    shown = {name for name in names if name.endswith(ending) and not name.startswith(".") and name != "__pycache__"}
    return _short("\0".join(sorted(shown)))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


class Present:
    """How dependencies are now; each is looked at once.

    Args:
        root: the project's folder.
        pinned: whether the versions of packages count.
        brought: normal name -> version of the packages that a run will find besides those of this environment.
        tree: the data files that the code may read.
    """

    def __init__(
        self, root: Path, pinned: bool = False, brought: Mapping[str, str] | None = None, tree: Tree | None = None
    ) -> None:
        self.root, self.pinned = root, pinned
        self._brought = dict(brought or {})
        self._tree = tree or Tree(root)
        self._known: dict[str, str] = {}

    def beside(self, inputs: Iterable[str]) -> Present:
        """The same for code with these files of the project as its input, which count by themselves."""
        return Present(self.root, self.pinned, self._brought, self._tree.beside(inputs))

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
        now = {name: self._brought.get(normal(name)) or version_of(name) or ABSENT for name in packages}
        return {name: (then, now[name]) for name, then in packages.items() if now[name] != then}

    def _digest(self, name: str) -> str:
        if name not in self._known:
            is_list = name.partition("/")[0] in (TRAVELLING, HERE)
            self._known[name] = (self._tree.digest(name) if is_list else digest(name, self.root)) or ABSENT
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


# -- the environment -------------------------------------------------------------------------------------------------


def is_machines(variable: str) -> bool:
    """Whether a variable of the environment says where and by whom a process runs, or is a credential."""
    return variable.startswith(_OF_PROGRAMS) or variable in _OF_MACHINES or bool(credentials.given({variable: "x"}))


# -- packages --------------------------------------------------------------------------------------------------------


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """Distribution -> version, of those that hold top-level modules."""
    found: dict[str, str] = {}
    for module in sorted(set(modules)):
        names = [module] if version_of(module) else _distributions().get(module, [])
        found |= {name.lower(): version for name in names if (version := version_of(name))}
    return found


def both(*found: Mapping[str, str]) -> dict[str, str]:
    """The versions of several pieces of work; where they differ all of them, which agrees with none."""
    names = sorted({name for each in found for name in each})
    return {name: " and ".join(dict.fromkeys(each[name] for each in found if name in each)) for name in names}


def normal(distribution: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def version_of(distribution: str) -> str | None:
    """The version of a distribution that is installed here; None if it is not."""
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
