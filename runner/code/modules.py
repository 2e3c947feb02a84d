"""The user's modules: the name under which each is imported, and importing it.

A file is imported under the name that any Python finds it by, with the code's folders on its path (`jobs.digits` for
``jobs/digits.py``), so that children of whatever start method can unpickle what it defines. A script is imported as
multiprocessing's spawn does it: as ``__mp_main__``, which is then also the process's ``__main__``.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from runner.code import extras, isolation, usercode
from runner.code.traces import raised_at, user_trace
from runner.errors import MissingPackage, ProjectError, SpecError
from runner.process.code_root import Folders, code_root

#: The name of a script in a process that did not start it.
MAIN = "__mp_main__"
_loading: contextvars.ContextVar[str | None] = contextvars.ContextVar("runner_loading", default=None)
_replaced: list[ModuleType | None] = []  # a main module that nobody holds would be emptied


def inside_of(path: Path, root: Path) -> Path | None:
    """Where a file lies in the tree at `root`, relative to it; None outside. Links inside the tree are not followed."""
    path, root = Path(os.path.abspath(path)), Path(root)
    for folder in path.parents:
        if folder == root or os.path.realpath(folder) == os.path.realpath(root):
            return path.relative_to(folder)
    return None


def loading() -> str | None:
    """The file that is being loaded as a definition right now; `submit` refuses to run then."""
    return _loading.get()


def load_file(path: Path, root: Path) -> ModuleType:
    """Import a file of the project at `root` by its path.

    In a process that is no worker of a run, modules of the project that were changed since they were loaded are loaded
    again, all of them, and none of another project is seen (see `isolation`).

    Raises:
        ProjectError: it is missing, or its own code raises (the user's traceback is part of the error).
    """
    root = Path(root).resolve()
    inside = inside_of(path, root)
    file = root / inside if inside is not None else Path(os.path.abspath(path))
    if not file.is_file():
        raise ProjectError(f"no file {file}", todo="check the path")
    if inside is None:
        raise ProjectError(f"{file} is not in the project {root}", todo="put it there, or give its own project's path")
    if root != code_root():
        isolation.enter(root, inside.parent)
    try:
        return _importing(file, lambda: importlib.import_module(_name(file, inside, root)))
    finally:
        isolation.note()


def load_module(name: str, file: str | None) -> ModuleType:
    """Import a module of this process's code by its name.

    Args:
        file: relative to the code root, where it must come from; None for an installed one.

    Raises:
        ProjectError: it cannot be imported, or another module of that name stands before it.
    """
    root = code_root()
    if file is None or root is None:
        return importlib.import_module(name)
    wanted = root / file
    module = _importing(wanted, lambda: importlib.import_module(name))
    if os.path.abspath(module.__file__ or "") != str(wanted):
        raise ProjectError(
            f"'{name}' was imported from {module.__file__}, not from {file}",
            allowed="one module of a name",
            todo="rename one of the two",
            where=str(root),
        )
    return module


def load_main(file: Path, name: str | None) -> ModuleType:
    """Import a script, once; it becomes the main module of this process, so that children import it as well.

    Args:
        name: that it was started by, with ``python -m``; None for a plain script.
    """
    known = sys.modules.get(MAIN)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    module = ModuleType(MAIN)
    module.__file__ = str(file)

    def run() -> ModuleType:
        if name is not None:
            module.__spec__ = importlib.util.find_spec(name)
            module.__package__ = name.rpartition(".")[0]
        set_main(module)
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
        return module

    try:
        return _importing(file, run)
    except BaseException:
        set_main(ModuleType("__main__"))
        raise


def set_main(module: ModuleType) -> None:
    """Make `module` this process's main one: its children import it at their start, if it has a file or a name."""
    _replaced.append(sys.modules.get("__main__"))
    sys.modules["__main__"] = sys.modules[MAIN] = module


def _name(file: Path, inside: Path, root: Path) -> str:
    """The name that finds the file, or one in `usercode` where none does."""
    first = [root / folder for folder in Folders.of(root).first]
    beside = [base for base in map(Path, sys.path) if base != file.parent and base.is_relative_to(root)]
    bases = [base for base in (*first, *beside) if file.is_relative_to(base)]
    best = max(bases, key=lambda base: len(base.parts), default=root)
    for base in dict.fromkeys((best, root)):
        parts = file.relative_to(base).with_suffix("").parts
        name = ".".join(parts)
        if not any("." in part for part in parts) and _finds(name, file):
            return name
    return usercode.name_of(inside)


def _finds(name: str, file: Path) -> bool:
    known = sys.modules.get(name)
    if known is not None:
        return os.path.abspath(getattr(known, "__file__", None) or "") == str(file)
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # its package is another one, or none
        return False
    return spec is not None and os.path.abspath(spec.origin or "") == str(file)


def _importing(file: Path, load: Callable[[], ModuleType]) -> ModuleType:
    """What `load` gives; the user's own exception becomes an error that shows where it was raised."""
    with _while_loading(str(file)):
        try:
            return load()
        except (ProjectError, SpecError, KeyboardInterrupt):
            raise
        except MissingPackage as error:
            error.where = error.where or raised_at(error) or str(file)
            error.todo = error.todo or "or, if only machines of a cluster need it, import it where those alone do"
            raise
        except BaseException as error:
            extra = extras.extra_for(error)
            if extra:
                raise _not_installed(error, extra, file) from None
            raise ProjectError(
                f"{file} cannot be imported\n{user_trace(error)}".rstrip(),
                todo="mend the file; nothing was started",
            ) from error


def _not_installed(error: BaseException, extra: str, file: Path) -> MissingPackage:
    """Of a file that imports what this environment need not have: often its functions alone use it, elsewhere."""
    module = extras.missing_module(error)
    return MissingPackage(
        f"imports {module}, which is not installed: {extras.command(extra)}",
        todo=f"or, if only machines of a cluster need it, write `import {module}` into the functions that use it",
        where=raised_at(error) or str(file),
    )


@contextlib.contextmanager
def _while_loading(path: str) -> Iterator[None]:
    token = _loading.set(path)
    try:
        yield
    finally:
        _loading.reset(token)
