"""Functions and classes of the user as references that another process, or another machine, can load again.

A function of a file travels as ``jobs/digits.py:train`` and is imported from the code that the bundle holds. A script
(``__main__``) is imported under another name, as multiprocessing's spawn does it. What a notebook or an interactive
session defines has no file: it travels by value (cloudpickle), with its source kept for lineage.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from runner.errors import ProjectError, RunnerError, SpecError, UserCodeError, internal

_PACKAGE = Path(__file__).resolve().parent
_PREFIX = "_runner_user"
_STDLIB = sysconfig.get_path("stdlib") + os.sep
#: A file that is beside `runner/` and `project/` where both were unpacked from a bundle (see backends/boot.py).
CODE_MARK = "lake-runner-code"
_code_root: Path | None = None
_loading: contextvars.ContextVar[str | None] = contextvars.ContextVar("runner_loading", default=None)


@dataclasses.dataclass(frozen=True)
class FunctionRef:
    """A function or class that ``load()`` brings into this process.

    Args:
        name: its name in its module.
        file: the module's file, relative to the code root; None for an installed module or a value.
        module: the import name, where it is importable by name.
        value: base64 of a cloudpickle, for what has no file.
        source: the source text of a value, for lineage.
        folder: a folder, relative to the code root, that the module needs on sys.path (that of a script).
    """

    name: str
    file: str | None = None
    module: str | None = None
    value: str | None = None
    source: str | None = None
    folder: str | None = None

    def __str__(self) -> str:
        return f"{self.file or self.module or 'notebook'}:{self.name}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load()(*args, **kwargs)

    def load(self) -> Any:
        """The function or class itself."""
        return _load(self)


def set_code_root(root: Path) -> None:
    """Where the references of this process find the user's code; also puts it first on sys.path."""
    global _code_root
    _code_root = Path(root).resolve()
    if str(_code_root) not in sys.path:
        sys.path.insert(0, str(_code_root))


def code_root() -> Path | None:
    """What `set_code_root` was told."""
    return _code_root


def code_folder() -> Path | None:
    """The folder with `runner/` and `project/`, if this process runs from code that was unpacked from a bundle."""
    folder = _PACKAGE.parent
    return folder if (folder / CODE_MARK).exists() else None


def resolve(function: Any) -> Any:
    """The callable behind a reference; a plain callable is returned as it is."""
    return function.load() if isinstance(function, FunctionRef) else function


@functools.lru_cache(maxsize=256)
def _load(ref: FunctionRef) -> Any:
    if ref.value is not None:
        import cloudpickle

        return cloudpickle.loads(base64.b64decode(ref.value))
    if ref.folder is not None and _code_root is not None:
        folder = str(_code_root / ref.folder)
        if folder not in sys.path:
            sys.path.insert(0, folder)
    if ref.module is not None:
        module = importlib.import_module(ref.module)
    else:
        if _code_root is None or ref.file is None:
            raise ProjectError(f"no code root is set in this process, so {ref} cannot be loaded")
        module = load_file(_code_root / ref.file, _code_root)
    return functools.reduce(getattr, ref.name.split("."), module)


# -- loading files ---------------------------------------------------------------------------------------------------


def loading() -> str | None:
    """The file that is being loaded as a definition right now; `submit` refuses to run then."""
    return _loading.get()


def load_file(path: Path, root: Path) -> ModuleType:
    """Import a Python file by its path, once per process.

    Raises:
        ProjectError: it is missing, or its own code raises (the user's traceback is part of the error).
    """
    path, root = Path(path).resolve(), Path(root).resolve()
    name = _module_name(path, root)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if not path.is_file():
        raise ProjectError(f"no file {path}", todo="check the path")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _on_path(root), _while_loading(str(path)):
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            sys.modules.pop(name, None)
            if isinstance(error, ProjectError | SpecError | KeyboardInterrupt):
                raise
            raise ProjectError(
                f"{path} cannot be imported\n{user_trace(error)}".rstrip(),
                todo="mend the file; nothing was started",
            ) from error
    return module


def _module_name(path: Path, root: Path) -> str:
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return ".".join((_PREFIX, *inside.with_suffix("").parts))


@contextlib.contextmanager
def _on_path(root: Path) -> Iterator[None]:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    yield


@contextlib.contextmanager
def _while_loading(path: str) -> Iterator[None]:
    token = _loading.set(path)
    try:
        yield
    finally:
        _loading.reset(token)


# -- making references -----------------------------------------------------------------------------------------------


def reference(function: Any, root: Path, where: str) -> FunctionRef:
    """A reference to `function` for a run whose code is the tree at `root`.

    Raises:
        SpecError: it is a lambda, a method or defined inside another function, so no other process could find it.
    """
    if isinstance(function, FunctionRef):
        return function
    name = getattr(function, "__qualname__", None)
    module_name = getattr(function, "__module__", None)
    if name is None or module_name is None or not isinstance(function, type | type(reference)):
        raise SpecError(
            f"{function!r}", allowed="a function or class at the top level of its module",
            todo="write `def name(...): ...` at the top of the file", where=where,
        )  # fmt: skip
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_file() or _in_notebook(function):
        return _by_value(function)
    if "<" in name:
        raise SpecError(
            f"{'a lambda' if '<lambda>' in name else name.split('.')[-1]} in {file} is not at the top level",
            allowed="a function or class at the top level of its module",
            todo="move it to the top level of the file, so that workers can import it",
            where=where,
        )
    return _by_file(function, module_name, Path(file).resolve(), root.resolve())


def _by_file(function: Any, module_name: str, file: Path, root: Path) -> FunctionRef:
    name = function.__qualname__
    if not file.is_relative_to(root) or "site-packages" in file.parts:
        return FunctionRef(name, module=module_name)
    inside = file.relative_to(root)
    if module_name == "__main__":
        folder = str(inside.parent) if inside.parent != Path() else None
        return FunctionRef(name, file=str(inside), folder=folder)
    dotted = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
    return FunctionRef(name, file=str(inside), module=module_name if module_name == dotted else None)


def _in_notebook(function: Any) -> bool:
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    return file.startswith(("<ipython-input", "<stdin", "<string")) or f"{os.sep}ipykernel_" in file


def _by_value(function: Any) -> FunctionRef:
    import cloudpickle

    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = None
    value = base64.b64encode(cloudpickle.dumps(function)).decode()
    return FunctionRef(function.__qualname__, value=value, source=source)


# -- whose error it is -----------------------------------------------------------------------------------------------


def as_users(error: BaseException, *, rank: int | None = None) -> RunnerError:
    """What came out of the user's function: an error of ours as it is, anything else as UserCodeError."""
    if isinstance(error, RunnerError):
        return error
    line = user_line(error)
    if isinstance(error, SystemExit):
        place = _last_user_frame(error.__traceback__)
        line = f"the function called sys.exit({error.code!r})" + (f" ({place})" if place else "")
    return UserCodeError(line, trace=user_trace(error), rank=rank)


def as_ours(error: BaseException) -> RunnerError:
    """What came out of a part of ours: the user's where their code is on its way, otherwise a bug of runner."""
    if isinstance(error, RunnerError):
        return error
    return as_users(error) if _last_user_frame(error.__traceback__) else internal(error)


@contextlib.contextmanager
def ours() -> Iterator[None]:
    """Around a part of ours that an error of the user's must not be mistaken for. Raises InternalError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RunnerError) or _last_user_frame(error.__traceback__):
            raise
        raise internal(error) from error


# -- tracebacks ------------------------------------------------------------------------------------------------------


def user_trace(error: BaseException) -> str:
    """The traceback of `error` as text, without the frames of runner and of the import machinery."""
    shown = traceback.TracebackException.from_exception(error)
    _strip(shown)
    return "".join(shown.format()).rstrip("\n")


def _strip(shown: traceback.TracebackException) -> None:
    kept = [frame for frame in shown.stack if not _is_ours(frame.filename)]
    for frame in kept:
        _ = frame.line  # read while the file can still be found under its full name
        frame.filename = _shown_path(frame.filename)
    shown.stack = traceback.StackSummary.from_list(kept)
    for inner in (shown.__cause__, shown.__context__):
        if inner is not None:
            _strip(inner)


def _shown_path(filename: str) -> str:
    """A file of the project as the user knows it, not as it lies in a run's scratch folder."""
    root = _code_root
    if root is not None and filename.startswith(f"{root}{os.sep}"):
        return os.path.relpath(filename, root)
    return filename


def _is_ours(filename: str) -> bool:
    return filename.startswith((str(_PACKAGE) + os.sep, "<frozen "))


def user_line(error: BaseException) -> str:
    """One line: the exception and the user's place that raised it, such as ``ValueError: x (jobs/a.py:12 in f)``."""
    shown = traceback.TracebackException.from_exception(error)
    shown.__notes__ = None
    text = list(shown.format_exception_only())[-1].strip()
    frame = _last_user_frame(error.__traceback__)
    return f"{text} ({frame})" if frame else text


def _last_user_frame(trace: TracebackType | None) -> str:
    found = ""
    for frame in traceback.extract_tb(trace):
        if _is_ours(frame.filename) or "site-packages" in frame.filename or frame.filename.startswith(_STDLIB):
            continue
        found = f"{_shown_path(frame.filename)}:{frame.lineno} in {frame.name}"
    return found
