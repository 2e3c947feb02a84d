"""What can be told from the source of a script: its guard, and what it defines when it is only imported."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from runner.errors import ProjectError


def defines(file: Path, name: str) -> bool:
    """Whether importing the file binds `name`; also True where its source cannot be read as Python."""
    tree = _tree(file)
    if tree is None:
        return True
    return any(name in _bound(statement) or _stars(statement, name) for statement in _imported(tree.body))


def _stars(statement: ast.stmt, name: str) -> bool:
    """Whether it is a ``from x import *`` that may bind `name`; what is relative could be any module."""
    if not isinstance(statement, ast.ImportFrom) or statement.names[0].name != "*":
        return False
    module = sys.modules.get(statement.module or "") if not statement.level else None
    return module is None or hasattr(module, name)


def imported_names(file: Path) -> set[str]:
    """The names that the file's import statements at its top level bind."""
    tree = _tree(file)
    body = tree.body if tree is not None else []
    return {name for node in body if isinstance(node, ast.Import | ast.ImportFrom) for name in _bound(node)}


def refuse_unguarded(package: Path) -> None:
    """Raise ProjectError if the running script calls us when it is merely imported: workers import it.

    Args:
        package: the folder of the code that calls; its own frames are none of the script's.
    """
    frame = _top_frame()
    if frame is None or Path(frame.f_code.co_filename).resolve().is_relative_to(package):
        return
    tree = _tree(Path(frame.f_code.co_filename))
    if tree is None:
        return
    if not any(_holds(node, frame.f_lineno) for node in ast.walk(tree) if isinstance(node, ast.If) and _is_guard(node)):
        raise ProjectError(
            f"{frame.f_code.co_filename}:{frame.f_lineno} calls submit at the top level of a script",
            allowed="submit under a guard, since workers import the script",
            todo='put the call below `if __name__ == "__main__":`',
        )


def _holds(guard: ast.If, line: int) -> bool:
    return any(statement.lineno <= line <= (statement.end_lineno or 0) for statement in guard.body)


def _is_guard(node: ast.If) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test))


def _top_frame() -> FrameType | None:
    """The frame of the main module, if this is called from it."""
    main = sys.modules.get("__main__")
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is getattr(main, "__dict__", None):
            return frame
        frame = frame.f_back
    return None


def _tree(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # no Python that is running: a zipapp, a notebook's launcher
        return None


def _imported(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the file is imported: not those below its guard."""
    for statement in body:
        if isinstance(statement, ast.If) and _is_guard(statement):
            yield from _imported(statement.orelse)
        else:
            yield statement


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
    return found
