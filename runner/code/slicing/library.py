"""Which classes of installed libraries keep a list of those that derive from them, told by their sources.

What cannot be found there (compiled, made by a call, brought by the job only) is taken for one that does not.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.code.slicing.files import spec_of
from runner.code.slicing.syntax import Chain, Import, Module, chain_of, parse

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Their many classes are known to keep none.
_KNOWN = {"numpy", "pandas", "pyarrow", "pydantic", "torch"} | sys.stdlib_module_names


@functools.lru_cache(maxsize=4096)
def registers(dotted: str) -> bool:
    """Whether deriving from a class of a library, by its full name, may run code that notes the new class."""
    parts = tuple(dotted.split("."))
    if parts[0] in _KNOWN:
        return False
    return any(_registers(node, module, set()) for node, module in _classes(parts, set()))


def _registers(node: ast.ClassDef, module: Module, seen: set[tuple[Path, str]]) -> bool:
    if (module.path, node.name) in seen:
        return False
    seen.add((module.path, node.name))
    if b"__subclasses__" in module.data or _defines(node, "__init_subclass__"):
        return True
    for keyword in node.keywords:
        chain = chain_of(keyword.value) if keyword.arg == "metaclass" else None
        for meta, owner in _reached(chain, module, set()) if chain is not None else ():
            if _makes(meta, owner, set()):
                return True
    bases = (chain_of(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases)
    return any(
        _registers(base, owner, seen) for chain in bases if chain for base, owner in _reached(chain, module, set())
    )


def _makes(meta: ast.ClassDef, module: Module, seen: set[tuple[Path, str]]) -> bool:
    """Whether a metaclass does more than `type` when it makes a class."""
    if (module.path, meta.name) in seen:
        return False
    seen.add((module.path, meta.name))
    if _defines(meta, "__new__", "__init__"):
        return True
    chains = filter(None, map(chain_of, meta.bases))
    return any(_makes(base, owner, seen) for chain in chains for base, owner in _reached(chain, module, set()))


def _defines(node: ast.ClassDef, *names: str) -> bool:
    return any(isinstance(each, _FUNCTIONS) and each.name in names for each in node.body)


# -- finding ---------------------------------------------------------------------------------------------------------


def _classes(parts: Chain, seen: set[tuple[Path, Chain]]) -> Iterator[tuple[ast.ClassDef, Module]]:
    """The classes that a full name may mean."""
    yield from _below(parts[:1], parts[1:], seen)


def _below(dotted: Chain, chain: Chain, seen: set[tuple[Path, Chain]]) -> Iterator[tuple[ast.ClassDef, Module]]:
    """The classes that a chain of names means in a module, or in those below it."""
    if not chain or dotted[0] in _KNOWN:
        return
    file = _file(dotted)
    module = parse(file) if file is not None and file.suffix == ".py" else None
    if module is not None:
        yield from _reached(chain, module, seen)
    yield from _below((*dotted, chain[0]), chain[1:], seen)


def _reached(chain: Chain, module: Module, seen: set[tuple[Path, Chain]]) -> Iterator[tuple[ast.ClassDef, Module]]:
    """The classes that a chain of names means in a module of a library."""
    if (module.path, chain) in seen:
        return
    seen.add((module.path, chain))
    for statement in module.binders.get(chain[0], []):
        if isinstance(statement.node, ast.ClassDef) and len(chain) == 1:
            yield statement.node, module
    for each in (*module.bound_imports.get(chain[0], []), *module.stars):
        dotted = _absolute(each, module.path)
        if each.attribute == "*":
            yield from _below(dotted, chain, seen)
        elif each.attribute is not None:
            yield from _below(dotted, (each.attribute, *chain[1:]), seen)
        else:
            yield from _below(dotted if each.renamed else dotted[:1], chain[1:], seen)


def _absolute(each: Import, importer: Path) -> Chain:
    """The whole name of the module that an import names."""
    if not each.level:
        return each.module
    folder = importer.parents[min(each.level, len(importer.parents)) - 1]
    names = [folder.name]
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
        names.insert(0, folder.name)
    return (*names, *each.module)


def _file(parts: Sequence[str]) -> Path | None:
    spec = _top(parts[0])
    if spec is None:
        return None
    file, folders = spec
    for part in parts[1:]:
        found = next((f for f in folders if (f / part).is_dir() or (f / f"{part}.py").is_file()), None)
        if found is None:
            return None
        package = found / part
        file, folders = (package / "__init__.py", (package,)) if package.is_dir() else (found / f"{part}.py", ())
    return file if file is not None and file.is_file() else None


@functools.lru_cache(maxsize=1024)
def _top(name: str) -> tuple[Path | None, tuple[Path, ...]] | None:
    spec = spec_of(name)
    if spec is None:
        return None
    file = Path(spec.origin) if spec.has_location and spec.origin is not None else None
    return file, tuple(map(Path, spec.submodule_search_locations or ()))
