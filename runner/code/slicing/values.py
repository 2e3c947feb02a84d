"""What a function that travels by value is made of: its code, and every value that it refers to.

Neither addresses nor places in a notebook count: the same code and values give the same parts in any process.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from runner.code.slicing.reach import Slice
from runner.code.slicing.syntax import Uses, uses_of
from runner.process.code_root import is_installed

_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
#: Of a class: what its definition gives it besides what was written.
_OF_CLASSES = {
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
    "__abstractmethods__", "_abc_impl", "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__slots__",
    "__annotate_func__", "__annotations_cache__",
}  # fmt: skip


class Values:
    """Takes a function's value apart: code, globals, closures, defaults.

    Args:
        slice: takes what leads to files.
    """

    def __init__(self, slice: Slice) -> None:
        self._slice = slice
        self._ids: dict[int, str] = {}  # of what is being described, or was: it may lead to itself
        self._kept: list[Any] = []  # so that no address is used twice
        self.parts: dict[str, str] = {}

    def add(self, value: Any) -> None:
        """Take a function or class, with all that it refers to."""
        self._digest(value)

    def add_config(self, cls: type) -> None:
        """Take the code of a config's class, but not its fields."""
        fields = {each.name for each in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
        for base in reversed(cls.__mro__):
            if base is not object and self._is_ours(base):
                self.parts[f"notebook:{base.__name__} (config)"] = self._of_class(base, fields)

    # -- any value -----------------------------------------------------------------------------------------------

    def _digest(self, value: Any) -> str:
        """A description that is the same for equal values; functions and classes are noted as parts."""
        if isinstance(value, _ATOMS):
            return f"{type(value).__name__} {value!r}"
        known = self._ids.get(id(value))
        if known is not None:
            return known
        self._ids[id(value)] = f"number {len(self._ids)}"
        self._kept.append(value)
        found = _short(self._describe(value))
        self._ids[id(value)] = found
        return found

    def _describe(self, value: Any) -> list[str]:
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, ModuleType):
            return [self._module(value)]
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, CodeType):
            return list(self._code(value))
        if isinstance(value, tuple | list):
            return [type(value).__name__, *map(self._digest, value)]
        if isinstance(value, dict):
            return [type(value).__name__, *(f"{self._digest(k)}: {self._digest(v)}" for k, v in value.items())]
        if isinstance(value, set | frozenset):
            return [type(value).__name__, *sorted(map(self._digest, value))]
        if isinstance(value, CellType):
            return ["cell", *map(self._digest, _content(value))]
        if isinstance(value, MethodType):
            return ["method", self._digest(value.__func__), self._digest(value.__self__)]
        if isinstance(value, staticmethod | classmethod):
            return [type(value).__name__, self._digest(value.__func__)]
        if isinstance(value, property):
            return ["property", *map(self._digest, (value.fget, value.fset, value.fdel))]
        if isinstance(value, BuiltinFunctionType):
            return ["builtin", str(value.__module__), value.__qualname__, self._digest(value.__self__)]
        if isinstance(value, functools.partial):
            return ["partial", *map(self._digest, (value.func, value.args, value.keywords))]
        if isinstance(value, re.Pattern):
            return ["pattern", self._digest(value.pattern), str(value.flags)]
        return self._reduced(value)

    def _reduced(self, value: Any) -> list[str]:
        """Any other object, by what pickle would make of it."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # it cannot be pickled, so it cannot travel either: what it holds is made anew elsewhere
            return ["object", self._digest(type(value))]
        if isinstance(reduced, str):
            return ["global", self._digest(type(value)), reduced]
        make, arguments, *rest = reduced
        state, items, pairs = (*rest, None, None, None)[:3]
        listed = [] if items is None else [self._digest(item) for item in items]
        mapped = [] if pairs is None else [f"{self._digest(k)}: {self._digest(v)}" for k, v in pairs]
        kind = self._digest(type(value))
        return ["object", kind, self._digest(make), self._digest(arguments), self._digest(state), *listed, *mapped]

    # -- code ----------------------------------------------------------------------------------------------------

    def _is_ours(self, value: Any) -> bool:
        """Whether a function or class has no file that could be looked into."""
        module = sys.modules.get(getattr(value, "__module__", None) or "")
        if module is None or not hasattr(module, "__file__") or "<locals>" in value.__qualname__:
            return True
        found: Any = module
        for part in value.__qualname__.split("."):
            found = getattr(found, part, None)
        return found is not value or module.__name__ == "__main__"

    def _by_name(self, value: Any) -> list[str] | None:
        """A function or class that lies in a file; None if it must be looked at by itself."""
        module = sys.modules.get(value.__module__ or "")
        if value.__module__ in sys.builtin_module_names:
            return ["builtin", value.__module__, value.__qualname__]
        file = getattr(module, "__file__", None)
        is_main = value.__module__ == "__main__"  # of a session, which a program of the environment's may have begun
        if file is not None and not is_main and is_installed(Path(file).resolve()):
            self._slice.packages.add(value.__module__.split(".")[0])
            return ["installed", value.__module__, value.__qualname__]
        if self._is_ours(value):
            return None
        if file is None:
            return ["builtin", value.__module__, value.__qualname__]
        self._slice.add(self._place(file), value.__qualname__.split(".")[0])
        return ["file", value.__module__, value.__qualname__]

    def _function(self, function: FunctionType) -> list[str]:
        named = self._by_name(function)
        if named is not None:
            return named
        found = [function.__name__, *self._code(function.__code__, function.__doc__)]
        for name in sorted(set(_globals(function.__code__))):
            if name in function.__globals__:
                found.append(f"global {name} {self._global(name, function.__globals__[name])}")
        found += [self._digest(_content(cell)) for cell in function.__closure__ or ()]
        found += map(self._digest, (function.__defaults__, function.__kwdefaults__, function.__dict__))
        self.parts[f"notebook:{function.__qualname__}"] = _short(found)
        return found

    def _global(self, name: str, value: Any) -> str:
        if isinstance(value, str):
            self._slice.note(Uses(strings={value}))
        digest = self._digest(value)
        if not isinstance(value, FunctionType | type | ModuleType):
            self.parts[f"notebook:{name}"] = _short([digest])
        return digest

    def _code(self, code: CodeType, doc: str | None = None) -> Iterator[str]:
        constants = list(code.co_consts)
        if constants and doc is not None and constants[0] == doc and not _loads_first(code):
            constants[0] = None
        self._slice.note(uses_of(code))
        yield code.co_code.hex()
        yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags))
        yield repr((code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount))
        yield getattr(code, "co_exceptiontable", b"").hex()
        yield from map(self._digest, constants)

    def _class(self, cls: type) -> list[str]:
        named = self._by_name(cls)
        if named is not None:
            return named
        found = _short([self._of_class(base, set()) for base in cls.__mro__ if base is cls])
        self.parts[f"notebook:{cls.__qualname__}"] = found
        return [found]

    def _of_class(self, cls: type, fields: set[str]) -> str:
        """Its bases and what its body holds, but for the values of `fields`."""
        found = [cls.__name__, *map(self._digest, cls.__bases__)]
        for name, value in vars(cls).items():
            made = inspect.isfunction(value) and value.__code__.co_filename == "<string>"
            if name in _OF_CLASSES or name in fields or (fields and (made or name.startswith("__annot"))):
                continue
            if name == "__annotations__":
                found.append(f"annotations {list(value)}")
            elif inspect.isfunction(value):
                found.append(f"{name} {_short(self._method(value))}")
            else:
                found.append(f"{name} {self._digest(value)}")
        return _short(found)

    def _method(self, function: FunctionType) -> list[str]:
        found = list(self._code(function.__code__, function.__doc__))
        for name in sorted(set(_globals(function.__code__))):
            if name in function.__globals__:
                found.append(f"global {name} {self._global(name, function.__globals__[name])}")
        found += [self._digest(_content(cell)) for cell in function.__closure__ or ()]
        return [*found, *map(self._digest, (function.__defaults__, function.__kwdefaults__))]

    def _module(self, module: ModuleType) -> str:
        file = getattr(module, "__file__", None)
        if file is not None and not is_installed(Path(file).resolve()):
            self._slice.add_file(self._place(file))
            return f"module {module.__name__}"
        self._slice.packages.add(module.__name__.split(".")[0])
        return f"module {module.__name__}"

    def _place(self, file: str) -> Path:
        return Path(file) if Path(file).is_relative_to(self._slice.root) else Path(file).resolve()


def _content(cell: CellType) -> Any:
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


def _globals(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if "GLOBAL" in instruction.opname or instruction.opname == "LOAD_NAME":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def _loads_first(code: CodeType) -> bool:
    return any(each.opname.startswith("LOAD_CONST") and each.arg == 0 for each in dis.get_instructions(code))


def _short(parts: list[str] | Mapping[str, str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]
