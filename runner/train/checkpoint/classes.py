"""The classes that the JSON of a checkpoint names. Whatever it says, it runs nothing.

A checkpoint may come from somebody else's run (`--from`). So a class is named, and found where the code of this run
has it: in a file of the project, which may be imported for it, at the top level. Of libraries only such are taken as
nothing can be made of but plain values: enums, named tuples, and Python's own types. They are never imported for it.
"""

from __future__ import annotations

import collections
import enum
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from runner.code import references
from runner.code.modules import MAIN, inside_of
from runner.code.references import FunctionRef
from runner.errors import SpecError
from runner.process.code_root import is_installed
from runner.values.tagged import TAG

#: Types of Python's that may stand for themselves, as in ``defaultdict(list)``.
_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    list,
    tuple,
    dict,
    set,
    frozenset,
    object,
    collections.OrderedDict,
    collections.Counter,
    collections.defaultdict,
    collections.deque,
)
_ALLOWED = "classes at the top level of the project's files; of libraries enums, named tuples and Python's own types"
_PLAINLY = "let the state hold plain values in its place: a dict, a number, text"
_WHERE = "ctx.track"


def reference(value: Any, path: str) -> FunctionRef:
    """The name by which a class is found again.

    Raises:
        SpecError: it is no class, or nothing finds it by a name.
    """
    if not isinstance(value, type):
        words = f"the function {getattr(value, '__qualname__', value)}"
        raise _refused(path, words, "keep its name, as text, and look the function up by it")
    ref = _named(value)
    try:
        found = find(ref) if ref is not None else None
    except SpecError:
        found = None
    if ref is None or found is not value:
        name = f"{value.__module__}.{value.__qualname__}"
        raise _refused(path, name, _PLAINLY)
    return ref


def find(ref: FunctionRef) -> type:
    """The class of that name. Raises SpecError: there is none, or it is none that a checkpoint may name."""
    module = _module(ref)
    first, *rest = ref.name.split(".")
    found = vars(module).get(first) if module is not None else None
    for name in rest:
        found = vars(found).get(name) if isinstance(found, type) else None
    if module is not None and isinstance(found, type) and (found in _PLAIN or _is_of(found, module)):  # noqa: SIM102
        if _is_projects(ref) or _is_plain(found):
            return found
    raise _refused("the checkpoint", str(ref), "use the code that made it, and let its state hold plain values")


def refuse_foreign(cls: type, path: str) -> None:
    """Raise SpecError if no object of that class may lie in a checkpoint: a library's, with a state of its own."""
    ref = reference(cls, path)
    if not _FITS["object"](ref, cls):
        raise _refused(path, f"{cls.__module__}.{cls.__qualname__}", _PLAINLY)


def classes(raw: Any, known: dict[FunctionRef, type] | None = None) -> dict[FunctionRef, type]:
    """Every class that JSON of `values.Writer` names.

    Raises:
        SpecError: one that a checkpoint may not name, or not in that place.
    """
    known = {} if known is None else known
    parts: list[Any] = raw if isinstance(raw, list) else []
    if isinstance(raw, dict):
        kind = raw.get(TAG)
        if kind == "partial":
            raise _refused("the checkpoint", "a functools.partial", _PLAINLY)
        field = _FIELD.get(kind) if isinstance(kind, str) else None
        if field is not None:
            ref = FunctionRef.from_json(raw[field])
            known[ref] = found = find(ref)
            if not _FITS[kind](ref, found):
                raise _refused("the checkpoint", f"{ref} as {kind}", _PLAINLY)
        parts = [part for name, part in raw.items() if name != field]
    for part in parts:
        classes(part, known)
    return known


#: In which field a kind of value names its class, and what that must be.
_FIELD = {"object": "class", "enum": "class", "function": "function"}
_FITS: Mapping[Any, Callable[[FunctionRef, type], bool]] = {
    "object": lambda ref, cls: not issubclass(cls, enum.Enum) and (_is_projects(ref) or is_named_tuple(cls)),
    "enum": lambda ref, cls: issubclass(cls, enum.Enum),
    "function": lambda ref, cls: True,
}


def is_named_tuple(cls: type) -> bool:
    """Whether `NamedTuple` or `namedtuple` has made it, and nothing else makes its objects."""
    return issubclass(cls, tuple) and str(getattr(cls.__new__, "__module__", "")).startswith("namedtuple_")


def _is_projects(ref: FunctionRef) -> bool:
    return ref.file is not None or ref.module == MAIN


def _is_plain(cls: type) -> bool:
    return cls in _PLAIN or issubclass(cls, enum.Enum) or is_named_tuple(cls)


def _is_of(cls: type, module: ModuleType) -> bool:
    """Whether a module defines a class, and has not only imported it."""
    own, main = cls.__module__, ("__main__", MAIN)
    return own == module.__name__ or (own in main and module.__name__ in main)


def _named(cls: type) -> FunctionRef | None:
    module = sys.modules.get("__main__" if cls.__module__ == MAIN else cls.__module__)
    if module is None:
        return None
    name = cls.__qualname__
    if "." not in name and vars(module).get(name) is not cls:  # one that is called otherwise than it calls itself
        name = next((short for short, value in list(vars(module).items()) if value is cls), name)
    if module is sys.modules["__main__"]:
        return FunctionRef(name, module=MAIN)
    return FunctionRef(name, file=_file(module), module=module.__name__)


def _file(module: ModuleType) -> str | None:
    """Where it lies in the code of this run; None for one of a library."""
    root, file = references.code_root(), getattr(module, "__file__", None)
    inside = inside_of(Path(file), root) if file and root is not None else None
    installed = root is None or inside is None or is_installed(root / inside)
    return None if inside is None or installed else inside.as_posix()


def _module(ref: FunctionRef) -> ModuleType | None:
    """The module of a class. A file of the project is imported; no other is that has not been already."""
    if ref.value is not None:
        return None
    if ref.module == MAIN:
        return sys.modules.get("__main__")
    known = sys.modules.get(ref.module or "")
    if ref.file is None or (known is not None and _file(known) == ref.file):
        return known
    root = references.code_root()
    if root is None or not _is_within(root / ref.file, root):
        return None
    return references.load_file(root / ref.file, root)


def _is_within(file: Path, root: Path) -> bool:
    real, inside = file.resolve(), file.resolve().is_relative_to(root.resolve())
    return inside and real.suffix == ".py" and real.is_file() and not is_installed(real)


def _refused(path: str, what: str, todo: str) -> SpecError:
    return SpecError(f"{path} names {what}", allowed=_ALLOWED, todo=todo, where=_WHERE)
