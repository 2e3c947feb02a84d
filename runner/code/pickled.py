"""What a notebook or an interactive session defines: it has no file, so it travels as a pickle.

In a worker it is found again under the names that it had: they become those of the process's main module, and a child
of whatever start method makes them anew from a small file that stands for the main module's source.
"""

from __future__ import annotations

import atexit
import base64
import functools
import inspect
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from runner.code.modules import MAIN, set_main
from runner.errors import SpecError
from runner.process.code_root import code_folder

#: A run's `spec.json` holds it.
LARGEST_BYTES = 16 << 20
_MAIN_FILE = """# made by runner: what a session defined, for the children of a worker
from {module} import fill
fill(globals(), {paths!r})
"""
_loaded: list[str] = []


def dump(value: Any, where: str) -> str:
    """Base64 of the pickle.

    Raises:
        SpecError: something that it uses cannot be pickled, or it is very large; the error names it.
    """
    import cloudpickle

    try:
        data = cloudpickle.dumps(value)
    except Exception as error:  # whatever the pickling of any object may raise
        name, held = _culprit(value)
        raise SpecError(
            f"it uses {name}, a {type(held).__name__}, which cannot travel to workers: {error}",
            allowed="functions, classes and values that can be pickled",
            todo=f"make {name} inside the function",
            where=where,
        ) from error
    if len(data) > LARGEST_BYTES:
        sizes = {name: len(cloudpickle.dumps(part)) for name, part in _uses(value)}
        largest = max(sizes, key=lambda name: sizes[name], default="it")
        raise SpecError(
            f"with what it uses it takes {len(data) / 2**20:.0f} MiB; the largest is {largest}",
            allowed=f"{LARGEST_BYTES >> 20} MiB of values that travel with a function",
            todo="give data as a Dataset, or read it inside the function",
            where=where,
        )
    return base64.b64encode(data).decode()


def source(value: Any) -> str | None:
    """The source text, where there is one."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        return None


def load(text: str) -> Any:
    """What was dumped; the names that it uses are then the main module's."""
    import cloudpickle

    value = cloudpickle.loads(base64.b64decode(text))
    main = sys.modules.get(MAIN)
    if main is None or getattr(main, "__file__", None) is None or not is_of_session(main):
        main = ModuleType(MAIN)
        main._runner_session = True  # type: ignore[attr-defined]
        set_main(main)
        _loaded.clear()
    _loaded.append(_write(f"{len(_loaded)}.pickle", base64.b64decode(text)))
    main.__file__ = _write("main.py", _MAIN_FILE.format(module=__name__, paths=_loaded).encode())
    _name(vars(main), value)
    return value


def is_of_session(module: ModuleType) -> bool:
    """Whether it is what `load` has made the main module of this process."""
    return hasattr(module, "_runner_session")


def fill(names: dict[str, Any], paths: list[str]) -> None:
    """In a child of a worker: the names of what the worker has loaded."""
    import cloudpickle

    for path in paths:
        _name(names, cloudpickle.loads(Path(path).read_bytes()))


def _name(names: dict[str, Any], value: Any) -> None:
    for name, part in _reached(value):
        if not name.startswith("__"):
            names.setdefault(name, part)


def _reached(value: Any) -> Iterator[tuple[str, Any]]:
    """The names of a session that a function or class knows, and its own."""
    name = getattr(value, "__qualname__", "")
    if name.isidentifier():
        yield name, value
    for function in _functions(value):
        yield from function.__globals__.items()


def _functions(value: Any) -> Iterator[FunctionType]:
    """The functions that a callable is made of."""
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, MethodType):
        yield from _functions(value.__func__)
    elif isinstance(value, type):
        for part in vars(value).values():
            yield from _functions(getattr(part, "__func__", part) if not isinstance(part, type) else None)
    elif hasattr(value, "func"):  # functools.partial
        yield from _functions(value.func)
    elif value is not None and not isinstance(value, ModuleType):
        kind = type(value)
        if kind.__module__ == "__main__":
            yield from _functions(kind)


def _uses(value: Any) -> Iterator[tuple[str, Any]]:
    """What functions use of the names around them: globals, and variables of the functions that they are nested in."""
    for function in _functions(value):
        found = inspect.getclosurevars(function)
        yield from ((f"'{name}'", part) for name, part in {**found.globals, **found.nonlocals}.items())
    if not isinstance(value, FunctionType | type) and hasattr(value, "__dict__"):
        yield from ((f"its attribute '{name}'", part) for name, part in vars(value).items())


def _culprit(value: Any, depth: int = 0) -> tuple[str, Any]:
    """The innermost name whose value cannot be pickled."""
    import cloudpickle

    for name, part in _uses(value) if depth < 20 else ():
        try:
            cloudpickle.dumps(part)
        except Exception:  # whatever the pickling of any object may raise: this is the one
            inner = _culprit(part, depth + 1)
            return inner if inner[1] is not part else (name, part)
    return "something", value


@functools.cache
def _folder(pid: int) -> Path:
    """This process's own, in a place that goes with the run."""
    folder = Path(tempfile.mkdtemp(prefix="session-", dir=code_folder()))
    atexit.register(_remove, folder, pid)
    return folder


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child has inherited this
        shutil.rmtree(folder, ignore_errors=True)


def _write(name: str, data: bytes) -> str:
    """The path of a file with that content."""
    path = _folder(os.getpid()) / name
    path.write_bytes(data)
    return str(path)
