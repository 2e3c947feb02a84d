"""Loading the definitions of a project without leaving its modules behind, or seeing those of another one.

A notebook or a service submits files that are edited in between, of several projects that each have their `common.py`.
While one is loaded the path is that project's, and in `sys.modules` are its own modules only: those of the last time
where none of their files has changed, or else none, so that all of them are imported anew, helpers too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from runner.code import usercode
from runner.process.code_root import Folders, arranged, is_installed
from runner.process.fresh_source import Finder

#: Seconds by which the clock of files and that of processes may differ.
_CLOCKS_S = 2.0


@dataclass
class _Space:
    """The modules of a project as they were loaded, and what tells whether their files still are the same."""

    modules: dict[str, ModuleType] = field(default_factory=dict)
    stamps: dict[str, tuple[int, ...]] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)  # what they have put on the path, before all else and after it
    after: list[str] = field(default_factory=list)

    def is_fresh(self) -> bool:
        """Whether no file has changed."""
        return all(stamp and _stamp(file) == stamp for file, stamp in self.stamps.items())


@dataclass
class _Entered:
    """A project that is being loaded, and what was there before."""

    root: Path
    path: list[str]
    hidden: dict[str, ModuleType]
    shared: bool
    finder: Finder
    last: set[str] = field(default_factory=set)
    arranged: list[str] = field(default_factory=list)
    at: float = field(default_factory=time.time)
    seen: set[str] = field(default_factory=set)


_spaces: dict[Path, _Space] = {}
_entered: _Entered | None = None
_keeps = False


@contextlib.contextmanager
def isolated(*, keep: bool = False) -> Iterator[None]:
    """What `enter` changes inside is changed back at the end; what was entered before is left first.

    Args:
        keep: the project's modules that this process has imported stay: a job that holds functions of theirs is given.
    """
    global _keeps
    leave()
    before, _keeps = _keeps, keep
    try:
        yield
    finally:
        _keeps = before
        leave()


def enter(root: Path, folder: Path) -> None:
    """Make this process's modules and path those of the project at `root`.

    Args:
        folder: of the file that is loaded, relative to the root; its siblings can be imported, last of all.
    """
    global _entered
    if _entered is not None and _entered.root == root:
        _entered.at = time.time()
        _arrange(_entered, folder)
        return
    leave()
    names = _names(root)
    own = modules_of(root)
    shared = _keeps or (bool(own) and all(_is_unchanged(module) for module in own.values()))
    hidden = {name: m for name, m in sys.modules.items() if name not in own and _collides(name, m, names)}
    hidden |= {} if shared else own
    for name in hidden:
        del sys.modules[name]
    if not _space(root).is_fresh():
        del _spaces[root]
    if not shared:
        sys.modules.update(_space(root).modules)
    usercode.root = root
    importlib.invalidate_caches()
    _entered = _Entered(root, list(sys.path), hidden, shared, Finder(root), seen=sys.modules.keys() - own.keys())
    sys.meta_path.insert(0, _entered.finder)
    _arrange(_entered, folder)


def leave() -> None:
    """Put back what `enter` found; the project's modules are kept for the next time."""
    global _entered
    if _entered is None:
        return
    note()
    if not _entered.shared:
        for name in _space(_entered.root).modules:
            sys.modules.pop(name, None)
    sys.modules.update(_entered.hidden)
    sys.path[:] = _entered.path
    sys.meta_path.remove(_entered.finder)
    usercode.root = None
    _entered = None


def note() -> None:
    """Keep what has been imported of the project, and what its files are like."""
    if _entered is None:
        return
    space = _space(_entered.root)
    _note_path(_entered, space)
    fresh = {name: module for name, module in sys.modules.copy().items() if name not in _entered.seen}
    _entered.seen.update(fresh)
    for name, module in _of(fresh, _entered.root).items():
        if name not in space.modules:
            space.modules[name] = module
            file = getattr(module, "__file__", None)
            if file is not None:
                space.stamps[file] = _stamp(file, _entered.at)


def _note_path(entered: _Entered, space: _Space) -> None:
    """Keep what the project's modules have put on the path: they are not run again for what is loaded next."""
    known = {*entered.arranged, *space.before, *space.after}
    first = next((n for n, entry in enumerate(sys.path) if entry in entered.arranged), 0)
    for number, entry in enumerate(sys.path):
        if entry not in known:
            (space.before if number < first else space.after).append(entry)


def last_folders() -> set[str]:
    """The folders of the files that were loaded from the project, relative to its root."""
    return set() if _entered is None else set(_entered.last)


def modules_of(root: Path) -> dict[str, ModuleType]:
    """The project's own modules: not what is installed in an environment inside it, nor runner itself."""
    return _of(sys.modules.copy(), root)


def is_of(module: ModuleType, root: Path) -> bool:
    """Whether a module is one of `modules_of`."""
    return bool(_of({"": module}, root))


def _of(modules: dict[str, ModuleType], root: Path) -> dict[str, ModuleType]:
    """Those of the project. There are thousands that are not, and a submit asks several times."""
    below = f"{str(root).rstrip(os.sep)}{os.sep}"
    return {name: module for name, module in modules.items() if _lies(module, below) and not _is_ours(module)}


def _lies(module: ModuleType, below: str) -> bool:
    """Whether a module comes from a folder, given with a separator at its end, and not from an environment there."""
    inside = [path for path in _places(module) if path.startswith(below)]
    return bool(inside) and not all(is_installed(Path(path)) for path in inside)


def _is_ours(module: ModuleType) -> bool:
    """Whether a module is the main one, or runner's."""
    name = getattr(module, "__name__", "")
    return name in ("__main__", "__mp_main__") or (name.split(".")[0] == "runner" and not _is_usercode(name))


def _space(root: Path) -> _Space:
    return _spaces.setdefault(root, _Space())


def _arrange(entered: _Entered, folder: Path) -> None:
    if folder != Path():
        entered.last.add(folder.as_posix())
    told, space = Folders.of(entered.root), _space(entered.root)
    folders = dataclasses.replace(told, last=tuple(sorted(entered.last)))
    path = [*space.before, *entered.path, *space.after]
    sys.path[:] = entered.arranged = arranged(dict.fromkeys(path), entered.root, folders)


def _places(module: ModuleType) -> list[str]:
    """The file of a module; the folders of a package that has none."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return [file if file.startswith(os.sep) else os.path.abspath(file)]
    try:
        return [entry for entry in getattr(module, "__path__", ()) if isinstance(entry, str)]
    except Exception:  # a stand-in of some library, or a package whose parent is gone
        return []


def _names(root: Path) -> tuple[set[str], set[str]]:
    """What can be imported from the project's folders: modules and packages, and folders without `__init__`."""
    whole, loose = set(), set()
    for folder in Folders.of(root).first:
        for path in (root / folder).iterdir():
            if path.suffix == ".py" or (path / "__init__.py").exists():
                whole.add(path.stem)
            elif path.is_dir():
                loose.add(path.name)
    return whole - sys.stdlib_module_names, loose - sys.stdlib_module_names


def _collides(name: str, module: ModuleType, names: tuple[set[str], set[str]]) -> bool:
    """Whether a module of somebody else's stands where one of the project is to be found."""
    whole, loose = names
    top = name.split(".")[0]
    if top == "runner":
        return _is_usercode(name)
    if top in whole:
        return True
    return top in loose and not any(is_installed(Path(path)) for path in _places(module))


def _is_usercode(name: str) -> bool:
    return name.startswith(f"{usercode.__name__}.")


def _stamp(file: str, imported_after: float | None = None) -> tuple[int, ...]:
    """What changes with a file; nothing that any file has, if this was written since it can have been imported."""
    try:
        status = os.stat(file)
    except OSError:
        return ()
    if imported_after is not None and status.st_ctime > imported_after:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _is_unchanged(module: ModuleType) -> bool:
    """Whether the file of a module that this process imported at some time is certainly what it was then."""
    import psutil

    file = getattr(module, "__file__", None)
    if file is None:
        return True
    with contextlib.suppress(OSError):
        return os.stat(file).st_ctime < psutil.Process().create_time() - _CLOCKS_S
    return False
