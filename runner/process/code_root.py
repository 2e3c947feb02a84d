"""Where this process finds the user's code, and the order in which Python looks for modules there.

The code of a run is a tree of files with a note beside them of the folders from which modules are imported. Every
process of the run puts those folders on its path, after the standard library and before everything else, so that its
children find the same modules under the same names: multiprocessing hands the path on, whatever the start method.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.process.package import PACKAGE

#: A file that is beside `runner/` and `project/` where both were unpacked from a bundle (see backends/boot.py).
CODE_MARK = "lake-runner-code"
#: The note in the tree of a run's code; see `Folders`.
FOLDERS_NOTE = ".runner-folders.json"
#: Another one: the files that travelled, each with its digest.
FILES_NOTE = ".runner-files.json"
#: The folder in the tree for modules from outside the project.
OUTSIDE = ".runner-outside"
#: Tells the children of a process of ours, which multiprocessing starts, where the code is.
ROOT_VARIABLE = "RUNNER_CODE_ROOT"
#: Folders with what an environment holds, wherever that is.
ENVIRONMENTS = frozenset({"site-packages", "dist-packages"})
_code_root: Path | None = None


@dataclass(frozen=True)
class Folders:
    """The folders of a tree of code from which modules are imported, relative to its root ('' is the root).

    Args:
        first: before installed packages, in this order.
        last: after them: those of job files, whose siblings are found there but shadow nothing.
        origin: the root at submission, whose own folders are taken off the path of the run's processes.
        before, after: folders outside it that are found there, before and after installed packages.
    """

    first: tuple[str, ...] = ("",)
    last: tuple[str, ...] = ()
    origin: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The note."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def of(cls, root: Path) -> Folders:
        """What the note in the tree says; without one, the root, and `src` if there is one."""
        note = root / FOLDERS_NOTE
        if note.is_file():
            told = json.loads(note.read_bytes())
            lists = ("first", "last", "before", "after")
            return cls(origin=told["origin"], **{name: tuple(told[name]) for name in lists})
        return cls(("", "src") if is_source_folder(root / "src") else ("",))


def is_source_folder(folder: Path) -> bool:
    """Whether a folder called `src` holds packages, rather than being one."""
    return folder.is_dir() and not (folder / "__init__.py").exists()


def set_code_root(root: Path) -> None:
    """Where the references of this process find the user's code; also puts its folders on sys.path."""
    global _code_root
    _code_root = Path(root).resolve()
    os.environ[ROOT_VARIABLE] = str(_code_root)
    folders = Folders.of(_code_root)
    origin = Path(folders.origin) if folders.origin and folders.origin != str(_code_root) else None
    if origin is not None:
        sys.path[:] = [entry for entry in sys.path if not _is_of(entry, origin) or _is_ours(entry, _code_root)]
    sys.path[:] = arranged(sys.path, _code_root, folders)


@contextlib.contextmanager
def code_root_at(root: Path) -> Iterator[None]:
    """The code root of what runs in the user's own process, whose path stays as it is."""
    global _code_root
    before, _code_root = _code_root, Path(root).resolve()
    try:
        yield
    finally:
        _code_root = before


def code_root() -> Path | None:
    """What `set_code_root` was told, here or in the process that started this one."""
    if _code_root is not None:
        return _code_root
    told = os.environ.get(ROOT_VARIABLE)
    return Path(told) if told else None


def is_outside(path: Path, root: Path) -> bool:
    """Whether a file of the user's is none of the project's, wherever it lies in the tree of a run's code."""
    return not path.is_relative_to(root) or path.is_relative_to(root / OUTSIDE)


def code_folder() -> Path | None:
    """The folder with `runner/` and `project/`, if this process runs from code that was unpacked from a bundle."""
    folder = PACKAGE.parent
    return folder if (folder / CODE_MARK).exists() else None


def arranged(path: Iterable[str], root: Path, folders: Folders) -> list[str]:
    """`path` with the standard library first, then the code's folders, then the rest, then the last folders.

    A module of the user's that is called like one of the standard library must not break what imports that.
    """
    ours = [*(str(root / folder) for folder in folders.first), *folders.before]
    last = [*folders.after, *(str(root / folder) for folder in folders.last)]
    rest = [entry for entry in path if entry not in (*ours, *last)]
    library = [entry for entry in rest if _is_library(entry)]
    return [*library, *ours, *(entry for entry in rest if entry not in library), *last]


def is_installed(path: Path) -> bool:
    """Whether a file or folder is an environment's, Python's or runner's own: workers have it, it is not the user's."""
    return _is_installed(str(path))


@functools.lru_cache(maxsize=1 << 14)
def _is_installed(path: str) -> bool:
    return not ENVIRONMENTS.isdisjoint(path.split(os.sep)) or f"{path}{os.sep}".startswith(_own_folders())


@functools.cache
def _own_folders() -> tuple[str, ...]:
    """Of Python and of runner, each also by its real path, with a separator at the end."""
    folders = [str(PACKAGE), *map(sysconfig.get_path, ("stdlib", "platstdlib", "scripts"))]
    return tuple(f"{folder}{os.sep}" for folder in dict.fromkeys([*folders, *map(os.path.realpath, folders)]))


@functools.lru_cache(maxsize=1 << 10)
def _is_library(entry: str) -> bool:
    """The standard library: its folder, that of its compiled modules, and the archive in which it may come."""
    path, stdlib = Path(entry), Path(sysconfig.get_path("stdlib"))
    archive = path.suffix == ".zip" and path.parent == stdlib.parent and path.name.startswith("python")
    return archive or path in (stdlib, Path(sysconfig.get_path("platstdlib")), stdlib / "lib-dynload")


def _is_ours(entry: str, root: Path) -> bool:
    """What a run has brought, though it may lie below the project: runner itself, and the tree of the run's code."""
    path = Path(entry or os.getcwd())
    return path == PACKAGE.parent or path.is_relative_to(root)


def _is_of(entry: str, root: Path) -> bool:
    path = Path(entry or os.getcwd())
    return path.is_relative_to(root) and not is_installed(path)
