"""What a function is made of: its own source, the module-level names that it uses, the project modules that it imports.

The hash decides whether a result can be used again. It is taken from the syntax tree, so comments and layout do not
count, and only from what the function reaches, so editing the training function does not run data preparation again.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from runner import capture
from runner.capture import FunctionRef


def code_hash(function: Any, root: Path | None = None) -> str:
    """16 hex digits for the code behind `function`.

    Args:
        function: a function, a class, or a reference.
        root: the project's folder; the process's code root by default.
    """
    root = (root or capture.code_root() or Path.cwd()).resolve()
    digest = hashlib.sha256()
    for part in sorted(_parts(function, root)):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def project_files(start: Iterable[Path], root: Path) -> set[Path]:
    """`start` and every file below `root` that they import, directly or through others."""
    found: set[Path] = set()
    waiting = [path.resolve() for path in start]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        waiting.extend(_imported(_tree(path), path, root.resolve()))
    return found


def _parts(function: Any, root: Path) -> Iterator[str]:
    if isinstance(function, FunctionRef):
        if function.value is not None:
            yield f"value {_normal(function.source) if function.source else function.value}"
            return
        if function.file is None:
            yield f"installed {function.module}:{function.name}"
            return
        path, name = root / function.file, function.name
    else:
        file = inspect.getsourcefile(function)
        if file is None or not Path(file).is_file():
            yield from _parts(capture.reference(function, root, "a function"), root)
            return
        path, name = Path(file).resolve(), function.__qualname__
    if not path.is_relative_to(root) or "site-packages" in path.parts:
        yield f"installed {getattr(function, '__module__', None) or path.stem}:{name}"
        return
    statements = _reachable(_tree(path), name.split(".")[0])
    for statement in statements:
        yield f"code {ast.unparse(statement)}"
    body = ast.Module(body=statements, type_ignores=[])
    for imported in project_files(_imported(body, path, root), root):
        yield f"module {imported.relative_to(root)} {ast.unparse(_tree(imported))}"


@lru_cache(maxsize=512)
def _parsed(path: Path, mtime_ns: int) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def _tree(path: Path) -> ast.Module:
    return _parsed(path, path.stat().st_mtime_ns)


def _normal(source: str) -> str:
    return ast.unparse(ast.parse(inspect.cleandoc(source) if source[:1].isspace() else source))


def _reachable(tree: ast.Module, name: str) -> list[ast.stmt]:
    """The top-level statements that bind `name`, or any name that those use, in the order of the file."""
    binders: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for bound in _bound(statement):
            binders.setdefault(bound, []).append(statement)
    wanted, seen = [name], {name}
    chosen: set[int] = set()
    while wanted:
        for statement in binders.get(wanted.pop(), ()):
            if id(statement) in chosen:
                continue
            chosen.add(id(statement))
            fresh = _used(statement) - seen
            seen |= fresh
            wanted.extend(fresh)
    return [statement for statement in tree.body if id(statement) in chosen]


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield (alias.asname or alias.name).split(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def _used(statement: ast.stmt) -> set[str]:
    """The names that it reads, but for the annotations of functions: `config: Config` runs nothing of Config."""
    found: set[str] = set()
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            found.add(node.id)
        for field, value in ast.iter_fields(node):
            if (isinstance(node, ast.arg) and field == "annotation") or field == "returns":
                continue
            waiting.extend(
                child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)
            )
    return found


def _imported(tree: ast.Module, path: Path, root: Path) -> Iterator[Path]:
    """The project files that the import statements in `tree`, wherever they stand, may load."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name.split("."), path, root)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                folder = path.parents[node.level - 1]
                base = [*folder.relative_to(root).parts, *base] if folder.is_relative_to(root) else base
            for alias in node.names:
                yield from _files([*base, alias.name], path, root)


def _files(dotted: list[str], path: Path, root: Path) -> Iterator[Path]:
    """A module's file and its packages' `__init__`s, looked for at the root and beside the importing file."""
    if dotted[:1] == ["runner"]:
        return  # runner's own version is recorded in the lineage; it is not the user's code
    for top in {root, path.parent}:
        if not top.is_relative_to(root):
            continue
        here = top
        for part in dotted:
            if not part.isidentifier():
                break
            if (here / f"{part}.py").is_file():
                yield (here / f"{part}.py").resolve()
                break
            here = here / part
            if (here / "__init__.py").is_file():
                yield (here / "__init__.py").resolve()
            elif not here.is_dir():
                break
