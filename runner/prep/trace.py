"""Watches what a prep's code reads: files of the project (and elsewhere), names in folders, modules that come late.

One hook for the whole process, for Python's hooks cannot be taken away. What a process has read once it may use in
any later task, so a task depends on all that its process has read since it began to watch.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from runner.code import dependencies, references
from runner.code.data_files import Tree
from runner.prep.loaded_modules import LoadedModules
from runner.prep.unseen_reads import ByOthers
from runner.process.code_root import is_installed
from runner.store import LOCAL, Store
from runner.store.keys import is_own

_CHILDREN = {"subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system", "os.spawn"}
_FOLDERS = {"os.listdir", "os.scandir"}
_MOVES = {"os.rename", "shutil.move", "shutil.copyfile"}
_EVENTS = {"open", "sqlite3.connect", *_CHILDREN, *_FOLDERS, *_MOVES}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Who imports modules, and which files of Python's own read sources to show them.
_IMPORTS = "<frozen importlib"
_LIBRARY = os.path.dirname(os.__file__)
_SHOW = {
    os.path.join(_LIBRARY, *name.split("/"))
    for name in ("importlib/metadata/__init__.py", "inspect.py", "linecache.py", "tokenize.py", "traceback.py")
}
_SYSTEM = (
    "/proc/", "/sys/", "/dev/", "/etc/", "/usr/lib", "/usr/share/", "/lib/", "/lib64/", "/run/", "/var/lib/",
    "/var/run/", "/var/cache/",
)  # fmt: skip


class Watch:
    """What this process has read since it was made, while the user's code ran.

    Args:
        late: the user's modules had been loaded before: nobody saw what they read then.
    """

    def __init__(self, late: bool = False) -> None:
        self._began = time.time()
        self._at_work = 0
        self._opened: dict[str, tuple[int, int] | None] = {}  # path -> (mtime in ns, size) then
        self._listed: dict[str, str] = {}
        self._written: set[str] = set()
        self._inputs: set[str] = set()
        self._stores: set[str] = set()
        self._modules = LoadedModules()
        self._quiet = threading.local()
        self._by_others = ByOthers(late)

    @contextlib.contextmanager
    def at_work(
        self, store: Store, inputs: Iterable[str] = (), names: Collection[str] = (), *, elsewhere: bool = False
    ) -> Iterator[None]:
        """While the user's code runs here.

        Args:
            store: of the run: what is its own does not count.
            inputs: files that count otherwise.
            names: of all files of the project that do.
            elsewhere: it runs in other processes as well, and on other machines.
        """
        self._inputs.update(map(_place, inputs))
        local = store.root if store.kind == LOCAL else ""
        self._stores |= {local} if local else set()
        with self._silence():
            self._by_others.begin(Tree(references.code_root() or Path.cwd(), store=local, inputs=names), elsewhere)
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    @contextlib.contextmanager
    def _silence(self) -> Iterator[None]:
        """What this thread reads itself does not count."""
        before, self._quiet.on = getattr(self._quiet, "on", False), True
        try:
            yield
        finally:
            self._quiet.on = before

    # -- the hook ------------------------------------------------------------------------------------------------

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an event of the interpreter; it must not raise, or the user's call would."""
        if event not in _EVENTS or sys.is_finalizing() or not (self._at_work or references.loading()):
            return
        if getattr(self._quiet, "on", False):
            return
        with self._silence(), contextlib.suppress(OSError):  # no current folder
            if event == "open":
                self._open(*arguments[:3])
            elif event == "sqlite3.connect":
                self._open(arguments[0], None, os.O_RDONLY)
            elif event in _FOLDERS:
                self._list(arguments[0])
            elif event in _MOVES:
                self._written.add(_place(arguments[1]))
            else:
                self._by_others.child()

    def _open(self, path: Any, mode: Any, flags: Any) -> None:
        place = _place(path)
        if not place or place.endswith(".pyc"):
            return
        if (isinstance(flags, int) and flags & _WRITES) or (isinstance(mode, str) and not set(mode).isdisjoint("wax+")):
            self._written.add(place)
        elif not self._is_noted(place) and not _by_python(3):
            self._opened[place] = _stat(place)

    def _is_noted(self, place: str) -> bool:
        """Whether it is known already how a file counts: inputs and what was written here do not, and are many."""
        return place in self._opened or place in self._inputs or place in self._written

    def _list(self, path: Any) -> None:
        place = _place("." if path is None else path)
        if place and place not in self._listed and not _by_python(3):
            try:
                self._listed[place] = dependencies.digest_folder(Path(place))
            except OSError:
                self._listed[place] = dependencies.ABSENT

    # -- what it comes to ----------------------------------------------------------------------------------------

    def deps(self, root: Path, known: frozenset[str]) -> dict[str, str]:
        """Name -> digest of what has been read; see `code.dependencies`.

        Args:
            root: the project's folder.
            known: labels of the modules whose code counts already.
        """
        with self._silence():
            found = {dependencies.name_of(path, root): self._now(path) for path in self._of_the_user(root)}
            for place, names in list(self._listed.items()):
                if Path(place).is_relative_to(root) and not self._is_apart(place):
                    found[dependencies.name_of_folder(place, root)] = names
            others = self._by_others.deps(lambda path: path in self._opened or self._is_apart(path))
            return {**others, **found, **self._modules.deps(root, known)}

    def packages(self) -> list[str]:
        """The top-level names of what was imported since, and is neither the user's nor Python's."""
        return self._modules.packages()

    def _of_the_user(self, root: Path) -> list[str]:
        return [
            path
            for path, then in list(self._opened.items())
            if path not in self._written and not self._is_apart(path) and self._counts(path, then, root)
        ]

    def _is_apart(self, path: str) -> bool:
        """Whether it is an input, or a store's own; a store may lie around the project, or around other files."""
        below = (Path(path).relative_to(store).parts for store in self._stores if Path(path).is_relative_to(store))
        return path in self._inputs or any(map(is_own, below))

    def _counts(self, path: str, then: tuple[int, int] | None, root: Path) -> bool:
        """Whether a file is the project's, or one elsewhere that was there before and is no program's own."""
        if Path(path).is_relative_to(root):
            return not os.path.isdir(path)
        if then is None or path.startswith((*_SYSTEM, sys.prefix, sys.base_prefix, tempfile.gettempdir() + os.sep)):
            return False
        if any(part.startswith(".") for part in Path(path).parts) or is_installed(Path(path)):
            return False
        try:
            return os.path.isfile(path) and os.stat(path).st_ctime < self._began
        except OSError:
            return False

    def _now(self, path: str) -> str:
        then = self._opened[path]
        if then is None:
            return dependencies.ABSENT
        if _stat(path) != then:
            return dependencies.CHANGED
        try:
            return dependencies.digest_file(Path(path))
        except OSError:
            return dependencies.CHANGED


_watch: Watch | None = None


def begin(late: bool = False) -> Watch:
    """Watch from now on; a process has one watch, however often it is asked for.

    Args:
        late: see `Watch`.
    """
    global _watch
    if _watch is None:
        _watch = Watch(late)
        sys.addaudithook(_watch.see)
    return _watch


def _place(path: Any) -> str:
    """An absolute path; "" for what is none."""
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not isinstance(path, str) or "\0" in path or ("://" in path and not path.startswith("file://")):
        return ""
    return os.path.abspath(os.path.expanduser(path.removeprefix("file://")))


def _stat(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _by_python(depth: int) -> bool:
    """Whether the interpreter itself asks: the caller of the hook, `depth` frames above this one.

    A loader's `get_data` also serves whoever reads a package's data files by it.
    """
    try:
        frame = sys._getframe(depth)
        if frame.f_code.co_name == "get_data" and frame.f_code.co_filename.startswith(_IMPORTS):
            frame = sys._getframe(depth + 1)
    except ValueError:
        return False
    name = frame.f_code.co_filename
    return name.startswith(_IMPORTS) or name in _SHOW
