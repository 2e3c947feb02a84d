"""Whether a function that this process holds still is what its file says: workers import the file as it is now."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from runner.errors import SpecError
from runner.process.code_root import is_installed


def refuse_edited(function: Any, module: ModuleType, where: str) -> None:
    """Raise SpecError if the file was edited since the function was made from it.

    Args:
        module: in which the function was found; of those that something else than Python's own loader has imported
            (a test runner that rewrites them) nothing is known.
    """
    loader = getattr(module, "__loader__", None)
    function = inspect.unwrap(function) if callable(function) else function
    if not isinstance(function, FunctionType) or not isinstance(loader, SourceFileLoader):
        return
    code, file = function.__code__, Path(function.__code__.co_filename)
    if not file.is_file() or is_installed(file):
        return
    try:
        now = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        now = None
    if now is None or code not in _codes(now):
        raise SpecError(
            f"{file} was edited since this process imported '{function.__qualname__}' from it",
            allowed="functions that are what their file says, since workers import the file",
            todo="import it again (in a notebook: restart the kernel, or give the path of the job's file)",
            where=where,
        )


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)
