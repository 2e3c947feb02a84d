"""Functions and classes of the user as references that another process, or another machine, can load again.

A function of a file travels as ``jobs/digits.py:train`` and is imported from the code that the bundle holds, under the
name by which any Python finds it (see `modules`). What a notebook or an interactive session defines has no file: it
travels by value (see `by_value`), with its source kept for lineage.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

from runner.code import isolation, pickled
from runner.code.edited import refuse_edited
from runner.code.modules import MAIN, inside_of, load_file, load_main, load_module, loading
from runner.code.script import defines
from runner.code.traces import as_ours, as_users, ours, user_line, user_trace
from runner.errors import ProjectError, SpecError
from runner.process.code_root import CODE_MARK, ROOT_VARIABLE, code_folder, code_root, is_installed, set_code_root

__all__ = [
    "CODE_MARK", "ROOT_VARIABLE", "FunctionRef", "as_ours", "as_users", "code_folder", "code_root", "file_of",
    "folder_of", "load_file", "loading", "ours", "reference", "resolve", "set_code_root", "user_line", "user_trace",
]  # fmt: skip

_ALLOWED = "what a name at the top level of a module stands for: a function, a class, or what can be called as one"


@dataclasses.dataclass(frozen=True)
class FunctionRef:
    """A function or class that ``load()`` brings into this process.

    Args:
        name: its name in its module, with dots for what is inside something.
        file: the module's file, relative to the code root; None for an installed module or a value.
        module: the import name; of a script `modules.MAIN`.
        value: base64 of a cloudpickle, for what has no file.
        source: the source text of a value, for lineage.
        main: the name by which ``python -m`` started a script.
    """

    name: str
    file: str | None = None
    module: str | None = None
    value: str | None = None
    source: str | None = None
    main: str | None = None

    def __str__(self) -> str:
        return f"{self.file or self.module or 'notebook'}:{self.name}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load()(*args, **kwargs)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> FunctionRef:
        """The reference that a spec holds, with the name of its kind."""
        return cls(**{name: part for name, part in raw.items() if name != "kind"})

    def load(self) -> Any:
        """The function or class itself."""
        return _load(self)


def resolve(function: Any) -> Any:
    """The callable behind a reference; a plain callable is returned as it is."""
    return function.load() if isinstance(function, FunctionRef) else function


@functools.lru_cache(maxsize=256)
def _load(ref: FunctionRef) -> Any:
    if ref.value is not None:
        return pickled.load(ref.value)
    module = _module(ref)
    try:
        return functools.reduce(getattr, ref.name.split("."), module)
    except AttributeError as error:
        raise ProjectError(
            f"{ref}: {error}",
            allowed="a name that the module has when it is imported",
            todo="define it at the top level of the file, outside of `if __name__ == ...`",
        ) from error


def _module(ref: FunctionRef) -> ModuleType:
    root = code_root()
    if ref.module is not None and ref.module != MAIN:
        return load_module(ref.module, ref.file)
    if root is None or ref.file is None:
        raise ProjectError(f"no code root is set in this process, so {ref} cannot be loaded")
    return load_main(root / ref.file, ref.main) if ref.module == MAIN else load_file(root / ref.file, root)


# -- making references -----------------------------------------------------------------------------------------------


def reference(function: Any, root: Path, where: str) -> FunctionRef:
    """A reference to `function` for a run whose code is the tree at `root`.

    Raises:
        SpecError: no other process could find it by a name, or it cannot be pickled where it has none.
    """
    if isinstance(function, FunctionRef):
        return function
    root = root.resolve()
    found = _named(function, root)
    if found is None:
        if _is_of_session(function):
            return _by_value(function, where)
        raise _nameless(function, where)
    module, name = found
    if _is_session(module) or _in_notebook(function):
        return _by_value(function, where)
    refuse_edited(function, module, where)
    return _by_file(module, name, root, where)


def file_of(function: Any) -> Path | None:
    """The file of the user's that defines a function or class, if one does and it is not installed."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if isinstance(function, FunctionRef) or file is None or not os.path.isfile(file) or is_installed(Path(file)):
        return None
    return Path(file)


def folder_of(file: Path) -> Path:
    """The folder from which a file is imported: that of its outermost package."""
    folder = file.parent
    while (folder / "__init__.py").exists() and folder.parent != folder:
        folder = folder.parent
    return folder


def _named(function: Any, root: Path) -> tuple[ModuleType, str] | None:
    """The module and the name in it that stand for this very object."""
    own = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    module = sys.modules.get(own or "")
    if isinstance(module, ModuleType) and isinstance(name, str) and _is_same(_at(module, name), function):
        return module, name
    for module in _modules(own, root):
        for short, value in list(vars(module).items()):
            if _is_same(value, function):
                return module, short
    if isinstance(function, MethodType):
        holder = _named(function.__self__, root)
        return holder and (holder[0], f"{holder[1]}.{function.__name__}")
    return None


def _modules(own: str | None, root: Path) -> Iterator[ModuleType]:
    """Where a name is looked for: first the module that the object says to be of, then the project's."""
    names = [own, "__main__", *sorted(isolation.modules_of(root))]
    for name in dict.fromkeys(filter(None, names)):
        module = sys.modules.get(name)
        if isinstance(module, ModuleType):
            yield module


def _at(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, MethodType) and isinstance(other, MethodType) and one == other)


def _nameless(function: Any, where: str) -> SpecError:
    """Why it cannot be found by any name."""
    name = getattr(function, "__qualname__", None) or repr(function)
    file = getattr(sys.modules.get(getattr(function, "__module__", None) or ""), "__file__", None)
    told = f" in {file}" if file else ""
    if "<" in name and isinstance(getattr(function, "__qualname__", None), str):
        found = f"{'a lambda' if '<lambda>' in name else name.split('.')[-1]}{told} is not at the top level"
    elif file is not None and "." not in name and hasattr(sys.modules[function.__module__], name):
        found = f"'{name}'{told} means something else by now: the name is bound again further down"
    else:
        found = f"{function!r}{told} is not what any name at the top level stands for"
    return SpecError(
        found,
        allowed=_ALLOWED,
        todo="give it a name of its own at the top level of the file, so that workers find it",
        where=where,
    )


def _by_file(module: ModuleType, name: str, root: Path, where: str) -> FunctionRef:
    known = getattr(module, "__file__", None)  # what is built in has none
    file = Path(known or "")
    inside = inside_of(file, root) if known else None
    is_main = module.__name__ == "__main__"
    if inside is None or is_installed(root / inside):
        if is_main:
            raise SpecError(
                f"the script {file} is not in the project {root}",
                allowed="a script of the project",
                todo="move the script there, or its functions into a module",
                where=where,
            )
        return FunctionRef(name, module=module.__name__)
    if not is_main:
        return FunctionRef(name, file=inside.as_posix(), module=module.__name__)
    if not defines(file, name.split(".")[0]):
        raise SpecError(
            f"'{name}' is defined below the guard of {file}, or while the script runs",
            allowed="what the script defines when it is imported, as workers do it",
            todo="move it above `if __name__ == ...`",
            where=where,
        )
    spec = getattr(module, "__spec__", None)
    return FunctionRef(name, file=inside.as_posix(), module=MAIN, main=spec.name if spec is not None else None)


# -- what has no file ------------------------------------------------------------------------------------------------


def _is_session(module: ModuleType) -> bool:
    """Whether it is the main module of a notebook, a console, or of code that was given as text, also where it was
    made anew from what they defined (see `by_value`).
    """
    if pickled.is_of_session(module):
        return True
    file = getattr(module, "__file__", None)
    return module.__name__ == "__main__" and (file is None or not os.path.isfile(file))


def _is_of_session(function: Any) -> bool:
    own = getattr(function, "__module__", None) or getattr(type(function), "__module__", None)
    if isinstance(function, functools.partial):
        return _is_of_session(function.func)
    return _in_notebook(function) or (own == "__main__" and _is_session(sys.modules["__main__"]))


def _in_notebook(function: Any) -> bool:
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    return file.startswith(("<ipython-input", "<stdin", "<string")) or f"{os.sep}ipykernel_" in file


def _by_value(function: Any, where: str) -> FunctionRef:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return FunctionRef(name, value=pickled.dump(function, where), source=pickled.source(function))
