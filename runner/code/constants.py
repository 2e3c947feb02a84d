"""Whether a constant that this process holds still is what its file says: workers import the file as it is now."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from runner.code.hashing import Identity
from runner.code.slicing.syntax import parse
from runner.errors import SpecError, brief
from runner.process.fresh_source import Loader

_ABSENT = object()
_WHOLE = " (whole)"  # of a part: the whole module
_SETS_ANY = {"__dict__", "__setattr__", "exec", "globals", "setattr", "vars"}


def refuse_other_constants(identity: Identity, root: Path, where: str) -> None:
    """Raise SpecError if a constant that code reaches is another one in this process than in its file.

    The file was edited since, or somebody has set it; workers import the file, and what is prepared counts as its.
    Where a module that workers import as well may have set it, nothing is known.
    """
    loaded = {getattr(module, "__file__", None): module for module in list(sys.modules.values())}
    given = _given_elsewhere(root / name for name in identity.modules)
    for part in identity.parts if given is not None else ():
        label, _, name = part.removesuffix(_WHOLE).partition(":")
        file = root / label
        module = loaded.get(str(file))
        if module is None or type(getattr(module, "__loader__", None)) not in (SourceFileLoader, Loader):
            continue
        found = parse(file) if file.is_file() else None
        for each in found.binders if part.endswith(_WHOLE) and found is not None else (name,):
            if each not in (given or ()):
                _refuse_constant(file, each, module, where)


def _given_elsewhere(files: Iterable[Path]) -> set[str] | None:
    """The names that code sets as attributes, or from inside functions; None where it may set any."""
    found: set[str] = set()
    for file in files:
        module = parse(file) if file.is_file() else None
        for statement in module.statements if module is not None else ():
            if _SETS_ANY & statement.uses.words:
                return None
            for each in ast.walk(statement.node):
                if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
                    found.add(each.attr)
                elif isinstance(each, ast.Global):
                    found.update(each.names)
    return found


def _refuse_constant(file: Path, name: str, module: ModuleType, where: str) -> None:
    said, held = _constant(file, name), vars(module).get(name, _ABSENT)
    if said is _ABSENT or _text(held) == _text(said):
        return
    shown = "not there" if held is _ABSENT else brief(held)
    raise SpecError(
        f"{name} is {shown} in this process, and {brief(said)} in {file}",
        allowed="constants that are what their file says, since workers import the file",
        todo="import it again (`importlib.reload`, or restart the kernel); to change a value, make it a config field",
        where=where,
    )


def _constant(file: Path, name: str) -> Any:
    """The value of a name that a file binds once, to a literal that cannot change; `_ABSENT` for any other."""
    found = parse(file) if file.is_file() else None
    statements = found.binders.get(name, []) if found is not None and not found.stars else []
    node = statements[0].node if len(statements) == 1 else None
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return _ABSENT
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if not all(isinstance(target, ast.Name) for target in targets):
        return _ABSENT
    try:
        value = ast.literal_eval(node.value)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return _ABSENT
    return value if isinstance(value, bool | int | float | complex | str | bytes | None) else _ABSENT


def _text(value: Any) -> str:
    """A text that differs where values do; NaN equals itself."""
    return f"{type(value).__name__} {value!r}" if type(value).__module__ == "builtins" else repr(type(value))
